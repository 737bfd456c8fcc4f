"""What happens in a router made of namespaces: programs started, processor time, and when it is over."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.router.router import Router

#: Seconds between two looks, and for how long nothing may have happened when it is over.
_LOOK, _QUIET = 0.02, 0.5
_PATIENCE = 60.0
#: Prints the last process id that its namespace gave, for each line; it starts nothing itself. (ns_last_pid says the
#: same, but only to who reads it whole.)
_COUNTER = "while read -r _; do read -r _ _ _ _ last </proc/loadavg; echo $last; done"


@dataclass(frozen=True)
class Spent:
    """What something took: seconds until it returned and until all was quiet, of processor time, programs started.

    Threads count as programs: they take numbers of the same kind.
    """

    returned: float
    settled: float
    cpu: float
    started: float


class Meter:
    """Looks into a router, for a ``with`` block."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self._counter: subprocess.Popen[str] | None = None

    def __enter__(self) -> Meter:
        self._counter = self.router.popen(
            ["/bin/sh", "-c", _COUNTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._counter is not None
        self._counter.communicate(timeout=_PATIENCE)

    def started(self) -> int:
        """How many programs and threads have been started in the router so far."""
        assert self._counter is not None
        assert self._counter.stdin is not None
        assert self._counter.stdout is not None
        self._counter.stdin.write("\n")
        return int(self._counter.stdout.readline())

    def cpu(self) -> float:
        """Seconds of processor time of all that is and was in the router, and of what this process has waited for."""
        here = resource.getrusage(resource.RUSAGE_CHILDREN)
        return here.ru_utime + here.ru_stime + sum(map(_cpu, self._tree()))

    def memory(self) -> float:
        """PSS of all processes in the router but its own server, in MB of 1,000,000 bytes."""
        return sum(_pss(pid) for pid in self.others())

    def others(self) -> list[int]:
        """The processes, as seen from outside, but the router's first and its server."""
        return [pid for pid in self._tree()[1:] if b"/lib/router/server.py" not in _words(pid)]

    def _tree(self) -> list[int]:
        """The router's first process and all that come from it."""
        found = [self.router.processes()]
        for pid in found:
            found += _children(pid)
        return found

    def measure(self, work: Callable[[], object]) -> Spent:
        """Do something and wait until nothing happens any more. Raises AssertionError where that never is."""
        cpu, started = self.cpu(), self.started()
        began = time.monotonic()
        work()
        returned = last = time.monotonic()
        seen = (self.started(), self.cpu())
        while (now := time.monotonic()) < last + _QUIET:
            assert now < began + _PATIENCE, f"the router was not quiet within {_PATIENCE:g} s"
            time.sleep(_LOOK)
            found = (self.started(), self.cpu())
            if found != seen:
                seen, last = found, time.monotonic()
        return Spent(returned - began, last - began, seen[1] - cpu, seen[0] - started)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        texts = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(word) for text in texts for word in text.split()]
    return []


def _words(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _cpu(pid: int) -> float:
    """Of a process and the children that it has waited for."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _pss(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
