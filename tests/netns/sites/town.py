"""A router whose dnsmasq reads ``/etc/config/dhcp``, the Internet's name server, and devices that ask for names.

Both name servers are real dnsmasqs. The one on the router gets its configuration from a stand-in for OpenWrt's init
script, which follows the same contract: of each section ``ipset``, ``list name`` and ``list domain``, and nothing else.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from connbal.uci import Section, parse
from tests.lab.node import Node, end_group
from tests.netns.main_job.bench import Bench, interfaces, member, policy

#: What the Internet knows: each name stands for itself and all below it.
NAMES = {
    "youtube.com": ("203.0.113.10", "2001:db8:ffff::10"),
    "googlevideo.com": ("203.0.113.11", "2001:db8:ffff::11"),
    "example.com": ("203.0.113.50", "2001:db8:ffff::50"),
    "xn--mnchen-3ya.de": ("203.0.113.60", "2001:db8:ffff::60"),
}
A, AAAA = 1, 28
_PATIENCE = 10.0
_UPSTREAM_PORT = 5300


class Town:
    """``bench`` has wan and wan2; policy ``second`` is wan2 alone, and everything that no rule takes goes by wan."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.lab = bench, bench.lab
        self.dhcp = self.lab.config_dir / "dhcp"
        self.dhcp.write_text("config dnsmasq\n\toption domainneeded '1'\n\nconfig dhcp 'lan'\n\toption start '100'\n")
        self._dnsmasq: subprocess.Popen[Any] | None = None
        self._upstream: subprocess.Popen[Any] | None = None
        self.start_upstream()

    # --- the Internet's name server ----------------------------------------------------------------------------------

    def start_upstream(self, ttl: int = 300) -> None:
        """(Re)start it, so that its answers may be remembered for ``ttl`` seconds."""
        lines = [f"port={_UPSTREAM_PORT}", f"local-ttl={ttl}", f"listen-address={self.lab.source('wan').gateway4}"]
        for name, addresses in NAMES.items():
            lines += [f"address=/{name}/{address}" for address in addresses]
        if self._upstream is not None:
            end_group(self._upstream)
        self._upstream = self._start(self.lab.internet("wan"), "upstream", lines)

    # --- the router's ------------------------------------------------------------------------------------------------

    def restart(self, *, nftset: bool = False) -> None:
        """What the init script's restart does. ``nftset``: with the lines that 23.05 and later write besides."""
        if self._dnsmasq is not None:
            end_group(self._dnsmasq)
        lines = [
            f"server={self.lab.source('wan').gateway4}#{_UPSTREAM_PORT}",
            "listen-address=192.168.1.1", "listen-address=fd01::1",
        ]  # fmt: skip
        for section in parse(self.dhcp.read_bytes(), "dhcp").of_type("ipset"):
            lines += conf_lines(section, nftset)
        self._dnsmasq = self._start(self.lab.router, "router", lines)
        self.wait_for("192.168.1.1")

    def _start(self, node: Node, name: str, lines: list[str]) -> subprocess.Popen[Any]:
        conf: Path = self.lab.tmp / f"dnsmasq-{name}.conf"
        conf.write_text("".join(f"{line}\n" for line in ("no-resolv", "no-hosts", "bind-interfaces", *lines)))
        log = (self.lab.tmp / f"dnsmasq-{name}.log").open("ab")
        with log:
            argv = ["dnsmasq", "--keep-in-foreground", "--pid-file", "--log-facility=-", f"--conf-file={conf}"]
            return node.popen(argv, stdout=log, stderr=log)

    def wait_for(self, server: str) -> None:
        """Until it answers."""
        end = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError):
                self.ask("tv", "example.com", server=server, patience=0.3)
                return
            assert time.monotonic() < end, (self.lab.tmp / "dnsmasq-router.log").read_text()

    # --- devices -----------------------------------------------------------------------------------------------------

    def ask(
        self, device: str, name: str, kind: int = A, *, server: str = "192.168.1.1", patience: float = 3.0
    ) -> list[str]:
        """The addresses that a device gets for a name. OSError where no answer comes."""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        question = struct.pack("!6H", 4711, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!B2H", 0, kind, 1)
        with self.lab.node(device).enter():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(patience)
            sock.connect((server, 53))
            sock.send(question)
            return addresses(sock.recv(4096), len(question))

    def goes_by(self, device: str, address: str) -> str:
        """The source that a new connection of a device takes."""
        answers = self.lab.tcp(device, address, family=ipaddress.ip_address(address).version)
        assert not answers.errors, answers.errors
        [name] = answers.names
        return str(name)

    # --- connbal -----------------------------------------------------------------------------------------------------

    def configure(self, *rules: str) -> None:
        """Rules, above one for everything."""
        self.bench.configure(
            interfaces(self.lab), member("m_wan", "wan"), member("m_wan2", "wan2"), policy("first", "m_wan"),
            policy("second", "m_wan2"), *rules, "config rule 'rest'\n\toption use_policy 'first'\n",
        )  # fmt: skip

    def sets(self) -> dict[str, dict[str, int]]:
        """Every set that is not connbal's own, with its entries and the seconds each has left; 0: for good."""
        found: dict[str, dict[str, int]] = {}
        for line in self.lab.router.run(["ipset", "save"]).stdout.splitlines():
            verb, name, *rest = line.split()
            if name.startswith("mwan3_"):
                continue
            if verb == "create":
                found[name] = {}
            else:
                found[name][rest[0]] = int(rest[rest.index("timeout") + 1]) if "timeout" in rest else 0
        return found

    def kinds(self) -> Mapping[str, str]:
        """Every such set's type, family and timeout: ``hash:ip inet timeout 3600``."""
        found = {}
        for line in self.lab.router.run(["ipset", "save"]).stdout.splitlines():
            words = line.split()
            if words[0] == "create" and not words[1].startswith("mwan3_"):
                timeout = f" timeout {words[words.index('timeout') + 1]}" if "timeout" in words else ""
                found[words[1]] = f"{words[2]} {words[words.index('family') + 1]}{timeout}"
        return found


def conf_lines(section: Section, nftset: bool) -> list[str]:
    """What the init script makes of a section: lists only, and nothing where one is missing."""
    names, domains = ([] if isinstance(value, str) else list(value)
                      for value in (section.options.get("name", ()), section.options.get("domain", ())))  # fmt: skip
    if not names or not domains:
        return []
    lines = [f"ipset=/{'/'.join(domains)}/{','.join(names)}"]
    if nftset:
        family = section.options.get("family")
        prefix = f"{family}#" if family else ""
        lines.append(f"nftset=/{'/'.join(domains)}/{','.join(f'{prefix}inet#fw4#{name}' for name in names)}")
    return lines


def addresses(answer: bytes, begin: int) -> list[str]:
    """The addresses in the answers of a reply, whose question ends at ``begin``."""
    found = []
    for _ in range(struct.unpack("!H", answer[6:8])[0]):
        begin += 2 if answer[begin] >= 0xC0 else answer[begin:].index(0) + 1
        kind, _, _, size = struct.unpack("!2HIH", answer[begin : begin + 10])
        if kind in (A, AAAA):
            found.append(str(ipaddress.ip_address(answer[begin + 10 : begin + 10 + size])))
        begin += 10 + size
    return found


def eventually(condition: Callable[[], bool], patience: float = _PATIENCE) -> bool:
    """Whether ``condition`` comes true in time."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
