"""Copies of routes: what of netlink's message about one makes the route, and a message that makes it elsewhere. Pure.

A route may have more to it than a device and a gateway: several next hops with weights, metrics of TCP, a next hop that
is an object of its own, a tunnel it goes into. A copy has all of it, because the attributes are handed on unread.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from connbal.kernel.netlink import attribute
from connbal.plan.state import ROUTE_PROTOCOL

#: struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
_HEADER = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
#: struct rtnexthop: length, flags, hops, device.
_NEXTHOP = struct.Struct("=HBBi")
_U32 = struct.Struct("=I")
_NUMBER = 0x3FFF

_RTA_OIF, _RTA_MULTIPATH, _RTA_TABLE, _RTA_NH_ID = 4, 9, 15, 30
#: RTA_DST, SRC, OIF, GATEWAY, PRIORITY, PREFSRC, METRICS, MULTIPATH, FLOW, VIA, PREF, ENCAP_TYPE, ENCAP, NH_ID. What
#: else the kernel tells is about what became of the route: how old it is, what it was used for.
_PARTS = frozenset({1, 2, _RTA_OIF, 5, 6, 7, 8, _RTA_MULTIPATH, 11, 18, 20, 21, 22, _RTA_NH_ID})
#: What the kernel says of a next hop object beside its number, and does not take beside it.
_OF_NEXTHOP = frozenset({_RTA_OIF, 5, _RTA_MULTIPATH, 11, 18, 21, 22})
#: The only flag that is no news about the link (RTNH_F_ONLINK).
_ONLINK = 0x4
#: Stands in the field of 8 bits for any table above 255.
_RT_TABLE_COMPAT = 252


def canonical(payload: bytes) -> bytes:
    """The payload of a message about a route, as it would be of a copy, without the copy's table. Equal for a route and
    its copy. ValueError, struct.error: it is none.
    """
    family, dst_len, src_len, tos, _, _, scope, kind, flags = _HEADER.unpack_from(payload)
    found = {number: value for number, value in _attributes(payload, _HEADER.size) if number in _PARTS}
    if _RTA_NH_ID in found:
        found = {number: value for number, value in found.items() if number not in _OF_NEXTHOP}
    elif _RTA_MULTIPATH in found:
        found[_RTA_MULTIPATH] = _hops(found[_RTA_MULTIPATH])
    head = _HEADER.pack(
        family, dst_len, src_len, tos, _RT_TABLE_COMPAT, ROUTE_PROTOCOL, scope, kind, flags & _ONLINK
    )  # fmt: skip
    return head + b"".join(attribute(number, found[number]) for number in sorted(found))


def message(raw: bytes, table: int) -> bytes:
    """The payload of a message that makes, or deletes, a copy in ``table``. ``raw``: of :func:`canonical`."""
    return raw + attribute(_RTA_TABLE, _U32.pack(table))


def _attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + _ATTRIBUTE.size <= len(data):
        length, number = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield number & _NUMBER, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _hops(payload: bytes) -> bytes:
    """Next hops without what the kernel thinks of their links."""
    found = bytearray(payload)
    offset = 0
    while offset + _NEXTHOP.size <= len(found):
        length, flags, weight, device = _NEXTHOP.unpack_from(found, offset)
        if length < _NEXTHOP.size:
            break
        _NEXTHOP.pack_into(found, offset, length, flags & _ONLINK, weight, device)
        offset += (length + 3) & ~3
    return bytes(found)
