"""Who changes rules beside connbal: the process, and the program behind it.

What changes rules is iptables, which says nothing. So whoever started it is looked for too: the next process above it
that is no shell and no such tool. Processes end, and give themselves any name: what is found is a hint for people.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from connbal.track.repairs import BEHIND

#: Where the programs of iptables-legacy keep each other out: as built by most, and for OpenWrt; and the variable that
#: names another place.
XTABLES_LOCKS, XTABLES_LOCKFILE = ("/run/xtables.lock", "/var/run/xtables.lock"), "XTABLES_LOCKFILE"

_UNPRINTABLE = re.compile(rb"[^!-~]")
#: Names of what is started by something of more interest.
_TOOLS = re.compile(rb"(ip6?tables|xtables|nft|sh|ash|bash|dash|busybox|sudo|env|timeout|xargs|ip)\b")
#: Generations to look at.
_DEPTH = 8


def process(pid: int, name: bytes) -> str:
    """A process in words. It names itself as it likes."""
    return f"{_UNPRINTABLE.sub(b'?', name).decode('ascii')} (process {pid})"


def starter(pid: int, named: bytes) -> str:
    """The program behind a process that is ``named`` so, in words; empty where it is gone, or stands for itself.

    In a container with process numbers of its own, those that the kernel tells are other processes', or nobody's.
    """
    for above, name in _ancestors(pid):
        if above == pid and name != named:
            return ""
        if not _TOOLS.match(name):
            return "" if above in (pid, 1) else process(above, name)
    return ""


def holder() -> str:
    """Who holds the lock of iptables-legacy, or waits for it, in words; empty: nobody does right now."""
    inodes = set()
    for path in filter(None, (*XTABLES_LOCKS, os.environ.get(XTABLES_LOCKFILE))):
        with suppress(OSError):
            inodes.add(os.stat(path).st_ino)
    with suppress(OSError, ValueError), open("/proc/locks", encoding="ascii") as held:
        for line in held:
            *_, number, place, _, _ = line.split()
            pid = int(number)
            if int(place.rpartition(":")[2]) in inodes and pid > 0:
                name = _stat(pid)[1]
                return BEHIND.join(filter(None, (process(pid, name), starter(pid, name))))
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
