"""What two rules have in common: whether one takes all the connections of another, some of them, or none. Pure.

Both answers err on one side where it cannot be known, because it hangs on what an ipset holds or which device has
which address: :func:`covers` says no, :func:`overlaps` says yes.
"""

from __future__ import annotations

from connbal.model import boxes
from connbal.model.boxes import box_of
from connbal.model.config import FAMILIES, Family, Rule


def families(rule: Rule) -> frozenset[Family]:
    """The families a rule has connections in. A negated match speaks of the families of its addresses only."""
    return frozenset(family for family in FAMILIES if box_of(rule, family) is not None)


def covers(one: Rule, other: Rule, family: Family) -> bool:
    """Whether every connection of ``family`` that matches ``other`` matches ``one``."""
    outer, inner = box_of(one, family), box_of(other, family)
    return inner is None or (outer is not None and boxes.covers(outer, inner))


def overlaps(one: Rule, other: Rule, family: Family) -> bool:
    """Whether a connection of ``family`` could match both."""
    first, second = box_of(one, family), box_of(other, family)
    return first is not None and second is not None and boxes.meet(first, second)


def source_of(rule: Rule) -> Rule:
    """A rule that looks at nothing but the device that ``rule`` is about."""
    return Rule(rule.name, rule.use_policy, src=rule.src, src_mac=rule.src_mac, ipset_src=rule.ipset_src,
                src_iface=rule.src_iface)  # fmt: skip
