"""Who changes rules beside connbal: the process, and the program behind it.

What changes rules is iptables, which says nothing. So whoever started it is looked for too: the next process above it
that is no shell and no such tool. Processes end, and give themselves any name: what is found is a hint for people.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

#: Where the programs of iptables-legacy keep each other out: as built by most, and for OpenWrt.
XTABLES_LOCKS = ("/run/xtables.lock", "/var/run/xtables.lock")

_UNPRINTABLE = re.compile(rb"[^!-~]")
#: Names of what is started by something of more interest.
_TOOLS = re.compile(rb"(ip6?tables|xtables|nft|sh|ash|bash|dash|busybox|sudo|env|timeout|xargs|ip)\b")
#: Generations to look at.
_DEPTH = 8


def process(pid: int, name: bytes) -> str:
    """A process in words. It names itself as it likes."""
    return f"{_UNPRINTABLE.sub(b'?', name).decode('ascii')} (process {pid})"


def starter(pid: int) -> str:
    """The program behind a process, in words; empty where the process is gone, or stands for itself."""
    for above, name in _ancestors(pid):
        if not _TOOLS.match(name):
            return "" if above in (pid, 1) else process(above, name)
    return ""


def holder(locks: Iterable[str] = XTABLES_LOCKS) -> str:
    """Who holds the lock of iptables-legacy, or waits for it, in words; empty: nobody does right now."""
    inodes = set()
    for path in locks:
        with suppress(OSError):
            inodes.add(os.stat(path).st_ino)
    with suppress(OSError, ValueError), open("/proc/locks", encoding="ascii") as held:
        for line in held:
            *_, number, place, _, _ = line.split()
            pid = int(number)
            if int(place.rpartition(":")[2]) in inodes and pid > 0:
                return ", started by ".join(filter(None, (process(pid, _stat(pid)[1]), starter(pid))))
    return ""


def _ancestors(pid: int) -> Iterator[tuple[int, bytes]]:
    """A process and those above it: their numbers and names."""
    for _ in range(_DEPTH):
        if pid <= 0:
            return
        try:
            above, name = _stat(pid)
        except (OSError, ValueError):
            return
        yield pid, name
        pid = above


def _stat(pid: int) -> tuple[int, bytes]:
    """The parent and the name of a process. Raises OSError, ValueError."""
    descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        line = os.read(descriptor, 512)
    finally:
        os.close(descriptor)
    name, end, rest = line.partition(b"(")[2].rpartition(b")")
    if not end:
        raise ValueError("no such line")
    return int(rest.split()[1]), name
