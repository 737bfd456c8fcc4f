"""How many Pythons there are in a router at once, and what they take; and what makes a crowd of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab.node import end_group
from tests.router.router import Router

HOOK = "/etc/hotplug.d/iface/15-connbal"
#: How much comes at once.
EVENTS, CALLS = 60, 16
_EVENT = {"ACTION": "ifup", "INTERFACE": "wan", "DEVICE": "e-wan"}

#: Seconds between two looks.
STEP = 0.02


class Crowd:
    """The peaks while a ``with`` block runs: ``processes``, and ``memory``, MB of 1,000,000 bytes (PSS).

    ``but``: processes, by their ids as seen from outside, that do not count: those there were before.
    """

    def __init__(self, router: Router, but: Collection[int] = ()) -> None:
        self._space = os.readlink(f"/proc/{router.processes()}/ns/pid")
        self._but = frozenset(but)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.processes, self.memory = 0, 0.0
        self.seen: set[int] = set()  #: all that there have been

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def now(self) -> list[int]:
        """The Pythons that are there."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in self._but:
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{name}/ns/pid") == self._space and _is_python(name):
                        found.append(int(name))
        return found

    def _watch(self) -> None:
        while not self._ended.wait(STEP):
            found = self.now()
            self.seen.update(found)
            self.processes = max(self.processes, len(found))
            self.memory = max(self.memory, sum(map(_memory, found)))


def _is_python(pid: str) -> bool:
    return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("python")


def _memory(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


# --- what makes one ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def held(router: Router) -> Iterator[None]:
    """With the run lock of a router taken."""
    descriptor = os.open(router.path("/var/run/connbal/lock"), os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def blow(router: Router, line: str, count: int = EVENTS) -> float:
    """Run a line of a shell again and again, and say how long one took."""
    begin = time.monotonic()
    router.run(["/bin/sh", "-c", f"n=0; while [ $n -lt {count} ]; do n=$((n+1)); {line}; done"], env=_EVENT)
    return (time.monotonic() - begin) / count


def calls(router: Router, object_: str, method: str, args: dict[str, Any], count: int = CALLS) -> list[dict[str, Any]]:
    """What a plugin answers to so many at once, as rpcd starts it."""
    argv = [f"/usr/libexec/rpcd/{object_}", "call", method]
    running = [router.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
               for _ in range(count)]  # fmt: skip
    try:
        for one in running:
            assert one.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                one.stdin.write(json.dumps(args))
                one.stdin.close()
            one.stdin = None
        return [json.loads(one.communicate(timeout=40)[0]) for one in running]
    finally:
        for one in running:
            if one.poll() is None:
                end_group(one)
