"""Which routes of the main table are followed whatever source was chosen, and which are for one source alone. Pure.

Whoever runs the network at the other end of a source says by DHCP or router advertisement which routes it wants there,
and whoever manages the router's networks puts them into the main table. Were all of them followed before the choice of
a source, a lease could take every connection there is. So a route by a source's device is local, which is to say for
everybody, only if it takes away nothing that could have been meant to go elsewhere. ``docs/security.md`` says it to
users. What number the route's protocol has does not count: any DHCP client's script may use any.
"""

from __future__ import annotations

import contextlib
import enum
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from connbal.frozen import dataclass
from connbal.kept import Ask, afresh
from connbal.model.config import Config, Family, IPNetwork, SourceRoutes
from connbal.model.facts import Facts, MainRoute

#: Space that is nobody's on the Internet: private, shared with providers (RFC 6598), link-local, for protocols and
#: measurements. Not what documentation uses, which stands for the Internet in examples and in tests.
PRIVATE: Mapping[Family, tuple[IPNetwork, ...]] = {
    Family.IPV4: tuple(map(ipaddress.IPv4Network, (
        "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16",
        "198.18.0.0/15",
    ))),
    Family.IPV6: tuple(map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "fc00::/7", "fe80::/10"))),
}  # fmt: skip
#: The shortest prefix of a network that a source may be in by its own address: in private space, and in public space.
SANE: Mapping[Family, tuple[int, int]] = {Family.IPV4: (8, 20), Family.IPV6: (48, 64)}
#: What is shorter is no network but a part of the Internet.
WIDE: Mapping[Family, int] = {Family.IPV4: 8, Family.IPV6: 7}
#: What the part of the Internet that is anybody's lies in.
INTERNET: Mapping[Family, IPNetwork] = {
    Family.IPV4: ipaddress.IPv4Network("0.0.0.0/0"), Family.IPV6: ipaddress.IPv6Network("2000::/3"),
}  # fmt: skip
#: How many of many are named.
EXAMPLES = 4
#: Of IPv6, where each device has the same network, and a packet says which it means.
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")
#: Addresses that are in every network, or in none.
_EVERYWHERE = (_LINK_LOCAL, ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::/127"))


class Why(enum.Enum):
    """Why a route is for one source alone."""

    TOO_LARGE = "its address is said to be in a network that is too large for one"
    OVERLAPS = "it overlaps what is behind another device"
    PUBLIC = "it is about public addresses"
    NOTHING = "no route of a source is to be followed by others (source_routes)"


@dataclass(frozen=True)
class Kept:
    """A route for the source alone that has the device."""

    route: MainRoute
    device: str
    why: Why


@dataclass(frozen=True)
class Judged:
    """The routes of one family's main table."""

    local: tuple[MainRoute, ...] = ()
    kept: tuple[Kept, ...] = ()
    #: Devices that are no source's whose routes together take most of the Internet, each with a few of them.
    covering: tuple[tuple[str, tuple[IPNetwork, ...]], ...] = ()


def source_devices(config: Config, facts: Facts) -> dict[str, str]:
    """The devices of sources, each with the name of one that has it.

    A section that is disabled counts: nothing is sent there by a rule, and the less it should take by a route. So does
    the other family of a device, of which there may be no section: who advertises routes there is the same.
    """
    found: dict[str, str] = {}
    for interface in sorted(config.interfaces, key=lambda one: not one.enabled):
        for family in Family:
            network = facts.network(interface.name, family)
            if network is not None and network.device:
                found.setdefault(network.device, interface.name)
    return found


def judgement(config: Config, facts: Facts, families: Iterable[Family], ask: Ask = afresh) -> dict[Family, Judged]:
    """The routes of each family's main table. ``ask``: for each family by itself."""
    sources, mode = source_devices(config, facts), config.globals.source_routes
    own = {device: _own_networks(device, facts) for device in sources}
    asked = {device: frozenset(_asked(device, facts)) for device in sources}
    return {
        family: ask(family, judge, family, facts.main.get(family, ()), sources, own, facts.written, mode, asked)
        for family in families
    }


def _asked(device: str, facts: Facts) -> Iterator[IPNetwork]:
    """Whom a source needs: its gateways and name servers, which no other source is to stand in for."""
    for network in facts.networks.values():
        if network.device == device:
            yield from (ipaddress.ip_network(one.gateway) for one in network.defaults if one.gateway is not None)
            for text in network.name_servers:
                with contextlib.suppress(ValueError):
                    yield ipaddress.ip_network(ipaddress.ip_address(text.partition("%")[0]))


def _own_networks(device: str, facts: Facts) -> frozenset[IPNetwork]:
    """The networks of a device's addresses, of either family: what the kernel has, and what its manager says."""
    told = (one.addresses for one in facts.networks.values() if one.device == device)
    return frozenset(address.network for held in (facts.held.get(device, ()), *told) for address in held)


def judge(
    family: Family,
    routes: Sequence[MainRoute],
    sources: Mapping[str, str],
    own: Mapping[str, frozenset[IPNetwork]],
    written: frozenset[tuple[str, IPNetwork]],
    mode: SourceRoutes,
    asked: Mapping[str, frozenset[IPNetwork]] | None = None,
) -> Judged:
    """Judge each route of the main table.

    Parameters
    ----------
    routes: of ``family``, without default routes.
    sources: devices of sources.
    own: the networks of the addresses that each of these devices has.
    written: destinations to which the user has a route, each with the device.
    mode: ``globals.source_routes``.
    asked: the gateways and name servers that each of these devices needs.
    """
    if mode is SourceRoutes.ALL:
        return Judged(tuple(routes), (), tuple(_covering(family, routes)))
    found = [(route, _source_of(route, sources)) for route in routes]
    open_ = {at for at, (route, device) in enumerate(found)
             if device and (device, route.destination) not in written and not _is_link_local(route)}  # fmt: skip
    if not open_:
        return Judged(tuple(routes), (), tuple(_covering(family, routes)))
    certain = [pair for at, pair in enumerate(found) if at not in open_]
    told = [found[at] for at in sorted(open_)]
    apart = _Apart(family, certain, told, own, asked or {})
    whys = {at: _why_not(family, *found[at], own, apart, mode) for at in open_}
    local = tuple(route for at, (route, _) in enumerate(found) if whys.get(at) is None)
    kept = tuple(Kept(*found[at], why) for at in sorted(open_) if (why := whys[at]) is not None)
    return Judged(local, kept, tuple(_covering(family, local)))


def _source_of(route: MainRoute, sources: Mapping[str, str]) -> str:
    """The first of its devices that is a source's; empty: none is."""
    return next((hop.device for hop in route.hops if hop.device in sources), "")


def _is_link_local(route: MainRoute) -> bool:
    """The network that IPv6 has on every device."""
    return route.destination.version == 6 and _within(route.destination, (_LINK_LOCAL,)) and not _gateways(route)


def _gateways(route: MainRoute) -> bool:
    return any(hop.gateway is not None for hop in route.hops)


def _on_link(route: MainRoute, device: str, own: Mapping[str, frozenset[IPNetwork]]) -> bool:
    """Whether it is the network of an address that its device has."""
    return len(route.hops) == 1 and not _gateways(route) and route.destination in own.get(device, ())


def sane(family: Family, network: IPNetwork) -> bool:
    """Whether a network may be as large as that."""
    return network.prefixlen >= SANE[family][0 if _within(network, PRIVATE[family]) else 1]


def _why_not(
    family: Family,
    route: MainRoute,
    device: str,
    own: Mapping[str, frozenset[IPNetwork]],
    apart: _Apart,
    mode: SourceRoutes,
) -> Why | None:
    """Why a route that a source was told of is not for all; None: it is."""
    destination, private = route.destination, _within(route.destination, PRIVATE[family])
    if mode is SourceRoutes.NONE and not private:
        return Why.NOTHING
    if _on_link(route, device, own):
        if not sane(family, destination):
            return Why.TOO_LARGE
        return Why.OVERLAPS if apart.disputes_own(destination, device) else None
    if not private:
        return Why.PUBLIC
    if mode is SourceRoutes.NONE:
        return Why.NOTHING
    return Why.OVERLAPS if apart.disputes(destination, device) else None


class _Apart:
    """The networks behind each device, which routes of others must not overlap.

    certain: routes of no source, and those that the user wrote; with the device that is a source's, or none.
    told: all others, with the source's device. own, asked: see :func:`judge`.
    """

    def __init__(
        self,
        family: Family,
        certain: Iterable[tuple[MainRoute, str]],
        told: Iterable[tuple[MainRoute, str]],
        own: Mapping[str, frozenset[IPNetwork]],
        asked: Mapping[str, frozenset[IPNetwork]],
    ) -> None:
        known: dict[str, list[IPNetwork]] = defaultdict(list)
        near: dict[str, list[IPNetwork]] = defaultdict(list)
        claimed: dict[str, list[IPNetwork]] = defaultdict(list)
        for route, device in certain:
            if route.destination.prefixlen >= WIDE[family] and route.kind == "unicast" and not _is_link_local(route):
                known[device].append(route.destination)
        for route, device in told:
            if _on_link(route, device, own):
                if sane(family, route.destination):
                    near[device].append(route.destination)
            elif _within(route.destination, PRIVATE[family]):
                claimed[device].append(route.destination)
        for device, hosts in asked.items():
            near[device] += (one for one in hosts if Family.of(one) is family and not _within(one, _EVERYWHERE))
        self._known, self._near, self._claimed = (
            {device: _Networks(networks) for device, networks in group.items()} for group in (known, near, claimed)
        )

    def disputes_own(self, network: IPNetwork, device: str) -> bool:
        """Whether the network of an address of a source's is elsewhere.

        One that is larger than a network of no source's takes nothing from that, for what says more is found first. Of
        two sources either may have lied, about being in a small one as about being in a large one.
        """
        inside = any(known.hold(network) for other, known in self._known.items() if other != device)
        return inside or _meet(network, device, self._near)

    def disputes(self, network: IPNetwork, device: str) -> bool:
        """Whether a network that a source was told of has an address in common with one behind another device, or that
        another source was told of.
        """
        return any(_meet(network, device, group) for group in (self._known, self._near, self._claimed))


def _meet(network: IPNetwork, device: str, group: Mapping[str, _Networks]) -> bool:
    return any(networks.meet(network) for other, networks in group.items() if other != device)


class _Networks:
    """Networks of one family, to be asked about others; those within others are left out."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        kept: list[tuple[int, int]] = []
        for first, last in sorted((_span(network) for network in networks), key=lambda span: (span[0], -span[1])):
            if not kept or last > kept[-1][1]:
                kept.append((first, last))
        self._firsts, self._lasts = [first for first, _ in kept], [last for _, last in kept]

    def spans(self) -> Iterator[tuple[int, int]]:
        """From where to where, in order."""
        return zip(self._firsts, self._lasts, strict=True)

    def hold(self, network: IPNetwork) -> bool:
        first, last = _span(network)
        at = self._last_from(first)
        return at >= 0 and last <= self._lasts[at]

    def meet(self, network: IPNetwork) -> bool:
        first, last = _span(network)
        at = self._last_from(last)
        return at >= 0 and self._lasts[at] >= first

    def _last_from(self, address: int) -> int:
        """The last that begins at ``address`` or below; -1: none does. (Importing bisect would take longer.)"""
        low, high = 0, len(self._firsts)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._firsts[middle] <= address else (low, middle)
        return low - 1


def _span(network: IPNetwork) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _within(network: IPNetwork, networks: Iterable[IPNetwork]) -> bool:
    first, last = _span(network)
    alike = (_span(one) for one in networks if one.version == network.version)
    return any(lowest <= first and last <= highest for lowest, highest in alike)


# --- what takes most of the Internet ------------------------------------------------------------------------------


def _covering(family: Family, local: Iterable[MainRoute]) -> Iterator[tuple[str, tuple[IPNetwork, ...]]]:
    """Devices whose routes together take half of the Internet or more, each with the largest of them."""
    lowest, highest = _span(INTERNET[family])
    by_device: dict[str, list[IPNetwork]] = defaultdict(list)
    for route in local:
        if route.kind == "unicast":
            for hop in route.hops:
                by_device[hop.device].append(route.destination)
    for device, networks in by_device.items():
        spans = _Networks(networks).spans()
        taken = sum(max(0, min(last, highest) - max(first, lowest) + 1) for first, last in spans)
        if 2 * taken >= highest - lowest + 1:
            largest = sorted(set(networks), key=lambda network: (network.prefixlen, _span(network)))
            parts = [network for network in largest if network.prefixlen < WIDE[family]]
            yield device, tuple((parts or largest)[:EXAMPLES])
