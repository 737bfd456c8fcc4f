"""The machine's networks as facts: what netifd or ``/etc/config/network`` says, together with what the kernel has.

Everything here is pure: dumps and sections in, values out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from connbal.frozen import dataclass
from connbal.kernel.api import RoutingState
from connbal.kernel.gateways import sorted_out
from connbal.kernel.rtnl import fit_name, trouble
from connbal.kernel.ubus import NetifdInterface
from connbal.model.config import FAMILIES, Config, Family, IPInterface, IPNetwork
from connbal.model.facts import BadGateway, DefaultRoute, Facts, Link, Network, SetFacts
from connbal.plan.state import SetState

#: A section of ``/etc/config/network``: options by name, lists as sequences.
Options = Mapping[str, str | Sequence[str]]
Networks = dict[tuple[str, Family], Network]

#: A modem's interface may do its work in sub-interfaces of these names, which netifd makes on the fly.
_SUFFIX = {Family.IPV4: "_4", Family.IPV6: "_6"}
#: Sections that may lead to each other (``@wan``) before one that names a device: more than anybody has.
_ALIASES = 16
#: Protocols whose link is made when the session is, and is called ``PROTO-NAME``.
_PPP = frozenset({"3g", "l2tp", "ppp", "pppoa", "pppoe", "pptp"})
#: Who names a gateway where nobody else does.
_KERNEL = "a route of the kernel's"
_WORD = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


@dataclass(frozen=True)
class _Told:
    """What somebody who manages networks says of one in one family. ``trouble``: why it is down; empty: it is up."""

    by: str  #: who that is
    device: str | None
    trouble: str = ""
    addresses: tuple[IPInterface, ...] = ()
    delegated: bool = False  #: it has a prefix to hand on, which is as good as an address
    defaults: tuple[DefaultRoute, ...] = ()
    name_servers: tuple[str, ...] = ()
    uptime: int | None = None


def gather(
    config: Config,
    state: RoutingState,
    *,
    dump: Sequence[NetifdInterface] | None = None,
    sections: Mapping[str, Options] | None = None,
    sets: Mapping[str, SetState] | None = None,
    ip6: bool = True,
    bpf: bool = True,
    written: Mapping[str, Options] | None = None,
) -> Facts:
    """All facts but health: every network there is, those that only ``src_iface`` names included.

    Parameters
    ----------
    config: names the interfaces and further tables of interest.
    state: one look at the kernel's routing.
    dump: netifd's interfaces; None where there is no netifd: then ``sections`` of ``/etc/config/network`` count, and
        where those do not know a name, the link of that name.
    sets: every ipset there is.
    ip6, bpf: what the kernel can do.
    written: the sections ``route`` and ``route6`` of ``/etc/config/network``.
    """
    networks = networks_from_uci(sections or {}, state) if dump is None else networks_from_netifd(dump, state)
    for name in _names(config):
        for family in FAMILIES:
            networks.setdefault((name, family), Network(name, family, up=False, reason="no such network"))
    return Facts(
        networks=networks,
        links=state.links,
        connected=state.connected,
        main=state.main,
        held=_held(state),
        written=frozenset(_written(written or {}, networks)),
        custom=_custom(state, config.globals.rt_table_lookup),
        sets={name: SetFacts(name, held.type, held.family) for name, held in (sets or {}).items()},
        ip6=ip6,
        bpf=bpf,
    )


def networks_from_netifd(dump: Iterable[NetifdInterface], state: RoutingState) -> Networks:
    """Networks out of netifd's dump. Where ``NAME_4`` or ``NAME_6`` exists, it is NAME in that family."""
    known = {interface.name: interface for interface in dump}
    return {
        (name, family): _network(name, family, _told_by_netifd(known[source], family), state)
        for name, family, source in _sources(known)
    }


def networks_from_uci(sections: Mapping[str, Options], state: RoutingState) -> Networks:
    """Networks out of ``/etc/config/network``'s ``interface`` sections; links they do not name stand for themselves."""
    networks = {key: _by_itself(network) for key, network in state.networks.items()}
    for name, family, source in _sources(sections):
        networks[name, family] = _network(name, family, _told_by_uci(source, family, sections, state), state)
    return networks


