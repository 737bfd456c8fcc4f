"""connbal, with somebody who sees whether its loop is held up: ``python tests/netns/daemon/watched.py ...``.

What connbal itself does is the same. Each time that the loop does not come round, what it was doing is written as a
line into the file that the variable names. Two things can hold it up, and a machine that is busy is neither:

- it waits: for a lock, a file, a program, another thread. Seen by looking at its thread a few times in a row: the
  kernel says in which call it sleeps, Python where in the program.
- it works, for longer than a callback should: seen by the processor time that its thread has used.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

VARIABLE = "CONNBAL_TEST_LOOP"
#: Seconds between two looks; looks in a row at which it waits until it is told; seconds of work until it is.
EVERY, LOOKS, WORK = 0.03, 4, 0.5
#: The interpreter's own lock is one of these calls too: what others do meanwhile is none of the loop's fault. Those who
#: wait for a thread on purpose do so in one of these modules.
_FUTEX, _WAITERS = {"x86_64": 202, "aarch64": 98}.get(os.uname().machine, -1), ("threading.py", "queue.py", "_base.py")
#: State files are made anew and renamed, so nothing that lies there is waited for; but a lab has them on a disk, which
#: may be busy, and not in memory as a router.
_STATE = (("statefiles.py", None), ("kernel/files.py", "write"), ("kernel/files.py", "_beside"))


class Watch:
    """Watches the loop in which it is made from a thread of its own. ``tell`` is called with what was seen."""

    def __init__(self, tell: Callable[[str, float, str], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._ident, self._task = threading.get_ident(), threading.get_native_id()
        self._clock = time.pthread_getcpuclockid(self._ident)
        self._over = threading.Event()
        self._beat()
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        self._over.set()

    def _beat(self) -> None:
        self._at, self._used, self._told = time.monotonic(), time.clock_gettime(self._clock), False
        self._timer = self._loop.call_later(EVERY, self._beat)

    def _watch(self) -> None:
        waited, last = 0, 0.0
        while not self._over.wait(EVERY):
            at, late = self._at, time.monotonic() - self._at
            if at != last or late < 2 * EVERY:
                waited, last = 0, at
                continue
            frame = sys._current_frames().get(self._ident)
            waited = waited + 1 if frame is not None and self._waits(frame) else 0
            worked = time.clock_gettime(self._clock) - self._used
            if not self._told and at == self._at and frame is not None and (waited >= LOOKS or worked > WORK):
                self._told = True
                kind, seconds = ("waits", late) if waited >= LOOKS else ("works", worked)
                self._tell(kind, seconds, "".join(traceback.format_stack(frame)[-12:]))

    def _waits(self, frame: FrameType) -> bool:
        """Whether the loop's thread sleeps in a call, other than for what is to happen next."""
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        if file.endswith("selectors.py") or any(
            file.endswith(name) and only in (None, function) for name, only in _STATE
        ):
            return False
        try:
            with open(f"/proc/self/task/{self._task}/stat") as stat:
                asleep = stat.read().rpartition(")")[2].split()[0] in "SD"
            with open(f"/proc/self/task/{self._task}/syscall") as syscall:
                number = syscall.read().split()[0]
        except OSError:
            return False
        return asleep and (number != str(_FUTEX) or file.endswith(_WAITERS))


@contextlib.contextmanager
def watched(file: str) -> Iterator[None]:
    """Every loop that ``asyncio.run`` runs meanwhile is watched."""
    run = asyncio.run

    def tell(kind: str, seconds: float, stack: str) -> None:
        with open(file, "a") as stream:
            stream.write(json.dumps({"kind": kind, "seconds": round(seconds, 3), "stack": stack}) + "\n")

    def watching(main: Coroutine[Any, Any, Any], **more: Any) -> Any:
        async def body() -> Any:
            watch = Watch(tell)
            try:
                return await main
            finally:
                watch.close()

        return run(body(), **more)

    asyncio.run = watching
    try:
        yield
    finally:
        asyncio.run = run


def held_up(file: os.PathLike[str]) -> list[str]:
    """What was written, in words."""
    try:
        with open(file) as stream:
            lines = [json.loads(line) for line in stream]
    except FileNotFoundError:
        return []
    return [f"the loop {one['kind']} for {one['seconds']:g} s:\n{one['stack']}" for one in lines]


def main() -> None:
    from connbal.cli.main import main as connbal

    with watched(os.environ[VARIABLE]):
        connbal()


if __name__ == "__main__":
    main()
