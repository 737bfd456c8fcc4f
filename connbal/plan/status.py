"""Counters by rule: which lines of the kernel's chains stand for which rule of the configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connbal.model.config import Family
from connbal.plan.chains import RULES, RULES_OUT
from connbal.plan.values import Goto, Plan


@dataclass(frozen=True)
class RuleCounters:
    """What a rule has matched: the first packets of connections, and those of connections nobody tracks."""

    packets: int = 0
    bytes: int = 0


def rule_counters(
    plan: Plan, seen: Mapping[Family, Mapping[str, Sequence[tuple[int, int]]]]
) -> dict[str, RuleCounters]:
    """Counters of each rule, by name, over all its lines in both families.

    ``seen``: family -> chain -> (packets, bytes) per line. A chain that has another length than planned (somebody
    changed it, or it is not applied yet) does not count.
    """
    found: dict[str, RuleCounters] = {}
    for family, ruleset in plan.rulesets.items():
        for chain in ruleset.chains:
            if chain.name not in (RULES, RULES_OUT):
                continue
            numbers = seen.get(family, {}).get(chain.name, ())
            if len(numbers) != len(chain.rules):
                continue
            for rule, (packets, count) in zip(chain.rules, numbers, strict=True):
                if isinstance(rule.action, Goto) and rule.origin is not None:
                    old = found.get(rule.origin.name, RuleCounters())
                    found[rule.origin.name] = RuleCounters(old.packets + packets, old.bytes + count)
    return found
