"""What should be in the kernel, as values. Nothing here knows iptables: a renderer turns chains into its own text.

A :class:`Plan` holds chains of rules per family, sets, policy-routing rules and routes, and for people a view of
each policy and rule. Every rule of a chain names the UCI section it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from fractions import Fraction
from typing import Literal

from connbal.errors import Finding
from connbal.frozen import dataclass
from connbal.model.config import Affinity, Family, IPAddress, IPNetwork, PortRange, Verdict
from connbal.model.facts import MainRoute
from connbal.plan.locality import Judged

Direction = Literal["src", "dst"]


# --- matches: what a packet must be like ------------------------------------------------------------------------


@dataclass(frozen=True)
class MarkIs:
    """The packet mark under ``mask`` is (with ``negated`` is not) ``value``."""

    value: int
    mask: int
    negated: bool = False


@dataclass(frozen=True)
class InDevice:
    """The packet came in by this device. Never true for what the router itself sends."""

    name: str


@dataclass(frozen=True)
class OutDevice:
    """The packet, sent by the router itself, is about to leave by this device."""

    name: str


@dataclass(frozen=True)
class Address:
    """Source or destination is (``negated``: is not) in one network."""

    direction: Direction
    network: IPNetwork
    negated: bool = False


@dataclass(frozen=True)
class InSet:
    """Source or destination is (``negated``: is not) in a set of ``dimensions`` parts."""

    name: str
    direction: Direction
    dimensions: int = 1
    negated: bool = False


@dataclass(frozen=True)
class Protocol:
    """IP protocol by number."""

    number: int


@dataclass(frozen=True)
class Ports:
    """Source or destination port is in one of at most 15 slots; a range takes two. Needs a Protocol beside it."""

    direction: Direction
    ranges: tuple[PortRange, ...]


@dataclass(frozen=True)
class SourceMac:
    """Ethernet source. Only packets that come in have one."""

    address: str


@dataclass(frozen=True)
class Icmp6Type:
    """ICMPv6 of one type."""

    type: int


@dataclass(frozen=True)
class HopLimit:
    """IPv6: the packet has this hop limit."""

    value: int


@dataclass(frozen=True)
class Chance:
    """True at random with this probability, 0 < p < 1."""

    probability: Fraction


@dataclass(frozen=True)
class HashShare:
    """True where the hash of source (and, for ``pair``, destination) address is in ``[low, low + size)`` of 2**32.

    ``seed`` makes independent hashes of the same addresses. See :mod:`connbal.plan.affinity`.
    """

    affinity: Affinity
    seed: int
    low: int
    size: int


@dataclass(frozen=True)
class OwnerGroup:
    """The packet is from a process of this router whose group id, as its socket was made, is in ``first``..``last``."""

    first: int
    last: int


Match = (
    MarkIs | InDevice | OutDevice | Address | InSet | Protocol | Ports | SourceMac | Icmp6Type | HopLimit | Chance
    | HashShare | OwnerGroup
)  # fmt: skip


# --- actions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetMark:
    """Set the bits of ``mask`` to ``value``; matching goes on."""

    value: int
    mask: int


@dataclass(frozen=True)
class RestoreMark:
    """Copy the bits of ``mask`` from the connection to the packet."""

    mask: int


@dataclass(frozen=True)
class SaveMark:
    """Copy the bits of ``mask`` from the packet to the connection."""

    mask: int


@dataclass(frozen=True)
class Jump:
    """Go through a chain and come back."""

    chain: str


@dataclass(frozen=True)
class Goto:
    """Go through a chain and come back to whoever called this one: no later rule here is looked at."""

    chain: str


@dataclass(frozen=True)
class Return:
    """Leave this chain."""


@dataclass(frozen=True)
class Log:
    """Write a line to the kernel log; matching goes on. ``level``: 0..7."""

    prefix: str
    level: int


@dataclass(frozen=True)
class AddToSet:
    """Add the packet's source or destination to a set, or renew its timeout; matching goes on."""

    name: str
    direction: Direction


Action = SetMark | RestoreMark | SaveMark | Jump | Goto | Return | Log | AddToSet


@dataclass(frozen=True)
class Origin:
    """The UCI section something was made for."""

    type: str  #: ``rule``, ``policy``, ``interface``, ``globals``
    name: str

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


