"""What a rule takes, exactly, as a box: a set of values for each thing it looks at. Pure.

A packet is in a box if each of its values is in the box's set for it. So one box covers another exactly if it does in
each dimension, and what is left of a box without another is a few boxes again. Numbers (addresses, ports, protocols)
are intervals; what has only a name (devices, MAC addresses, ipsets) is compared by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from connbal.model.config import AddressMatch, Family, PortRange, Rule

# As in connbal.plan.matching, whose import takes longer than all checks.
ICMP, ICMPV6 = 1, 58

#: Numbers from ``first`` to ``last``, sorted, neither overlapping nor touching, at least one.
Intervals = tuple[tuple[int, int], ...]

#: The order of dimensions. The protocol is the first, so that what is left of a box never has ports without protocols
#: that have them.
PROTOCOL, SOURCE, DESTINATION, SOURCE_PORT, DESTINATION_PORT = range(5)
#: Bits of each dimension's numbers.
WIDTHS = {Family.IPV4: (8, 32, 32, 16, 16), Family.IPV6: (8, 128, 128, 16, 16)}

_PROTOCOLS: Intervals = ((0, 255),)
_PORTS: Intervals = ((0, 65535),)
_ADDRESSES: dict[Family, Intervals] = {
    Family.IPV4: ((0, (1 << 32) - 1),), Family.IPV6: ((0, (1 << 128) - 1),),
}  # fmt: skip

Names = frozenset[str]


@dataclass(frozen=True)
class Box:
    """Packets of one family. A None among the names: it does not matter."""

    numbers: tuple[Intervals, ...]  #: by dimension
    devices: Names | None = None
    macs: Names | None = None
    destination_set: str | None = None
    source_set: str | None = None


@dataclass(frozen=True)
class Point:
    """A packet. None: by no device, from no MAC address, in no set that a rule names."""

    numbers: tuple[int, ...]
    device: str | None = None
    mac: str | None = None
    destination_set: str | None = None
    source_set: str | None = None


def whole(family: Family) -> Box:
    """Every packet of a family."""
    addresses = _ADDRESSES[family]
    return Box((_PROTOCOLS, addresses, addresses, _PORTS, _PORTS))


def full(dimension: int, family: Family) -> Intervals:
    """Every number of a dimension."""
    return whole(family).numbers[dimension]


def box_of(rule: Rule, family: Family) -> Box | None:
    """What a rule takes in one family; None where it takes nothing. Sets are taken to hold addresses of the family."""
    if rule.family not in (None, family):
        return None
    protocols = _protocols(rule, family)
    source, destination = _addresses(rule.src, family), _addresses(rule.dest, family)
    if not protocols or not source or not destination:
        return None
    numbers = (protocols, source, destination, _ports(rule.src_ports), _ports(rule.dest_ports))
    return Box(
        numbers,
        frozenset(rule.src_iface) if rule.src_iface else None,
        frozenset(rule.src_mac) if rule.src_mac else None,
        rule.ipset,
        rule.ipset_src,
    )


def _protocols(rule: Rule, family: Family) -> Intervals:
    if not rule.protocols:
        return _PROTOCOLS
    if family is Family.IPV4:
        return merged((number, number) for number in rule.protocols if number != ICMPV6)
    return merged((own, own) for own in (ICMPV6 if number == ICMP else number for number in rule.protocols))


def _addresses(match: AddressMatch | None, family: Family) -> Intervals:
    """Empty where no address matches. "Not" some addresses of the other family only is no match in this one."""
    if match is None:
        return _ADDRESSES[family]
    width = 32 if family is Family.IPV4 else 128
    found = []
    for network in match.networks:
        if network.version == family.version:
            if network.prefixlen == 0:
                return () if match.negated else _ADDRESSES[family]
            first = int(network.network_address)
            found.append((first, first | (1 << width - network.prefixlen) - 1))
    if not found:
        return ()
    return minus(_ADDRESSES[family], merged(found)) if match.negated else merged(found)


def _ports(ranges: Iterable[PortRange]) -> Intervals:
    return merged((one.first, one.last) for one in ranges) or _PORTS


# --- intervals ----------------------------------------------------------------------------------------------------


def merged(ranges: Iterable[tuple[int, int]]) -> Intervals:
    """Ranges in any order, as intervals."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def minus(left: Intervals, right: Intervals) -> Intervals:
    """The numbers of ``left`` that are not in ``right``."""
    found = []
    for first, last in left:
        for begin, end in right:
            if end < first:
                continue
            if begin > last:
                break
            if begin > first:
                found.append((first, begin - 1))
            first = end + 1
        if first <= last:
            found.append((first, last))
    return tuple(found)


