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
    #: Destinations the main and local tables reach without a default route.
    connected: Mapping[Family, tuple[IPNetwork, ...]] = field(default_factory=dict)
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

    def network(self, name: str, family: Family) -> Network | None:
        return self.networks.get((name, family))