@dataclass(frozen=True)
class ChainRule:
    """All of ``matches`` hold: do ``action``. ``comment`` is what people see in a listing."""

    matches: tuple[Match, ...]
    action: Action
    comment: str = ""
    origin: Origin | None = None


@dataclass(frozen=True)
class Chain:
    name: str
    rules: tuple[ChainRule, ...] = ()


@dataclass(frozen=True)
class Hook:
    """``base`` (PREROUTING or OUTPUT of the mangle table) jumps to ``chain``."""

    base: str
    chain: str


@dataclass(frozen=True)
class Ruleset:
    """Everything of one family in the mangle table. Chains come before the chains that refer to them."""

    chains: tuple[Chain, ...] = ()
    hooks: tuple[Hook, ...] = ()
    comments: bool = True  #: the comments of the lines are written


# --- sets, rules and routes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetSpec:
    """An ipset that has to exist.

    ``entries`` None: the content is not connbal's (written by packets, dnsmasq or a user); it is made empty if it is
    missing, and never changed. ``flush``: entries are to be thrown away, because the source they name is gone.
    """

    name: str
    type: str
    family: Family | None  #: None: none, as list:set
    entries: frozenset[str] | None = None
    timeout: int | None = None  #: seconds
    foreign: bool = False  #: named by a user's rule, not connbal's own
    origin: Origin | None = None


@dataclass(frozen=True, order=True)
class IpRule:
    """A policy-routing rule. ``mark``/``mask`` 0/0: any; ``iif`` empty: any."""

    family: str  #: value of Family, so that rules sort
    priority: int
    action: str  #: ``lookup``, ``unreachable`` or ``blackhole``
    table: int = 0
    mark: int = 0
    mask: int = 0
    iif: str = ""
    suppress_prefixlen: int = -1  #: -1: none


@dataclass(frozen=True)
class IpRoute:
    """A unicast route in an interface's table."""

    family: Family
    table: int
    destination: IPNetwork  #: prefix length 0: default
    device: str
    gateway: IPAddress | None = None
    metric: int = 0  #: IPv6: never 0, the kernel would make it 1024
    prefsrc: IPAddress | None = None  #: IPv4: source address of what the router sends
    source: IPNetwork | None = None  #: IPv6: only packets from here
    onlink: bool = False


# --- views for people -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """A member that takes part in a tier."""

    member: str
    interface: str
    id: int
    weight: int
    share: Fraction  #: of the tier's connections, 0..1
    usable: bool = True  #: False: its share goes to the others


@dataclass(frozen=True)
class Tier:
    """What a policy does in one family right now."""

    policy: str
    family: Family
    metric: int | None  #: None: no usable member
    shares: tuple[Share, ...]  #: usable members, summing to 1
    layout: tuple[Share, ...]  #: all members of that metric that could come back, summing to 1
    affinity: Affinity
    verdict: Verdict  #: what happens without a usable member
    reason: str  #: in words


@dataclass(frozen=True)
class InterfaceView:
    """How the plan sees an interface."""

    name: str
    id: int
    family: Family
    enabled: bool
    device: str | None
    present: bool  #: has rules, a table and a chain
    usable: bool  #: policies may use it
    reason: str
    routed: bool = False  #: present, and its table has a default route: it can be probed


@dataclass(frozen=True)
class RuleView:
    """How the plan sees a rule. ``families`` empty: it is in no ruleset, and ``reason`` says why."""

    name: str
    policy: str
    families: tuple[Family, ...]
    reason: str = ""
    missing: tuple[tuple[Family, str], ...] = ()  #: families it has no lines in, and why


@dataclass(frozen=True)
class Plan:
    """What :func:`connbal.plan.build.plan` returns."""

    rulesets: Mapping[Family, Ruleset] = field(default_factory=dict)
    sets: tuple[SetSpec, ...] = ()
    ip_rules: tuple[IpRule, ...] = ()
    routes: tuple[IpRoute, ...] = ()
    local: tuple[MainRoute, ...] = ()  #: routes of the main table that the table of local routes has copies of
    interfaces: tuple[InterfaceView, ...] = ()
    tiers: tuple[Tier, ...] = ()
    rules: tuple[RuleView, ...] = ()
    findings: tuple[Finding, ...] = ()
    ids: Mapping[str, int] = field(default_factory=dict)  #: enabled interfaces and the id each has
    mask: int = 0
    judged: Mapping[Family, Judged] = field(default_factory=dict)  #: the routes of the main table
