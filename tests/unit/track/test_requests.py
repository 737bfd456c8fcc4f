"""Requests for runs: folded, and paced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from connbal.track.applied import Result
from connbal.track.pace import BURST
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


# --- those that are waited for --------------------------------------------------------------------------------------


def test_who_waits_is_told_of_a_run_that_began_after_the_request() -> None:
    async def work(requests: Requests) -> None:
        requests.ask("first")
        await requests.due()
        assert not requests.awaited
        waiting = asyncio.create_task(requests.wanted("a command"))
        await asyncio.sleep(0)
        requests.done(0.01)
        requests.answer(Result("early"))
        assert await requests.due() == ("a command",)
        assert requests.awaited
        requests.done(0.01)
        requests.answer(Result("late"))
        assert (await waiting).file == "late"
        assert not requests.awaited

    in_loop(work)


def test_many_who_wait_share_a_run() -> None:
    async def work(requests: Requests) -> None:
        waiting = [asyncio.create_task(requests.wanted("a command")) for _ in range(20)]
        gone = asyncio.create_task(requests.wanted("a command"))
        assert await requests.due() == ("a command",)
        gone.cancel()
        await asyncio.sleep(0)
        requests.done(0.01)
        requests.answer(Result("one"))
        assert await asyncio.gather(*waiting) == [Result("one")] * 20

    in_loop(work)


def test_who_waits_is_not_paced_whatever_else_waits() -> None:
    """In a storm in which each run took 30 s, the next token is minutes away."""

    async def work(requests: Requests) -> None:
        for urgent in (False, True):
            for _ in range(int(BURST) + 1):
                requests.ask("storm", urgent=urgent)
                due = asyncio.create_task(requests.due())
                done, _ = await asyncio.wait({due}, timeout=0.05)
                if not done:
                    break
                requests.done(30.0)
            waiting = asyncio.create_task(requests.wanted("a command"))
            assert await asyncio.wait_for(due, 1.0) == ("storm", "a command")
            requests.done(30.0)
            requests.answer(Result())
            await waiting

    in_loop(work)


def test_what_is_lost_while_commands_follow_each_other_has_its_tokens() -> None:
    async def work(requests: Requests) -> None:
        for _ in range(20):
            waiting = asyncio.create_task(requests.wanted("a command"))
            await asyncio.wait_for(requests.due(), 1.0)
            requests.done(30.0)
            requests.answer(Result())
            await waiting
        requests.ask("wan lost", urgent=True)
        assert await asyncio.wait_for(requests.due(), 1.0) == ("wan lost",)

    in_loop(work)


def test_a_daemon_that_ends_is_not_kept_by_what_happens_at_that_moment() -> None:
    """A cancellation that gets lost is a daemon that has to be killed, and whose files nobody clears away."""

    async def work(requests: Requests) -> None:
        for turns in range(8):
            for _ in range(20):
                requests.done(30.0)
            requests.ask("storm")
            due = asyncio.create_task(requests.due())
            await asyncio.sleep(0.05)
            requests.ask("wan lost", urgent=True)
            for _ in range(turns):
                await asyncio.sleep(0)
            due.cancel()
            await asyncio.wait({due})
            assert due.cancelled(), turns

    in_loop(work)
