"""Whom the kernel ends first where memory is short: not the daemon, and what it starts no later than anybody else.

``/proc/self/oom_score_adj`` is inherited. A program that eats the memory (a script of the user's, say) must not be
spared for having been started by somebody who is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: In thousandths of the memory there is: while the daemon has less than half of it, all others are ended before it.
OURS = -500

_FILE = Path("/proc/self/oom_score_adj")

_lock = threading.Lock()
_starting = 0  #: programs that are being started, by any thread
_own = _others = 0  #: what this process has, and what those that it starts get


def protect() -> None:
    """Have this process ended late, and those that it starts from now on no later than others.

    One that is spared more already stays so. Without the right to lower it (CAP_SYS_RESOURCE) it stays as it is:
    whoever starts the daemon may have seen to it, as the unit for systemd does.
    """
    global _own, _others
    with suppress(OSError, ValueError):
        found = int(_FILE.read_text())
        wanted, _others = values(found)
        _own = found
        if wanted != found:
            _FILE.write_text(str(wanted))
            _own = wanted


def values(found: int) -> tuple[int, int]:
    """What a process that began with ``found`` is to have, and what programs are that it starts. Pure."""
    return min(found, OURS), max(found, 0)


@contextmanager
def unprotected() -> Iterator[None]:
    """While a program is started: it inherits what everybody has. For any thread; nothing without :func:`protect`."""
    _step(1)
    try:
        yield
    finally:
        _step(-1)


def _step(by: int) -> None:
    global _starting
    if _own == _others:
        return
    with _lock:
        _starting += by
        if _starting == max(by, 0):  # the first that begins, or the last that is over
            with suppress(OSError):
                _FILE.write_text(str(_others if by > 0 else _own))
