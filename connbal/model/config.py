"""The configuration as values: what ``/etc/config/mwan3`` says once every option is decoded and valid.

Times are seconds (float), latencies milliseconds, losses per cent. Every default here is the one mwan3 has when the
option is absent (mwan3 2.12.2); options that only connbal knows default to what keeps mwan3's meaning, but for
``source_routes``, where that was a fault.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping
from dataclasses import field

from connbal.frozen import dataclass
from connbal.model.names import PACKAGE
from connbal.model.terms import (
    FAMILIES,
    FLUSH_EVENTS,
    LOG_LEVELS,
    Affinity,
    Family,
    SourceRoutes,
    TrackMethod,
    Verdict,
    WeightMode,
)

__all__ = [
    "FAMILIES", "FLUSH_EVENTS", "LOG_LEVELS", "PACKAGE", "AddressMatch", "Affinity", "Config", "Family", "Globals",
    "IPAddress", "IPInterface", "IPNetwork", "Interface", "Member", "Policy", "PortRange", "Rule", "SourceRoutes",
    "TrackMethod", "Verdict", "WeightMode",
]  # fmt: skip

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class Globals:
    """Section ``globals 'globals'``."""

    mmx_mask: int = 0x3F00  #: bits of the packet mark that belong to connbal, any shape, at least 3 bits
    logging: bool = False  #: rules with ``logging`` write to the kernel log only if this holds too
    loglevel: str = "notice"
    rt_table_lookup: tuple[int, ...] = ()  #: further routing tables whose networks are exempt
    source_routing: bool = False  #: keep the ``from`` of IPv6 source-specific default routes
    weight_mode: WeightMode = WeightMode.PROPORTIONAL
    affinity: Affinity = Affinity.CONNECTION
    source_routes: SourceRoutes = SourceRoutes.PRIVATE


@dataclass(frozen=True)
class Interface:
    """Section ``interface``: an Internet source and how its health is found out."""

    name: str
    id: int  #: 1-based order among all ``interface`` sections, disabled ones counted
    enabled: bool = False
    family: Family = Family.IPV4
    initial_online: bool = True  #: ``initial_state``
    track_ip: tuple[str, ...] = ()  #: addresses or host names; none: never tracked
    track_method: TrackMethod = TrackMethod.PING
    track_gateway: bool = False  #: probe the interface's own gateway too
    httping_ssl: bool = False
    reliability: int = 1  #: hosts that must answer for a round to be good
    count: int = 1  #: probes per host and round
    size: int = 56  #: bytes of ping payload
    max_ttl: int = 60
    timeout: float = 4.0
    interval: float = 10.0
    failure_interval: float = 10.0  #: while the score falls; default: ``interval``
    recovery_interval: float = 10.0  #: while the score rises; default: ``interval``
    keep_failure_interval: bool = False
    down: int = 5  #: bad rounds until offline
    up: int = 5  #: good rounds until online
    check_quality: bool = False
    failure_latency: float = 1000.0  #: ms
    recovery_latency: float = 500.0  #: ms
    failure_loss: float = 40.0  #: per cent
    recovery_loss: float = 10.0  #: per cent
    quality_window: float = 60.0  #: s over which loss and latency are judged; 0: each round by itself
    dampening: float = 0.0  #: s, half-life of the penalty for going offline; 0: no dampening
    flush_conntrack: frozenset[str] = frozenset()  #: of FLUSH_EVENTS


@dataclass(frozen=True)
class Member:
    """Section ``member``: an interface with a priority and a weight."""

    name: str
    interface: str
    metric: int = 1  #: 1..256, lower first
    weight: int = 1  #: 1..1000


@dataclass(frozen=True)
class Policy:
    """Section ``policy``: the members a rule may use."""

    name: str
    members: tuple[str, ...] = ()  #: ``use_member``, in order
    last_resort: Verdict = Verdict.UNREACHABLE
    weight_mode: WeightMode | None = None  #: None: as in globals
    affinity: Affinity | None = None  #: None: as in globals


@dataclass(frozen=True)
class AddressMatch:
    """Networks an address must be in, or with ``negated`` must not be in. Never empty; families may be mixed."""

    networks: tuple[IPNetwork, ...]
    negated: bool = False

    def of(self, family: Family) -> tuple[IPNetwork, ...]:
        """The networks of one family."""
        return tuple(net for net in self.networks if net.version == family.version)


@dataclass(frozen=True, order=True)
class PortRange:
    """Ports ``first`` to ``last``, both included, 0..65535."""

    first: int
    last: int


@dataclass(frozen=True)
class Rule:
    """Section ``rule``: which connections use which policy. All that is given must match."""

    name: str  #: the section's name, ``cfg…`` where it is anonymous
    use_policy: str  #: name of a policy, or a value of :class:`Verdict`
    enabled: bool = True
    family: Family | None = None  #: None: both
    protocols: tuple[int, ...] = ()  #: IP protocol numbers; none: all; 1: ICMP of the packet's family
    src: AddressMatch | None = None
    dest: AddressMatch | None = None
    src_ports: tuple[PortRange, ...] = ()  #: only with protocols that have ports
    dest_ports: tuple[PortRange, ...] = ()
    src_iface: tuple[str, ...] = ()  #: networks (``lan``) the connection comes in by
    src_mac: tuple[str, ...] = ()  #: ``aa:bb:cc:dd:ee:ff``, lower case
    ipset: str | None = None  #: set that holds the destination
    ipset_src: str | None = None  #: set that holds the source
    sticky: bool = False
    timeout: int = 600  #: seconds a sticky entry lives after its last new connection
    logging: bool = False


@dataclass(frozen=True)
class Config:
    """All of it. Names are unique within each tuple; rules are in matching order."""

    globals: Globals = field(default_factory=Globals)
    interfaces: tuple[Interface, ...] = ()
    members: tuple[Member, ...] = ()
    policies: tuple[Policy, ...] = ()
    rules: tuple[Rule, ...] = ()

    @functools.cached_property
    def members_by_name(self) -> Mapping[str, Member]:
        return {member.name: member for member in self.members}

    @functools.cached_property
    def policies_by_name(self) -> Mapping[str, Policy]:
        return {policy.name: policy for policy in self.policies}

    def interfaces_of(self, policy: str) -> tuple[str, ...]:
        """The interfaces that a policy's members use, each once; none where there is no such policy."""
        found = self.policies_by_name.get(policy)
        members = (self.members_by_name.get(name) for name in (found.members if found else ()))
        return tuple(dict.fromkeys(member.interface for member in members if member is not None))
