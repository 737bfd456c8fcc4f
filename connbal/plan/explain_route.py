"""Which way a marked packet leaves: the plan's routing rules and routes, asked in the kernel's order. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from connbal.frozen import dataclass
from connbal.model.config import IPAddress, IPNetwork
from connbal.model.facts import MainRoute
from connbal.model.marks import LOCAL_TABLE
from connbal.plan.sources import MAIN_TABLE
from connbal.plan.values import IpRoute, IpRule, Plan


@dataclass(frozen=True)
class Way:
    """Where a packet is sent. ``refused``: nowhere, and why, in the kernel's words."""

    device: str = ""
    gateway: IPAddress | None = None
    source: IPAddress | None = None  #: the address the router gives to what it sends itself
    local: bool = False  #: it is for the router itself
    refused: str = ""


@dataclass(frozen=True)
class Hop:
    """The rule that decided, and what it led to. ``rule`` None: the kernel's own ``lookup main``."""

    rule: IpRule | None
    way: Way | None  #: None: the main table's, which is not known
    route: IpRoute | None = None  #: of the plan


def leave(
    plan: Plan,
    family: str,
    destination: IPAddress,
    mark: int,
    *,
    device: str | None,
    source: IPAddress | None = None,
    connected: Iterable[IPNetwork] = (),
    custom: Iterable[IPNetwork] = (),
    main: Way | None = None,
    bound: str | None = None,
) -> Hop:
    """Go through the rules by priority until one decides.

    Parameters
    ----------
    device: what the packet came in by; None: the router sends it.
    source: its source address, for routes that are for some sources only (IPv6).
    connected, custom: destinations the main table, and the tables of rt_table_lookup, reach without a default route.
    main: what the main table says, where it is known.
    bound: the device that the program which sends it is bound to: no route by another counts. Where IPv4 finds none,
        the kernel takes the destination for a neighbour on that device.
    """
    if main is not None and main.local:
        return Hop(None, main)
    for rule in plan.ip_rules:
        if rule.family != family or mark & rule.mask != rule.mark or rule.iif not in ("", device):
            continue
        if rule.action != "lookup":
            return Hop(rule, Way(bound) if bound and family == "ipv4" else Way(refused=rule.action))
        if rule.table == LOCAL_TABLE:
            copy = _copy(plan.local, family, destination, source, bound, main)
            if copy is not None and copy.kind != "throw":
                return Hop(rule, _way(copy, main))
            continue
        if rule.suppress_prefixlen >= 0:
            if _within(destination, connected if rule.table == MAIN_TABLE else custom):
                return Hop(rule, main if rule.table == MAIN_TABLE else None)
            continue
        route = _route(plan.routes, family, rule.table, destination, source, bound)
        if route is not None:
            return Hop(rule, Way(route.device, route.gateway, route.prefsrc), route)
    return Hop(None, main)


def _within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks)


def _route(
    routes: Iterable[IpRoute],
    family: str,
    table: int,
    destination: IPAddress,
    source: IPAddress | None,
    bound: str | None,
) -> IpRoute | None:
    """The longest prefix, then the lowest metric."""
    found = [
        route
        for route in routes
        if route.family.value == family and route.table == table and destination in route.destination
        and (route.source is None or source is None or source in route.source) and bound in (None, route.device)
    ]  # fmt: skip
    return min(
        found,
        key=lambda one: (-one.destination.prefixlen, -(one.source.prefixlen if one.source else 0), one.metric),
        default=None,
    )


def _copy(
    copies: Iterable[MainRoute],
    family: str,
    destination: IPAddress,
    source: IPAddress | None,
    bound: str | None,
    main: Way | None,
) -> MainRoute | None:
    """The local route that the kernel takes. Of several that are alike, as each device has one to fe80::/64, that of
    the device which the main table says.
    """
    found = [
        route
        for route in copies
        if route.family.value == family and destination in route.destination
        and (route.source is None or source is None or source in route.source)
        and (bound is None or not route.hops or any(hop.device == bound for hop in route.hops))
    ]  # fmt: skip
    return min(
        found,
        key=lambda one: (-one.destination.prefixlen, -(one.source.prefixlen if one.source else 0), one.metric,
                         not _leads_as(one, main)),
        default=None,
    )  # fmt: skip


def _leads_as(route: MainRoute, main: Way | None) -> bool:
    return main is not None and any(hop.device == main.device for hop in route.hops)


def _way(route: MainRoute, main: Way | None) -> Way | None:
    """Where a local route leads. ``main``: what the kernel says of the main table, which knows more where it agrees."""
    if route.kind != "unicast":
        return Way(refused=route.kind)
    if not route.hops or _leads_as(route, main):
        return main
    return Way(route.hops[0].device, route.hops[0].gateway, route.prefsrc)
