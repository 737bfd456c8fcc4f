"""What rtnetlink says about links, addresses, routes and rules, as values. Pure: decoded messages in, values out.

A message is anything shaped as pyroute2 decodes it: fields by name and ``attrs``, a list of (name, value).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from connbal.frozen import dataclass
from connbal.kernel.api import RoutingState
from connbal.kernel.copies import canonical
from connbal.kernel.netlink import Message, attributes
from connbal.model.config import FAMILIES, Family, IPAddress, IPInterface, IPNetwork
from connbal.model.facts import DefaultRoute, Link, MainRoute, Network, RouteHop
from connbal.model.marks import LOCAL_TABLE
from connbal.plan.state import ROUTE_PROTOCOL
from connbal.plan.values import IpRoute, IpRule

RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTN_UNICAST, RTN_LOCAL = 1, 2
#: Kinds of route by their number in linux/rtnetlink.h.
ROUTE_KINDS: Mapping[int, str] = {1: "unicast", 2: "local", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
RTNH_F_ONLINK = 0x4
_RTM_F_CLONED = 0x200

_IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT, _IFF_NOARP, _IFF_LOWER_UP = 0x1, 0x8, 0x10, 0x80, 0x10000
#: Addresses nobody may use: a duplicate was found, or is still being looked for.
_IFA_F_OPTIMISTIC, _IFA_F_DADFAILED, _IFA_F_DEPRECATED, _IFA_F_TENTATIVE = 0x04, 0x08, 0x20, 0x40
_FIB_RULE_INVERT = 0x2
_NO_SUPPRESSION = 0xFFFFFFFF

RULE_ACTIONS: Mapping[str, int] = {"lookup": 1, "blackhole": 6, "unreachable": 7}
_ACTION_NAMES = {number: name for name, number in RULE_ACTIONS.items()}
#: What connbal's own rules never select by; one that does is somebody else's, whatever protocol it claims.
_FOREIGN_SELECTORS = frozenset(
    {"FRA_SRC", "FRA_DST", "FRA_OIFNAME", "FRA_UID_RANGE", "FRA_IP_PROTO", "FRA_SPORT_RANGE", "FRA_DPORT_RANGE"}
)

_LINK = frozenset({"IFLA_IFNAME"})
_ADDRESS = frozenset({"IFA_ADDRESS", "IFA_LOCAL", "IFA_FLAGS"})
_ROUTE = frozenset(
    {"RTA_TABLE", "RTA_DST", "RTA_SRC", "RTA_OIF", "RTA_GATEWAY", "RTA_VIA", "RTA_PRIORITY", "RTA_PREFSRC",
     "RTA_MULTIPATH"}
)  # fmt: skip

_BY_NUMBER = {int(socket.AF_INET): Family.IPV4, int(socket.AF_INET6): Family.IPV6}
_ANY: Mapping[Family, str] = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}

#: A name that a restore file and a shell carry unchanged: of what plan.iptables takes for a word, quoted or not.
#: iptables takes ``+`` at the end for a wildcard, and ``-`` or ``!`` at the start for an option.
_FIT_NAME = re.compile(r"(?![-!])[A-Za-z0-9_.:,/~!+@#%=^()?\[\]-]{1,15}(?<!\+)", re.ASCII)


def fit_name(name: str) -> bool:
    """Whether a device of this name can be named in a rule. Devices of other names are left out."""
    return _FIT_NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Hop:
    """Where a route leads. ``gateway`` may be of the other family (IPv4 through an IPv6 neighbour)."""

    index: int
    gateway: IPAddress | None
    onlink: bool


@dataclass(frozen=True)
class KernelRoute:
    """A route as the kernel has it."""

    family: Family
    table: int
    type: int
    protocol: int
    destination: IPNetwork
    source: IPNetwork | None
    metric: int
    prefsrc: IPAddress | None
    hops: tuple[Hop, ...]
    raw: bytes = b""  #: see :class:`connbal.model.facts.MainRoute`; of routes that are, or may be, copied


def link_of(message: Message) -> Link | None:
    """A link; None where its name is unfit."""
    name = attributes(message, _LINK).get("IFLA_IFNAME")
    if not isinstance(name, str) or not fit_name(name):
        return None
    flags = message["flags"]
    return Link(
        name=name,
        index=message["index"],
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        point_to_point=bool(flags & _IFF_POINTOPOINT) or (bool(flags & _IFF_NOARP) and not flags & _IFF_LOOPBACK),
    )


@dataclass(frozen=True)
class KernelAddress:
    """An address of a link. ``deprecated``: nothing new should use it."""

    index: int
    interface: IPInterface
    deprecated: bool


def address_of(message: Message) -> KernelAddress | None:
    """A usable address; None for one of another family, of link scope (IPv6), or (perhaps) a duplicate."""
    if message["family"] not in _BY_NUMBER:
        return None
    told = attributes(message, _ADDRESS)
    flags: int = message["flags"]
    flags = told.get("IFA_FLAGS", flags)  # the field has 8 bits, and there are more flags than that
    if flags & _IFA_F_DADFAILED or (flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC):
        return None
    text = told.get("IFA_LOCAL", told.get("IFA_ADDRESS"))  # IFA_ADDRESS is the other end on point-to-point links
    interface = ipaddress.ip_interface(f"{text}/{message['prefixlen']}")
    if interface.version == 6 and interface.is_link_local:
        return None
    return KernelAddress(message["index"], interface, bool(flags & _IFA_F_DEPRECATED))


def route_of(message: Message, payload: bytes = b"") -> KernelRoute | None:
    """A route; None for one of another family, or a clone in a cache. ``payload``: what the message was read from."""
    family = _BY_NUMBER.get(message["family"])
    if family is None or message["flags"] & _RTM_F_CLONED:
        return None
    told = attributes(message, _ROUTE)
    source = None
    if message["src_len"]:
        source = _network(told["RTA_SRC"], message["src_len"])
    number: int = message["table"]
    table = told.get("RTA_TABLE", number)
    may_be_copied = payload and message["dst_len"] and table in (RT_TABLE_MAIN, LOCAL_TABLE)
    return KernelRoute(
        family=family,
        table=table,
        type=message["type"],
        protocol=message["proto"],
        destination=_network(told.get("RTA_DST", _ANY[family]), message["dst_len"]),
        source=source,
        metric=told.get("RTA_PRIORITY", 0),
        prefsrc=_address(told.get("RTA_PREFSRC")),
        hops=tuple(_hops(message, told)),
        raw=canonical(payload) if may_be_copied else b"",
    )


def _hops(message: Message, told: Mapping[str, Any]) -> Iterator[Hop]:
    if "RTA_MULTIPATH" in told:
        for hop in told["RTA_MULTIPATH"]:
            yield Hop(hop["oif"], _gateway(attributes(hop, _ROUTE)), bool(hop["flags"] & RTNH_F_ONLINK))
    elif "RTA_OIF" in told:
        yield Hop(told["RTA_OIF"], _gateway(told), bool(message["flags"] & RTNH_F_ONLINK))


def _gateway(told: Mapping[str, Any]) -> IPAddress | None:
    via = told.get("RTA_VIA")
    return _address(via["addr"]) if via else _address(told.get("RTA_GATEWAY"))


def _address(text: str | None) -> IPAddress | None:
    return None if text is None else ipaddress.ip_address(text)


def _network(text: str, prefix: int) -> IPNetwork:
    return ipaddress.ip_network(f"{text}/{prefix}", strict=False)


def any_rule(message: Message) -> tuple[IpRule, int, bool] | None:
    """A rule, its protocol, and whether it looks at nothing but what the rule says; None for one of another kind."""
    family = _BY_NUMBER.get(message["family"])
    action = _ACTION_NAMES.get(message["action"])
    if family is None or action is None:
        return None
    told = attributes(message)
    suppress = told.get("FRA_SUPPRESS_PREFIXLEN", _NO_SUPPRESSION)
    mark = told.get("FRA_FWMARK", 0)
    table: int = message["table"]
    rule = IpRule(
        family=family.value,
        priority=told.get("FRA_PRIORITY", 0),
        action=action,
        table=told.get("FRA_TABLE", table),
        mark=mark,
        mask=told.get("FRA_FWMASK", 0xFFFFFFFF if mark else 0),
        iif=told.get("FRA_IIFNAME", ""),
        suppress_prefixlen=-1 if suppress == _NO_SUPPRESSION else suppress,
    )
    plain = not message["flags"] & _FIB_RULE_INVERT and not message["tos"] and _FOREIGN_SELECTORS.isdisjoint(told)
    return rule, told.get("FRA_PROTOCOL", 0), plain


def rule_of(message: Message) -> IpRule | None:
    """One of connbal's own rules; None for anybody else's."""
    found = any_rule(message)
    if found is None or found[1] != ROUTE_PROTOCOL or not found[2]:
        return None
    return found[0]


def own_route(route: KernelRoute, names: Mapping[int, str]) -> IpRoute | None:
    """The value connbal made a route from; None for anybody else's."""
    plain = route.type == RTN_UNICAST and len(route.hops) == 1 and route.table != LOCAL_TABLE
    if route.protocol != ROUTE_PROTOCOL or not plain:
        return None
    return any_route(route, names)


