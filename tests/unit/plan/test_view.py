"""A plan as values for JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Family
from connbal.plan.build import plan
from connbal.plan.status import RuleCounters, counted, rule_counters, rule_lines
from connbal.plan.view import as_data, connected, networks, shares
from tests.fakes.build import config, facts

WORDS = "wan wan1 -wan2"


def test_it_is_json() -> None:
    found = as_data(plan(config(WORDS), facts(WORDS)), facts(WORDS))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [one["name"] for one in found["interfaces"]] == ["wan", "wan1", "wan2"]


def test_shares_follow_what_is_up() -> None:
    wanted = config(WORDS)
    for down in ("", "wan", "wan1", "wan wan1"):
        made = shares(plan(wanted, facts(WORDS, offline=down)))
        assert set(made) == {"ipv4", "ipv6"}
        for policies in made.values():
            assert set(policies) == {policy.name for policy in wanted.policies}
            for found in policies.values():
                assert not {one["interface"] for one in found} & set(down.split())
                assert sum(one["percent"] for one in found) in (0, 100)


def test_networks_have_the_time_that_somebody_tells() -> None:
    told = facts(WORDS)
    told = replace(told, networks={key: replace(one, uptime=9) for key, one in told.networks.items()})
    found = networks(plan(config(WORDS), told), told)
    assert found["wan"] == {"up": True, "uptime": 9}
    assert networks(plan(config(WORDS), facts(WORDS)), facts(WORDS))["wan"] == {"up": True, "uptime": None}
    gone = replace(told, networks={key: replace(one, up=False) for key, one in told.networks.items()})
    assert networks(plan(config(WORDS), gone), gone)["wan"] == {"up": False, "uptime": None}


def test_local_networks_are_those_of_the_set_in_order() -> None:
    made = plan(config(WORDS), facts(WORDS))
    found = connected(made)
    for family in Family:
        (entries,) = [spec.entries for spec in made.sets if spec.name == f"mwan3_connected_{family.value}"]
        assert entries is not None
        assert sorted(found[family.value]) == sorted(entries)
    assert found["ipv4"].index("10.1.0.0/24") < found["ipv4"].index("192.168.1.0/24")


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9999)), max_size=4))
def test_counters_by_lines_are_those_by_plan(numbers: list[tuple[int, int]]) -> None:
    made = plan(config(WORDS), facts(WORDS))
    seen = {family: {chain.name: numbers for chain in ruleset.chains} for family, ruleset in made.rulesets.items()}
    lines = json.loads(json.dumps(rule_lines(made)))
    by_name = {family.value: chains for family, chains in seen.items()}
    assert counted(lines, by_name) == rule_counters(made, seen)
    assert counted(lines, {}) == {}


def test_every_line_of_a_rule_counts() -> None:
    lines = {"ipv4": {"mwan3_rules": ["a", None, "b", "a"]}, "ipv6": {"mwan3_rules": ["a"]}}
    seen = {"ipv4": {"mwan3_rules": [(1, 10), (7, 70), (2, 20), (3, 30)]}, "ipv6": {"mwan3_rules": [(4, 40)]}}
    assert counted(lines, seen) == {"a": RuleCounters(8, 80), "b": RuleCounters(2, 20)}
    assert counted(lines, {**seen, "ipv4": {"mwan3_rules": [(1, 10)]}}) == {"a": RuleCounters(4, 40)}
