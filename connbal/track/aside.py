"""Threads for what may have to wait: the loop never does.

They are threads that do not keep the process alive. What one of them still waits for when the process ends is left as
it is, as if the process had been killed, which whatever is done here must bear at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from connbal.kernel.api import T

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Aside:
    """One thread that does one thing after the other, in the order in which they were asked for."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises. Whoever is cancelled meanwhile does not end it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, answer, work))
        return await answer

    async def close(self, patience: float) -> bool:
        """End it once all is done; False where that takes longer than ``patience`` seconds, and goes on."""
        self._jobs.put(None)
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while self._thread.is_alive() and loop.time() < end:
            await asyncio.sleep(0.01)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _do(*job)


async def aside(work: Callable[[], T]) -> T:
    """The same in a thread of its own, beside everything else. For what is seldom done."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    threading.Thread(target=_do, args=(loop, answer, work), daemon=True).start()
    return await answer


def _do(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:
        _tell(loop, _fail, answer, error)
    else:
        _tell(loop, _succeed, answer, result)


def _tell(loop: asyncio.AbstractEventLoop, how: Callable[..., None], *what: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is over, and nobody waits any more
        loop.call_soon_threadsafe(how, *what)


def _succeed(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
