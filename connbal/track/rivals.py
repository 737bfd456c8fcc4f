"""Others who change the rules: what they do asks for a run, unless a run has seen it, and not each time at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from connbal.track.listen import Happened
from connbal.track.repairs import Repairs
from connbal.track.requests import Requests
from connbal.track.worker import World

#: Numbers of generations have 32 bits: what lies less than half of them back is older.
_ROUND, _HALF = 0xFFFFFFFF, 1 << 31


class Rivals:
    """For the loop it is made in. ``repairs``: says how soon one more may be."""

    def __init__(self, world: World, requests: Requests, repairs: Repairs) -> None:
        self._world, self._requests, self._repairs = world, requests, repairs
        self._aside: list[Happened] | None = None  #: while a run is under way
        self._by = ""
        self._put_off: asyncio.TimerHandle | None = None

    def heard(self, event: Happened) -> None:
        """Somebody has changed rules, perhaps connbal itself: a program that it started by way of another one, say."""
        if self._aside is not None:
            self._aside.append(event)
            return
        if event.generation and (self._world.generation - event.generation) & _ROUND < _HALF:
            return  # the last run has seen it, or done it
        self._by = event.by or self._by
        wait = self._repairs.wait(time.monotonic())
        if not wait:
            self._requests.ask(event.cause)
        elif self._put_off is None or self._put_off.when() < asyncio.get_running_loop().time():
            self._put_off = self._requests.later(event.cause, wait)

    @contextlib.contextmanager
    def meanwhile(self) -> Iterator[None]:
        """A run is under way: what is heard now is looked at when it is over."""
        self._aside = []
        try:
            yield
        finally:
            heard, self._aside = self._aside, None
            for event in heard:
                self.heard(event)

    def last(self) -> str:
        """Who has changed rules since this was last asked, in words; empty: nobody is known to have."""
        by, self._by = self._by, ""
        return by
