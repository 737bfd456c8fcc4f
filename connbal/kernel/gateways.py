"""Gateways that cannot be one. Pure.

A lease, a network's section or a route may name anything. The kernel refuses a route by such a gateway, or sends
packets nowhere; whoever named it has to be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from connbal.model.config import IPAddress, IPInterface
from connbal.model.facts import BadGateway, DefaultRoute


def sorted_out(
    defaults: Iterable[DefaultRoute], addresses: Sequence[IPInterface], by: str
) -> tuple[tuple[DefaultRoute, ...], tuple[BadGateway, ...]]:
    """The routes that can be, and the gateways of the others.

    ``addresses``: of the device that the routes leave by. ``by``: who names the gateways.
    """
    good, bad = [], []
    for route in defaults:
        why = "" if route.gateway is None else trouble(route.gateway, addresses)
        if route.gateway is not None and why:
            bad.append(BadGateway(route.gateway, why, by))
        else:
            good.append(route)
    return tuple(good), tuple(bad)


def trouble(gateway: IPAddress, addresses: Iterable[IPInterface]) -> str:
    """Why nothing can be sent to a gateway on a device with these addresses, in words; empty: it can."""
    if gateway.is_loopback:
        return "is the router itself (a loopback address)"
    if gateway.is_multicast:
        return "is a multicast address"
    if gateway.is_unspecified or (gateway.version == 4 and int(gateway) >> 24 == 0):
        return "is no address of a host"
    if gateway.version == 4 and int(gateway) == 0xFFFFFFFF:
        return "is a broadcast address"
    for address in addresses:
        if address.ip == gateway:
            return "is the router's own address there"
        network = address.network
        if network.version == 4 and network.prefixlen < 31 and gateway == network.broadcast_address:
            return f"is the broadcast address of {network}"
    return ""