def aged(found: Facts, dump: Iterable[NetifdInterface]) -> Facts:
    """Facts that were gathered from a dump that said the same, but of how long networks have been up."""
    uptimes = {interface.name: interface.uptime for interface in dump}
    networks = {
        (name, family): replace(network, uptime=uptimes[source])
        for name, family, source in _sources(uptimes)
        if (network := found.networks[name, family]).uptime != uptimes[source]
    }
    return replace(found, networks={**found.networks, **networks}) if networks else found


def has_further_routes(state: RoutingState) -> bool:
    """Whether the main table has a route that is neither a default route nor the network of a device's address."""
    held = {device: {address.network for address in addresses} for device, addresses in _held(state).items()}
    return any(
        not (route.destination in held.get(hop.device, ()) or route.destination.is_link_local)
        for routes in state.main.values() for route in routes for hop in route.hops
    )  # fmt: skip


def _held(state: RoutingState) -> dict[str, tuple[IPInterface, ...]]:
    """The addresses of each device that has one."""
    found: dict[str, tuple[IPInterface, ...]] = {}
    for (device, _), network in state.networks.items():
        if network.addresses:
            found[device] = (*found.get(device, ()), *network.addresses)
    return found


def _written(sections: Mapping[str, Options], networks: Networks) -> Iterator[tuple[str, IPNetwork]]:
    """Where the routes lead that the user wrote, each with its device; what makes no sense is left out."""
    for options in sections.values():
        target, mask = _first(options, "target"), _first(options, "netmask")
        try:
            whole = target if "/" in target or not mask else f"{target}/{mask}"
            destination = ipaddress.ip_network(whole, strict=False)
        except ValueError:
            continue
        network = networks.get((_first(options, "interface"), Family.of(destination)))
        if network is not None and network.device and _first(options, "disabled") != "1":
            yield network.device, destination


def _names(config: Config) -> Iterator[str]:
    for interface in config.interfaces:
        yield interface.name
    for rule in config.rules:
        yield from rule.src_iface


def _custom(state: RoutingState, tables: Iterable[int]) -> dict[Family, tuple[IPNetwork, ...]]:
    merged: dict[Family, tuple[IPNetwork, ...]] = {}
    for family in FAMILIES:
        found = {network for table in tables for network in state.tables.get((family, table), ())}
        merged[family] = tuple(sorted(found, key=lambda network: (int(network.network_address), network.prefixlen)))
    return merged


def _sources(known: Iterable[str]) -> Iterator[tuple[str, Family, str]]:
    """For each name and family, the entry that is the true one; also for a name that only has sub-interfaces."""
    names = set(known)
    bases = {name.removesuffix(suffix) for name in names for suffix in _SUFFIX.values()} - {""}
    for name in sorted(names | bases):
        for family in FAMILIES:
            own = name + _SUFFIX[family]
            if own in names or name in names:
                yield name, family, own if own in names else name


# --- who says what ------------------------------------------------------------------------------------------------


def _told_by_netifd(interface: NetifdInterface, family: Family) -> _Told:
    return _Told(
        by="netifd",
        device=interface.device,
        trouble="" if interface.up else "netifd says it is down",
        addresses=tuple(address for address in interface.addresses if Family.of(address) is family),
        delegated=family is Family.IPV6 and bool(interface.delegated),
        defaults=interface.defaults.get(family, ()),
        name_servers=interface.name_servers,
        uptime=interface.uptime,
    )


def _told_by_uci(name: str, family: Family, sections: Mapping[str, Options], state: RoutingState) -> _Told:
    options = sections[name]
    device = _device(name, sections, state.links)
    if device is not None and not fit_name(device):
        device = None
    seen = state.networks.get((device or "", family))
    return _Told(
        by="/etc/config/network",
        device=device,
        trouble="disabled in /etc/config/network" if _first(options, "disabled") == "1" else "",
        addresses=seen.addresses if seen is not None else (),
        defaults=_configured_gateway(options, family),
        name_servers=_words(options, "dns"),
    )


def _configured_gateway(options: Options, family: Family) -> tuple[DefaultRoute, ...]:
    """A gateway the section names; nothing where it names none, or no address of that family."""
    text = _first(options, "gateway" if family is Family.IPV4 else "ip6gw")
    try:
        gateway = ipaddress.ip_address(text)
    except ValueError:
        return ()
    usable = Family.of(gateway) is family and "%" not in text  # a zone, which no route has
    return (DefaultRoute(gateway, _metric(_first(options, "metric"))),) if usable else ()