def any_route(route: KernelRoute, names: Mapping[int, str]) -> IpRoute | None:
    """A route with one next hop or none; None for one with several, or by a device without a fit name."""
    if len(route.hops) > 1 or any(hop.index not in names for hop in route.hops):
        return None
    hop = route.hops[0] if route.hops else None
    return IpRoute(
        family=route.family,
        table=route.table,
        destination=route.destination,
        device=names[hop.index] if hop else "",
        gateway=hop.gateway if hop else None,
        metric=route.metric,
        prefsrc=route.prefsrc,
        source=route.source,
        onlink=hop.onlink if hop else False,
    )


def main_route(route: KernelRoute, names: Mapping[int, str]) -> MainRoute:
    """A route as far as it has nothing to do with its table. A device without a fit name is called by its number."""
    return MainRoute(
        family=route.family,
        destination=route.destination,
        hops=tuple(RouteHop(names.get(hop.index, f"#{hop.index}"), hop.gateway, hop.onlink) for hop in route.hops),
        metric=route.metric,
        kind=ROUTE_KINDS.get(route.type, str(route.type)),
        prefsrc=route.prefsrc,
        source=route.source,
        raw=route.raw,
    )


class MainRoutes:
    """Makes routes as :func:`main_route` does, and hands out the same one as the last time where nothing has changed:
    there may be thousands, and one of them changes.
    """

    def __init__(self) -> None:
        self._before: dict[tuple[object, ...], MainRoute] = {}

    def __call__(self, routes: Iterable[KernelRoute], names: Mapping[int, str]) -> list[MainRoute]:
        """One for each; those that netlink tells of in the same bytes, by devices of the same names, are one."""
        now: dict[tuple[object, ...], MainRoute] = {}
        found = []
        for route in routes:
            key = (route.raw, *(names.get(hop.index) for hop in route.hops))
            made = self._before.get(key) if route.raw else None
            made = now[key] = made or main_route(route, names)
            found.append(made)
        self._before = now
        return found


