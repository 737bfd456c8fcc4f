"""Requests for runs: folded, and paced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from connbal.track.requests import MAX_CAUSES, Requests


def in_loop(work: Callable[[Requests], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(work(Requests()), 30.0)

    asyncio.run(main())


def test_what_comes_together_is_one_run() -> None:
    async def work(requests: Requests) -> None:
        for cause in ("link wan", "address", "link wan", "route"):
            requests.ask(cause)
        assert await requests.due() == ("link wan", "address", "route")

    in_loop(work)


def test_what_comes_during_a_run_makes_another() -> None:
    async def work(requests: Requests) -> None:
        requests.ask("first")
        assert await requests.due() == ("first",)
        requests.ask("second")
        requests.done(0.01)
        assert await requests.due() == ("second",)

    in_loop(work)


def test_nothing_asked_nothing_due() -> None:
    async def work(requests: Requests) -> None:
        waiting = asyncio.create_task(requests.due())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        requests.later("time", 0.0)
        assert await waiting == ("time",)

    in_loop(work)


def test_a_storm_has_no_more_causes_than_anybody_reads() -> None:
    async def work(requests: Requests) -> None:
        for number in range(10_000):
            requests.ask(f"event {number}")
        assert len(await requests.due()) == MAX_CAUSES

    in_loop(work)


def test_what_is_urgent_does_not_wait_with_the_rest() -> None:
    async def work(requests: Requests) -> None:
        while True:
            requests.ask("storm")
            waiting = asyncio.create_task(requests.due())
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            if not done:
                break
            requests.done(30.0)  # so slow that the next token takes two minutes
        requests.ask("wan lost", urgent=True)
        assert await waiting == ("storm", "wan lost")

    in_loop(work)
