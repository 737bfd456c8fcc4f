"""Requests for runs of the reconciler: folded together, and paced in a storm. Some are waited for."""

from __future__ import annotations

import asyncio

from connbal.track.applied import Result
from connbal.track.pace import Pace

#: Seconds for what belongs together to come together.
FOLD = 0.005
#: Causes that are kept by name; a storm has more.
MAX_CAUSES = 20


class Requests:
    """Who wants a run, and when the next one is due. Belongs to the loop it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(at=self._loop.time())
        self._causes: dict[str, None] = {}
        self._urgent = False
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._waiting: list[asyncio.Future[Result]] = []
        self._served: list[asyncio.Future[Result]] = []

    def ask(self, cause: str, *, urgent: bool = False) -> None:
        """A run is wanted, because of ``cause`` (in words). ``urgent``: connections are being lost."""
        if len(self._causes) < MAX_CAUSES:
            self._causes[cause] = None
        if urgent:
            self._urgent = True
            self._hurry.set()
        self._asked.set()

    async def wanted(self, cause: str) -> Result:
        """As :meth:`ask`, and wait for what comes of the first run that begins from now on.

        Such a run is not paced. Whoever asks again and again waits each time, and without the daemon would run the
        reconciler by himself. What is lost meanwhile does not wait longer for that (see :mod:`connbal.track.pace`).
        """
        answer: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append(answer)
        self.ask(cause)
        self._hurry.set()
        return await answer

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for what comes of the run that is under way."""
        return bool(self._served)

    def later(self, cause: str, delay: float) -> asyncio.TimerHandle:
        """As :meth:`ask`, after so many seconds."""
        return self._loop.call_later(delay, self.ask, cause)

    async def due(self) -> tuple[str, ...]:
        """Wait for requests and for the time of a run; returns the causes, each once."""
        await self._asked.wait()
        await asyncio.sleep(FOLD)
        while not self._waiting and (wait := self._pace.wait(self._urgent, self._loop.time())) > 0:
            self._hurry.clear()  # what was in a hurry until here has been counted in
            # Not wait_for: up to Python 3.11, it forgets that it was cancelled when a hurry comes at the same moment.
            timer = self._loop.call_later(wait, self._hurry.set)
            try:
                await self._hurry.wait()
            finally:
                timer.cancel()
        causes, self._causes, self._urgent = tuple(self._causes), {}, False
        self._served, self._waiting = self._waiting, []
        self._asked.clear()
        self._hurry.clear()
        return causes

    def done(self, seconds: float) -> None:
        """The run that was due is over; it took so long."""
        self._pace = self._pace.spent(self._loop.time(), seconds, awaited=self.awaited)

    def answer(self, result: Result) -> None:
        """Tell those who waited for the run what came of it."""
        for answer in self._served:
            if not answer.done():  # the client has gone
                answer.set_result(result)
        self._served = []
