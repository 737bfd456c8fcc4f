"""The walk: each kind of fault befalls each kind of call once; with CONNBAL_FAULTS=all, every call of every way."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence

import pytest

from tests.lab import Lab
from tests.netns.faults.scenes import SOURCES, TRANSITIONS
from tests.netns.faults.seam import MODES
from tests.netns.faults.walk import Point, Walk, asks_netifd

pytestmark = pytest.mark.netns

ALL = os.environ.get("CONNBAL_FAULTS") == "all"
#: Between them they make calls of every kind.
SHORT = (("nft", "set edit"), ("legacy", "interface goes"), ("nft", "ids shift"), ("legacy", "stop"))
WAYS = tuple(itertools.product(("nft", "legacy"), TRANSITIONS)) if ALL else SHORT
#: The same for a process that lives on.
SHORT_KEPT = (("nft", "interface goes"), ("legacy", "set edit"), ("nft", "policy edit"), ("legacy", "interface comes"))
WAYS_KEPT = tuple(way for way in WAYS if way[1] != "stop") if ALL else SHORT_KEPT
#: The same for either where netifd is asked too; all of it is that question.
WAYS_NETIFD = WAYS_KEPT if ALL else (("nft", "interface goes"),)
ASKED = (("bus", False), ("bus", True), ("program", True), *((("program", False),) if ALL else ()))
#: Every kind of fault there is, dealt out to the ways.
PAIRS = [(kind, mode) for kind, modes in MODES.items() for mode in modes]


def chosen(points: Sequence[Point], way: int, of: int) -> list[Point]:
    """Of each kind of fault that is this way's of so many, one point; the calls take turns."""
    if ALL:
        return list(points)
    found = []
    for number, pair in enumerate(PAIRS):
        suited = [point for point in points if (point.kind, point.mode) == pair]
        if suited and number % of == way % of:
            found.append(suited[number * 7 % len(suited)])
    return found


@pytest.mark.parametrize(("xtables", "name"), WAYS, ids=lambda one: str(one).replace(" ", "-"))
def test_wherever_it_fails_it_is_old_or_new_and_then_new(lab: Callable[..., Lab], xtables: str, name: str) -> None:
    _walked(lab(SOURCES, xtables=xtables), name, WAYS.index((xtables, name)), kept=False)


@pytest.mark.parametrize(("xtables", "name"), WAYS_KEPT, ids=lambda one: str(one).replace(" ", "-"))
def test_so_it_is_with_a_process_that_remembers(lab: Callable[..., Lab], xtables: str, name: str) -> None:
    _walked(lab(SOURCES, xtables=xtables), name, WAYS_KEPT.index((xtables, name)), kept=True)


@pytest.mark.parametrize(("netifd", "kept"), ASKED)
@pytest.mark.parametrize(("xtables", "name"), WAYS_NETIFD, ids=lambda one: str(one).replace(" ", "-"))
def test_so_it_is_where_netifd_has_to_be_asked(
    lab: Callable[..., Lab], xtables: str, name: str, netifd: str, kept: bool
) -> None:
    _walked(lab(SOURCES, xtables=xtables), name, int(kept), kept=kept, netifd=netifd)


def _walked(one: Lab, name: str, way: int, *, kept: bool, netifd: str = "") -> None:
    transition = TRANSITIONS[name]
    with Walk(one, kept, netifd) as walk:
        course = walk.course(transition)
        points = [point for point in walk.points_of(course) if not netifd or asks_netifd(point)]
        points = chosen(points, way, 2 if kept or netifd else len(SHORT))
        for point in points:
            walk.walk(transition, course, point)
        assert walk.points == len(points) > (1 if netifd else 5)
        assert not walk.failures, "\n".join(walk.failures)


def test_the_walk_sees_what_is_neither_old_nor_new(lab: Callable[..., Lab]) -> None:
    """It is worth nothing if it finds everything good."""
    transition = TRANSITIONS["policy edit"]
    with Walk(lab(SOURCES)) as walk:
        course = walk.course(transition)
        walk.arrive(transition.before)
        assert walk.check_moment(course, left_out=False) == []
        run = walk.lab.router.run
        for damage, repair in (
            ("iptables -t mangle -D PREROUTING -j mwan3_hook", "iptables -t mangle -A PREROUTING -j mwan3_hook"),
            ("ip -6 rule del priority 2002", ""),
            ("ip route flush table 5 proto 131", ""),
            ("ipset flush mwan3_connected_ipv4", ""),
            ("ip rule del priority 3001 to 192.0.2.3", "ip rule add priority 3001 to 192.0.2.3 unreachable"),
        ):
            run(["sh", "-c", damage])
            assert walk.check_moment(course, left_out=False) != [], damage
            run(["sh", "-c", repair])
            walk.arrive(transition.before)
        assert walk.check_moment(course, left_out=False) == []
