"""How often the kernel is looked at in a storm."""

from __future__ import annotations

from connbal.track.pace import BURST, PERIOD, RESERVE, SHARE, Pace


def runs(pace: Pace, seconds: float, urgent: bool, took: float = 0.0, start: float = 0.0) -> tuple[int, Pace]:
    """How many runs there are while events never stop."""
    now, count = start, 0
    while now < start + seconds:
        wait = pace.wait(urgent, now)
        if wait:
            now += wait
            continue
        now += took
        pace = pace.spent(now, took)
        count += 1
    return count, pace


def test_a_single_event_is_answered_at_once() -> None:
    assert Pace().wait(False, 0.0) == 0.0


def test_a_storm_is_a_handful_of_runs() -> None:
    count, pace = runs(Pace(), 3.1 * PERIOD, False)
    assert count == BURST - RESERVE + 3
    assert pace.wait(False, 3.1 * PERIOD) > 0


def test_what_is_urgent_may_go_on_when_the_rest_may_not() -> None:
    _, pace = runs(Pace(), 0.01, False)
    assert pace.wait(False, 0.01) > 0
    count, pace = runs(pace, 0.01, True, start=0.01)
    assert count == RESERVE
    assert 0 < pace.wait(True, 0.02) <= PERIOD


def test_quiet_fills_it_up_again() -> None:
    _, pace = runs(Pace(), 60.0, True)
    count, _ = runs(pace, 0.01, False, start=120.0)
    assert count == BURST - RESERVE


def test_slow_runs_leave_time_for_packets() -> None:
    """In a storm that lasts, no more than one part in SHARE of the time is spent on runs, whatever they take."""
    for took in (0.01, 0.5, 3.0):
        _, pace = runs(Pace(), 100.0, False, took)
        count, _ = runs(pace, 1000.0, False, took, start=200.0)
        assert count * took <= 1000.0 / SHARE + BURST * took


def test_a_run_that_is_waited_for_leaves_the_last_tokens() -> None:
    pace = Pace()
    for _ in range(100):
        pace = pace.spent(0.0, 0.1, awaited=True)
    assert pace.wait(False, 0.0) > 0
    for _ in range(int(RESERVE)):
        assert pace.wait(True, 0.0) == 0.0
        pace = pace.spent(0.0, 0.1)
    assert pace.wait(True, 0.0) > 0
    assert pace.spent(0.0, 0.1, awaited=True).tokens == 0.0  # nor does it give any


def test_a_clock_that_stands_still_or_goes_back_is_no_harm() -> None:
    pace = Pace(tokens=0.0, at=10.0)
    assert pace.wait(True, 5.0) == pace.wait(True, 10.0) == PERIOD
