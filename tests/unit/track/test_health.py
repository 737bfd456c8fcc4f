"""mwan3's score machine: every sequence of rounds against a reference that knows only rows of misses and answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Interface
from connbal.track.api import HostResult, Round
from connbal.track.health import (
    Event,
    Finished,
    NetworkSeen,
    State,
    Status,
    next_delay,
    observe,
    online,
    reason,
    start,
    status,
)
from connbal.track.quality import HostState

INTERVAL, FAILURE, RECOVERY = 10.0, 3.0, 5.0
UP = NetworkSeen(True)
DOWN = NetworkSeen(False, "no carrier")


def settings(**options: Any) -> Interface:
    given_ = {
        "enabled": True, "track_ip": ("1.1.1.1",), "interval": INTERVAL, "failure_interval": FAILURE,
        "recovery_interval": RECOVERY, **options,
    }  # fmt: skip
    return Interface("wan", 1, **given_)


def answers(word: str, hosts: Iterable[str] = ("1.1.1.1", "9.9.9.9", "8.8.8.8")) -> tuple[HostResult, ...]:
    """One host a letter: ``+`` answered, ``-`` did not, ``?`` was not asked."""
    made = {
        "+": lambda host: HostResult(host, True, 20.0, 0.0),
        "-": lambda host: HostResult(host, False, None, 100.0, "timeout"),
        "?": lambda host: HostResult(host, False, skipped=True),
    }
    return tuple(made[letter](host) for letter, host in zip(word, hosts, strict=False))


def a_round(word: str, started: float, took: float = 0.5) -> Finished:
    return Finished(Round(answers(word), started + took), started)


def kinds(events: Iterable[Event]) -> list[str]:
    return [event.kind.value for event in events]


def run(
    one: Interface, words: Iterable[str], state: State | None = None, at: float = 1.0
) -> Iterator[tuple[State, list[str]]]:
    """The state after each round, one a second from ``at`` on, and its events."""
    if state is None:
        state, _ = start(one, UP, 0.0)
    for number, word in enumerate(words):
        state, events = observe(one, state, a_round(word, at + number, 0.25), at + number + 0.25)
        yield state, kinds(events)


# --- the reference ------------------------------------------------------------------------------------------------


@dataclass
class Reference:
    """A source that goes offline by ``down`` misses in a row, and online by ``up`` answers in a row. Nothing else."""

    down: int
    up: int
    online: bool
    row: int = 0  #: rounds in a row that speak against what it is
    lost: int = 0
    turn: int = 0

    def round(self, good: bool) -> tuple[str, list[str]]:
        """The interval that follows, and the events."""
        self.turn += 1
        self.lost = 0 if good else self.lost + 1
        self.row = self.row + 1 if good != self.online else 0
        delay = ("recovery" if not self.online else "interval") if good else "failure"
        if not good and not self.online:
            delay = "lost"
        events = []
        if self.row == 1:
            events.append("connecting" if good else "disconnecting")
        if self.row == (self.down if self.online else self.up):
            self.online, self.row = good, 0
            events.append("connected" if good else "disconnected")
            self.turn = 1 if good else self.turn
        return delay, events

    @property
    def score(self) -> int:
        return self.down + self.up - self.row if self.online else self.row

    @property
    def status(self) -> Status:
        if self.online:
            return Status.DISCONNECTING if self.row else Status.ONLINE
        return Status.CONNECTING if self.row else Status.OFFLINE


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize(("down", "up"), list(itertools.product(range(1, 5), repeat=2)))
def test_every_sequence_of_eight_rounds(down: int, up: int, initial: bool, keep: bool) -> None:
    one = settings(down=down, up=up, initial_online=initial, keep_failure_interval=keep)
    delays = {
        "interval": INTERVAL, "failure": FAILURE, "recovery": RECOVERY, "lost": FAILURE if keep else INTERVAL,
    }  # fmt: skip

    def walk(state: State, reference: Reference, depth: int) -> None:
        for good in (True, False) if depth else ():
            expected = replace(reference)
            delay, expected_events = expected.round(good)
            at = 10.0 - depth
            after, events = observe(one, state, a_round("+" if good else "-", at), at + 0.5)
            assert kinds(events) == expected_events
            assert (after.score, after.lost, after.turn) == (expected.score, expected.lost, expected.turn)
            assert online(one, after) is expected.online
            assert status(one, after) is expected.status
            assert next_delay(one, after, at, at) == delays[delay]
            assert reason(one, after)
            walk(after, expected, depth - 1)

    begun, events = start(one, UP, 0.0)
    assert kinds(events) == (["connected"] if initial else [])
    walk(begun, Reference(down, up, initial), 8)


# What mwan3track 2.12.2 itself did (its script run with rounds as given, interval 10, failure 3, recovery 5): down, up,
# initial state, rounds; then for each round: status, score, LOST, TURN, seconds of sleep, events. Where its status was
# not what follows from the score, ours is after a slash.
TRACES = [
    (3, 2, True, "01000111011", """
        disconnecting 4 1 1 3 disconnecting
        online 5 0 2 10
        online/disconnecting 4 1 3 3 /disconnecting
        online/disconnecting 3 2 4 3
        offline 0 3 5 3 disconnected
        connecting 1 0 6 5 connecting
        online 5 0 1 5 connected
        online 5 0 2 10
        disconnecting 4 1 3 3 disconnecting
        online 5 0 4 10
        online 5 0 5 10
    """),
    (3, 2, False, "1011000", """
        connecting 1 0 1 5 connecting
        connecting/offline 0 1 2 10
        connecting 1 0 3 5 /connecting
        online 5 0 1 5 connected
        disconnecting 4 1 2 3 disconnecting
        disconnecting 3 2 3 3
        offline 0 3 4 3 disconnected
    """),
]  # fmt: skip


@pytest.mark.parametrize(("down", "up", "initial", "rounds", "trace"), TRACES)
def test_as_mwan3track_does(down: int, up: int, initial: bool, rounds: str, trace: str) -> None:
    one = settings(down=down, up=up, initial_online=initial)
    seen = run(one, ["-+"[int(letter)] for letter in rounds])
    for line, (state, events) in zip(trace.strip().splitlines(), seen, strict=True):
        word, score, lost, turn, delay, *expected = line.split()
        assert status(one, state).value == word.split("/")[-1]
        assert [state.score, state.lost, state.turn, state.delay] == [int(score), int(lost), int(turn), float(delay)]
        assert events == [event.lstrip("/") for event in expected]


@pytest.mark.parametrize(("down", "up", "word", "expected"), [
    (1, 3, "-", ["disconnecting", "disconnected"]),
    (2, 1, "--+", ["connecting", "connected"]),
])  # fmt: skip
def test_one_round_that_decides_passes_through_the_state_between(
    down: int, up: int, word: str, expected: list[str]
) -> None:
    assert list(run(settings(down=down, up=up), word))[-1][1] == expected


# --- what makes a round good ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reliability", "word", "good", "lost"), [
    (1, "+--", True, 0), (2, "+--", False, 2), (2, "++-", True, 0), (1, "---", False, 3), (1, "+??", True, 0),
    (2, "+?-", False, 1), (3, "+++", True, 0), (4, "+++", False, 0), (1, "???", False, 0),
])  # fmt: skip
def test_reliability(reliability: int, word: str, good: bool, lost: int) -> None:
    one = settings(reliability=reliability, track_ip=("1.1.1.1", "9.9.9.9", "8.8.8.8"))
    [(state, _)] = run(one, [word])
    assert (status(one, state) is Status.ONLINE) is good
    assert state.lost == lost
    names = {"+": HostState.UP, "-": HostState.DOWN, "?": HostState.SKIPPED}
    assert [host.state for host in state.hosts] == [names[letter] for letter in word]


REASONS = [
    (1, ["+++"], "3 of 3 hosts answered, 1 needed"),
    (2, ["++-"], "2 of 3 hosts answered, 2 needed: 8.8.8.8 timeout"),
    (2, ["+--"], "1 of 3 hosts answered, 2 needed: 9.9.9.9 timeout, 8.8.8.8 timeout; offline after 1 more bad round"),
    (1, ["+??"], "1 of 3 hosts answered, 1 needed: 2 not waited for"),
    (1, ["---", "---"], "0 of 3 hosts answered, 1 needed: 1.1.1.1 timeout, 9.9.9.9 timeout, 8.8.8.8 timeout"),
    (1, ["---", "---", "+++"], "3 of 3 hosts answered, 1 needed; online after 2 more good rounds"),
    (9, ["+", "+"], "1 of 1 host answered, 9 needed (option reliability asks for more hosts than are probed)"),
]  # fmt: skip


@pytest.mark.parametrize(("reliability", "words", "expected"), REASONS)
def test_reasons(reliability: int, words: list[str], expected: str) -> None:
    one = settings(reliability=reliability, down=2, up=3)
    assert reason(one, list(run(one, words))[-1][0]) == expected


# --- rounds that overlap ----------------------------------------------------------------------------------------------


def test_a_round_older_than_one_that_was_judged_is_not_judged() -> None:
    one = settings(down=2)
    state, _ = start(one, UP, 0.0)
    state, _ = observe(one, state, a_round("+", 2.0), 2.5)
    state, events = observe(one, state, a_round("-", 1.0, 2.0), 3.0)
    assert (status(one, state), state.turn, events) == (Status.ONLINE, 1, ())
    assert state.hosts[0].state is HostState.UP
    assert state.hosts[0].loss == 50.0  # but it was lost


def test_a_round_may_be_told_in_two_parts() -> None:
    one = settings(track_ip=("1.1.1.1", "9.9.9.9"))
    state, _ = start(one, UP, 0.0)
    state, _ = observe(one, state, a_round("+?", 1.0, 0.1), 1.1)
    state, events = observe(one, state, a_round("?-", 1.0, 4.0), 5.0)
    assert (state.turn, state.lost, events) == (1, 0, ())
    assert [host.state for host in state.hosts] == [HostState.UP, HostState.DOWN]
    assert [len(host.window) for host in state.hosts] == [1, 1]
    assert reason(one, state) == "1 of 2 hosts answered, 1 needed: 9.9.9.9 timeout"


def test_rounds_from_before_the_network_came_back_do_not_count() -> None:
    one = settings(down=1)
    state, _ = start(one, UP, 0.0)
    for seen, at in ((DOWN, 1.0), (UP, 2.0)):
        state, _ = observe(one, state, seen, at)
    after, events = observe(one, state, a_round("-", 0.5, 4.0), 4.5)
    assert (after, events) == (state, ())


# --- properties -------------------------------------------------------------------------------------------------------

words = st.lists(st.sampled_from("+-"), max_size=40)
limits = st.integers(1, 6)


@given(limits, limits, st.booleans(), words)
def test_the_score_is_bounded_and_online_means_above_up(down: int, up: int, initial: bool, word: list[str]) -> None:
    one = settings(down=down, up=up, initial_online=initial)
    for state, _ in run(one, word):
        assert 0 <= state.score <= down + up
        assert state.score != up
        assert online(one, state) is (state.score > up)
        assert reason(one, state)


@given(limits, limits, words)
def test_offline_takes_down_misses_in_a_row_and_online_up_answers(down: int, up: int, word: list[str]) -> None:
    one = settings(down=down, up=up)
    for number, (_, events) in enumerate(run(one, word), 1):
        if "disconnected" in events:
            assert "".join(word[:number]).endswith("-" * down)
        if "connected" in events:
            assert "".join(word[:number]).endswith("+" * up)


@given(words, st.lists(st.floats(0, 1e6), min_size=40, max_size=40), st.floats(0, 1e9))
def test_how_much_time_passes_does_not_matter(word: list[str], gaps: list[float], offset: float) -> None:
    one = settings(down=3, up=2)
    state, _ = start(one, UP, offset)
    now = offset
    for letter, gap, (steady, expected) in zip(word, gaps, run(one, word), strict=False):
        now += gap + 1
        state, events = observe(one, state, a_round(letter, now), now + 0.5)
        assert (state.score, state.lost, state.turn, kinds(events)) == (
            steady.score, steady.lost, steady.turn, expected,
        )  # fmt: skip
