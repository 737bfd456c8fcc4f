"""arping and nping-arp in IPv6: neighbour solicitation (RFC 4861). Asks on the link; nothing is routed."""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Sequence

from connbal.model.config import Family
from connbal.track.probes import sieve
from connbal.track.probes.arp import Neighbours
from connbal.track.probes.icmp import receive_filter
from connbal.track.probes.way import ethernet_address

_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_LINK_LAYER = 1
_SOLICITED = 0x40
_RECVHOPLIMIT, _HOPLIMIT = 51, 52  # of <linux/in6.h>
_FILTER = 1  # ICMPV6_FILTER of <linux/icmpv6.h>
#: RFC 4861, 7.1.2: whoever gets one with less knows that a router has passed it on, and drops it.
_HOPS = 255


def solicitation(hardware: bytes, target: bytes) -> bytes:
    """The ICMPv6 message; the kernel fills the checksum in. ``hardware``: our MAC; ``target``: 16 bytes."""
    return struct.pack("!BBHI16sBB6s", _SOLICITATION, 0, 0, 0, target, _SOURCE_LINK_LAYER, 1, hardware)


def parse(data: bytes) -> bytes | None:
    """The address, 16 bytes, that an advertisement is about; None: no advertisement."""
    return data[8:24] if len(data) >= 24 and data[0] == _ADVERTISEMENT and data[1] == 0 else None


def is_believed(data: bytes, ancillary: Sequence[tuple[int, int, bytes]]) -> bool:
    """Whether an advertisement, which :func:`parse` has read, came from the link itself, and as an answer."""
    hops = [data for level, kind, data in ancillary if (level, kind) == (socket.IPPROTO_IPV6, _HOPLIMIT)]
    return hops == [struct.pack("=i", _HOPS)] and bool(data[4] & _SOLICITED)


def group(target: bytes) -> str:
    """The solicited-node multicast address of ``target`` (RFC 4291, 2.7.1)."""
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("ff0200000000000000000001ff") + target[13:])


class Neighbour(Neighbours):
    """Over one raw ICMPv6 socket that lets advertisements of those who were asked through, and nothing else.

    The kernel verifies checksums, and the socket is bound to the device: what is left of RFC 4861's demands is here.
    """

    def filter_for(self, addresses: Collection[bytes]) -> Sequence[sieve.Line | str]:
        return sieve.advertisements(addresses)

    def open(self) -> None:
        ethernet_address(self.way.device)
        sock = self.share(self.way.socket(socket.SOCK_RAW, socket.IPPROTO_ICMPV6))
        sock.setsockopt(socket.IPPROTO_ICMPV6, _FILTER, receive_filter(Family.IPV6, (_ADVERTISEMENT,)))
        sieve.attach(sock, self.filter_for(()))
        sock.setsockopt(socket.IPPROTO_IPV6, _RECVHOPLIMIT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self.way.index)
        self.watch()

    def ask(self, address: bytes) -> None:
        packet = solicitation(ethernet_address(self.way.device), address)
        self.sock.sendto(packet, (group(address), 0, 0, self.way.index))

    def read(self, sock: socket.socket) -> None:
        data, ancillary, _, _ = sock.recvmsg(256, 64)
        address = parse(data)
        if address is not None and is_believed(data, ancillary):
            self.answer(address)
