"""Packets that can be told apart: made by hand, sent, and met again with the mark and the device they were given.

Each packet carries a number: the identification of IPv4, the flow label of IPv6. Nothing on the way changes those.
"""

from __future__ import annotations

import functools
import ipaddress
import random
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
ECHO, ECHO6 = 8, 128
#: Protocols whose copies differ by source port, or by identifier.
_WITH_PORTS = frozenset((TCP, UDP, ICMP, ICMPV6))
MAX_NUMBER = 0xFFFF

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Probe:
    """A packet to send. ``enters``: the router's device it comes in by; ``local`` is what the router itself sends."""

    enters: str
    src: str  #: empty, only for ``local`` IPv4: the kernel chooses
    dst: str
    proto: int
    dport: int = 0
    sport: int = 0  #: 0: each copy has its own
    bound: str = ""  #: ``local``: SO_BINDTODEVICE
    type: int = 0  #: ICMP type; 0: an echo request

    @property
    def version(self) -> int:
        return 6 if ":" in self.dst else 4

    def __str__(self) -> str:
        ports = f" {self.sport or '*'} -> {self.dport}" if self.proto in (TCP, UDP) else ""
        where = f"{self.enters} out of {self.bound}" if self.bound else self.enters
        return f"{where}: {self.src or 'any'} > {self.dst} protocol {self.proto}{ports} {self.type or ''}".rstrip()


LOCAL = "local"


@functools.cache
def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def packet(probe: Probe, number: int) -> bytes:
    """The probe as an IP packet with this number; the number also makes it a connection of its own."""
    body = _body(probe, number)
    source = _source(probe, number)
    if probe.version == 6:
        return struct.pack("!IHBB", 6 << 28 | number, len(body), probe.proto, 255) + source + packed(probe.dst) + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, 0, 64, probe.proto, 0) + source + packed(probe.dst)
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body


def _source(probe: Probe, number: int) -> bytes:
    if not probe.src:
        return b"\0\0\0\0"
    raw = packed(probe.src)
    if probe.proto in _WITH_PORTS or probe.enters == LOCAL:
        return raw
    # Without ports, all packets of two addresses are one connection. Addresses from .100 up are in no configuration.
    return raw[:-1] + bytes((100 + number % 100,))


def _body(probe: Probe, number: int) -> bytes:
    sport = probe.sport or 1024 + number % 60000
    if probe.proto == UDP:
        return struct.pack("!HHHH", sport, probe.dport, 12, 0) + b"test"
    if probe.proto == TCP:
        return struct.pack("!HHIIBBHHH", sport, probe.dport, number, 0, 5 << 4, 2, 1024, 0, 0)
    if probe.proto in (ICMP, ICMPV6):
        kind = probe.type or (ECHO if probe.proto == ICMP else ECHO6)
        return struct.pack("!BBHHH", kind, 0, 0, number, 1) + bytes(16)
    return bytes(32)


def _checksum(head: bytes) -> int:
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


@dataclass(frozen=True)
class Seen:
    """What can be read off a packet that was met."""

    number: int
    proto: int
    src: bytes
    dst: bytes

    def is_(self, probe: Probe) -> bool:
        """Whether it is that probe, and not an answer or the machine's own talk with a number that happens to fit."""
        if self.proto != probe.proto or self.dst != packed(probe.dst):
            return False
        return not probe.src or self.src[:-1] == packed(probe.src)[:-1]


