"""The kernel asks the rules about the first packet of a connection and about no other: its own counters, exactly."""

from __future__ import annotations

import re

import pytest

from tests.bench.packets.road import OPEN, Road, Shape

pytestmark = pytest.mark.netns

SLOTS = 256


@pytest.mark.usefixtures("lab_available")
@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_open_connections_pass_no_rule(xtables: str) -> None:
    with Road(Shape(xtables, 2, 50, "pair"), SLOTS) as road:
        for family in (4, 6):
            places = (("mwan3_hook", "mwan3_rules"), ("mwan3_rules", "mwan3_policy_all"), ("mwan3_hook", "CONNMARK"))
            asked, taken, saved = (met(road, family, *place) for place in places)
            road.received(family)  # these connections: 256 packets there, and two times 256 back
            assert [met(road, family, *place) for place in places[:2]] == [asked + OPEN, taken + OPEN]
            assert met(road, family, *places[2]) >= saved + 3 * SLOTS


def met(road: Road, family: int, chain: str, target: str) -> int:
    """How many packets the last line of a chain that leads to a target has taken."""
    tool = "iptables-save" if family == 4 else "ip6tables-save"
    saved = road.lab.router.run([tool, "-c", "-t", "mangle"]).stdout
    found = re.findall(rf"^\[(\d+):\d+\] -A {chain} .*-[jg] {target}\b", saved, re.MULTILINE)
    return int(found[-1])
