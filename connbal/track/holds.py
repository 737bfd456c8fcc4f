"""Interfaces that are down until somebody says otherwise.

``mwan3 ifdown`` lasts until ``mwan3 ifup``, ``mwan3 restart`` or the next ifup of the network.

The file that says so has a lock, which others may hold for as long as they like, so it is written in a thread. The run
that a line asks for comes after the file was written: it finds there what it has to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Event

from connbal.errors import KernelError
from connbal.kernel.rundir import HELD, RunDir
from connbal.track.aside import aside
from connbal.track.listen import HOLD, RELEASE, RESTART, Happened

#: Lines that may wait for the lock; a line more is as good as none.
MOST = 100

_Amend = Callable[[dict[str, str]], None]


class Holds:
    """Heeds what events say of that. For the loop it is made in.

    Parameters
    ----------
    written: told of each event once the file says what it said, or cannot be made to.
    trouble: told why not.
    """

    def __init__(
        self, run: RunDir, written: Callable[[Happened], None], trouble: Callable[[KernelError], None]
    ) -> None:
        self._run, self._written, self._trouble = run, written, trouble
        self._waiting: list[tuple[_Amend, Happened]] = []
        self._work: asyncio.Task[None] | None = None
        self._ending = Event()

    def heed(self, event: Happened) -> bool:
        """Whether this event has to do with it: then ``written`` is told of it later."""
        amend = self._amend(event)
        if amend is None or len(self._waiting) >= MOST:
            return False
        self._waiting.append((amend, event))
        if self._work is None:
            self._work = asyncio.create_task(self._write())
        return True

    async def close(self) -> None:
        """Wait for no lock any more. What waits is tried once."""
        self._ending.set()
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=1.0)

    def _amend(self, event: Happened) -> _Amend | None:
        name = event.interface or ""
        if event.action == HOLD:
            return partial(_put, name)
        if event.action == RELEASE:
            return partial(_end, name)
        # Nearly always nobody is held, or about to be.
        if self._waiting or self._work is not None or self._run.held():
            if event.action == "ifup":
                return partial(_release, {name, name.removesuffix("_4"), name.removesuffix("_6")})
            if event.cause == RESTART:
                return partial(_release, None)
        return None

    async def _write(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []

            def amend(forced: dict[str, str], amends: tuple[_Amend, ...] = tuple(one for one, _ in waiting)) -> None:
                for one in amends:
                    one(forced)

            try:
                await aside(partial(self._run.amend, amend, self._ending))
            except KernelError as error:
                self._trouble(error)
            for _, event in waiting:
                self._written(event)
        self._work = None


def _put(name: str, forced: dict[str, str]) -> None:
    forced[name] = HELD


def _end(name: str, forced: dict[str, str]) -> None:
    forced.pop(name, None)


def _release(names: set[str] | None, forced: dict[str, str]) -> None:
    """What the user forced in another way stays. ``names``: None: all."""
    for name in [name for name, state in forced.items() if state == HELD and (names is None or name in names)]:
        del forced[name]