def seen(data: bytes) -> Seen | None:
    """An IP packet without its Ethernet header; None where it is none."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        return Seen(struct.unpack_from("!H", data, 4)[0], data[9], data[12:16], data[16:20])
    if len(data) >= 40 and data[0] >> 4 == 6:
        return Seen(struct.unpack_from("!I", data)[0] & 0xFFFFF, data[6], data[8:24], data[24:40])
    return None


# --- which packets -------------------------------------------------------------------------------------------------


def boundaries(network: str) -> list[str]:
    """Addresses in and just outside a network: where an off-by-one would show."""
    net = ipaddress.ip_network(network, strict=False)
    if not net.prefixlen:
        return []
    first, last = int(net.network_address), int(net.broadcast_address)
    kind = type(net.network_address)
    wanted = {first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1}
    return [str(kind(one)) for one in sorted(wanted) if 0 < one < (1 << net.max_prefixlen) - 1 or one == last]


def unicast_source(address: str) -> bool:
    """Whether a packet may come from here: others the kernel throws away before any rule of ours sees them."""
    one = ipaddress.ip_address(address)
    return not (one.is_multicast or one.is_loopback or one.is_unspecified or one.is_reserved or one.is_link_local)


def random_address(rng: random.Random, version: int) -> str:
    if version == 4:
        return f"{rng.randrange(1, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    return str(ipaddress.IPv6Address(rng.choice((0x2001, 0x2606, 0xFD00, 0xFD01)) << 112 | rng.getrandbits(64)))


# --- sockets -------------------------------------------------------------------------------------------------------

_RCVBUFFORCE, _IGNORE_OUTGOING, _SOL_PACKET, _ETH_ALL = 33, 23, 263, 3
_IPV6_HDRINCL = 36
SENTINEL = b"\x88\xb5"  #: the ethertype that IEEE keeps free for experiments
_BUFFER = 64 << 20


class Wire:
    """The far end of one of the router's devices: sends frames into the router, and meets what comes out of it."""

    def __init__(self, device: str, router_mac: str) -> None:
        self.device = device
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self._socket.bind((device, _ETH_ALL))
        self._socket.settimeout(10)
        self._to = bytes.fromhex(router_mac.replace(":", "")) + b"\x02\0\0\0\0\x99"

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.send(self._to + (b"\x86\xdd" if data[0] >> 4 == 6 else b"\x08\0") + data)

    def until_sentinel(self, mark: bytes) -> Iterator[Seen]:
        """Everything that came out of the router before the sentinel ``mark``. TimeoutError after 10 s."""
        while True:
            frame = self._socket.recv(2048)
            if frame[12:14] == SENTINEL:
                if frame[14:].startswith(mark):
                    return
                continue
            found = seen(frame[14:])
            if found is not None:
                yield found


class Router:
    """The router's own sockets, opened by whoever is inside its namespace."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._raw = {4: self._open(4), 6: self._open(6)}
        self._bound = {(version, device): self._open(version, device) for version in (4, 6) for device in devices}
        self._wires = {}
        for device in devices:
            self._wires[device] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._wires[device].bind((device, 0))

    @staticmethod
    def _open(version: int, device: str = "") -> socket.socket:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        one = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        if version == 4:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        else:
            one.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
        if device:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        return one

    def close(self) -> None:
        for one in (*self._raw.values(), *self._bound.values(), *self._wires.values()):
            one.close()

    def send(self, probe: Probe, data: bytes) -> None:
        """Send as the router's own. Whether the kernel says no is seen by what comes out."""
        one = self._bound[probe.version, probe.bound] if probe.bound else self._raw[probe.version]
        try:
            one.sendto(data, (probe.dst, 0))
        except OSError:
            return

    def sentinels(self, mark: bytes) -> None:
        """One frame out of each device, behind everything that is still to leave."""
        for one in self._wires.values():
            one.send(b"\xff" * 6 + b"\x02\0\0\0\0\x98" + SENTINEL + mark.ljust(46, b"\0"))


class Log:
    """Packets that rules with the target NFLOG report, with their marks; opened inside the router's namespace."""

    GROUP = 7
    PREROUTING, OUTPUT = 0, 3
    _ULOG, _CONFIG = 4 << 8, 4 << 8 | 1

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        self._socket.bind((0, 0))
        self._socket.settimeout(10)
        self._configure(1, struct.pack("!Bxxx", 1))  # bind
        self._configure(2, struct.pack("!IBx", 64, 2) + b"\0\0")  # 64 bytes of each packet
        self._configure(5, struct.pack("!I", 1))  # report each at once

    def close(self) -> None:
        self._socket.close()

    def _configure(self, kind: int, value: bytes) -> None:
        length = {1: 5, 2: 10, 5: 8}[kind]
        body = struct.pack("!BBH", 0, 0, self.GROUP) + struct.pack("=HH", length, kind) + value
        self._socket.send(struct.pack("=IHHII", 16 + len(body), self._CONFIG, 5, 1, 0) + body)
        (code,) = struct.unpack_from("=i", self._socket.recv(4096), 16)
        if code:
            self._socket.close()
            raise OSError(-code, "nfnetlink_log")

    def until(self, number: int) -> Iterator[tuple[int, int, Seen]]:
        """Hook, mark and packet of each report, until that of packet ``number``. TimeoutError after 10 s."""
        while True:
            hook, mark, data = _report(self._socket.recv(8192))
            found = seen(data)
            if found is None:
                continue
            yield hook, mark, found
            if found.number == number and found.proto == UDP:
                return


def _report(message: bytes) -> tuple[int, int, bytes]:
    hook = mark = 0
    data = b""
    at = 20
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if length < 4:
            break
        value = message[at + 4 : at + length]
        if kind == 1:
            hook = value[2]
        elif kind == 2:
            mark = struct.unpack("!I", value)[0]
        elif kind == 9:
            data = value
        at += length + 3 & ~3
    return hook, mark, data
