"""A round: how often each host is asked, how long it may take, and what counts. On a clock that jumps."""

from __future__ import annotations

import asyncio
import errno
import selectors
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Family, Interface, TrackMethod
from connbal.track import health
from connbal.track.api import HostResult, Round
from connbal.track.health import Finished, NetworkSeen
from connbal.track.probes.host import HostRun
from connbal.track.probes.method import Cancel, Done, Method, Target
from connbal.track.probes.prober import Prober, literal, make
from connbal.track.probes.way import Way

T = TypeVar("T")
#: What becomes of each probe, in the order in which they leave: see Scripted.
Script = Sequence[tuple[float, str] | int | None]


class _Jumping(selectors.DefaultSelector):
    """Never waits: where nothing has happened, the time has come."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not events:
            assert timeout is not None, "waits for ever"
            self.now += timeout
        return events


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in whose time nothing takes long."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.jumping.now

    def due(self) -> int:
        """How many timers would still go off."""
        return sum(not timer.cancelled() for timer in self._scheduled)  # type: ignore[attr-defined]


def run(main: Callable[[JumpingLoop], Awaitable[T]]) -> T:
    loop = JumpingLoop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))

    async def whole() -> T:
        return await main(loop)

    try:
        found = loop.run_until_complete(whole())
    finally:
        loop.close()
    assert not errors
    return found


class Scripted(Method):
    """Answers each probe as told: (after so many seconds, reason); None: never; an errno: cannot leave.

    Rude: also answers those that were cancelled.
    """

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = list(script)
        self.sent: list[float] = []
        self.cancelled = 0

    def probe(self, target: Target, done: Done) -> Cancel:
        step = self.script[len(self.sent)] if len(self.sent) < len(self.script) else None
        self.sent.append(self.loop().time())
        if isinstance(step, int):
            raise OSError(step, "no")
        if step is not None:
            delay, reason = step
            at = self.loop().time() + delay
            self.loop().call_at(at, done, reason, at)

        def cancel() -> None:
            self.cancelled += 1

        return cancel


def ask(script: Script, count: int = 1, timeout: float = 1.0) -> tuple[HostResult, float, Scripted]:
    """The result of one host, how long it took, and the method."""
    method = Scripted(script)

    async def main(loop: JumpingLoop) -> tuple[HostResult, float]:
        over = asyncio.Event()
        calls = []

        def ended() -> None:
            calls.append(loop.time())
            over.set()

        interface = Interface("wan", 1, count=count, timeout=timeout)
        began = loop.time()
        host = HostRun("h", interface, method, Way("e-wan", Family.IPV4).words, ended)
        host.begin("192.0.2.1")
        await over.wait()
        took = loop.time() - began
        result = host.result()
        await asyncio.sleep(100)  # what comes late changes nothing
        assert host.result() == result
        assert len(calls) == 1
        assert not loop.due()
        return result, took

    return *run(main), method


def test_one_answer() -> None:
    result, took, _ = ask([(0.02, "")])
    assert (result.answered, result.loss, result.reason) == (True, 0.0, "")
    assert result.latency == pytest.approx(20.0)
    assert took == pytest.approx(0.02)


def test_no_answer_takes_the_timeout() -> None:
    result, took, method = ask([None], timeout=0.3)
    assert result == HostResult("h", False, None, 100.0, "timeout")
    assert took == pytest.approx(0.3)
    assert method.cancelled == 1


def test_the_next_probe_follows_an_answer_at_once() -> None:
    result, took, method = ask([(0.1, "")] * 3, count=3)
    assert took == pytest.approx(0.3)
    assert len(method.sent) == 3
    assert result.loss == 0.0


def test_lost_probes_do_not_hold_up_the_next() -> None:
    result, took, method = ask([None] * 5, count=5, timeout=10.0)
    assert took == pytest.approx(14.0)  # a second apart, then the timeout of the last
    assert not result.answered
    _, took, method = ask([None] * 4, count=4, timeout=0.4)
    assert [at - method.sent[0] for at in method.sent] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert took == pytest.approx(0.7)


def test_loss_and_mean_latency() -> None:
    result, _, _ = ask([(0.1, ""), None, (0.3, ""), None], count=4)
    assert result.answered
    assert result.loss == 50.0
    assert result.latency == pytest.approx(200.0)


def test_a_reason_says_more_than_a_timeout() -> None:
    result, _, _ = ask([None, (0.1, "host unreachable from 10.1.0.1"), None], count=3)
    assert result.reason == "host unreachable from 10.1.0.1"


def test_an_answer_that_was_late_is_none_even_if_read_in_the_same_moment() -> None:
    result, _, _ = ask([(1.0001, "")], timeout=1.0)
    assert not result.answered


def test_what_cannot_leave_fails_at_once() -> None:
    result, took, _ = ask([errno.ENETUNREACH], count=5, timeout=4.0)
    assert result == HostResult("h", False, None, 100.0, "network unreachable")
    assert took == 0.0
    result, _, _ = ask([(0.1, ""), errno.ENODEV], count=4)
    assert result.answered
    assert result.loss == 75.0


STEPS = st.one_of(
    st.none(), st.just(errno.ENODEV), st.tuples(st.floats(0, 3), st.sampled_from(["", "", "refused", "timeout"]))
)


@given(st.lists(STEPS, max_size=6), st.integers(0, 6), st.floats(0.01, 2))
def test_whatever_happens_it_ends_in_time_and_adds_up(
    script: list[tuple[float, str] | int | None], count: int, timeout: float
) -> None:
    result, took, method = ask(script, count, timeout)
    count = max(1, count)
    assert took <= count * timeout + 1e-6
    assert len(method.sent) <= count
    assert 0 <= result.loss <= 100
    assert result.answered == (result.latency is not None) == (result.loss < 100) == (not result.reason)
    assert result.latency is None or result.latency <= timeout * 1000 + 1e-6
    answers = round(count * (100 - result.loss) / 100)
    assert answers <= sum(isinstance(step, tuple) and not step[1] for step in script[: len(method.sent)])


class Rigged(Prober):
    """Probes by a given method."""

    def __init__(self, method: Method) -> None:
        super().__init__("lo", Family.IPV4)
        self._rigged = method

    def _method(self, interface: Interface) -> Method:
        return self._rigged


def test_a_round_that_is_cancelled_leaves_nothing() -> None:
    method = Scripted([None] * 10)

    async def main(loop: JumpingLoop) -> None:
        prober = Rigged(method)
        interface = Interface("wan", 1, track_ip=("192.0.2.1", "192.0.2.2"), count=3)
        task = asyncio.ensure_future(prober.run(interface))
        await asyncio.sleep(1.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not loop.due()
        assert method.cancelled == len(method.sent) == 4
        prober.close()

    run(main)


def test_hosts_that_cannot_be_asked_have_a_reason() -> None:
    async def main(loop: JumpingLoop) -> Mapping[str, str]:
        prober = Prober("lo", Family.IPV4)
        hosts = ("2001:db8::1", "no host!", "")
        found = await prober.run(Interface("wan", 1, track_method=TrackMethod.NPING_UDP), hosts)
        prober.close()
        assert [result.host for result in found.results] == list(hosts)
        assert not any(result.answered for result in found.results)
        return {result.host: result.reason for result in found.results}

    reasons = run(main)
    assert reasons["2001:db8::1"] == "not an IPv4 address"
    assert reasons["no host!"] == "name not resolved: 'no host!' is no host name"


def test_no_such_device_no_hosts() -> None:
    async def main(loop: JumpingLoop) -> None:
        for name in ("cb-nosuch", "", "e/\0", "a-name-of-more-than-15"):
            prober = Prober(name, Family.IPV6)
            found = await prober.run(Interface("wan", 1, track_ip=("2001:db8::1",)))
            assert found.results[0].reason == f"no such device {name}"
            prober.close()
        nobody = Interface("wan", 1, track_method=TrackMethod.NPING_TCP)
        assert (await Prober("lo", Family.IPV4).run(nobody)).results == ()

    run(main)


def test_every_method_is_there_in_both_families() -> None:
    for family in Family:
        for method in TrackMethod:
            assert isinstance(make(method, False, family), Method)


def test_an_address_may_carry_a_scope() -> None:
    assert str(literal("fe80::1%e-wan")) == "fe80::1"
    with pytest.raises(ValueError):
        literal("www.example.com")


def rounds(script: Script, settings: Interface, early: bool = True) -> list[Round]:
    """The reports of one round; their times are seconds since it began."""
    method = Scripted(script)
    found: list[Round] = []

    async def main(loop: JumpingLoop) -> None:
        prober = Rigged(method)
        task = asyncio.ensure_future(prober.run(settings, None, found.append if early else None))
        await asyncio.sleep(0)
        assert found == []  # nothing is told before anybody could have waited for it
        found.append(await task)
        assert method.cancelled == len(method.sent) - sum(isinstance(step, int) for step in script[: len(method.sent)])
        await asyncio.sleep(100)  # what comes late changes nothing
        prober.close()

    run(main)
    for one in found:
        assert [result.host for result in one.results] == list(settings.track_ip)
    return [replace(one, at=one.at - 1000.0) for one in found]


def hosts(number: int, /, **options: object) -> Interface:
    """An interface with so many hosts."""
    addresses = tuple(f"192.0.2.{last}" for last in range(1, number + 1))
    return Interface("wan", 1, enabled=True, track_ip=addresses, **options)  # type: ignore[arg-type]


def letters(found: Round) -> str:
    """Its results as up, down, skipped."""
    return "".join("s" if one.skipped else "u" if one.answered else "d" for one in found.results)


def test_a_round_is_good_as_soon_as_enough_answered() -> None:
    early, late = rounds([(0.1, ""), (0.5, ""), None, (0.2, "")], hosts(4, reliability=2))
    assert (letters(early), letters(late)) == ("ussu", "suds")
    assert [early.at, late.at] == pytest.approx([0.2, 4.0])
    assert early.results[0].latency == pytest.approx(100.0)
    assert early.results[1] == HostResult("192.0.2.2", False, skipped=True)
    assert late.results[2].reason == "timeout"


def test_a_round_is_bad_as_soon_as_too_many_failed() -> None:
    script = [errno.ENETUNREACH, None, (0.3, "refused"), (0.1, "")]
    early, late = rounds(script, hosts(4, reliability=3))
    assert (letters(early), letters(late)) == ("dsdu", "sdss")
    assert early.at == pytest.approx(0.3)
    # More are asked for than there are: it is bad whatever comes.
    early, late = rounds([(0.2, ""), (0.1, "")], hosts(2, reliability=3))
    assert (letters(early), letters(late)) == ("su", "us")


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ([], {}),
        ([(0.1, "")], {}),
        ([(0.1, "refused"), (0.2, "refused")], {}),
        ([(0.1, ""), (0.2, "")], {"reliability": 2}),
        ([errno.ENODEV] * 3, {"reliability": 2}),
        ([(0.1, ""), (0.2, ""), None], {"check_quality": True}),
    ],
)
def test_a_round_that_its_last_host_decides_has_one_report(script: Script, options: Mapping[str, object]) -> None:
    (only,) = rounds(script, hosts(len(script), **options))
    assert "s" not in letters(only)


def test_a_host_counts_when_all_its_probes_are_over() -> None:
    # The second probe of the first host leaves with the answer to its first, those of the others after half a second.
    script = [(0.1, ""), (0.2, "refused"), None, None, (0.1, "refused"), None]
    early, late = rounds(script, hosts(3, count=2, timeout=1.0))
    assert (letters(early), letters(late)) == ("uds", "ssd")
    assert early.at == pytest.approx(1.1)
    assert early.results[0].loss == 50.0


@given(
    st.lists(STEPS, min_size=6, max_size=12),
    st.builds(
        hosts, st.integers(0, 6), reliability=st.integers(1, 7), count=st.integers(1, 2), check_quality=st.booleans()
    ),
)
def test_two_reports_say_together_what_one_would(script: Script, settings: Interface) -> None:
    (whole,) = rounds(script, settings, early=False)
    reports = rounds(script, settings)
    assert 1 <= len(reports) <= 2
    assert reports[-1].at == whole.at
    for results in zip(whole.results, *(one.results for one in reports), strict=True):
        assert [result for result in results[1:] if not result.skipped] == [results[0]]
    up, _ = health.start(settings, NetworkSeen(True), 0.0)
    together, _ = health.observe(settings, up, Finished(whole, 1.0), 1.0)
    after = up
    for one in reports:
        after, _ = health.observe(settings, after, Finished(one, 1.0), 1.0)
    assert (after.score, after.delay) == (together.score, together.delay)
    assert [(host.name, host.state, host.fault) for host in after.hosts] == [
        (host.name, host.state, host.fault) for host in together.hosts
    ]


def test_a_round_may_be_cancelled_by_who_is_told() -> None:
    method = Scripted([(0.1, ""), None, None])

    async def main(loop: JumpingLoop) -> None:
        prober = Rigged(method)
        told = []

        def end(found: Round) -> None:
            told.append(letters(found))
            task.cancel()
            prober.close()

        task = asyncio.ensure_future(prober.run(hosts(3), None, end))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told == ["uss"]
        assert not loop.due()

    run(main)
