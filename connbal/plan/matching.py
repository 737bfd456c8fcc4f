"""From a rule of the configuration to matches: every combination that has to stand as a line of its own.

Several addresses become one set, whatever their number; its name is a digest of its content, so a changed list is a
new set, and old and new ruleset each meet the list that belongs to them. Protocols, devices, MAC addresses and groups
of ports are few and become lines.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from connbal.errors import Finding, Severity
from connbal.frozen import dataclass
from connbal.model import names
from connbal.model.config import PACKAGE, AddressMatch, Family, IPNetwork, PortRange, Rule
from connbal.model.facts import Facts, SetDeclaration, SetFacts
from connbal.plan.values import (
    Address,
    Direction,
    InDevice,
    InSet,
    Match,
    Origin,
    Ports,
    Protocol,
    SetSpec,
    SourceMac,
)

ICMP, ICMPV6 = 1, 58
#: xt_multiport has 15 slots; a range takes two.
PORT_SLOTS = 15


class NoMatch(Exception):
    """The rule has no lines in this family; ``str()`` says why, in words."""


@dataclass
class Sets:
    """The sets a plan needs, gathered while it is built, and those others made."""

    existing: Mapping[str, SetFacts]
    declared: Mapping[str, SetDeclaration] = field(default_factory=dict)
    planned: dict[str, SetSpec] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, spec: SetSpec) -> SetSpec:
        return self.planned.setdefault(spec.name, spec)

    def networks(self, family: Family, networks: Iterable[IPNetwork]) -> SetSpec:
        """A set of exactly these networks (none of prefix length 0), shared by all who ask for the same."""
        entries = frozenset(entry(network) for network in minimal(networks))
        digest = hashlib.sha1("\n".join(sorted(entries)).encode(), usedforsecurity=False).hexdigest()
        return self.add(SetSpec(names.ipset(f"addr_{family.value}", digest[:12]), "hash:net", family, entries))

    def named(self, name: str, family: Family, rule: Rule, option: str) -> SetFacts:
        """The set a rule names, or its twin for ``family``. Made empty where nobody made it; NoMatch where it is of
        the other family.
        """
        name = self._twin(name, family)
        planned = self.planned.get(name)
        known = self.existing.get(name)
        if planned is not None and (known is None or not planned.foreign):
            known = SetFacts(planned.name, planned.type, planned.family)
        place = f"{PACKAGE}.{rule.name}.{option}"
        if known is None:
            known = self._missing(name, rule, place)
        elif rule.family is not None and known.family not in (None, rule.family):
            self.findings.append(Finding(
                Severity.ERROR, "set-family", place,
                f"set {names.label(name)!r} does not hold {rule.family.value} addresses: the rule never matches",
                "use a set of the rule's family, or drop the rule's family",
            ))  # fmt: skip
        if known.family not in (None, family):
            raise NoMatch(f"set {names.label(name)} holds {known.family.value if known.family else ''} addresses")
        return known

    def _twin(self, name: str, family: Family) -> str:
        """``name``, or where it is declared with a twin of the other family, whichever is of ``family``."""
        declared = self.declared.get(name)
        return declared.twin if declared is not None and declared.twin and declared.family is not family else name

    def _missing(self, name: str, rule: Rule, place: str) -> SetFacts:
        """Plan a set that nobody made: as it is declared, else by what the rule lets guess."""
        declared = self.declared.get(name)
        if declared is None:
            declared = SetDeclaration(name, "hash:net", rule.family or Family.IPV4, filled=False)
        origin = Origin("rule", rule.name)
        spec = self.add(SetSpec(
            name, declared.type, declared.family, timeout=declared.timeout, foreign=True, origin=origin
        ))  # fmt: skip
        if not declared.filled:
            remedy = f"see {declared.place}: whoever reads that should make and fill it" if declared.place else (
                f"create it, or state the rule's family if it is not to be {declared.family.value}"
            )  # fmt: skip
            message = f"no set {names.label(name)!r} exists: it is made, empty"
            self.findings.append(Finding(Severity.WARNING, "missing-set", place, message, remedy))
        return SetFacts(spec.name, spec.type, spec.family)


def entry(network: IPNetwork) -> str:
    """A network as ipset prints it: a single address without its prefix length."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def minimal(networks: Iterable[IPNetwork]) -> list[IPNetwork]:
    """``networks``, all of one family, without those that lie within another; sorted."""
    kept: list[IPNetwork] = []
    for network in sorted(networks, key=lambda net: (int(net.network_address), net.prefixlen)):
        if not kept or int(network.network_address) > int(kept[-1].broadcast_address):
            kept.append(network)
    return kept


