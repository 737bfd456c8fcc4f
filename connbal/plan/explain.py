"""What the planned chains do with one packet, step by step, as the kernel would do it. Pure.

The evaluator executes the plan's own values, the very ones that are rendered for iptables, so it cannot disagree with
what is applied. Where a line is drawn at random, the packet goes on as two branches, each with its exact probability;
where a hash decides, the hash is worked out. What is not known of the packet or the world counts as not matching, and
is told apart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from connbal.model.config import Family, IPAddress, IPNetwork
from connbal.plan import affinity
from connbal.plan.explain_route import Way
from connbal.plan.values import (
    Address,
    AddToSet,
    Chain,
    ChainRule,
    Chance,
    Direction,
    Goto,
    HashShare,
    HopLimit,
    Icmp6Type,
    InDevice,
    InSet,
    Jump,
    Log,
    MarkIs,
    Match,
    OutDevice,
    OwnerGroup,
    Plan,
    Ports,
    Protocol,
    RestoreMark,
    Return,
    SaveMark,
    SetMark,
    SourceMac,
)

ICMPV6 = 58
ONE = Fraction(1)


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection. None: not given, so whatever looks at it does not match."""

    source: IPAddress
    destination: IPAddress
    protocol: int | None = None  #: IP protocol number
    source_port: int | None = None
    destination_port: int | None = None
    device: str | None = None  #: it comes in by this device
    mac: str | None = None  #: Ethernet source, ``aa:bb:cc:dd:ee:ff``
    local: bool = False  #: the router itself sends it; it has no ``device`` and no ``mac``
    leaving: str | None = None  #: ``local``: the device it would leave by without a mark
    bound: str | None = None  #: ``local``: the device its program is bound to
    icmp_type: int | None = None
    hop_limit: int | None = None  #: as it meets the chains

    @property
    def family(self) -> Family:
        return Family.of(self.destination)

    def address(self, direction: Direction) -> IPAddress:
        return self.source if direction == "src" else self.destination


@dataclass(frozen=True)
class World:
    """What the packet meets besides the plan."""

    #: Whether its source or destination is in a set whose content is not the plan's. Absent: not looked at.
    sets: Mapping[tuple[str, Direction], bool] = field(default_factory=dict)
    connection: int | None = None  #: mark of the connection it belongs to; None: none, or not looked for
    #: Networks that the main table (and those of rt_table_lookup) reach without a default route, of its family.
    connected: tuple[IPNetwork, ...] = ()
    custom: tuple[IPNetwork, ...] = ()
    #: Where the main table sends it. None: not known.
    main: Way | None = None


@dataclass(frozen=True)
class Step:
    """A line of a chain that the packet met. ``failed`` empty: it matched, if only by chance."""

    chain: str
    rule: ChainRule
    failed: tuple[Match, ...] = ()
    unknown: tuple[Match, ...] = ()  #: those of ``failed`` of which it is not known whether they match


@dataclass(frozen=True)
class Branch:
    """One of the ways it may go. ``decided``: the line that gave the mark, with its chain."""

    probability: Fraction
    mark: int
    connection: int  #: mark of the connection
    decided: tuple[str, ChainRule] | None = None


@dataclass(frozen=True)
class Walk:
    """All of it: the lines in the order they were met, and the ways it may end, with probabilities summing to 1."""

    steps: tuple[Step, ...]
    ends: tuple[Branch, ...]


def walk(plan: Plan, packet: Packet, world: World) -> Walk:
    """Send a packet through the chains of its family, from the hook on."""
    ruleset = plan.rulesets.get(packet.family)
    if ruleset is None:
        return Walk((), (Branch(ONE, 0, world.connection or 0),))
    walker = _Walker({chain.name: chain for chain in ruleset.chains}, packet, world, planned_sets(plan))
    branches = [Branch(ONE, 0, world.connection or 0)]
    for hook in ruleset.hooks:
        if hook.base == ("OUTPUT" if packet.local else "PREROUTING"):
            branches = _merged(end for branch in branches for end in walker.through(hook.chain, branch))
    return Walk(tuple(walker.steps), tuple(branches))


def planned_sets(plan: Plan) -> dict[str, frozenset[str]]:
    """The sets whose content the plan says."""
    return {spec.name: spec.entries for spec in plan.sets if spec.entries is not None}


def _merged(branches: Iterable[Branch]) -> list[Branch]:
    """Ways that are the same from here on, as one."""
    found: dict[Branch, Fraction] = {}
    for branch in branches:
        key = replace(branch, probability=ONE)
        found[key] = found.get(key, Fraction(0)) + branch.probability
    return [replace(key, probability=probability) for key, probability in found.items()]


# --- chains ---------------------------------------------------------------------------------------------------------


