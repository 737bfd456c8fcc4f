"""All sources at once: what a run saw becomes their state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connbal.model.config import Config
from connbal.model.facts import Facts
from connbal.plan.build import plan
from connbal.track import board
from connbal.track.board import Board
from connbal.track.fleet import ways
from connbal.track.health import observe, status
from tests.fakes.build import config, machine
from tests.unit.track.test_health import a_round

WORDS = "wan wan1 wan6:6 -wwan"


def probed(**options: object) -> Config:
    """Every interface probed by one host, three rounds either way."""
    made = config(WORDS)
    changed = (replace(one, track_ip=("192.0.2.1",), down=3, up=3, **options) for one in made.interfaces)  # type: ignore[arg-type]
    return replace(made, interfaces=tuple(changed))


def facts(*away: str) -> Facts:
    """The machine, without the networks of some interfaces."""
    router = machine(WORDS)
    for name in away:
        router.uplinks[name].up = False
    return router.facts()


def step(
    before: Board, wanted: Config, found: Facts, now: float = 1.0, *, forced: dict[str, bool] | None = None,
    renewed: str = "", remembered: dict[str, bool] | None = None,
) -> tuple[Board, list[str]]:  # fmt: skip
    told = board.seen(wanted, found, forced or {}, frozenset(renewed.split()))
    after, events = board.advance(before, told, now, remembered)
    return after, [f"{event.interface} {event.kind.value}" for event in events]


def states(found: Board) -> dict[str, str]:
    return {name: status(entry.settings, entry.state).value for name, entry in found.items()}


def failed(found: Board, name: str, rounds: int, now: float = 2.0) -> Board:
    """The board after rounds that a source has not answered."""
    entry = found[name]
    state = entry.state
    for number in range(rounds):
        state, _ = observe(entry.settings, state, a_round("-", now + number), now + number)
    return {**found, name: replace(entry, state=state)}


def test_everything_starts_in_its_initial_state() -> None:
    first, events = step({}, probed(), facts("wan1"))
    assert states(first) == {"wan": "online", "wan1": "disabled", "wan6": "online", "wwan": "disabled"}
    assert events == ["wan connected", "wan6 connected"]
    offline, events = step({}, probed(initial_online=False), facts())
    assert (states(offline)["wan"], events) == ("offline", [])


def test_what_was_remembered_goes_on_without_a_word() -> None:
    found, events = step({}, probed(), facts(), remembered={"wan": False, "wan1": True})
    assert states(found) == {"wan": "offline", "wan1": "online", "wan6": "online", "wwan": "disabled"}
    assert events == ["wan6 connected"]


def test_the_same_seen_twice_changes_nothing() -> None:
    first, _ = step({}, probed(), facts())
    assert step(first, probed(), facts(), 2.0) == (first, [])


def test_a_network_that_goes_and_comes() -> None:
    first, _ = step({}, probed(), facts())
    gone, events = step(first, probed(), facts("wan1"), 2.0)
    assert (states(gone)["wan1"], events) == ("disabled", ["wan1 ifdown", "wan1 disconnected"])
    assert board.verdicts(gone).keys() == {"wan", "wan6"}
    back, events = step(gone, probed(), facts(), 3.0)
    assert (states(back)["wan1"], events) == ("online", ["wan1 ifup", "wan1 connected"])


@pytest.mark.parametrize("word", ["wan", "wan_4"])
def test_one_that_came_up_anew_is_judged_anew(word: str) -> None:
    first, _ = step({}, probed(), facts())
    lost = failed(first, "wan", 3)
    assert states(lost)["wan"] == "offline"
    again, events = step(lost, probed(), facts(), 9.0, renewed=word)
    assert (states(again)["wan"], events) == ("online", ["wan ifup", "wan connected"])
    assert step(lost, probed(), facts(), 9.0, renewed="wan_6 wan1x")[1] == []


def test_a_network_that_was_just_seen_to_come_up_does_not_come_up_again() -> None:
    """netifd's hotplug event is behind what netlink has told."""
    gone, _ = step(step({}, probed(), facts())[0], probed(), facts("wan1"), 20.0)
    back, events = step(gone, probed(), facts(), 30.0)
    assert events == ["wan1 ifup", "wan1 connected"]
    assert step(back, probed(), facts(), 30.5, renewed="wan1") == (back, [])


