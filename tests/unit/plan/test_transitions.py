"""Which connections are forgotten when one plan follows another."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from connbal.model.config import Config
from connbal.plan.build import plan
from connbal.plan.ledger import Ledger
from connbal.plan.transitions import active, flushes
from connbal.plan.values import Plan
from tests.fakes.build import config, facts

FAILOVER = {"a": ("wan", 1, 1), "b": ("wan1", 2, 1)}


def remember(found: Plan) -> Ledger:
    return Ledger(
        ids=found.ids,
        mask=found.mask,
        present=frozenset(view.name for view in found.interfaces if view.present),
        usable=frozenset(view.name for view in found.interfaces if view.usable),
        active=active(found),
    )


def between(before: tuple[Config, dict[str, str]], after: tuple[Config, dict[str, str]]) -> list[str]:
    """The marks that are flushed when the second follows the first."""
    (old, then), (new, now) = before, after
    words = "wan wan1 wan2 wan6:6"
    ledger = remember(plan(old, facts(words, **then)))
    return [f"{mark:#x}/{mask:#x}" for mark, mask in flushes(ledger, new, plan(new, facts(words, **now)))]


def event(flush: Iterable[str], before: dict[str, str], after: dict[str, str], words: str = "wan wan1") -> list[str]:
    wanted = config(words, members=FAILOVER, flush=flush)
    return between((wanted, before), (wanted, after))


def test_nothing_is_forgotten_where_nothing_changed_or_nothing_was() -> None:
    every = ("ifup", "ifdown", "connected", "disconnected")
    assert event(every, {}, {}) == []
    wanted = config(flush=every)
    assert flushes(Ledger(), wanted, plan(wanted, facts())) == []


@pytest.mark.parametrize(
    ("flush", "after", "forgotten"),
    [
        ("disconnected", {"offline": "wan"}, ["0x100/0x3f00"]),
        ("ifdown", {"offline": "wan"}, []),
        ("ifdown", {"down": "wan"}, ["0x100/0x3f00"]),
        ("disconnected", {"down": "wan"}, ["0x100/0x3f00"]),
        ("ifup", {"down": "wan"}, []),
        ("connected", {"offline": "wan"}, []),
    ],
)
def test_a_source_that_leaves(flush: str, after: dict[str, str], forgotten: list[str]) -> None:
    assert event([flush], {}, after) == forgotten


@pytest.mark.parametrize(
    ("flush", "before", "forgotten"),
    [
        ("connected", {"offline": "wan"}, ["0x200/0x3f00"]),
        ("ifup", {"offline": "wan"}, []),
        ("ifup", {"down": "wan"}, ["0x200/0x3f00"]),
        ("connected", {"down": "wan"}, ["0x200/0x3f00"]),
        ("disconnected", {"offline": "wan"}, []),
    ],
)
def test_a_source_that_returns_displaces_the_one_that_stood_in(
    flush: str, before: dict[str, str], forgotten: list[str]
) -> None:
    assert event([flush], before, {}) == forgotten


def test_a_source_that_returns_to_share_displaces_nobody() -> None:
    wanted = config(flush=["connected"])
    assert between((wanted, {"offline": "wan"}), (wanted, {})) == []


def test_an_id_that_means_something_else() -> None:
    assert between((config("wan wan1"), {}), (config("wan1 wan"), {})) == ["0x100/0x3f00", "0x200/0x3f00"]
    assert between((config("wan wan1"), {}), (config("wan wan1 wan2"), {})) == []
    assert between((config("wan wan1 wan2"), {}), (config("wan wan2"), {})) == ["0x200/0x3f00", "0x300/0x3f00"]
    assert between((config("wan wan1"), {}), (config("wan -wan1"), {})) == ["0x200/0x3f00"]


def test_a_shift_is_no_event() -> None:
    """Everything of an interface that moved is forgotten for that; who it displaces is not asked."""
    every = ("ifup", "ifdown", "connected", "disconnected")
    old = config("wan wan1", members=FAILOVER, flush=every)
    new = config("-wan2 wan wan1", members=FAILOVER, flush=every)
    assert between((old, {}), (new, {})) == ["0x100/0x3f00", "0x200/0x3f00"]


def test_another_mask_forgets_all_marks_of_the_old_one() -> None:
    assert between((config(), {}), (config(mmx_mask=0xFF), {})) == ["0x100/0x3f00", "0x200/0x3f00", "0x3f00/0x3f00"]


def test_events_of_ipv6_interfaces() -> None:
    wanted = config("wan wan6:6", members={"a": ("wan6", 1, 1)}, flush=["disconnected"])
    assert between((wanted, {}), (wanted, {"offline": "wan6"})) == ["0x200/0x3f00"]


def test_who_takes_part_is_told_by_policy_and_family() -> None:
    wanted = config("wan wan1 wan6:6", policies={"p": "wan wan6", "q": "wan1"})
    assert active(plan(wanted, facts("wan wan1 wan6:6", offline="wan1"))) == {
        "p ipv4": {"wan"}, "p ipv6": {"wan6"}, "q ipv4": set(), "q ipv6": set(),
    }  # fmt: skip