class _Walker:
    def __init__(
        self, chains: Mapping[str, Chain], packet: Packet, world: World, planned: Mapping[str, frozenset[str]]
    ) -> None:
        self._chains, self._packet, self._world, self._planned = chains, packet, world, planned
        self.steps: list[Step] = []

    def through(self, name: str, branch: Branch, at: int = 0) -> Iterator[Branch]:
        """Take a branch through a chain from line ``at`` on; yields those that come out of it."""
        rules = self._chains[name].rules
        for position in range(at, len(rules)):
            rule = rules[position]
            chance = self._chance(name, rule, branch)
            if not chance:
                continue
            if chance != 1:
                other = replace(branch, probability=branch.probability * (1 - chance))
                yield from self.through(name, other, position + 1)
                branch = replace(branch, probability=branch.probability * chance)
            action = rule.action
            if isinstance(action, Goto):
                yield from self.through(action.chain, branch)
                return
            if isinstance(action, Return):
                break
            if isinstance(action, Jump):
                ends = _merged(self.through(action.chain, branch))
                for other in ends[1:]:
                    yield from self.through(name, other, position + 1)
                branch = ends[0]
            elif not isinstance(action, Log | AddToSet):
                branch = _marked(branch, name, rule)
        yield branch

    def _chance(self, chain: str, rule: ChainRule, branch: Branch) -> Fraction:
        """How likely it is that all of a line's matches hold."""
        chance = ONE
        failed, unknown = [], []
        for match in rule.matches:
            if isinstance(match, Chance):
                chance *= match.probability
                continue
            holds = self._holds(match, branch.mark)
            if not holds:
                failed.append(match)
                if holds is None:
                    unknown.append(match)
        self.steps.append(Step(chain, rule, tuple(failed), tuple(unknown)))
        return Fraction(0) if failed else chance

    def _holds(self, match: Match, mark: int) -> bool | None:
        if isinstance(match, MarkIs):
            return (mark & match.mask == match.value) != match.negated
        if isinstance(match, InSet):
            found = self._in_set(match)
            return None if found is None else found != match.negated
        return _TESTS[type(match)](match, self._packet)

    def _in_set(self, match: InSet) -> bool | None:
        entries = self._planned.get(match.name)
        if entries is None:
            return self._world.sets.get((match.name, match.direction))
        return in_entries(self._packet.address(match.direction), entries)


def in_entries(address: IPAddress, entries: Iterable[str]) -> bool:
    """Whether an address is in one of these networks, as a ``hash:net`` set prints them."""
    return any(address in ipaddress.ip_network(entry) for entry in entries)


def _marked(branch: Branch, chain: str, rule: ChainRule) -> Branch:
    action = rule.action
    if isinstance(action, SetMark):
        decided = branch.decided if branch.mark & action.mask else (chain, rule)
        return replace(branch, mark=branch.mark & ~action.mask | action.value, decided=decided)
    if isinstance(action, RestoreMark):
        return replace(branch, mark=branch.mark & ~action.mask | branch.connection & action.mask)
    assert isinstance(action, SaveMark)
    return replace(branch, connection=branch.connection & ~action.mask | branch.mark & action.mask)


# --- matches --------------------------------------------------------------------------------------------------------


def _in_device(match: InDevice, packet: Packet) -> bool | None:
    if packet.local:
        return False
    return None if packet.device is None else packet.device == match.name


def _out_device(match: OutDevice, packet: Packet) -> bool | None:
    if not packet.local:
        return False
    return None if packet.leaving is None else packet.leaving == match.name


def _address(match: Address, packet: Packet) -> bool:
    return (packet.address(match.direction) in match.network) != match.negated


def _protocol(match: Protocol, packet: Packet) -> bool | None:
    return None if packet.protocol is None else packet.protocol == match.number


def _ports(match: Ports, packet: Packet) -> bool | None:
    port = packet.source_port if match.direction == "src" else packet.destination_port
    return None if port is None else any(item.first <= port <= item.last for item in match.ranges)


def _mac(match: SourceMac, packet: Packet) -> bool | None:
    if packet.local:
        return False
    return None if packet.mac is None else packet.mac == match.address


def _icmp6(match: Icmp6Type, packet: Packet) -> bool:
    return packet.protocol == ICMPV6 and packet.icmp_type == match.type


def _hop_limit(match: HopLimit, packet: Packet) -> bool | None:
    return None if packet.hop_limit is None else packet.hop_limit == match.value


def _hashed(match: HashShare, packet: Packet) -> bool:
    return affinity.matches(match, packet.source, packet.destination)


_TESTS: Mapping[type, Callable[..., bool | None]] = {
    InDevice: _in_device, OutDevice: _out_device, Address: _address, Protocol: _protocol, Ports: _ports,
    SourceMac: _mac, Icmp6Type: _icmp6, HopLimit: _hop_limit, HashShare: _hashed,
    OwnerGroup: lambda match, packet: False,  # what is asked about is no command of connbal use
}  # fmt: skip
