"""What the network, the user and a reload do to the health of a source."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import TrackMethod
from connbal.track.health import (
    Event,
    Forced,
    NetworkSeen,
    Observation,
    State,
    Status,
    Tick,
    health,
    next_delay,
    observe,
    online,
    reason,
    reload,
    running,
    start,
    status,
)
from tests.unit.track.test_health import DOWN, UP, a_round, kinds, settings

RENEWED = NetworkSeen(True, "ifup", renewed=True)

#: What is observed, in a letter or two.
SEEN: dict[str, Observation] = {
    "up": UP, "down": DOWN, "ifup": RENEWED, "force": Forced(True), "block": Forced(False), "auto": Forced(None),
    "tick": Tick(),
}  # fmt: skip


def story(text: str, network: NetworkSeen = UP, **options: Any) -> tuple[State, list[Event]]:
    """The state after each of the words, one a second, and the events of the last. ``+`` and ``-`` are rounds."""
    one = settings(**options)
    state, events = start(one, network, 0.0)
    for number, word in enumerate(text.split(), 1):
        seen = a_round(word, number, 0.0) if word in "+-" else SEEN[word]
        state, events = observe(one, state, seen, float(number))
    return state, list(events)


STORIES = [
    # words, options, events of the last word, status after it
    ("", {}, ["connected"], Status.ONLINE),
    ("", {"initial_online": False}, [], Status.OFFLINE),
    ("down", {}, ["ifdown", "disconnected"], Status.DISABLED),
    ("down down", {}, [], Status.DISABLED),
    ("down", {"initial_online": False}, ["ifdown"], Status.DISABLED),
    ("- down", {"down": 3}, ["ifdown", "disconnected"], Status.DISABLED),
    ("- down", {"down": 1}, ["ifdown"], Status.DISABLED),
    ("- + down", {"down": 1, "up": 3}, ["ifdown"], Status.DISABLED),  # connecting: it was offline
    ("down up", {}, ["ifup", "connected"], Status.ONLINE),
    ("down up", {"initial_online": False}, ["ifup"], Status.OFFLINE),
    ("+ up", {}, [], Status.ONLINE),
    ("down -", {}, [], Status.DISABLED),
    # ifup without ifdown: online stays, all else as initial_state says
    ("ifup", {}, ["ifup", "connected"], Status.ONLINE),
    ("+ ifup", {"initial_online": False, "up": 1}, ["ifup", "connected"], Status.ONLINE),
    ("- ifup", {"down": 1}, ["ifup", "connected"], Status.ONLINE),
    ("+ - ifup", {"initial_online": False, "up": 1}, ["ifup", "disconnected"], Status.OFFLINE),
    ("+ ifup", {"initial_online": False, "up": 2}, ["ifup"], Status.OFFLINE),
    # forced
    ("block", {}, ["disconnected"], Status.DISABLED),
    ("block block", {}, [], Status.DISABLED),
    ("block auto", {}, ["connected"], Status.ONLINE),
    ("block auto", {"initial_online": False}, [], Status.OFFLINE),
    ("block down up", {}, ["ifup"], Status.DISABLED),
    ("block +", {}, [], Status.DISABLED),
    ("force", {}, [], Status.ONLINE),
    ("- force", {"down": 1}, ["connected"], Status.ONLINE),
    ("force -", {"down": 1}, [], Status.ONLINE),
    ("force - auto", {"down": 1}, ["disconnected"], Status.OFFLINE),
    ("force down", {}, ["ifdown", "disconnected"], Status.DISABLED),
    ("force down up", {"initial_online": False}, ["ifup", "connected"], Status.ONLINE),
    ("block force", {"initial_online": False}, ["connected"], Status.ONLINE),
    # not tracked
    ("", {"track_ip": (), "initial_online": False}, ["connected"], Status.ONLINE),
    ("-", {"track_ip": (), "down": 1}, [], Status.ONLINE),
    ("down", {"track_ip": ()}, ["ifdown", "disconnected"], Status.DISABLED),
    ("down up", {"track_ip": (), "initial_online": False}, ["ifup", "connected"], Status.ONLINE),
    # not enabled
    ("", {"enabled": False}, [], Status.DISABLED),
    ("down up", {"enabled": False}, [], Status.DISABLED),
    ("tick", {}, [], Status.ONLINE),
]


@pytest.mark.parametrize(("text", "options", "events", "expected"), STORIES)
def test_stories(text: str, options: dict[str, Any], events: list[str], expected: Status) -> None:
    one = settings(**options)
    state, seen = story(text, **options)
    assert kinds(seen) == events
    assert status(one, state) is expected
    assert reason(one, state)
    assert online(one, state) is (expected is Status.ONLINE)
    assert all(event.interface == "wan" and event.cause and event.new is expected for event in seen)


def test_events_say_what_was_and_why() -> None:
    _, [down, disconnected] = story("- down", down=3)
    assert (down.old, down.new, down.cause, down.at) == (Status.DISCONNECTING, Status.DISABLED, "no carrier", 2.0)
    assert disconnected.cause == "no carrier"
    _, [up, connected] = story("down up")
    assert (up.first, connected.first, up.old) == (False, True, Status.DISABLED)
    _, [_, connected] = story("- +", down=1, up=1)
    assert not connected.first


@pytest.mark.parametrize(("text", "options", "expected"), [
    ("", {}, "taken as online, not probed yet"),
    ("down", {}, "no carrier"),
    ("block", {}, "forced down by the user"),
    ("force", {}, "forced up by the user; probes: taken as online, not probed yet"),
    ("force -", {}, "forced up by the user; probes: 0 of 1 host answered, 1 needed: 1.1.1.1 timeout"),
    ("", {"track_ip": ()}, "not tracked, its network is up"),
    ("", {"enabled": False}, "disabled in the configuration"),
])  # fmt: skip
def test_reasons(text: str, options: dict[str, Any], expected: str) -> None:
    assert health(settings(**options), story(text, **options)[0]).reason == expected


@pytest.mark.parametrize(("text", "since"), [
    ("", (0.0, None)), ("+", (0.0, None)), ("-", (0.0, None)), ("- -", (None, 2.0)), ("- - +", (None, 2.0)),
    ("- - + +", (4.0, None)), ("down", (None, 1.0)), ("- - down", (None, 3.0)), ("+ ifup", (2.0, None)),
])  # fmt: skip
def test_since_when_it_is_online_or_offline(text: str, since: tuple[float | None, float | None]) -> None:
    state, _ = story(text, down=2, up=2)
    assert (state.online_since, state.offline_since) == since


@pytest.mark.parametrize(("text", "options", "runs"), [
    ("", {}, True), ("down", {}, False), ("block", {}, False), ("force", {}, True), ("", {"enabled": False}, False),
    ("", {"track_ip": ()}, False), ("", {"track_ip": (), "track_gateway": True}, True), ("down up", {}, True),
])  # fmt: skip
def test_when_it_is_probed(text: str, options: dict[str, Any], runs: bool) -> None:
    one = settings(**options)
    state, _ = story(text, **options)
    assert running(one, state) is runs
    assert (next_delay(one, state, None, 9.0) == 0.0) is runs
    assert (next_delay(one, state, None, 9.0) is None) is not runs


# --- starting, and starting again -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "was", "forced", "events", "expected"), [
    (UP, None, None, ["connected"], Status.ONLINE), (DOWN, None, None, [], Status.DISABLED),
    (UP, True, None, [], Status.ONLINE), (UP, False, None, [], Status.OFFLINE),
    (DOWN, True, None, ["ifdown", "disconnected"], Status.DISABLED), (DOWN, False, None, [], Status.DISABLED),
    (UP, None, False, [], Status.DISABLED), (UP, None, True, ["connected"], Status.ONLINE),
])  # fmt: skip
def test_start(
    network: NetworkSeen, was: bool | None, forced: bool | None, events: list[str], expected: Status
) -> None:
    one = settings()
    state, seen = start(one, network, 5.0, was, forced)
    assert kinds(seen) == events
    assert status(one, state) is expected
    assert reason(one, state)


# --- reload -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, {"flush_conntrack": frozenset({"ifup"})}])
def test_what_does_not_matter_to_health_changes_nothing(change: dict[str, Any]) -> None:
    state, _ = story("- +", down=3)
    assert reload(settings(down=3), settings(down=3, **change), state, 9.0) == (state, ())


@pytest.mark.parametrize(("text", "old", "new", "events", "expected", "score"), [
    ("-", {"down": 3}, {"down": 4}, [], Status.ONLINE, 9),
    ("- -", {"down": 2}, {"down": 4}, [], Status.OFFLINE, 0),
    ("- - +", {"down": 2, "up": 3}, {"up": 1}, [], Status.OFFLINE, 0),
    ("", {}, {"initial_online": False, "interval": 1.0}, [], Status.ONLINE, 10),
    ("- -", {"down": 2}, {"track_ip": ()}, ["connected"], Status.ONLINE, 10),
    ("", {"track_ip": ()}, {"initial_online": False}, [], Status.ONLINE, 10),
    ("", {}, {"enabled": False}, ["disconnected"], Status.DISABLED, 10),
    ("", {"enabled": False}, {}, ["connected"], Status.ONLINE, 10),
    ("", {"enabled": False}, {"initial_online": False}, [], Status.OFFLINE, 0),
    ("down", {}, {"down": 2}, [], Status.DISABLED, 0),
    ("block", {}, {"down": 2}, [], Status.DISABLED, 0),
])  # fmt: skip
def test_reload(
    text: str, old: dict[str, Any], new: dict[str, Any], events: list[str], expected: Status, score: int
) -> None:
    state, _ = story(text, **old)
    after, seen = reload(settings(**old), settings(**new), state, 9.0)
    assert kinds(seen) == events
    assert (status(settings(**new), after), after.score) == (expected, score)
    assert reason(settings(**new), after)


@pytest.mark.parametrize("initial", [False, True])
def test_enabling_it_is_a_start(initial: bool) -> None:
    one = settings(initial_online=initial)
    after, events = reload(settings(enabled=False), one, story("", enabled=False)[0], 9.0)
    assert [event.first for event in events] == [True] * initial
    assert (after.online_since, after.offline_since) == ((9.0, None) if initial else (None, 9.0))


def test_after_a_reload_a_round_starts_at_once_and_those_under_way_do_not_count() -> None:
    old, new = settings(down=1), settings(down=1, timeout=1.0)
    state, _ = start(old, UP, 0.0)
    state, _ = reload(old, new, state, 9.0)
    assert next_delay(new, state, 8.0, 9.0) == 0.0
    assert observe(new, state, a_round("-", 8.0), 10.0) == (state, ())


@pytest.mark.parametrize(("change", "kept"), [
    ({"interval": 1.0}, ["1.1.1.1"]), ({"track_ip": ("9.9.9.9",)}, []),
    ({"track_ip": ("9.9.9.9",), "track_gateway": True}, ["1.1.1.1"]), ({"track_method": TrackMethod.ARPING}, []),
])  # fmt: skip
def test_a_reload_keeps_what_was_heard_of_hosts_probed_the_same_way(change: dict[str, Any], kept: list[str]) -> None:
    state, _ = story("+ -")
    after, _ = reload(settings(), settings(**change), state, 9.0)
    assert [host.name for host in after.hosts] == kept


# --- properties -------------------------------------------------------------------------------------------------------

anything = st.lists(st.sampled_from(["+", "-", *SEEN]), max_size=30)


@given(anything, st.booleans(), st.sampled_from([0.0, 5.0, 600.0]), st.booleans())
def test_connected_and_disconnected_tell_the_whole_story(
    words: list[str], initial: bool, half_life: float, tracked: bool
) -> None:
    """Who only hears the events knows whether it is online; and there is always a reason."""
    one = settings(initial_online=initial, dampening=half_life, down=2, up=2, track_ip=("1.1.1.1",) if tracked else ())
    state, events = start(one, UP, 0.0)
    told = False
    for number, word in enumerate(["tick", *words], 1):
        if number > 1:
            seen = a_round(word, number, 0.0) if word in "+-" else SEEN[word]
            state, events = observe(one, state, seen, float(number))
        for event in events:
            if event.kind.value in ("connected", "disconnected"):
                told = event.kind.value == "connected"
        assert told is online(one, state)
        assert reason(one, state)
        assert (state.online_since is not None) is told
        assert not (told and state.offline_since is not None)
