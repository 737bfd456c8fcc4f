"""What two rules have in common: whether one takes all the connections of another, some of them, or none. Pure.

Both answers err on one side where it cannot be known, because it hangs on what an ipset holds or which device has
which address: :func:`covers` says no, :func:`overlaps` says yes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from connbal.model.config import FAMILIES, AddressMatch, Family, IPNetwork, PortRange, Rule


def families(rule: Rule) -> frozenset[Family]:
    """The families a rule has connections in. A negated match speaks of the families of its addresses only."""
    matches = [match for match in (rule.src, rule.dest) if match is not None]
    return frozenset(
        family
        for family in FAMILIES
        if rule.family in (None, family) and all(match.of(family) for match in matches)
    )  # fmt: skip


def covers(one: Rule, other: Rule, family: Family) -> bool:
    """Whether every connection of ``family`` that matches ``other`` matches ``one``. Both have that family."""
    return (
        _all_in(other.protocols, one.protocols)
        and _addresses_cover(one.src, other.src, family)
        and _addresses_cover(one.dest, other.dest, family)
        and _ports_cover(one.src_ports, other.src_ports)
        and _ports_cover(one.dest_ports, other.dest_ports)
        and _all_in(other.src_iface, one.src_iface)
        and _all_in(other.src_mac, one.src_mac)
        and one.ipset in (None, other.ipset)
        and one.ipset_src in (None, other.ipset_src)
    )


def overlaps(one: Rule, other: Rule, family: Family) -> bool:
    """Whether a connection of ``family`` could match both. Both have that family."""
    return (
        _share(one.protocols, other.protocols)
        and _addresses_meet(one.src, other.src, family)
        and _addresses_meet(one.dest, other.dest, family)
        and _ports_meet(one.src_ports, other.src_ports)
        and _ports_meet(one.dest_ports, other.dest_ports)
        and _share(one.src_iface, other.src_iface)
        and _share(one.src_mac, other.src_mac)
    )


def source_of(rule: Rule) -> Rule:
    """A rule that looks at nothing but the device that ``rule`` is about."""
    return Rule(rule.name, rule.use_policy, src=rule.src, src_mac=rule.src_mac, ipset_src=rule.ipset_src,
                src_iface=rule.src_iface)  # fmt: skip


def _all_in(some: Collection[object], all_: Collection[object]) -> bool:
    """Empty: everything there is."""
    return not all_ or (bool(some) and set(some) <= set(all_))


def _share(one: Collection[object], other: Collection[object]) -> bool:
    return not one or not other or not set(one).isdisjoint(other)


def _narrow(match: AddressMatch | None, family: Family) -> AddressMatch | None:
    """None where the match lets every address of the family through."""
    if match is None or (not match.negated and any(net.prefixlen == 0 for net in match.of(family))):
        return None
    return match


def _addresses_cover(one: AddressMatch | None, other: AddressMatch | None, family: Family) -> bool:
    one, other = _narrow(one, family), _narrow(other, family)
    if one is None:
        return True
    if other is None:
        return False
    ours, theirs = one.of(family), other.of(family)
    if not one.negated:
        return not other.negated and all(_within(net, ours) for net in theirs)
    if other.negated:
        return all(_within(net, theirs) for net in ours)
    return not any(net.overlaps(their) for net in ours for their in theirs)


def _addresses_meet(one: AddressMatch | None, other: AddressMatch | None, family: Family) -> bool:
    one, other = _narrow(one, family), _narrow(other, family)
    if one is None or other is None or (one.negated and other.negated):
        return True
    ours, theirs = one.of(family), other.of(family)
    if one.negated:
        return not all(_within(net, ours) for net in theirs)
    if other.negated:
        return not all(_within(net, theirs) for net in ours)
    return any(net.overlaps(their) for net in ours for their in theirs)


def _within(net: IPNetwork, others: Sequence[IPNetwork]) -> bool:
    return any(net.subnet_of(other) for other in others)  # type: ignore[arg-type]  # both are of one family


def _ports_cover(one: Sequence[PortRange], other: Sequence[PortRange]) -> bool:
    """Whether each range of ``other`` lies in ranges of ``one`` put together."""
    if not one:
        return True
    return bool(other) and all(_covered(item, one) for item in other)


def _covered(item: PortRange, ranges: Sequence[PortRange]) -> bool:
    first = item.first
    for each in sorted(ranges):
        if each.first <= first <= each.last:
            first = each.last + 1
    return first > item.last


def _ports_meet(one: Sequence[PortRange], other: Sequence[PortRange]) -> bool:
    return not one or not other or any(a.first <= b.last and b.first <= a.last for a in one for b in other)
