"""How long it takes to find out: a prober with a clock of its own, on a line that is cut and mended."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Interface
from connbal.track.health import Event, EventKind, detection_time, next_delay, observe, recovery_time, start
from tests.unit.track.test_health import UP, a_round, settings

ROUND_TRIP = 0.02
#: Float arithmetic, nothing else: the simulated prober loses no time.
SMALL = 1e-6


class Prober:
    """Probes one source as a daemon would, in simulated time.

    ``alive(at)``: whether a probe sent then is answered; ``latency()``: seconds until it is, at most the timeout.
    """

    def __init__(
        self, one: Interface, alive: Callable[[float], bool], latency: Callable[[], float] = lambda: ROUND_TRIP
    ) -> None:
        self.settings, self.alive, self.latency = one, alive, latency
        self.state, _ = start(one, UP, 0.0)
        self.events: list[Event] = []
        self.starts: list[float] = []
        self.waiting: set[float] = set()

    def run(self, until: float) -> Prober:
        order = itertools.count()
        ends: list[tuple[float, int, float, str]] = []
        now = 0.0
        while now < until:
            last = self.starts[-1] if self.starts else None
            delay = next_delay(self.settings, self.state, last, now, last in self.waiting)
            assert delay is not None
            assert delay >= 0.0
            if ends and ends[0][0] <= now + delay:
                now, _, started, word = heapq.heappop(ends)
                self.waiting.discard(started)
                seen = a_round(word, started, now - started)
                self.state, events = observe(self.settings, self.state, seen, now)
                self.events += events
                continue
            now += delay
            self.starts.append(now)
            self.waiting.add(now)
            word, took = ("+", self.latency()) if self.alive(now) else ("-", self.settings.timeout)
            heapq.heappush(ends, (now + took, next(order), now, word))
        return self

    def first(self, kind: EventKind, after: float) -> float:
        """Seconds after ``after`` until the first event of a kind."""
        return next(event.at for event in self.events if event.kind is kind and event.at >= after) - after


def detected(one: Interface, cut: float) -> float:
    prober = Prober(one, lambda at: at < cut).run(cut + 2 * detection_time(one) + 1)
    return prober.first(EventKind.DISCONNECTED, cut)


def recovered(one: Interface, mended: float) -> float:
    prober = Prober(one, lambda at: at < 1.0 or at >= mended).run(mended + 2 * recovery_time(one) + one.timeout + 1)
    return prober.first(EventKind.CONNECTED, mended)


def timed(interval: float, failure: float, recovery: float, timeout: float, down: int, up: int = 3) -> Interface:
    return settings(
        interval=interval, failure_interval=failure, recovery_interval=recovery, timeout=timeout, down=down, up=up
    )


#: interval, failure_interval, recovery_interval, timeout, down; what detection_time says.
CASES = [
    (0.2, 0.2, 0.2, 0.2, 3, 0.8),  # failover within a second
    (5.0, 1.0, 1.0, 2.0, 3, 9.0),  # as connbal ships it for metered modems
    (10.0, 10.0, 10.0, 4.0, 5, 54.0),  # mwan3's defaults, where mwan3 takes 129 s
    (1.0, 0.1, 1.0, 4.0, 3, 5.2),  # rounds overlap
    (0.2, 1.0, 0.2, 0.1, 3, 2.3),  # slower after a miss, if that is what the user wants
    (1.0, 1.0, 1.0, 1.0, 1, 2.0),
]


@pytest.mark.parametrize(("interval", "failure", "recovery", "timeout", "down", "worst"), CASES)
def test_silent_loss_is_found_in_time(
    interval: float, failure: float, recovery: float, timeout: float, down: int, worst: float
) -> None:
    one = timed(interval, failure, recovery, timeout, down)
    assert detection_time(one) == pytest.approx(worst)
    if failure <= interval:
        assert worst <= down * interval + timeout + SMALL
    rounds = Prober(one, lambda at: True).run(4 * interval).starts
    cuts = [rounds[2] + interval * part / 50 for part in range(51)] + [rounds[2] + SMALL]
    found = [detected(one, cut) for cut in cuts]
    assert max(found) <= worst + SMALL
    assert max(found) >= worst - interval / 50 - SMALL  # the formula promises no more than is so, and no less


lengths = st.floats(0.1, 20.0)


@given(lengths, lengths, lengths, st.floats(0.05, 10.0), st.integers(1, 5), st.floats(1.0, 2.0))
def test_silent_loss_is_found_in_time_whatever_the_settings(
    interval: float, failure: float, recovery: float, timeout: float, down: int, part: float
) -> None:
    one = timed(interval, failure, recovery, timeout, down)
    assert detected(one, part * interval + 0.01) <= detection_time(one) + SMALL


@given(lengths, lengths, lengths, st.floats(0.05, 5.0), st.integers(1, 4), st.booleans(), st.floats(0.0, 1.0))
def test_a_source_that_answers_again_is_online_in_time(
    interval: float, failure: float, recovery: float, timeout: float, up: int, keep: bool, part: float
) -> None:
    one = settings(
        interval=interval, failure_interval=failure, recovery_interval=recovery, timeout=timeout, down=2, up=up,
        keep_failure_interval=keep,
    )  # fmt: skip
    mended = 1.0 + 2 * detection_time(one) + part * interval
    assert recovered(one, mended) <= recovery_time(one) + ROUND_TRIP + SMALL


@given(st.randoms(use_true_random=False), st.integers(2, 4), st.integers(1, 4), st.floats(0.1, 0.9))
def test_rounds_that_overlap_count_as_if_they_came_one_by_one(random: Random, down: int, up: int, loss: float) -> None:
    one = settings(interval=0.5, failure_interval=0.3, recovery_interval=0.2, timeout=2.0, down=down, up=up)
    sent: list[tuple[float, bool]] = []

    def alive(at: float) -> bool:
        sent.append((at, random.random() > loss))
        return sent[-1][1]

    prober = Prober(one, alive, lambda: random.uniform(0.01, one.timeout)).run(60.0)
    rows = {good: {at for number, (at, _) in enumerate(sent) if number + 1 >= length
                   and all(this is good for _, this in sent[number + 1 - length : number + 1])}
            for good, length in ((False, down), (True, 1))}  # fmt: skip
    for event in prober.events:
        if event.kind is EventKind.DISCONNECTED:
            assert any(abs(event.at - one.timeout - at) < SMALL for at in rows[False])
        if event.kind is EventKind.CONNECTED:
            assert any(at < event.at <= at + one.timeout for at in rows[True])


def test_while_all_is_well_a_round_starts_each_interval_and_no_more() -> None:
    starts = Prober(timed(5.0, 1.0, 1.0, 2.0, 3), lambda at: True).run(60.0).starts
    assert starts == [pytest.approx(5.0 * number) for number in range(len(starts))]


def test_after_the_first_miss_rounds_come_at_the_failure_interval_and_slow_down_once_offline() -> None:
    starts = Prober(timed(5.0, 1.0, 1.0, 2.0, 3), lambda at: at < 1.0).run(30.0).starts
    gaps = [round(later - earlier, 6) for earlier, later in itertools.pairwise(starts)]
    assert gaps == [5.0, 1.0, 1.0, 1.0, 1.0, *[5.0] * (len(gaps) - 5)]


def test_a_round_that_waits_hurries_the_next_only_while_online() -> None:
    one = timed(5.0, 1.0, 2.0, 4.0, 1)
    state, _ = start(one, UP, 0.0)
    state, _ = observe(one, state, a_round("+", 0.0), 0.5)
    assert [next_delay(one, state, 10.0, 10.25, waiting) for waiting in (False, True)] == [4.75, 0.75]
    state, _ = observe(one, state, a_round("-", 10.0, 4.0), 14.0)
    state, _ = observe(one, state, a_round("-", 15.0, 4.0), 19.0)
    assert [next_delay(one, state, 20.0, 20.25, waiting) for waiting in (False, True)] == [4.75, 4.75]
    assert next_delay(one, state, 20.0, 99.0) == 0.0
