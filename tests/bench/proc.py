"""What a process costs, by /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What a process has used up to a moment."""

    at: float  #: seconds of the monotonic clock
    cpu: float  #: seconds
    faults: int  #: pages touched by programs it has run and waited for: even the shortest shows
    wakeups: int  #: times its threads went to sleep of their own accord


def usage(pid: int, *, whole: bool = False) -> Usage:
    """``whole``: with the programs that it has run and waited for. Raises OSError where there is no such process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from the third, the state, on
    ticks = sum(int(field) for field in fields[11 : 15 if whole else 13])
    faults = int(fields[8]) + int(fields[10])
    return Usage(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), faults, _slept(pid))


def _slept(pid: int) -> int:
    texts = (file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(_number(text, "voluntary_ctxt_switches") for text in texts)


def children(pid: int) -> int:
    """How many processes it has started that still are there."""
    return sum(len(file.read_text().split()) for file in Path(f"/proc/{pid}/task").glob("*/children"))


def memory(pid: int) -> float:
    """MB of 1,000,000 bytes; what it shares with others is divided among them (PSS)."""
    return parts_of_memory(pid).divided


@dataclass(frozen=True)
class Memory:
    """MB of 1,000,000 bytes."""

    divided: float  #: with its part of what it shares with others (PSS)
    private: float  #: without that


def parts_of_memory(pid: int) -> Memory:
    """Raises OSError where there is no such process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = _number(text, "Private_Clean") + _number(text, "Private_Dirty")
    return Memory(_number(text, "Pss") * 1024 / 1e6, private * 1024 / 1e6)


def _number(text: str, name: str) -> int:
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
