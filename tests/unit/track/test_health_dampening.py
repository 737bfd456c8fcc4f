"""Flap dampening: what keeps failing stays out for longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Interface
from connbal.track.dampening import CEILING, NO_FLAPS, PENALTY, REUSE, Flaps, eased, reuse_at, struck
from connbal.track.health import Forced, State, Status, Tick, held_until, observe, online, reason, reload, start, status
from tests.unit.track.test_health import DOWN, UP, a_round, kinds, settings

HALF_LIFE = 60.0
FLAPPING = settings(down=1, up=1, dampening=HALF_LIFE)


def flap(times: int, one: Interface = FLAPPING) -> tuple[State, list[str]]:
    """A source after so many losses, each a second after the last, that answers again; and the last events."""
    state, events = start(one, UP, 0.0)
    for number in range(times):
        state, _ = observe(one, state, a_round("-", number, 0.25), number + 0.25)
        state, events = observe(one, state, a_round("+", number + 0.5, 0.25), number + 0.75)
    return state, kinds(events)


@pytest.mark.parametrize(("times", "held"), [(1, False), (2, False), (3, True), (9, True)])
def test_the_third_loss_in_quick_succession_holds_it_back(times: int, held: bool) -> None:
    state, events = flap(times)
    assert online(FLAPPING, state) is not held
    assert status(FLAPPING, state) is (Status.CONNECTING if held else Status.ONLINE)
    assert events == ["connecting", *([] if held else ["connected"])]
    assert (held_until(FLAPPING, state) is not None) is held


def test_it_is_off_unless_asked_for() -> None:
    one = settings(down=1, up=1)
    state, events = flap(20, one)
    assert online(one, state)
    assert events == ["connecting", "connected"]
    assert state.flaps == NO_FLAPS
    assert held_until(one, state) is None


def test_it_says_so_and_is_let_go_in_time() -> None:
    state, _ = flap(3)
    assert reason(FLAPPING, state) == (
        "held back, it went offline too often (penalty 2966, halved every 60 s, free at 750); "
        "1 of 1 host answered, 1 needed"
    )
    until = held_until(FLAPPING, state)
    assert until is not None
    assert until == pytest.approx(2.25 + 2 * HALF_LIFE, abs=2.0)
    assert observe(FLAPPING, state, Tick(), until - 0.01) == (state, ())
    after, [event] = observe(FLAPPING, state, Tick(), until)
    assert event.kind.value == "connected"
    assert "decayed" in event.cause
    assert online(FLAPPING, after)
    assert after.online_since == until
    assert reason(FLAPPING, after) == "1 of 1 host answered, 1 needed"


def test_a_round_lets_it_go_too_and_one_that_misses_keeps_it_out() -> None:
    state, _ = flap(3)
    after, events = observe(FLAPPING, state, a_round("+", 500.0), 500.5)
    assert (kinds(events), online(FLAPPING, after)) == (["connected"], True)
    after, events = observe(FLAPPING, state, a_round("-", 10.0), 10.5)
    assert (kinds(events), status(FLAPPING, after)) == ([], Status.OFFLINE)
    assert after.flaps.penalty > state.flaps.penalty


def test_links_that_flap_are_held_back_and_need_no_tracking_for_it() -> None:
    one = settings(track_ip=(), dampening=HALF_LIFE)
    state, _ = start(one, UP, 0.0)
    for number in range(3):
        state, _ = observe(one, state, DOWN, number + 0.5)
        state, events = observe(one, state, UP, number + 1.0)
    assert kinds(events) == ["ifup"]
    until = held_until(one, state)
    assert until is not None
    assert kinds(observe(one, state, Tick(), until)[1]) == ["connected"]


def test_what_the_user_does_is_no_flapping() -> None:
    state, _ = start(FLAPPING, UP, 0.0)
    for number in range(9):
        state, _ = observe(FLAPPING, state, Forced(False), number + 0.25)
        state, events = observe(FLAPPING, state, Forced(None), number + 0.5)
        assert kinds(events) == ["connected"]
    assert state.flaps == NO_FLAPS


def test_turning_it_off_sets_free() -> None:
    state, _ = flap(3)
    after, events = reload(FLAPPING, settings(down=1, up=1), state, 5.0)
    assert (kinds(events), after.flaps) == (["connected"], NO_FLAPS)


times = st.lists(st.floats(0.0, 1e4), min_size=1, max_size=30)


@given(times, st.floats(0.1, 86400.0))
def test_the_penalty_is_bounded_and_nothing_is_held_for_longer_than_four_half_lives(
    gaps: list[float], half_life: float
) -> None:
    flaps, now = NO_FLAPS, 0.0
    for gap in gaps:
        now += gap
        flaps = struck(eased(flaps, half_life, now), half_life, now)
        assert PENALTY <= flaps.penalty <= CEILING
        until = reuse_at(flaps, half_life)
        if until is not None:
            assert until <= now + 4 * half_life * (1 + 1e-9)
            assert not eased(flaps, half_life, until).suppressed


def test_many_losses_at_once_count_up_to_the_ceiling() -> None:
    flaps = NO_FLAPS
    for _ in range(50):
        flaps = struck(flaps, 60.0, 5.0)
    assert flaps == Flaps(CEILING, 5.0, True)
    assert reuse_at(flaps, 60.0) == 245.0


def test_a_clock_that_stands_still_or_goes_back_does_no_harm() -> None:
    assert struck(Flaps(1000.0, 50.0), 60.0, 10.0) == Flaps(2000.0, 10.0)
    assert reuse_at(Flaps(REUSE / 2, 1.0, True), 60.0) == 1.0