# --- putting it together ------------------------------------------------------------------------------------------


def assemble(
    links: Iterable[Message], addresses: Iterable[Message], routes: Iterable[Message], rules: Iterable[Message]
) -> RoutingState:
    """One dump of each table as values."""
    return state(map(link_of, links), map(address_of, addresses), map(route_of, routes), map(rule_of, rules))


def state(
    links: Iterable[Link | None],
    addresses: Iterable[KernelAddress | None],
    routes: Iterable[KernelRoute | None],
    rules: Iterable[IpRule | None],
    made: MainRoutes | None = None,
) -> RoutingState:
    """The values of one dump of each table, put together. None: a message that means nothing here.

    ``made``: of who asks again and again.
    """
    by_name = {link.name: link for link in links if link is not None}
    names = {link.index: name for name, link in by_name.items()}
    everything = [route for route in routes if route is not None]
    own = [value for value in (own_route(route, names) for route in everything) if value is not None]
    foreign = [route for route in everything if route.protocol != ROUTE_PROTOCOL]
    held = [address for address in addresses if address is not None]
    connected, tables = _destinations(foreign)
    inner = [route for route in everything if route.destination.prefixlen]
    main = [route for route in inner if route.table == RT_TABLE_MAIN and route.protocol != ROUTE_PROTOCOL]
    copied = [route for route in inner if route.table == LOCAL_TABLE and route.protocol == ROUTE_PROTOCOL]
    told = (made or MainRoutes())([*main, *copied], names)
    return RoutingState(
        links=by_name,
        networks=_networks(by_name, held, _defaults(foreign)),
        connected=connected,
        tables=tables,
        ip_rules=frozenset(rule for rule in rules if rule is not None),
        routes=frozenset(own),
        main={family: tuple(one for one in told[: len(main)] if one.family is family) for family in FAMILIES},
        copies=frozenset(told[len(main) :]),
    )


