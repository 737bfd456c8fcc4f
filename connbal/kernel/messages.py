"""The messages of rtnetlink and nfnetlink, written and read: the few fields and attributes that matter.

pyroute2 can do it too. But to import any part of it is to import all of it, which takes some ten times as long as to
import the rest of what ``connbal apply`` needs, and as much memory as all the rest of the daemon. And it takes 60 to
200 µs to read a message, most of it for attributes nobody looks at, while every event leads to a dump of all tables and
small routers are some 30 times slower than a PC: this takes a tenth of that. Tests compare what is written here with
what pyroute2 writes, byte for byte.

A message is shaped as in pyroute2: fields by name, and ``attrs``, a list of (name, value); addresses as text.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from connbal.kernel.netlink import Message, attribute

_ATTRIBUTE = struct.Struct("=HH")
#: The two highest bits of an attribute's number are flags.
_NUMBER = 0x3FFF
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, weight less 1, device
_FAMILY = struct.Struct("=H")


class Kind(NamedTuple):
    """How the payload of an attribute is read and written. ``encode``: None where nobody writes it."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes] | None = None


class Layout:
    """How a message of one type is laid out: the struct it begins with, the names of its fields, then attributes by
    number; others are passed over.
    """

    def __init__(self, header: str, fields: tuple[str, ...], attributes: Mapping[int, tuple[str, Kind]]) -> None:
        self._header, self._fields, self._attributes = struct.Struct(header), fields, attributes

    def decode(self, data: bytes, start: int, end: int) -> Message:
        """The message whose payload is ``data[start:end]``. struct.error where it is too short."""
        message: dict[str, Any] = dict(zip(self._fields, self._header.unpack_from(data, start), strict=True))
        message["attrs"] = list(self.read(data, start + self._header.size, end))
        return message

    def encode(self, attributes: Iterable[tuple[str, Any]] = (), **fields: int) -> bytes:
        """The payload of a message; a field that is not given is 0, attributes come in their order.

        KeyError and TypeError for what the layout does not know how to write.
        """
        payload = self._header.pack(*(fields.pop(name, 0) for name in self._fields))
        if fields:
            raise TypeError(f"no field {', '.join(fields)}")
        numbers = {name: (number, kind) for number, (name, kind) in self._attributes.items()}
        for name, value in attributes:
            number, kind = numbers[name]
            if kind.encode is None:
                raise TypeError(f"{name} is only read")
            payload += attribute(number, kind.encode(value))
        return payload

    def read(self, data: bytes, offset: int, end: int) -> Iterator[tuple[str, Any]]:
        """The attributes within ``data[offset:end]``."""
        while offset + _ATTRIBUTE.size <= end:
            length, number = _ATTRIBUTE.unpack_from(data, offset)
            if length < _ATTRIBUTE.size:
                return
            wanted = self._attributes.get(number & _NUMBER)
            if wanted is not None:
                yield wanted[0], wanted[1].decode(data[offset + _ATTRIBUTE.size : offset + length])
            offset += (length + 3) & ~3


# --- kinds of attributes ------------------------------------------------------------------------------------------


def _native(layout: str) -> Kind:
    number = struct.Struct(layout)
    return Kind(lambda payload: number.unpack_from(payload)[0], number.pack)


def _big(size: int) -> Kind:
    """In network order; read in whatever length it comes."""
    return Kind(lambda payload: int.from_bytes(payload, "big"), lambda value: value.to_bytes(size, "big"))


def _text(payload: bytes) -> str:
    return payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _address(payload: bytes) -> str:
    """As text; of a length that is no address's, which other families have, as hexadecimal digits."""
    if len(payload) == 4:
        return socket.inet_ntop(socket.AF_INET, payload)
    return socket.inet_ntop(socket.AF_INET6, payload) if len(payload) == 16 else payload.hex()


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _via(payload: bytes) -> dict[str, Any]:
    return {"family": _FAMILY.unpack_from(payload)[0], "addr": _address(payload[_FAMILY.size :])}


def _nexthops(payload: bytes) -> list[Message]:
    hops: list[Message] = []
    offset = 0
    while offset + _NEXTHOP.size <= len(payload):
        length, flags, _, device = _NEXTHOP.unpack_from(payload, offset)
        if length < _NEXTHOP.size:
            break
        attributes = list(ROUTE.read(payload, offset + _NEXTHOP.size, min(offset + length, len(payload))))
        hops.append({"oif": device, "flags": flags, "attrs": attributes})
        offset += (length + 3) & ~3
    return hops


U8, U32 = _native("=B"), _native("=I")
BE8, BE32 = _big(1), _big(4)
TEXT = Kind(_text, lambda text: text.encode("utf-8", "surrogateescape") + b"\0")
ADDRESS_TEXT = Kind(_address, _packed)
_VIA = Kind(_via, lambda via: _FAMILY.pack(via["family"]) + _packed(via["addr"]))
ANY = Kind(bytes)


def nested(attributes: Mapping[int, tuple[str, Kind]]) -> Kind:
    """Attributes within an attribute, of which a message without fields comes."""
    layout = Layout("=", (), attributes)
    return Kind(lambda payload: layout.decode(payload, 0, len(payload)))


# --- rtnetlink ----------------------------------------------------------------------------------------------------

#: struct ifinfomsg
LINK = Layout(
    "=BxHiII",
    ("family", "type", "index", "flags", "change"),
    {3: ("IFLA_IFNAME", TEXT), 29: ("IFLA_EXT_MASK", U32)},
)

#: struct ifaddrmsg
ADDRESS = Layout(
    "=BBBBI",
    ("family", "prefixlen", "flags", "scope", "index"),
    {1: ("IFA_ADDRESS", ADDRESS_TEXT), 2: ("IFA_LOCAL", ADDRESS_TEXT), 8: ("IFA_FLAGS", U32)},
)

#: struct rtmsg
ROUTE = Layout(
    "=BBBBBBBBI",
    ("family", "dst_len", "src_len", "tos", "table", "proto", "scope", "type", "flags"),
    {
        1: ("RTA_DST", ADDRESS_TEXT),
        2: ("RTA_SRC", ADDRESS_TEXT),
        4: ("RTA_OIF", U32),
        5: ("RTA_GATEWAY", ADDRESS_TEXT),
        6: ("RTA_PRIORITY", U32),
        7: ("RTA_PREFSRC", ADDRESS_TEXT),
        9: ("RTA_MULTIPATH", Kind(_nexthops)),
        15: ("RTA_TABLE", U32),
        18: ("RTA_VIA", _VIA),
    },
)

#: struct fib_rule_hdr
RULE = Layout(
    "=BBBBBBBBI",
    ("family", "dst_len", "src_len", "tos", "table", "res1", "res2", "action", "flags"),
    {
        1: ("FRA_DST", ADDRESS_TEXT),
        2: ("FRA_SRC", ADDRESS_TEXT),
        3: ("FRA_IIFNAME", TEXT),
        6: ("FRA_PRIORITY", U32),
        10: ("FRA_FWMARK", U32),
        14: ("FRA_SUPPRESS_PREFIXLEN", U32),
        15: ("FRA_TABLE", U32),
        16: ("FRA_FWMASK", U32),
        17: ("FRA_OIFNAME", TEXT),
        20: ("FRA_UID_RANGE", ANY),
        21: ("FRA_PROTOCOL", U8),
        22: ("FRA_IP_PROTO", U8),
        23: ("FRA_SPORT_RANGE", ANY),
        24: ("FRA_DPORT_RANGE", ANY),
    },
)
