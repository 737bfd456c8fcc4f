"""connbal in a lab's router: configure, run, and look at what is in the kernel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.lab import CommandFailed, Lab
from tests.netns.rivals import zygote

ROOT = Path(__file__).resolve().parents[3]


def section(kind: str, name: str, /, **options: str | int | Sequence[str]) -> str:
    """One section of a configuration. A sequence is a list."""
    lines = [f"config {kind} '{name}'"]
    for option, value in options.items():
        if isinstance(value, str | int):
            lines.append(f"\toption {option} '{value}'")
        else:
            lines += [f"\tlist {option} '{one}'" for one in value]
    return "\n".join(lines) + "\n"


class Router:
    """The router of a lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node = lab.router

    # --- connbal --------------------------------------------------------------------------------------------------

    def sources(self, *names: str, **options: str | int | Sequence[str]) -> str:
        """Interface sections for sources, with their IPv6 halves, a member for each, and a policy ``only_NAME``."""
        parts = []
        for name in names or self.lab.spec.sources:
            name6 = self.lab.source(name).name6
            parts += [
                section("interface", name, enabled=1, **options),
                section("interface", name6, enabled=1, family="ipv6", **options),
                section("member", f"m_{name}", interface=name),
                section("member", f"m_{name6}", interface=name6),
                section("policy", f"only_{name}", use_member=[f"m_{name}", f"m_{name6}"]),
            ]
        return "\n".join(parts)

    def configure(self, *parts: str) -> None:
        (self.lab.config_dir / "mwan3").write_text("\n".join(parts))

    def connbal(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command, as a user would type it."""
        done = zygote.run(self.node.path, [*self.where, *arguments], self.node.env)
        if check and done.returncode:
            raise CommandFailed(self.node.name, ["connbal", *arguments], done.returncode, done.stdout, done.stderr)
        return done

    @property
    def where(self) -> list[str]:
        return ["--config-dir", str(self.lab.config_dir), "--run-dir", str(self.lab.run_dir)]

    def program(
        self, *arguments: str, prefix: Sequence[str] = (), check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """The same by the program itself. ``prefix``: what to put before it, such as ``setpriv``."""
        argv = [*prefix, sys.executable, "-m", "connbal.cli.main", *self.where, *arguments]
        return self.node.run(argv, check=check, cwd=ROOT)

    def apply(self, *parts: str) -> subprocess.CompletedProcess[str]:
        """Configure, if told to, and apply: what fails here is the test's fault or connbal's."""
        if parts:
            self.configure(*parts)
        return self.connbal("apply")

    def found(self) -> list[dict[str, str]]:
        """What ``connbal check`` finds."""
        return list(json.loads(self.connbal("check", "--json", check=False).stdout)["findings"])

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.connbal("status", "--json").stdout))

    def rule(self, name: str) -> dict[str, Any]:
        """A rule as ``status`` shows it."""
        return next(dict(one) for one in self.status()["rules"] if one["name"] == name)

    def percents(self, policy: str, family: str = "ipv4") -> dict[str, float]:
        """The shares of a policy's interfaces."""
        tiers = (one for one in self.status()["policies"] if (one["policy"], one["family"]) == (policy, family))
        return {one["interface"]: one["percent"] for one in next(tiers)["members"]}

    # --- the kernel -----------------------------------------------------------------------------------------------

    def mangle(self, version: int = 4) -> dict[str, list[str]]:
        """The chains of the mangle table with their rules."""
        text = self.node.run([f"ip{'' if version == 4 else '6'}tables-save", "-t", "mangle"]).stdout
        found: dict[str, list[str]] = {}
        for line in text.splitlines():
            if line.startswith(":"):
                found[line[1:].split()[0]] = []
            elif line.startswith("-A "):
                _, chain, rest = line.split(" ", 2)
                found[chain].append(rest)
        return found

    def ip_rules(self, version: int = 4) -> dict[int, list[str]]:
        """Rules by priority."""
        found: dict[int, list[str]] = {}
        for line in self.node.run(["ip", f"-{version}", "rule"]).stdout.splitlines():
            priority, _, rest = line.partition(":")
            found.setdefault(int(priority), []).append(rest.strip())
        return found

    def table(self, number: int, version: int = 4) -> list[str]:
        """The routes of a table; none where there is no such table."""
        argv = ["ip", f"-{version}", "route", "show", "table", str(number)]
        return self.node.run(argv, check=False).stdout.splitlines()

    def route(self, dst: str, src: str, mark: int) -> str:
        """What the router would do with a packet of the LAN that has this mark, as ``ip route get`` says it."""
        argv = ["ip", "route", "get", dst, "from", src, "iif", "br-lan", "mark", str(mark)]
        done = self.node.run(argv, check=False)
        return done.stdout if done.returncode == 0 else done.stderr


def without_counters(saved: str) -> str:
    """The text of iptables-save, its counters and comments left out."""
    lines = (re.sub(r"\[\d+:\d+\]", "", line).strip() for line in saved.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))