def common(left: Intervals, right: Intervals) -> Intervals:
    """The numbers of both."""
    return tuple(
        (max(first, begin), min(last, end))
        for first, last in left
        for begin, end in right
        if begin <= last and end >= first
    )


def _within(left: Intervals, right: Intervals) -> bool:
    """Whether every number of ``left`` is in ``right``."""
    if len(left) == len(right) == 1:  # nearly always
        return right[0][0] <= left[0][0] and left[0][1] <= right[0][1]
    return not minus(left, right)


# --- boxes --------------------------------------------------------------------------------------------------------


def corner(box: Box) -> Point:
    """A packet of the box: the lowest of everything, and in no set that the box does not ask for."""
    return Point(
        tuple(intervals[0][0] for intervals in box.numbers),
        min(box.devices) if box.devices else None,
        min(box.macs) if box.macs else None,
        box.destination_set,
        box.source_set,
    )


def holds(box: Box, point: Point) -> bool:
    """Whether a packet is in a box."""
    for intervals, number in zip(box.numbers, point.numbers, strict=True):
        for first, last in intervals:
            if first <= number <= last:
                break
        else:
            return False
    return (
        (box.devices is None or point.device in box.devices)
        and (box.macs is None or point.mac in box.macs)
        and box.destination_set in (None, point.destination_set)
        and box.source_set in (None, point.source_set)
    )


def covers(outer: Box, inner: Box) -> bool:
    """Whether every packet of ``inner`` is in ``outer``."""
    return (
        (outer.devices is None or (inner.devices is not None and inner.devices <= outer.devices))
        and (outer.macs is None or (inner.macs is not None and inner.macs <= outer.macs))
        and outer.destination_set in (None, inner.destination_set)
        and outer.source_set in (None, inner.source_set)
        and all(map(_within, inner.numbers, outer.numbers))
    )


def meet(one: Box, other: Box) -> bool:
    """Whether a packet may be in both: sets of different names may hold the same address."""
    return (
        all(map(common, one.numbers, other.numbers))
        and (one.devices is None or other.devices is None or not one.devices.isdisjoint(other.devices))
        and (one.macs is None or other.macs is None or not one.macs.isdisjoint(other.macs))
    )


def remainder(box: Box, other: Box) -> Iterator[Box]:
    """Boxes that together are ``box`` without ``other``. The two have :func:`corner` of ``box`` in common."""
    numbers = list(box.numbers)
    for dimension, wanted in enumerate(other.numbers):
        rest = minus(numbers[dimension], wanted)
        if rest:
            kept = (*numbers[:dimension], rest, *numbers[dimension + 1 :])
            yield Box(kept, box.devices, box.macs, box.destination_set, box.source_set)
            numbers[dimension] = common(numbers[dimension], wanted)
    devices = box.devices
    if other.devices is not None and devices is not None:
        if rest_devices := devices - other.devices:
            yield Box(tuple(numbers), rest_devices, box.macs, box.destination_set, box.source_set)
        devices &= other.devices
    if other.macs is not None and box.macs is not None and (rest_macs := box.macs - other.macs):
        yield Box(tuple(numbers), devices, rest_macs, box.destination_set, box.source_set)
