"""What ``connbal explain`` accepts, and what it shows of many rules."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from connbal.cli.explain_gather import Look
from connbal.cli.explain_output import SHOWN, as_data, as_text
from connbal.cli.explain_question import Asked, question
from connbal.errors import UsageError
from connbal.model.config import Rule
from connbal.plan.build import plan
from connbal.plan.explain import Packet, World
from connbal.plan.explain_story import explain
from tests.fakes.build import config, machine
from tests.unit.plan.test_explain import addresses, packet

FAR = "203.0.113.7"

NONSENSE: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({}, "--src is missing"),
    "families": ({"src": "fd00::1"}, "different families"),
    "a name": ({"dst": "www.example.org", "local": True}, "nslookup www.example.org"),
    "no name": ({"dst": "$(id)", "local": True}, "nslookup NAME"),
    "protocol": ({"src": FAR, "proto": "udpp"}, "did you mean udp"),
    "number": ({"src": FAR, "proto": "256"}, "no protocol"),
    "port without protocol": ({"src": FAR, "dport": 80}, "--proto tcp"),
    "port of icmp": ({"src": FAR, "dport": 80, "proto": "icmp"}, "no ports"),
    "mac": ({"src": FAR, "mac": "02:00"}, "--mac 02:00"),
    "device of the router": ({"local": True, "iif": "lan"}, "--local"),
    "bound": ({"src": FAR, "oif": "wan"}, "add --local"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_with_a_remedy(name: str) -> None:
    options, said = NONSENSE[name]
    with pytest.raises(UsageError, match=said):
        question(**{"src": None, "dst": FAR, **options})


def test_what_is_asked() -> None:
    asked = question("fe80::1%br-lan", "2001:db8::1", "icmp", mac="02-AA-00-00-00-01")
    assert asked == Asked(
        ipaddress.ip_address("2001:db8::1"), ipaddress.ip_address("fe80::1"), 58, mac="02:aa:00:00:00:01"
    )
    assert question(None, FAR, "TCP", 443, local=True).protocol == 6


def look(rules: list[Rule], one: Packet, applied: bool | None = True, pending: int = 0) -> Look:
    made = config(rules=rules)
    facts = machine("wan wan1").facts()
    planned = plan(made, facts)
    world = World(connected=facts.reached(one.family))
    return Look(explain(made, planned, one, world), None, planned, applied, pending, ())


def many(count: int) -> list[Rule]:
    return [Rule(f"r{number}", "all", src=addresses(f"10.0.0.{number}/32")) for number in range(count)]


def test_of_many_rules_the_nearest_are_shown() -> None:
    rules = [*many(99), Rule("rest", "all")]
    text = as_text(look(rules, packet()), everything=False)
    assert text.count(": no:") == SHOWN
    assert f"({99 - SHOWN} more did not match: --all shows them)" in text
    assert "  100 rest: yes: policy all" in text
    assert as_text(look(rules, packet()), everything=True).count(": no:") == 99


def test_what_limits_the_answer_is_said() -> None:
    rules = [Rule("rest", "all")]
    assert "Not applied" in as_text(look(rules, packet(), applied=False), False)
    assert "3 changes are to be made" in as_text(look(rules, packet(), pending=3), False)
    assert "--no-kernel" in as_text(look(rules, packet(), applied=None), False)


def test_names_do_not_reach_the_terminal_as_they_are() -> None:
    text = as_text(look([Rule("evil\x1b[31m", "all")], packet()), False)
    assert "\x1b" not in text


def test_json_is_complete_and_can_be_written() -> None:
    data = as_data(look([*many(3), Rule("rest", "all")], packet()), everything=False)
    assert json.loads(json.dumps(data)) == data
    assert (data["decided"], data["by"]) == ("rule", "rest")
    assert sum(outcome["percent"] for outcome in data["outcomes"]) == pytest.approx(100)
    assert {outcome["interface"] for outcome in data["outcomes"]} == {"wan", "wan1"}