def test_forced_by_the_user() -> None:
    first, _ = step({}, probed(), facts())
    down, events = step(first, probed(), facts(), 2.0, forced={"wan": False})
    assert (states(down)["wan"], events) == ("disabled", ["wan disconnected"])
    assert not board.verdicts(down)["wan"].online
    free, events = step(down, probed(), facts(), 3.0)
    assert (states(free)["wan"], events) == ("online", ["wan connected"])


def test_a_reload_keeps_what_has_not_changed() -> None:
    lost = failed(step({}, probed(), facts())[0], "wan", 3)
    wanted = probed()
    others = tuple(replace(one, down=4) if one.name == "wan1" else one for one in wanted.interfaces)
    after, events = step(lost, replace(wanted, interfaces=others), facts(), 9.0)
    assert (after["wan"], events) == (lost["wan"], [])
    assert states(after) == states(lost)
    assert after["wan1"].state.began == 9.0


def test_one_whose_section_is_gone_leaves() -> None:
    first, _ = step({}, probed(), facts())
    wanted = probed()
    fewer = replace(wanted, interfaces=tuple(one for one in wanted.interfaces if one.name != "wan1"))
    after, events = step(first, fewer, facts(), 2.0)
    assert ("wan1" in after, events) == (False, ["wan1 disconnected"])


def test_more_than_the_mask_holds_are_not_probed() -> None:
    wanted = probed()
    small = replace(wanted, globals=replace(wanted.globals, mmx_mask=0x700))  # room for 4
    more = replace(wanted.interfaces[0], name="far", id=60)
    found, _ = step({}, replace(small, interfaces=(*small.interfaces, more)), facts())
    assert found["far"].state.network_reason == "the mask has no room for it"


def test_what_the_kernel_refused_is_not_up() -> None:
    wanted, found = probed(), facts()
    told = board.seen(wanted, found, {}, frozenset())
    views = plan(wanted, found).interfaces
    assert board.corrected(told, views) == told
    refused = tuple(replace(one, routed=False, reason="refused") if one.name == "wan" else one for one in views)
    after, _ = board.advance({}, board.corrected(told, refused), 1.0)
    assert states(after)["wan"] == "disabled"
    assert after["wan"].state.network_reason == "refused"


def test_what_came_up_waits_while_the_kernel_cannot_be_changed() -> None:
    first, _ = step({}, probed(), facts("wan1"))
    told = board.held_back(board.seen(probed(), facts(), {}, frozenset()), first, "no iptables")
    after, events = board.advance(first, told, 2.0)
    assert (states(after), events) == (states(first), ())
    assert after["wan1"].state.network_reason == "no iptables"


# --- whom to probe ----------------------------------------------------------------------------------------------------


def test_each_source_is_probed_by_its_own_mark_and_device() -> None:
    wanted, found = probed(), facts("wan1")
    made = ways(plan(wanted, found), board.seen(wanted, found, {}, frozenset()), found)
    assert made.keys() == {"wan", "wan6"}
    assert (made["wan"].device, made["wan"].mark, made["wan"].hosts) == ("eth1", 0x100, ("192.0.2.1",))
    assert made["wan6"].mark == 0x300


def test_a_gateway_is_probed_where_there_is_one() -> None:
    wanted, found = probed(track_gateway=True), facts()
    told = board.seen(wanted, found, {}, frozenset())
    assert ways(plan(wanted, found), told, found)["wan"].hosts == ("192.0.2.1", "10.1.0.1")
    assert ways(plan(wanted, found), told, found)["wan6"].hosts == ("192.0.2.1", "fe80::3")
    router = machine(WORDS)
    router.uplinks["wan"].gateway = None
    told = board.seen(wanted, router.facts(), {}, frozenset())
    assert not told.interfaces[0].track_gateway
    assert told.interfaces[1].track_gateway
