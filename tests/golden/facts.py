"""Facts from a golden case's ``facts.json``, by as little code as will do: what netifd says is taken as it is.

Keys, all optional but the first: ``netifd``: a dump as ``ubus call network.interface dump`` gives it (only what is used
here need be in it); ``offline``: interface -> why the tracker holds it for offline; ``custom``: networks of the tables
in ``rt_table_lookup``; ``sets``: name -> [type, family]; ``bpf``, ``ip6``: what the kernel can do.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from connbal.model.config import FAMILIES, Family, IPInterface, IPNetwork
from connbal.model.facts import DefaultRoute, Facts, Health, Link, Network, SetFacts

ADDRESSES = {Family.IPV4: "ipv4-address", Family.IPV6: "ipv6-address"}


def facts_from(case: Mapping[str, Any]) -> Facts:
    interfaces: list[Mapping[str, Any]] = case["netifd"]["interface"]
    networks = [_network(one, family) for one in interfaces for family in FAMILIES]
    devices = dict.fromkeys(one["l3_device"] for one in interfaces if one["up"])
    return Facts(
        networks={(network.name, network.family): network for network in networks if network is not None},
        links={name: Link(name, index, True, True) for index, name in enumerate(devices, 2)},
        connected=_by_family(_connected(networks)),
        custom=_by_family(map(ipaddress.ip_network, case.get("custom", ()))),
        health={name: Health(False, why) for name, why in case.get("offline", {}).items()},
        sets={name: SetFacts(name, kind, Family(family)) for name, (kind, family) in case.get("sets", {}).items()},
        ip6=case.get("ip6", True),
        bpf=case.get("bpf", True),
    )


def _network(interface: Mapping[str, Any], family: Family) -> Network | None:
    """One family of an interface; None where it says nothing about that family."""
    name = interface["interface"]
    if not interface["up"]:
        return Network(name, family, False, reason="netifd says it is down")
    given = [*interface.get(ADDRESSES[family], ()), *_assigned(interface, family)]
    addresses = tuple(ipaddress.ip_interface(f"{one['address']}/{one['mask']}") for one in given)
    defaults = tuple(_defaults(interface, family))
    if not addresses and not defaults:
        return None
    return Network(name, family, True, interface["l3_device"], addresses, defaults, "up")


def _assigned(interface: Mapping[str, Any], family: Family) -> Iterator[Mapping[str, Any]]:
    for one in interface.get("ipv6-prefix-assignment", ()):
        if family is Family.IPV6 and "local-address" in one:
            yield {"address": one["local-address"]["address"], "mask": one["mask"]}


def _defaults(interface: Mapping[str, Any], family: Family) -> Iterator[DefaultRoute]:
    for route in interface.get("route", ()):
        target = ipaddress.ip_address(route["target"])
        if route["mask"] == 0 and Family.of(target) is family:
            gateway = ipaddress.ip_address(route["nexthop"])
            yield DefaultRoute(gateway if int(gateway) else None, route.get("metric", 0), _source(route, family))


def _source(route: Mapping[str, Any], family: Family) -> IPNetwork | None:
    text = route.get("source", "::/0")
    network = ipaddress.ip_network(text, strict=False)
    return network if family is Family.IPV6 and network.version == 6 and network.prefixlen else None


def _connected(networks: Iterable[Network | None]) -> Iterator[IPNetwork]:
    yield from (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fe80::/64"))
    for network in networks:
        for address in network.addresses if network is not None else ():
            yield _net(address)


def _net(address: IPInterface) -> IPNetwork:
    return address.network


def _by_family(found: Iterable[IPNetwork]) -> dict[Family, tuple[IPNetwork, ...]]:
    nets = tuple(found)
    return {family: tuple(net for net in nets if net.version == family.version) for family in FAMILIES}
