"""Sets that other packages declare: made as they say, and two of them for one rule."""

from __future__ import annotations

from typing import Any

import pytest

from connbal.model.config import Family, Rule
from connbal.model.facts import SetDeclaration, SetFacts
from connbal.plan.build import plan
from connbal.plan.values import InSet, Plan
from tests.fakes.build import V4, V6, config, machine
from tests.fakes.router import Router

PAIR = {
    "tube": SetDeclaration("tube", timeout=60, place="dhcp.tube", twin="tube6"),
    "tube6": SetDeclaration("tube6", family=V6, timeout=60, place="dhcp.tube"),
}


def planned(declared: dict[str, SetDeclaration], *rules: Rule, sets: dict[str, SetFacts] | None = None) -> Plan:
    built = machine()
    built.declared = declared
    return plan(config(rules=[*rules, Rule("rest", "all")]), built.facts(sets))


def foreign(found: Plan) -> dict[str, tuple[Any, ...]]:
    return {spec.name: (spec.type, spec.family, spec.timeout) for spec in found.sets if spec.foreign}


def looked_into(found: Plan, family: Family) -> set[str]:
    return {
        match.name
        for chain in found.rulesets[family].chains
        for rule in chain.rules
        for match in rule.matches
        if isinstance(match, InSet) and not match.name.startswith("mwan3_")
    }


@pytest.mark.parametrize("family", [V4, V6])
def test_a_missing_set_is_made_as_declared_and_nobody_is_told(family: Family) -> None:
    declared = {"tube": SetDeclaration("tube", "hash:ip", family, 3600, "dhcp.tube")}
    found = planned(declared, Rule("r", "all", ipset="tube"))
    assert foreign(found) == {"tube": ("hash:ip", family, 3600)}
    assert not found.findings
    assert found.rules[0].families == (family,)


def test_one_that_the_firewall_should_have_made_is_still_said() -> None:
    declared = {"nets": SetDeclaration("nets", "hash:net", V6, None, "firewall.nets", filled=False)}
    found = planned(declared, Rule("r", "all", ipset="nets"))
    assert foreign(found) == {"nets": ("hash:net", V6, None)}
    [finding] = found.findings
    assert finding.code == "missing-set"
    assert "firewall.nets" in finding.remedy


def test_a_rule_of_the_other_family_is_said() -> None:
    declared = {"tube": SetDeclaration("tube", place="dhcp.tube")}
    sets = {"tube": SetFacts("tube", "hash:ip", V4)}
    found = planned(declared, Rule("r", "all", family=V6, ipset="tube"), sets=sets)
    assert [finding.code for finding in found.findings] == ["set-family"]
    assert found.rules[0].families == ()


def test_a_pair_is_one_name_for_a_rule() -> None:
    found = planned(PAIR, Rule("r", "all", ipset="tube"))
    assert foreign(found) == {"tube": ("hash:ip", V4, 60), "tube6": ("hash:ip", V6, 60)}
    assert (looked_into(found, V4), looked_into(found, V6)) == ({"tube"}, {"tube6"})
    assert found.rules[0].families == (V4, V6)
    assert not found.findings


def test_a_pair_under_a_rule_of_one_family() -> None:
    found = planned(PAIR, Rule("r", "all", family=V6, ipset="tube"))
    assert foreign(found) == {"tube6": ("hash:ip", V6, 60)}
    assert found.rules[0].families == (V6,)


def test_the_second_of_a_pair_is_itself_only() -> None:
    found = planned(PAIR, Rule("r", "all", ipset="tube6"))
    assert found.rules[0].families == (V6,)


def test_sets_that_exist_are_matched_as_they_are() -> None:
    sets = {"tube": SetFacts("tube", "hash:net", V4), "tube6": SetFacts("tube6", "hash:ip", V6)}
    found = planned(PAIR, Rule("r", "all", ipset="tube"), sets=sets)
    assert foreign(found) == {}
    assert found.rules[0].families == (V4, V6)


def test_declared_and_named_by_nobody_is_not_made() -> None:
    assert foreign(planned(PAIR)) == {}


def test_a_second_run_changes_nothing() -> None:
    router = Router()
    router.machine.declared = dict(PAIR)
    wanted = config(rules=[Rule("r", "all", ipset="tube"), Rule("rest", "all")])
    router.apply(wanted)
    assert router.kernel.sets.states["tube6"].timeout == 60
    assert not router.apply(wanted).changes
    assert "tube" in router.ledger.made_sets