def _metric(text: str) -> int:
    """A metric that the kernel takes; 0 for anything else."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    return number if number < 1 << 32 else 0


def _device(name: str, sections: Mapping[str, Options], links: Mapping[str, Link]) -> str | None:
    """The layer-3 device of a section: its session's, its bridge, the one it names, or the link of its own name."""
    for _ in range(_ALIASES):
        options = sections.get(name)
        if options is None:
            return None
        protocol = _first(options, "proto")
        session = f"{protocol}-{name}"
        if protocol in _PPP or session in links:
            return session
        if _first(options, "type") == "bridge":
            return f"br-{name}"
        words = (_first(options, "device") or _first(options, "ifname")).split()
        if not words:
            return name if name in links else None
        if not words[0].startswith("@"):
            return words[0]
        name = words[0][1:]  # that of another section
    return None


def _words(options: Options, key: str) -> tuple[str, ...]:
    """The entries of a list, or the words of an option, which mean the same here."""
    value = options.get(key, "")
    return tuple(" ".join([value] if isinstance(value, str) else value).split())


def _first(options: Options, key: str) -> str:
    value = options.get(key, "")
    if isinstance(value, str):
        return value
    return value[0] if value else ""


# --- together with the kernel -------------------------------------------------------------------------------------


def _network(name: str, family: Family, told: _Told, state: RoutingState) -> Network:
    link = state.links.get(told.device) if told.device is not None else None
    why_not = told.trouble or _link_trouble(told.device, link)
    if not why_not and link is not None:
        why_not = trouble(link, family, bool(told.addresses) or told.delegated)
    defaults, bad = _best_defaults(told, family, link, state)
    return Network(
        name=name,
        family=family,
        up=not why_not,
        device=told.device,
        addresses=told.addresses,
        defaults=defaults,
        reason=why_not or ("up" if defaults else _no_gateway(family, bad)),
        name_servers=told.name_servers,
        uptime=told.uptime,
        bad_gateways=bad,
    )


def _by_itself(network: Network) -> Network:
    """A link that stands for itself, with the kernel's own routes."""
    good, bad = sorted_out(network.defaults, network.addresses, _KERNEL)
    if not bad:
        return network
    reason = network.reason if good or not network.up else _no_gateway(network.family, bad)
    return replace(network, defaults=good, bad_gateways=bad, reason=reason)


def _no_gateway(family: Family, bad: Iterable[BadGateway]) -> str:
    named = "; ".join(map(str, bad))
    return f"up, without a usable gateway: {named}" if named else f"up, without an {_WORD[family]} gateway"


def _link_trouble(device: str | None, link: Link | None) -> str:
    if device is None:
        return "no device"
    return "" if link is not None else f"{device} does not exist"


def _best_defaults(
    told: _Told, family: Family, link: Link | None, state: RoutingState
) -> tuple[tuple[DefaultRoute, ...], tuple[BadGateway, ...]]:
    """What the manager says; else what the kernel has on the device; else, where nobody else is there, straight on.

    And the gateways that cannot be one, whoever names them.
    """
    seen = state.networks.get((link.name, family)) if link is not None else None
    addresses = (*told.addresses, *(seen.addresses if seen is not None else ()))
    good, bad = sorted_out(told.defaults, addresses, told.by)
    if link is None or good:
        if link is not None:
            good = tuple(replace(route, onlink=_needs_onlink(route, addresses)) for route in good)
        return good, bad
    if seen is not None and seen.defaults:
        good, more = sorted_out(seen.defaults, addresses, _KERNEL)
        return good, (*bad, *more)
    straight_on = link.point_to_point and not bad
    return ((DefaultRoute(gateway=None),) if straight_on else ()), bad


def _needs_onlink(route: DefaultRoute, addresses: Iterable[IPInterface]) -> bool:
    """Whether the kernel has to be told that the gateway is on this link, because no address there says so."""
    gateway = route.gateway
    if gateway is None or (gateway.version == 6 and gateway.is_link_local):
        return False
    return not any(gateway.version == address.version and gateway in address.network for address in addresses)