def _destinations(
    routes: Iterable[KernelRoute],
) -> tuple[dict[Family, tuple[IPNetwork, ...]], dict[tuple[Family, int], tuple[IPNetwork, ...]]]:
    """What the local table reaches, and what each other but main does; default routes left out, each sorted."""
    found: dict[tuple[Family, int], set[IPNetwork]] = defaultdict(set)
    for route in routes:
        if route.destination.prefixlen and route.type in (RTN_UNICAST, RTN_LOCAL) and route.table != RT_TABLE_MAIN:
            found[route.family, route.table].add(route.destination)
    ordered = {key: tuple(sorted(networks, key=_order)) for key, networks in found.items()}
    connected = {family: ordered.pop((family, RT_TABLE_LOCAL), ()) for family in FAMILIES}
    return connected, ordered


def _order(network: IPNetwork) -> tuple[int, int]:
    return int(network.network_address), network.prefixlen


def _defaults(routes: Iterable[KernelRoute]) -> dict[tuple[int, Family], tuple[DefaultRoute, ...]]:
    """Default routes by device and family, best first: those of main, then those of other tables, by metric."""
    found: dict[tuple[int, Family], list[tuple[bool, int, DefaultRoute]]] = defaultdict(list)
    for route in routes:
        if route.destination.prefixlen or route.type != RTN_UNICAST:
            continue
        for hop in route.hops:
            value = DefaultRoute(hop.gateway, route.metric, route.source, hop.onlink)
            found[hop.index, route.family].append((route.table != RT_TABLE_MAIN, route.metric, value))
    return {key: _distinct(candidates) for key, candidates in found.items()}


def _distinct(candidates: list[tuple[bool, int, DefaultRoute]]) -> tuple[DefaultRoute, ...]:
    """Of routes that differ in table and metric only, the best one stays."""
    best: dict[tuple[IPAddress | None, IPNetwork | None], DefaultRoute] = {}
    for *_, route in sorted(candidates, key=lambda candidate: candidate[:2]):
        best.setdefault((route.gateway, route.source), route)
    return tuple(best.values())


def _networks(
    links: Mapping[str, Link],
    addresses: Iterable[KernelAddress],
    defaults: Mapping[tuple[int, Family], tuple[DefaultRoute, ...]],
) -> dict[tuple[str, Family], Network]:
    """Every link in either family, as if it were a network of that name."""
    held: dict[tuple[int, Family], list[IPInterface]] = defaultdict(list)
    for address in sorted(addresses, key=lambda address: address.deprecated):
        held[address.index, Family.of(address.interface)].append(address.interface)
    return {
        (link.name, family): _network_of(
            link, family, tuple(held.get((link.index, family), ())), defaults.get((link.index, family), ())
        )
        for link in links.values()
        for family in FAMILIES
    }


def _network_of(
    link: Link, family: Family, addresses: tuple[IPInterface, ...], defaults: tuple[DefaultRoute, ...]
) -> Network:
    why_not = trouble(link, family, bool(addresses))
    return Network(
        name=link.name,
        family=family,
        up=not why_not,
        device=link.name,
        addresses=addresses,
        defaults=defaults,
        reason=why_not or "up",
    )


def trouble(link: Link, family: Family, addressed: bool) -> str:
    """Why a link is no use in a family, in words; empty where it is of use."""
    if not link.up:
        return f"{link.name} is down"
    if not link.carrier:
        return f"no carrier on {link.name}"
    if not addressed:
        return f"no {'IPv4' if family is Family.IPV4 else 'IPv6'} address"
    return ""
