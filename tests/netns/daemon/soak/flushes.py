"""connbal, with a record of when it forgets connections: ``python -m tests.netns.daemon.soak.flushes ...``.

What connbal itself does is the same. The variable names the file; each flush is one line: begin and end in seconds of
time.monotonic(), mark, mask.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CONNBAL_TEST_FLUSHES"
#: Seconds within which a connection has been answered, on a machine that is busy with other things as well.
IN_FLIGHT = 0.5


@dataclass(frozen=True)
class Flush:
    """Connections with this mark under this mask were forgotten between two moments of time.monotonic()."""

    begin: float
    end: float
    mark: int
    mask: int

    def met(self, at: float, took: float) -> bool:
        """Whether a connection that began at ``at``, and had its answer or an error after ``took`` seconds, was open.

        One that had waited for an answer for longer than IN_FLIGHT was lost before.
        """
        return self.begin - IN_FLIGHT <= at <= self.end and at + took >= self.begin


def read(file: Path, since: float) -> list[Flush]:
    """The flushes that ended after ``since``. A line that is not complete is of a process that was killed."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                begin, end, mark, mask = line.split()
                found.append(Flush(float(begin), float(end), int(mark), int(mask)))
    return [flush for flush in found if flush.end >= since]


@contextlib.contextmanager
def recorded(file: str) -> Iterator[None]:
    """Write down each flush of this process meanwhile."""
    from connbal.kernel.conntrack import SystemConntrack

    flush = SystemConntrack.flush

    def timed(self: SystemConntrack, mark: int, mask: int) -> None:
        begin = time.monotonic()
        try:
            flush(self, mark, mask)
        finally:
            with open(file, "a") as stream:
                stream.write(f"{begin} {time.monotonic()} {mark} {mask}\n")

    SystemConntrack.flush = timed  # type: ignore[method-assign]  # what the record is made by
    try:
        yield
    finally:
        SystemConntrack.flush = flush  # type: ignore[method-assign]


def main() -> None:
    from connbal.cli.main import main as connbal

    with recorded(os.environ[VARIABLE]):
        connbal()


if __name__ == "__main__":
    main()