def alone(rule: Rule, family: Family) -> tuple[tuple[tuple[Match, ...], ...], tuple[SetSpec, ...], str]:
    """As :func:`lines`, of a rule that names no device and no set: nothing but itself counts. The matches, the sets
    that are made for it, and why there are no matches.
    """
    sets = Sets({})
    try:
        return (*lines(rule, family, Facts(), sets),), (*sets.planned.values(),), ""
    except NoMatch as why:
        return (), (), str(why)


def lines(rule: Rule, family: Family, facts: Facts, sets: Sets) -> list[tuple[Match, ...]]:
    """The matches of every line that stands for ``rule`` in ``family``. NoMatch where there is none."""
    if rule.family not in (None, family):
        raise NoMatch(f"it is for {rule.family.value if rule.family else ''}")
    alternatives: list[Sequence[tuple[Match, ...]]] = [
        _devices(rule, family, facts),
        [(SourceMac(mac),) for mac in rule.src_mac] or [()],
        _protocols(rule, family),
        _addresses(rule.src, "src", family, sets),
        _addresses(rule.dest, "dst", family, sets),
        _named_sets(rule, family, sets),
        _ports(rule.src_ports, "src"),
        _ports(rule.dest_ports, "dst"),
    ]
    return [tuple(itertools.chain.from_iterable(choice)) for choice in itertools.product(*alternatives)]


def _devices(rule: Rule, family: Family, facts: Facts) -> list[tuple[Match, ...]]:
    if not rule.src_iface:
        return [()]
    devices = dict.fromkeys(filter(None, (device_of(name, facts) for name in rule.src_iface)))
    if not devices:
        raise NoMatch(f"src_iface {', '.join(map(names.label, rule.src_iface))} has no device now")
    return [(InDevice(device),) for device in devices]


def device_of(name: str, facts: Facts) -> str | None:
    """The device of a network, or the device of that very name."""
    for family in Family:
        network = facts.network(name, family)
        if network is not None and network.device:
            return network.device
    return name if name in facts.links else None


def _protocols(rule: Rule, family: Family) -> list[tuple[Match, ...]]:
    if not rule.protocols:
        return [()]
    own, other = (ICMP, ICMPV6) if family is Family.IPV4 else (ICMPV6, ICMP)
    numbers = dict.fromkeys(own if number == ICMP else number for number in rule.protocols)
    if other == ICMPV6:
        numbers.pop(ICMPV6, None)
    if not numbers:
        raise NoMatch(f"its protocol does not exist in {family.value}")
    return [(Protocol(number),) for number in numbers]


def _addresses(
    match: AddressMatch | None, direction: Direction, family: Family, sets: Sets
) -> list[tuple[Match, ...]]:
    if match is None:
        return [()]
    networks = minimal(match.of(family))
    if not networks:
        raise NoMatch(f"its addresses are not {family.value}")
    if networks[0].prefixlen == 0:
        if match.negated:
            raise NoMatch("it excludes every address")
        return [()]
    if len(networks) == 1:
        return [(Address(direction, networks[0], match.negated),)]
    return [(InSet(sets.networks(family, networks).name, direction, negated=match.negated),)]


def _named_sets(rule: Rule, family: Family, sets: Sets) -> list[tuple[Match, ...]]:
    found: list[Match] = []
    named: tuple[tuple[str | None, Direction, str], ...] = (
        (rule.ipset, "dst", "ipset"), (rule.ipset_src, "src", "ipset_src"),
    )  # fmt: skip
    for name, direction, option in named:
        if name is not None:
            known = sets.named(name, family, rule, option)
            found.append(InSet(known.name, direction, known.dimensions))
    return [tuple(found)]


def _ports(ranges: Sequence[PortRange], direction: Direction) -> list[tuple[Match, ...]]:
    return [(Ports(direction, group),) for group in port_groups(ranges)] or [()]


def port_groups(ranges: Sequence[PortRange]) -> Iterator[tuple[PortRange, ...]]:
    """``ranges`` in groups that each fit one multiport match."""
    group: list[PortRange] = []
    slots = 0
    for item in ranges:
        needed = 1 if item.first == item.last else 2
        if slots + needed > PORT_SLOTS:
            yield tuple(group)
            group, slots = [], 0
        group.append(item)
        slots += needed
    if group:
        yield tuple(group)
