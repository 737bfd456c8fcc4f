"""Interfaces in the plan: which are present, which usable, and the rules and routes that make each reachable."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from connbal.errors import Finding, Severity
from connbal.frozen import dataclass
from connbal.kept import Ask, afresh
from connbal.model.config import PACKAGE, Config, Family, Interface, IPNetwork, Verdict
from connbal.model.facts import DefaultRoute, Facts, Health, MainRoute, Network
from connbal.model.marks import (
    IIF_PRIORITY,
    LOCAL_PRIORITY,
    LOCAL_TABLE,
    MARK_PRIORITY,
    SUPPRESS_PRIORITY,
    UNREACHABLE_PRIORITY,
    MarkSpace,
)
from connbal.plan.values import InterfaceView, IpRoute, IpRule

MAIN_TABLE = 254
#: What the kernel makes of IPv6 metric 0 (IP6_RT_PRIO_USER), said outright so that reading back gives the same.
IPV6_METRIC = 1024
IPV6_CONNECTED_METRIC = 256
#: How many routes of its own a source has at most, besides its default routes and networks. What is beyond goes by its
#: default route: nobody's advertisements make the kernel's tables, or a run, as large as they like.
MOST_ROUTES = 1000
#: The destination of a default route.
ANY: Mapping[Family, IPNetwork] = {
    Family.IPV4: ipaddress.IPv4Network("0.0.0.0/0"), Family.IPV6: ipaddress.IPv6Network("::/0"),
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """An enabled interface with an id, as it is right now."""

    interface: Interface
    id: int
    network: Network | None
    present: bool  #: it has rules, a table and a chain
    usable: bool  #: policies may use it
    reason: str

    @property
    def device(self) -> str:
        return (self.network.device if self.network else None) or ""

    @property
    def routed(self) -> bool:
        """Present, with a default route in its table: packets with its mark leave, so it can be probed."""
        return self.present and self.network is not None and bool(self.network.defaults)


def sources(
    config: Config,
    facts: Facts,
    space: MarkSpace,
    ids: Mapping[str, int],
    left_out: Mapping[str, str],
    ask: Ask = afresh,
) -> dict[str, Source]:
    """Every enabled interface whose id the mask can hold, by name, in order of id."""
    found = {}
    capacity = space.capacity
    for interface in config.interfaces:
        name = interface.name
        number = ids.get(name, interface.id)
        if interface.enabled and number <= capacity:
            network = facts.network(name, interface.family)
            health, refused = facts.health.get(name), left_out.get(name)
            found[name] = ask(name, _source, interface, number, network, health, refused)
    return dict(sorted(found.items(), key=lambda item: item[1].id))


def _source(
    interface: Interface, number: int, network: Network | None, health: Health | None, refused: str | None
) -> Source:
    if refused is not None:
        return Source(interface, number, None, False, False, refused)
    if network is None:
        return Source(interface, number, None, False, False, f"no network or device {interface.name}")
    if not network.up or not network.device:
        return Source(interface, number, network, False, False, network.reason or "down")
    if not network.defaults:
        named = "; ".join(map(str, network.bad_gateways))
        why = f"no usable gateway: {named}" if named else "no default route or gateway known"
        return Source(interface, number, network, True, False, why)
    if health is not None:
        return Source(interface, number, network, True, health.online, health.reason)
    return Source(interface, number, network, True, True, network.reason or "up")


def findings(found: Iterable[Source]) -> Iterator[Finding]:
    """Gateways that somebody names and nobody can send anything to."""
    for source in found:
        name, network = source.interface.name, source.network
        if network is None:
            continue
        for bad in network.bad_gateways:
            yield Finding(
                Severity.WARNING if network.defaults else Severity.ERROR, "bad-gateway", f"{PACKAGE}.{name}",
                f"interface {name}: the gateway {bad.gateway}, which {bad.by} names, {bad.why}, so it is not used",
                f"correct the gateway of network {name} in /etc/config/network, or what its DHCP server, its modem or "
                "its route sections say",
            )  # fmt: skip


def views(
    config: Config, found: Mapping[str, Source], space: MarkSpace, ask: Ask = afresh
) -> Iterator[InterfaceView]:
    """How each interface of the configuration stands, those that are left out included."""
    capacity = space.capacity
    for interface in config.interfaces:
        yield ask(interface.name, _view, interface, found.get(interface.name), capacity)


def _view(interface: Interface, source: Source | None, capacity: int) -> InterfaceView:
    device = source.device if source else ""
    if source is not None:
        present, usable, reason = source.present, source.usable, source.reason
    elif not interface.enabled:
        present, usable, reason = False, False, "disabled"
    else:
        present, usable, reason = False, False, f"the mask has room for {capacity} interfaces only"
    return InterfaceView(
        interface.name, interface.id, interface.family, interface.enabled, device or None, present, usable, reason,
        source is not None and source.routed,
    )  # fmt: skip


def ip_rules(
    family: Family, found: Iterable[Source], space: MarkSpace, tables: Iterable[int] = (), copied: bool = True
) -> tuple[IpRule, ...]:
    """The policy-routing rules of one family, in order.

    ``found``: the sources of this family. ``tables``: those of ``rt_table_lookup``; what comes in by a source for one
    of their networks gets there, before the source's own table can send it back.

    ``copied``: local routes are in a table of their own, which all packets are looked up in; the main table itself is
    for what has the mark "default", so that a network whose device was away for a moment, and whose routes went with
    it, is reached at once. Else all packets are looked up in the main table.

    An interface that is enabled but away keeps its "unreachable" rule: what is left of its connections is refused
    at once, rather than sent out by another source under a wrong address.
    """
    return tuple(sorted(_ip_rules(family, found, space, tables, copied)))


def _ip_rules(
    family: Family, found: Iterable[Source], space: MarkSpace, tables: Iterable[int], copied: bool
) -> Iterator[IpRule]:
    name = family.value
    to_main = IpRule(name, SUPPRESS_PRIORITY, "lookup", table=MAIN_TABLE, suppress_prefixlen=0)
    if copied:
        yield IpRule(name, LOCAL_PRIORITY, "lookup", table=LOCAL_TABLE)
        to_main = replace(to_main, mark=space.verdict_mark(Verdict.DEFAULT), mask=space.mask)
    yield to_main
    for verdict in (Verdict.BLACKHOLE, Verdict.UNREACHABLE):
        mark = space.verdict_mark(verdict)
        yield IpRule(name, space.verdict_priority(verdict), verdict.value, mark=mark, mask=space.mask)
    for source in found:
        mark = space.mark(source.id)
        if source.present:
            for table in tables:
                yield IpRule(name, SUPPRESS_PRIORITY, "lookup", table=table, iif=source.device, suppress_prefixlen=0)
            yield IpRule(name, IIF_PRIORITY + source.id, "lookup", table=source.id, iif=source.device)
            yield IpRule(name, MARK_PRIORITY + source.id, "lookup", table=source.id, mark=mark, mask=space.mask)
        yield IpRule(name, UNREACHABLE_PRIORITY + source.id, "unreachable", mark=mark, mask=space.mask)


def routes(source: Source, source_routing: bool, learned: Sequence[MainRoute] = ()) -> tuple[IpRoute, ...]:
    """The routes of an interface's table, if it is present: its default routes, its own networks, and ``learned`` ones,
    which the main table has by its device, and which are for nobody else.
    """
    if not source.present or source.network is None:
        return ()
    network = source.network
    own = (*_defaults(source, network, source_routing), *_connected(source, network))
    taken = {(route.destination, route.metric, route.source) for route in own}
    found = []
    for route in learned:
        made = _learned(source, network, route)
        if made is not None and (made.destination, made.metric, made.source) not in taken:
            taken.add((made.destination, made.metric, made.source))
            found.append(made)
    return *own, *found[:MOST_ROUTES]


def _learned(source: Source, network: Network, route: MainRoute) -> IpRoute | None:
    """A route of the main table in the source's; None for one of another family, or with more to it than a hop."""
    hops = [hop for hop in route.hops if hop.device == source.device]
    if route.family is not network.family or route.kind != "unicast" or len(hops) != 1 or len(route.hops) != 1:
        return None
    gateway = hops[0].gateway
    near = gateway is None or gateway.version != network.family.version or gateway.is_link_local or any(
        gateway in address.network for address in network.addresses
    )  # fmt: skip
    return IpRoute(
        route.family, source.id, route.destination, source.device, gateway, route.metric, route.prefsrc, route.source,
        onlink=hops[0].onlink or not near,
    )  # fmt: skip


def _defaults(source: Source, network: Network, source_routing: bool) -> Iterator[IpRoute]:
    seen = set()
    for default in network.defaults:
        prefix = default.source if source_routing else None
        metric = _metric(default, network.family)
        if (metric, prefix) in seen:
            continue
        seen.add((metric, prefix))
        yield IpRoute(
            network.family, source.id, ANY[network.family], source.device, default.gateway, metric,
            source=prefix, onlink=default.onlink,
        )  # fmt: skip


def _metric(default: DefaultRoute, family: Family) -> int:
    return default.metric or (IPV6_METRIC if family is Family.IPV6 else 0)


def _connected(source: Source, network: Network) -> Iterator[IpRoute]:
    seen = set()
    for address in network.addresses:
        if address.network.prefixlen < address.max_prefixlen and address.network not in seen:
            seen.add(address.network)
            v4 = network.family is Family.IPV4
            yield IpRoute(
                network.family, source.id, address.network, source.device,
                metric=0 if v4 else IPV6_CONNECTED_METRIC, prefsrc=address.ip if v4 else None,
            )  # fmt: skip
