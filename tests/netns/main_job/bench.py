"""A lab with connbal in its router, and the little languages tests speak: configurations, counters."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tests.demo.config import interfaces, member, policy, section
from tests.lab import Answers, Lab, snapshot

__all__ = [
    "Bench", "Done", "Driver", "counters", "interfaces", "member", "only", "policy", "section", "shares", "state",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Done:
    """What a command of connbal did. Times are time.monotonic()."""

    code: int
    stdout: str
    stderr: str
    begin: float
    end: float
    flushes: tuple[tuple[float, float, int, int], ...]  #: begin, end, mark, mask
    writes: tuple[str, ...]  #: programs started other than to look


class ConnbalFailed(AssertionError):
    """connbal ended with an error."""


class Driver:
    """The process that connbal's commands run in: see :mod:`tests.netns.main_job.driver`."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="connbal-driver-")
        self._path = f"{self._directory.name}/socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._path)
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.netns.main_job.driver", str(listener.fileno())],
                cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[listener.fileno()],
            )  # fmt: skip

    def enter(self, lab: Lab) -> TextIO:
        """A stream to a fork that is in the router of a lab; it ends when the stream is closed."""
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(self._path)
            stream = one.makefile("rw", encoding="utf-8")
        stream.write(json.dumps({"netns": lab.router.path, "env": lab.router.env}) + "\n")
        stream.flush()
        return stream

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._directory.cleanup()


class Bench:
    """connbal in the router of a lab."""

    def __init__(self, lab: Lab, driver: Driver) -> None:
        self.lab = lab
        self._stream = driver.enter(lab)

    def close(self) -> None:
        self._stream.close()

    def configure(self, *parts: str | Iterable[str]) -> None:
        """Write /etc/config/mwan3."""
        texts = [part if isinstance(part, str) else "\n".join(part) for part in parts]
        (self.lab.config_dir / "mwan3").write_text("\n".join(texts))

    @property
    def _where(self) -> list[str]:
        return ["--config-dir", str(self.lab.config_dir), "--run-dir", str(self.lab.run_dir)]

    def connbal(self, *arguments: str, check: bool = True, kill_at: int = 0) -> Done:
        """A command of connbal, in a process that is kept. With ``check``, exit codes other than 0 are errors.

        It is killed as it is about to change something for the ``kill_at``-th time.
        """
        job = {"argv": [*self._where, *arguments], "kill_at": kill_at}
        self._stream.write(json.dumps(job) + "\n")
        self._stream.flush()
        line = self._stream.readline()
        assert line, "the driver died"
        answer: dict[str, Any] = json.loads(line)
        done = Done(**{**answer, "flushes": tuple(map(tuple, answer["flushes"])), "writes": tuple(answer["writes"])})
        if check and done.code:
            raise ConnbalFailed(f"connbal {' '.join(arguments)}: exit {done.code}\n{done.stdout}{done.stderr}")
        return done

    def apply(self, *parts: str | Iterable[str]) -> Done:
        """``connbal apply``, of a configuration where one is given. Findings of any kind are errors."""
        if parts:
            self.configure(*parts)
        done = self.connbal("apply")
        if done.stderr:
            raise ConnbalFailed(f"connbal apply complains:\n{done.stderr}")
        return done

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of connbal, in a process of its own, as a user would run it."""
        argv = [sys.executable, "-m", "connbal.cli.main", *self._where, *arguments]
        return self.lab.router.run(argv, check=check, cwd=ROOT)

    def status(self) -> dict[str, Any]:
        """``connbal status --json``."""
        found: dict[str, Any] = json.loads(self.connbal("status", "--json").stdout)
        return found

    def counters(self, family: int = 4) -> dict[str, list[tuple[str, int]]]:
        """Rules of the mangle table with the packets each has seen, by chain."""
        name = "iptables-save" if family == 4 else "ip6tables-save"
        return counters(self.lab.router.run([name, "-c", "-t", "mangle"]).stdout)


def counters(text: str) -> dict[str, list[tuple[str, int]]]:
    """What ``iptables-save -c`` prints, as chain -> (rule, packets)."""
    found: dict[str, list[tuple[str, int]]] = {}
    for line in text.splitlines():
        if line.startswith(":"):
            found[line[1:].split()[0]] = []
        elif match := re.match(r"\[(\d+):\d+\] -A (\S+) (.*)", line):
            found[match[2]].append((match[3], int(match[1])))
    return found


def state(lab: Lab) -> str:
    """The router's snapshot without what depends on the order in which equal things were made.

    Chains and sets come sorted, the rules of a chain stay in their order; what a hash of sets starts from is left out.
    """
    return ordered(snapshot(lab.router))


def ordered(text: str) -> str:
    """A snapshot made independent of that order."""
    return "=== ".join(map(_ordered, text.split("=== ")))


def _ordered(part: str) -> str:
    lines = [re.sub(r" (hashsize|initval) \S+", "", line) for line in part.splitlines()]
    if part.startswith("ipset"):
        return "\n".join([lines[0], *sorted(lines[1:]), ""])
    if "tables" not in part.partition("\n")[0]:
        return part
    tables = "\n".join(lines).split("\nCOMMIT")
    return "\nCOMMIT".join("\n".join(sorted(table.split("\n"), key=_chain)) for table in tables)


def _chain(line: str) -> tuple[int, str]:
    """Sorts `*table`, `:chain` by name, and `-A chain …` by chain only, as sorting is stable."""
    return ("*:-".find(line[:1]), line if line.startswith(":") else " ".join(line.split()[:2]))


def only(answers: Answers, source: str) -> None:
    """Every connection went by one source."""
    assert dict(answers.names) == {source: len(answers)}, (dict(answers.names), answers.errors)


def shares(answers: Answers, tolerance: float = 0.03, **expected: float) -> None:
    """Connections are divided so, each share within ``tolerance``, and none was lost."""
    measured = {name: answers.share(name) for name in answers.names}
    assert not answers.errors, answers.errors
    assert set(measured) == set(expected), measured
    assert all(abs(measured[name] - share) <= tolerance for name, share in expected.items()), measured
