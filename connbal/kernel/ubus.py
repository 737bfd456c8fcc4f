"""What netifd, OpenWrt's network daemon, says of its interfaces: ``ubus call network.interface dump``.

Parsing is pure and trusts nothing: an entry that makes no sense is left out, and only text that is no JSON object at
all is an error.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from connbal.errors import KernelError
from connbal.frozen import dataclass
from connbal.kernel import exec as programs
from connbal.kernel import ubusd
from connbal.kernel.files import parse_json
from connbal.kernel.rtnl import fit_name
from connbal.model.config import FAMILIES, Family, IPAddress, IPInterface, IPNetwork
from connbal.model.facts import DefaultRoute

COMMAND = ("ubus", "call", "network.interface", "dump")
#: Seconds. ubus itself gives up after 30, and a hotplug script cannot wait that long; who has an older answer can wait
#: even less.
TIMEOUT, TIMEOUT_AGAIN = 5.0, 1.0

_NAME = re.compile(r"[A-Za-z0-9_.@:-]{1,64}", re.ASCII)
_UNICAST = 1
_MAX_METRIC = 0xFFFFFFFF


@dataclass(frozen=True)
class NetifdInterface:
    """One entry of the dump, both families together."""

    name: str
    up: bool
    device: str | None = None  #: ``l3_device``, else ``device``
    metric: int = 0
    addresses: tuple[IPInterface, ...] = ()  #: those to prefer first
    delegated: tuple[IPNetwork, ...] = ()  #: IPv6 prefixes it got to hand on (``ipv6-prefix``)
    defaults: Mapping[Family, tuple[DefaultRoute, ...]] = field(default_factory=dict)  #: ``onlink`` is not known here
    name_servers: tuple[str, ...] = ()  #: ``dns-server``, addresses of either family
    uptime: int | None = None  #: seconds it has been up; None: it is not


def dump(timeout: float = TIMEOUT) -> tuple[NetifdInterface, ...] | None:
    """The entries of the dump that make sense, in order; None where this system has no ubus.

    ubusd is asked over its socket; the program is started only where that does not work. ``timeout``: seconds.

    Raises KernelError: ubus or netifd does not answer, or not with a dump.
    """
    where, why = ubusd.path(), ""
    if where is not None:
        try:
            return interfaces(ubusd.call(where, *COMMAND[2:], timeout))
        except ubusd.Odd as odd:
            why = str(odd)
    answer = call(timeout)
    if answer is None and why:  # there is a ubus, so what /etc/config/network says is no answer
        raise KernelError(" ".join(COMMAND), None, why)
    return None if answer is None else parse_dump(answer)


def call(timeout: float = TIMEOUT) -> str | None:
    """The dump as text, by the program; None where this system has no ubus.

    Raises KernelError: ubus or netifd does not answer.
    """
    if programs.find(COMMAND[0]) is None:
        return None
    return programs.run(COMMAND, timeout=timeout).stdout


def parse_dump(text: str) -> tuple[NetifdInterface, ...]:
    """The entries of a dump that make sense, in order. Raises KernelError for text that is no dump."""
    return interfaces(parse_json(text, " ".join(COMMAND)))


def interfaces(answer: object) -> tuple[NetifdInterface, ...]:
    """The same of a dump that is no text any more."""
    if not isinstance(answer, dict) or not isinstance(answer.get("interface"), list):
        raise KernelError(" ".join(COMMAND), None, "the answer has no list of interfaces")
    return tuple(entry for entry in map(_interface, _objects(answer, "interface")) if entry is not None)


def _interface(entry: Mapping[str, Any]) -> NetifdInterface | None:
    name = entry.get("interface")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    metric = _number(entry, "metric", 0)
    return NetifdInterface(
        name=name,
        up=entry.get("up") is True,
        device=_device(entry),
        metric=metric,
        addresses=tuple(_addresses(entry)),
        delegated=tuple(_delegated(entry)),
        defaults=_defaults(entry, metric),
        name_servers=tuple(_name_servers(entry)),
        uptime=uptime if (uptime := _number(entry, "uptime", -1)) >= 0 else None,
    )


def _device(entry: Mapping[str, Any]) -> str | None:
    for key in ("l3_device", "device"):
        name = entry.get(key)
        if isinstance(name, str) and fit_name(name):
            return name
    return None


def _addresses(entry: Mapping[str, Any]) -> list[IPInterface]:
    """Addresses of either family; link-local IPv6 ones do not count, deprecated ones come last."""
    found: list[tuple[bool, IPInterface]] = []
    listed = [*_objects(entry, "ipv4-address"), *_objects(entry, "ipv6-address")]
    for assignment in _objects(entry, "ipv6-prefix-assignment"):
        local = assignment.get("local-address")
        if isinstance(local, dict):
            listed.append(local)
    for item in listed:
        address, length = _address(item.get("address")), _number(item, "mask", -1)
        if address is None or not 0 <= length <= address.max_prefixlen:
            continue
        if address.version == 4 or not address.is_link_local:
            found.append((_number(item, "preferred", 1) == 0, ipaddress.ip_interface(f"{address}/{length}")))
    return [interface for _, interface in sorted(found, key=lambda pair: pair[0])]


def _delegated(entry: Mapping[str, Any]) -> Iterator[IPNetwork]:
    for item in _objects(entry, "ipv6-prefix"):
        network = _network(item.get("address"), _number(item, "mask", -1))
        if network is not None and network.version == 6:
            yield network


def _name_servers(entry: Mapping[str, Any]) -> Iterator[str]:
    listed = entry.get("dns-server")
    for server in listed if isinstance(listed, list) else ():
        address = _address(server)
        if address is not None:
            yield str(address)


def _defaults(entry: Mapping[str, Any], metric: int) -> dict[Family, tuple[DefaultRoute, ...]]:
    """Default routes of each family, best first; ``metric`` is that of routes without one of their own."""
    found: dict[Family, list[DefaultRoute]] = {family: [] for family in FAMILIES}
    for route in _objects(entry, "route"):
        target, kind = _address(route.get("target")), _number(route, "type", _UNICAST)
        if target is None or int(target) or _number(route, "mask", -1) != 0 or kind != _UNICAST:
            continue
        nexthop = _address(route.get("nexthop", str(target)))
        if nexthop is not None and nexthop.version == target.version:
            gateway = nexthop if int(nexthop) else None  # netifd writes the unspecified address for none
            source = _source(route.get("source")) if target.version == 6 else None
            found[Family.of(target)].append(DefaultRoute(gateway, _number(route, "metric", metric), source))
    return {family: tuple(sorted(routes, key=lambda route: route.metric)) for family, routes in found.items()}


def _source(text: object) -> IPNetwork | None:
    """``2001:db8::/56``; ``::/0`` means any, as does what makes no sense."""
    if not isinstance(text, str):
        return None
    address, _, length = text.partition("/")
    network = _network(address, int(length) if length.isdecimal() and len(length) <= 3 else -1)
    return network if network is not None and network.version == 6 and network.prefixlen else None


# --- values out of anything ---------------------------------------------------------------------------------------


def _objects(entry: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    listed = entry.get(key)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _number(entry: Mapping[str, Any], key: str, otherwise: int) -> int:
    value = entry.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_METRIC:
        return value
    return otherwise


def _address(text: object) -> IPAddress | None:
    if not isinstance(text, str) or "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: object, length: int) -> IPNetwork | None:
    address = _address(text)
    if address is None or not 0 <= length <= address.max_prefixlen:
        return None
    return ipaddress.ip_network(f"{address}/{length}", strict=False)
