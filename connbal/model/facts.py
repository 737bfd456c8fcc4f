"""The facts the plan depends on: what the machine's networks, links and sources are like right now. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from connbal.frozen import dataclass
from connbal.model.config import Family, IPAddress, IPInterface, IPNetwork


@dataclass(frozen=True)
class Link:
    """A network device as the kernel sees it."""

    name: str  #: at most 15 characters
    index: int
    up: bool  #: administratively up
    carrier: bool  #: something is connected at the other end (``IFF_LOWER_UP``)
    point_to_point: bool = False  #: no neighbours to resolve: a default route needs no gateway


@dataclass(frozen=True)
class DefaultRoute:
    """How an interface reaches the Internet."""

    gateway: IPAddress | None  #: None: straight onto the device
    metric: int = 0
    source: IPNetwork | None = None  #: only packets from here (IPv6 source-specific routing)
    onlink: bool = False  #: the gateway is outside every connected network


@dataclass(frozen=True)
class BadGateway:
    """A gateway that somebody names and nobody can send anything to."""

    gateway: IPAddress
    why: str  #: in words that follow it: ``is a multicast address``
    by: str  #: who names it: ``netifd``

    def __str__(self) -> str:
        return f"{self.gateway} {self.why}"


@dataclass(frozen=True)
class RouteHop:
    """Where a route leads: by a device, to a neighbour (of either family) or straight onto it."""

    device: str
    gateway: IPAddress | None = None
    onlink: bool = False


@dataclass(frozen=True)
class MainRoute:
    """A route of the main table that is no default route. Equal routes do the same to packets, whatever their table."""

    family: Family
    destination: IPNetwork
    hops: tuple[RouteHop, ...] = ()  #: none: it refuses, or leads to what only the kernel knows
    metric: int = 0
    kind: str = "unicast"  #: ``unicast``, ``unreachable``, ``blackhole``, ``prohibit``, ``throw``, or a number
    prefsrc: IPAddress | None = None
    source: IPNetwork | None = None  #: only packets from here (IPv6)
    #: The route as netlink's message says it, without table, protocol and what is no part of it: for a copy.
    raw: bytes = b""


@dataclass(frozen=True)
class Network:
    """A logical network (netifd's interface ``wan1``) in one address family."""

    name: str
    family: Family
    up: bool  #: configured, link up, with an address
    device: str | None = None  #: layer-3 device; None where there is none
    addresses: tuple[IPInterface, ...] = ()
    defaults: tuple[DefaultRoute, ...] = ()  #: best first
    reason: str = ""  #: in words, why it is up or not
    name_servers: tuple[str, ...] = ()  #: addresses of either family, as told; not validated
    uptime: int | None = None  #: seconds it has been up, as netifd says; None: nobody says
    bad_gateways: tuple[BadGateway, ...] = ()  #: those that are not among ``defaults``


@dataclass(frozen=True)
class Health:
    """What the tracker, or a user who forced it, says of an interface."""

    online: bool
    reason: str


@dataclass(frozen=True)
class SetFacts:
    """An ipset in the kernel: enough to match against it."""

    name: str
    type: str  #: ``hash:net``, ``hash:ip,port``, ``list:set``, …
    family: Family | None  #: None: any, as list:set

    @property
    def dimensions(self) -> int:
        """How many direction words ``--match-set`` takes."""
        return 1 if self.type == "list:set" else self.type.count(",") + 1


@dataclass(frozen=True)
class SetDeclaration:
    """A set that another part of the router's configuration speaks of: how to make it where nobody has yet."""

    name: str
    type: str = "hash:ip"
    family: Family = Family.IPV4
    timeout: int | None = None  #: seconds an entry stays; None: for good
    place: str = ""  #: where it is declared: ``dhcp.youtube``
    filled: bool = True  #: dnsmasq fills it; else somebody should, but has not made it
    twin: str = ""  #: the set of the other family that belongs to it, and that rules naming this one mean there


@dataclass(frozen=True)
class Facts:
    """Everything outside the configuration that the plan depends on."""

    networks: Mapping[tuple[str, Family], Network] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    #: Destinations that need no source, whatever leads to them: the router's own addresses (the local table).
    connected: Mapping[Family, tuple[IPNetwork, ...]] = field(default_factory=dict)
    #: Every route of the main table but default ones; :mod:`connbal.plan.locality` says which are followed by all.
    main: Mapping[Family, tuple[MainRoute, ...]] = field(default_factory=dict)
    #: The addresses of each device, as the kernel has them.
    held: Mapping[str, tuple[IPInterface, ...]] = field(default_factory=dict)
    #: Destinations to which ``/etc/config/network`` has a route, with the device of the network that it names.
    written: frozenset[tuple[str, IPNetwork]] = frozenset()
    #: The same of the tables in ``globals.rt_table_lookup``.
    custom: Mapping[Family, tuple[IPNetwork, ...]] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)  #: by interface; absent: as its network is
    sets: Mapping[str, SetFacts] = field(default_factory=dict)  #: every ipset there is
    declared: Mapping[str, SetDeclaration] = field(default_factory=dict)  #: ipsets that should be there, by name
    ip6: bool = True  #: the kernel has IPv6
    stale: str = ""  #: why a part of this may be out of date; empty: nothing is
    comment: bool = True  #: lines may have comments
    bpf: bool = True  #: the kernel can match with xt_bpf, which affinity ``pair`` and ``source`` need
    hop_limit: bool = True  #: the kernel can match with xt_hl, so that the router's neighbour discovery is known
    steer: bool = False  #: there are to be lines for ``connbal use``

    def reached(self, family: Family) -> tuple[IPNetwork, ...]:
        """Where the local and the main table lead without a default route, whoever is to follow them."""
        main = (route.destination for route in self.main.get(family, ()) if route.kind in ("unicast", "local"))
        return (*self.connected.get(family, ()), *main)

    def network(self, name: str, family: Family) -> Network | None:
        return self.networks.get((name, family))
