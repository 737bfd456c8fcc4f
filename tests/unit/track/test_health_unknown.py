"""Rounds that say less than yes or no: hosts that are left out, and hosts that this machine could not ask."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.track.api import HostResult, Miss, Round
from connbal.track.health import AGAIN, Finished, State, Status, next_delay, observe, reason, start, status
from connbal.track.quality import HostState, needed, verdict
from tests.unit.track.test_health import UP, settings

HOSTS = ("1.1.1.1", "9.9.9.9", "8.8.8.8", "192.168.1.1")


def a_round(word: str, started: float) -> Finished:
    """One host a letter: ``+`` answered, ``-`` did not, ``o`` is left out, ``x`` could not be asked."""
    made = {
        "+": lambda host: HostResult(host, True, 20.0, 0.0),
        "-": lambda host: HostResult(host, False, reason="timeout"),
        "o": lambda host: HostResult(host, False, reason="an address of this router", miss=Miss.LEFT_OUT),
        "x": lambda host: HostResult(host, False, reason="too many files are open", miss=Miss.UNASKED),
    }
    results = tuple(made[letter](host) for letter, host in zip(word, HOSTS, strict=False))
    return Finished(Round(results, started + 0.25), started)


def after(words: list[str], **options: object) -> State:
    one = settings(track_ip=HOSTS, **options)
    state, _ = start(one, UP, 0.0)
    for number, word in enumerate(words, 1):
        state, _ = observe(one, state, a_round(word, float(number)), number + 0.25)
    return state


def decides(state: State) -> tuple[object, ...]:
    """All that what comes next depends on."""
    return state.score, state.lost, state.turn, state.delay, state.judged, state.time, state.began, state.flaps


@pytest.mark.parametrize(
    ("word", "reliability", "good"),
    [
        ("+o", 2, True), ("-o", 1, False), ("-o", 2, False), ("+-o", 2, False), ("++-o", 3, False), ("++o", 3, True),
        ("oo", 1, None), ("o", 1, None), ("x", 1, None), ("xx", 2, None), ("ox", 1, None),
        ("+x", 1, True), ("-x", 1, None), ("-x", 2, False), ("+x", 2, None), ("++x", 2, True), ("--x", 2, False),
        ("+ox", 2, None), ("-ox", 2, False), ("+", 2, False), ("o+", 3, False), ("", 1, False),
    ],
)  # fmt: skip
def test_what_a_round_says(word: str, reliability: int, good: bool | None) -> None:
    counts = {"left_out": word.count("o"), "unasked": word.count("x")}
    assert verdict(reliability, len(word), word.count("+"), **counts) is good
    if word:
        before, then = after(["+" * len(word)] * 2, reliability=reliability), after(
            ["+" * len(word)] * 2 + [word], reliability=reliability
        )  # fmt: skip
        assert (decides(before) == decides(then)) is (good is None)


@given(st.text("+-ox", max_size=4), st.integers(1, 5))
def test_no_unasked_host_could_have_turned_a_verdict(word: str, reliability: int) -> None:
    counts = {"left_out": word.count("o"), "unasked": word.count("x")}
    found = verdict(reliability, len(word), word.count("+"), **counts)
    possible = {
        verdict(reliability, len(word), word.count("+") + more, left_out=word.count("o"))
        for more in range(word.count("x") + 1)
    }
    if found is not None:
        assert possible == {found}
    elif set(word) - {"o", "x"}:
        assert len(possible) == 2
    # What is pending may turn out to be left out, or not to be asked: a verdict given before stays what it is.
    for pending in range(len(word)):
        early = word[pending:]
        told = verdict(
            reliability, len(word), early.count("+"),
            left_out=early.count("o"), unasked=early.count("x"), pending=pending,
        )  # fmt: skip
        assert told is None or told is found or (found is None and "o" in word[:pending] and told is False)


@pytest.mark.parametrize("words", [["xxxx"] * 20, ["oooo"] * 20, ["-xxx", "x-xx", "oxxo"] * 5])
@pytest.mark.parametrize("before", [["++++"], ["----"], ["++++", "----"], ["----"] * 6 + ["++++"]])
def test_a_round_that_says_nothing_changes_nothing(words: list[str], before: list[str]) -> None:
    assert decides(after([*before, *words])) == decides(after(before))
    one = settings(track_ip=HOSTS)
    assert status(one, after([*before, *words])) is status(one, after(before))


def test_what_could_not_be_made_is_said_and_tried_again_soon() -> None:
    one = settings(track_ip=HOSTS, interval=30.0)
    state = after(["++++", "xxxx", "xxxx"], interval=30.0)
    assert (state.hitch, state.unmade) == ("too many files are open", 2)
    assert "no round could be made: too many files are open" in reason(one, state)
    assert next_delay(one, state, 10.0, 10.25) == AGAIN - 0.25
    assert next_delay(replace(one, interval=0.2), replace(state, delay=0.2), 10.0, 10.0) == pytest.approx(0.2)
    state, _ = observe(one, state, a_round("++++", 9.0), 9.25)
    assert (state.hitch, state.unmade) == ("", 2)
    assert next_delay(one, state, 10.0, 10.25) == 29.75


def test_a_round_from_before_does_not_end_the_want() -> None:
    one = settings(track_ip=HOSTS)
    state = after(["++++"])
    state, _ = observe(one, state, a_round("xxxx", 5.0), 5.25)
    state, _ = observe(one, state, a_round("++++", 4.0), 5.5)
    assert (state.hitch, state.judged) == ("too many files are open", 4.0)
    state, _ = observe(one, state, a_round("++++", 6.0), 6.25)
    assert state.hitch == ""


def test_hosts_that_are_left_out_say_so() -> None:
    one = settings(track_ip=HOSTS, reliability=4)
    state = after(["++++", "+++o"], reliability=4)
    assert status(one, state) is Status.ONLINE
    assert state.words == "3 of 3 hosts answered, 3 needed: 192.168.1.1 left out, an address of this router"
    assert [host.known for host in state.hosts] == [HostState.UP] * 3 + [HostState.SKIPPED]
    assert state.hosts[3].loss == 0.0, "what it answered before is not lost now"
    state, _ = observe(one, state, a_round("oooo", 9.0), 9.25)
    assert "no host can be asked, so its state stays as it is" in reason(one, state)
    state, _ = observe(one, state, a_round("xxxx", 10.0), 10.25)
    assert [host.known for host in state.hosts] == [HostState.SKIPPED] * 4, "what was not asked stays as it was"


def test_no_more_hosts_are_needed_than_are_left() -> None:
    assert [needed(2, 4, out) for out in range(5)] == [2, 2, 2, 1, 0]
    assert needed(5, 4, 3) == 5, "as where none is left out: no round is ever good"
