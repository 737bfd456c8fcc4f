"""Addresses at which there is no host of the Internet to be asked, whatever the network is like."""

from __future__ import annotations

import ipaddress

from connbal.model.config import IPAddress

_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")  # RFC 1122, 3.2.1.3: the kernel takes 0.0.0.0 for itself
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def no_host(address: IPAddress) -> str:
    """Why nobody but this machine, or more than one machine, answers at an address; empty: a host may be there."""
    if address.is_loopback:
        return "a loopback address, which is this router itself"
    if address.is_unspecified or (isinstance(address, ipaddress.IPv4Address) and address in _THIS_NETWORK):
        return "an unspecified address, which is this router itself"
    if address.is_multicast:
        return "a multicast address, which is no single host"
    if address == _BROADCAST:
        return "the broadcast address, which is no single host"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return "an IPv4 address written as an IPv6 one, which no packet carries"
    return ""
