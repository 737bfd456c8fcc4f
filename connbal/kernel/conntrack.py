"""The connection table, through netlink: one message forgets all connections of a mark, in both families."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Any

from connbal.errors import KernelError
from connbal.kernel.netlink import (
    NLA_F_NESTED,
    Channel,
    Decode,
    Message,
    Refused,
    attribute,
    attributes,
    codec,
    decoder,
)
from connbal.model.config import Family, IPAddress

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2

_ADDRESSES = {
    Family.IPV4: ("CTA_IP_V4_SRC", "CTA_IP_V4_DST"),
    Family.IPV6: ("CTA_IP_V6_SRC", "CTA_IP_V6_DST"),
}
# Attributes of linux/netfilter/nfnetlink_conntrack.h.
_CTA_TUPLE_ORIG, _CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 1, 2
_CTA_IP = {Family.IPV4: (1, 2), Family.IPV6: (3, 4)}
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
#: By protocol: identifier, type, code; and the type of an echo request.
_CTA_PROTO_ICMP = {socket.IPPROTO_ICMP: (4, 5, 6, 8), socket.IPPROTO_ICMPV6: (7, 8, 9, 128)}

_WANTED = frozenset({"CTA_TUPLE_ORIG", "CTA_MARK"})

_CTA_MARK, _CTA_COUNTERS_ORIG, _CTA_COUNTERS_REPLY, _CTA_MARK_MASK = 8, 9, 10, 21
#: Of those within the counters.
_CTA_COUNTERS_BYTES = 2
_NFGENMSG_SIZE = 4
#: struct nfgenmsg for AF_UNSPEC.
_EVERY_FAMILY = bytes(_NFGENMSG_SIZE)
_ATTRIBUTE = struct.Struct("=HH")
#: The two highest bits of an attribute's number are flags.
_NUMBER = 0x3FFF


def counted(data: bytes, start: int, end: int) -> dict[str, int]:
    """What a tally needs of the message whose payload is ``data[start:end]``: ``mark``, and the bytes ``original`` and
    ``reply`` where the kernel counts them. pyroute2 takes many times as long, and there may be 100,000 messages.
    """
    found = {"mark": 0}
    offset = start + _NFGENMSG_SIZE
    while offset + 4 <= end:
        length, number = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        number &= _NUMBER
        if number == _CTA_MARK:
            found["mark"] = int.from_bytes(data[offset + 4 : offset + 8], "big")
        elif number == _CTA_COUNTERS_ORIG:
            found["original"] = _bytes_of(data, offset + 4, min(offset + length, end))
        elif number == _CTA_COUNTERS_REPLY:
            found["reply"] = _bytes_of(data, offset + 4, min(offset + length, end))
        offset += (length + 3) & ~3
    return found


def _bytes_of(data: bytes, offset: int, end: int) -> int:
    """The bytes among the counters of one direction."""
    while offset + 4 <= end:
        length, number = _ATTRIBUTE.unpack_from(data, offset)
        if number & _NUMBER == _CTA_COUNTERS_BYTES:
            return int.from_bytes(data[offset + 4 : min(offset + length, end)], "big")
        offset += max(4, (length + 3) & ~3)
    return 0


@dataclass(frozen=True)
class Connection:
    """A connection as its first packet was. Ports are 0 where the protocol has none."""

    family: Family
    protocol: int  #: IP protocol number
    source: IPAddress
    destination: IPAddress
    source_port: int
    destination_port: int
    mark: int


@dataclass(frozen=True)
class Tally:
    """How many connections, and how many bytes they have carried, in the direction of their first packets and the
    other. ``accounted``: the kernel counts bytes (sysctl net.netfilter.nf_conntrack_acct); else they are 0.
    """

    connections: int = 0
    original: int = 0
    reply: int = 0
    _: KW_ONLY
    accounted: bool = False

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.connections + other.connections,
            self.original + other.original,
            self.reply + other.reply,
            accounted=self.accounted or other.accounted,
        )


class SystemConntrack:
    """Implements :class:`connbal.kernel.api.Conntrack` for the network namespace in which it is first used."""

    def __init__(self) -> None:
        self._netlink = Channel(_NETLINK_NETFILTER)

    def close(self) -> None:
        """Let go of the socket. The object may be used again."""
        self._netlink.close()

    def flush(self, mark: int, mask: int) -> None:
        """Forget every connection, of either family, whose mark under ``mask`` is ``mark``.

        Raises KernelError where the kernel has no conntrack over netlink, and for a mask of 0, which would mean all.
        """
        command = f"conntrack -D --mark {mark:#x}/{mask:#x}"
        if not mask or mark & ~mask:
            raise KernelError(command, None, "the mask is empty, or the mark has bits outside it")
        payload = _EVERY_FAMILY + attribute(_CTA_MARK, mark.to_bytes(4, "big"))
        payload += attribute(_CTA_MARK_MASK, mask.to_bytes(4, "big"))
        with _explained(command):
            self._netlink.request(payload, _DELETE, 0, command)

    def find(self, wanted: Connection) -> Connection | None:
        """The connection to which a packet of these addresses, protocol and ports belongs, in either direction.

        For ICMP and ICMPv6 ``source_port`` is the identifier and ``destination_port`` the type (an echo request where
        it is 0). ``wanted.mark`` does not count. None: there is none.
        """
        command = f"conntrack -G -s {wanted.source} -d {wanted.destination} -p {wanted.protocol}"
        question = bytes((wanted.family.af, 0, 0, 0)) + attribute(_CTA_TUPLE_ORIG, _tuple(wanted), NLA_F_NESTED)
        try:
            with _explained(command):
                answers = self._netlink.get(question, _GET, command, _decode(command))
        except Refused as error:
            if error.code == errno.ENOENT:
                return None
            raise
        return next(filter(None, map(connection_of, answers)), None)

    def connections(self) -> Iterator[Connection]:
        """Every connection there is, of both families."""
        command = "conntrack -L"
        with _explained(command):
            messages = self._netlink.dump(_EVERY_FAMILY, _GET, command, _decode(command))
        return (connection for connection in map(connection_of, messages) if connection is not None)

    def tally(self) -> dict[int, Tally]:
        """Connections of both families by mark, all 32 bits of it. Raises KernelError as :meth:`flush` does."""
        command = "conntrack -L"
        with _explained(command):
            messages = self._netlink.dump(_EVERY_FAMILY, _GET, command, counted)
        sums: dict[int, list[int]] = {}
        for message in messages:
            found = sums.setdefault(message["mark"], [0, 0, 0, 0])
            found[0] += 1
            if "original" in message:
                found[1] += message["original"]
                found[2] += message.get("reply", 0)
                found[3] = 1
        return {
            mark: Tally(count, original, reply, accounted=bool(accounted))
            for mark, (count, original, reply, accounted) in sums.items()
        }


@contextmanager
def _explained(command: str) -> Iterator[None]:
    """Says what is missing where the kernel knows nothing of the request."""
    try:
        yield
    except Refused as error:
        if error.code not in (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        why = f"{error.output}; is kernel module nf_conntrack_netlink (OpenWrt: kmod-nf-conntrack-netlink) missing?"
        raise Refused(command, error.code, why) from error


def _tuple(wanted: Connection) -> bytes:
    source, destination = _CTA_IP[wanted.family]
    addresses = attribute(source, wanted.source.packed) + attribute(destination, wanted.destination.packed)
    protocol = attribute(_CTA_PROTO_NUM, bytes((wanted.protocol,)))
    if wanted.protocol in _CTA_PROTO_ICMP:
        number, kind, code, echo = _CTA_PROTO_ICMP[wanted.protocol]
        protocol += attribute(number, wanted.source_port.to_bytes(2, "big"))
        protocol += attribute(kind, bytes((wanted.destination_port or echo,))) + attribute(code, b"\0")
    else:
        protocol += attribute(_CTA_PROTO_SRC_PORT, wanted.source_port.to_bytes(2, "big"))
        protocol += attribute(_CTA_PROTO_DST_PORT, wanted.destination_port.to_bytes(2, "big"))
    return attribute(_CTA_TUPLE_IP, addresses, NLA_F_NESTED) + attribute(_CTA_TUPLE_PROTO, protocol, NLA_F_NESTED)


def _decode(command: str) -> Decode:
    return decoder(codec("nfnetlink.nfctsocket", "nfct_msg", command))


def connection_of(message: Message) -> Connection | None:
    """A connection out of a message of a dump; None where the message tells too little."""
    told = attributes(message, _WANTED)
    original = attributes(told.get("CTA_TUPLE_ORIG") or {"attrs": ()})
    addresses = attributes(original.get("CTA_TUPLE_IP") or {"attrs": ()})
    protocol = attributes(original.get("CTA_TUPLE_PROTO") or {"attrs": ()})
    for family, (source, destination) in _ADDRESSES.items():
        if source in addresses and destination in addresses:
            return Connection(
                family=family,
                protocol=protocol.get("CTA_PROTO_NUM", 0),
                source=ipaddress.ip_address(addresses[source]),
                destination=ipaddress.ip_address(addresses[destination]),
                source_port=_port(protocol, "CTA_PROTO_SRC_PORT"),
                destination_port=_port(protocol, "CTA_PROTO_DST_PORT"),
                mark=told.get("CTA_MARK", 0),
            )
    return None


def _port(protocol: Mapping[str, Any], name: str) -> int:
    value: int = protocol.get(name, 0)
    return value
