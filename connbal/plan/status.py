"""Counters by rule: which lines of the kernel's chains stand for which rule of the configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connbal.frozen import dataclass
from connbal.model.config import Family
from connbal.plan.chains import RULES, RULES_OUT
from connbal.plan.values import Goto, Plan

#: Chain -> for each of its lines, in order, the rule of the configuration that it stands for, or None.
Lines = Mapping[str, Sequence[str | None]]


@dataclass(frozen=True)
class RuleCounters:
    """What a rule has matched: the first packets of connections, and those of connections nobody tracks."""

    packets: int = 0
    bytes: int = 0


def rule_lines(plan: Plan) -> dict[str, Lines]:
    """Which rule each line of the chains of rules stands for, by family (``ipv4``)."""
    return {
        family.value: {
            chain.name: [
                rule.origin.name if isinstance(rule.action, Goto) and rule.origin is not None else None
                for rule in chain.rules
            ]
            for chain in ruleset.chains
            if chain.name in (RULES, RULES_OUT)
        }
        for family, ruleset in plan.rulesets.items()
    }


def counted(
    lines: Mapping[str, Lines], seen: Mapping[str, Mapping[str, Sequence[tuple[int, int]]]]
) -> dict[str, RuleCounters]:
    """Counters of each rule, by name, over all its lines in both families.

    ``seen``: family -> chain -> (packets, bytes) per line. A chain that has another length than planned (somebody
    changed it, or it is not applied yet) does not count.
    """
    found: dict[str, RuleCounters] = {}
    for family, chains in lines.items():
        for chain, names in chains.items():
            numbers = seen.get(family, {}).get(chain, ())
            if len(numbers) != len(names):
                continue
            for name, (packets, count) in zip(names, numbers, strict=True):
                if name is not None:
                    old = found.get(name, RuleCounters())
                    found[name] = RuleCounters(old.packets + packets, old.bytes + count)
    return found


def rule_counters(
    plan: Plan, seen: Mapping[Family, Mapping[str, Sequence[tuple[int, int]]]]
) -> dict[str, RuleCounters]:
    """As :func:`counted`, of a plan."""
    return counted(rule_lines(plan), {family.value: chains for family, chains in seen.items()})
