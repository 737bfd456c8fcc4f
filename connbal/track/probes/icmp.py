"""ping and nping-icmp: ICMP echo, both families, by icmplib's sockets and packets.

One raw socket per interface serves all its hosts; sequence numbers tell the answers apart. icmplib waits for one answer
at a time, by the wall clock, and takes any ICMP message whose bytes fit for an answer; hence the reading is done here.

The kernel lets through what has the socket's identifier: what others are answered, or whatever a flood is made of, does
not come here. An answer repeats identifier, sequence number and random content, which nobody can guess who has not seen
the request.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
import struct
import time
from collections.abc import Sequence

from icmplib import ICMPLibError, ICMPRequest, ICMPv4Socket, ICMPv6Socket

from connbal.frozen import dataclass
from connbal.model.config import Family
from connbal.track.probes import sieve
from connbal.track.probes.method import Cancel, Done, Shared, Target
from connbal.track.probes.way import Way

_SO_TIMESTAMPNS = 35
_SOL_RAW, _FILTER = 255, 1  # ICMP_FILTER of <linux/icmp.h>, ICMPV6_FILTER of <linux/icmpv6.h>
_ECHO = {Family.IPV4: (8, 0), Family.IPV6: (128, 129)}  # request and reply, RFC 792 and RFC 4443
_PROTOCOL = {Family.IPV4: 1, Family.IPV6: 58}
#: Enough for two IP headers with options and two ICMP headers; the rest of a long answer is not looked at.
_HEADERS = 256
_PATTERN = bytes(range(32, 127))
#: Bytes of a payload that are random, from its beginning on.
TOKEN = 16

_UNREACHABLE4 = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
    4: "packet too big", 6: "network unknown", 7: "host unknown",
    9: "network prohibited", 10: "host prohibited", 13: "administratively prohibited",
}  # fmt: skip
_UNREACHABLE6 = {
    0: "no route", 1: "administratively prohibited", 2: "beyond the scope of the source", 3: "host unreachable",
    4: "port unreachable", 5: "source address refused", 6: "route rejected",
}  # fmt: skip


@dataclass(frozen=True)
class EchoReply:
    """A message that belongs to an echo request: the answer, or with ``reason`` an error about it."""

    ident: int
    sequence: int
    reason: str = ""  #: without the address of who says so
    payload: bytes = b""  #: what the request carried, as far as it is repeated and was read


def error_words(family: Family, kind: int, code: int) -> str:
    """An ICMP error in words; an empty string where the message is no error."""
    if family is Family.IPV4:
        if kind == 3:
            return _UNREACHABLE4.get(code, "unreachable")
        return {11: "TTL exceeded", 12: "parameter problem"}.get(kind, "")
    if kind == 1:
        return _UNREACHABLE6.get(code, "unreachable")
    return {2: "packet too big", 3: "TTL exceeded", 4: "parameter problem"}.get(kind, "")


def said(reason: str, source: str, way: Way) -> str:
    """An ICMP error with who sent it. What this machine tells itself is that ARP or neighbour discovery failed."""
    return "next hop does not answer" if source == str(way.source) else f"{reason} from {source}"


def parse(data: bytes, family: Family) -> EchoReply | None:
    """Read what a raw ICMP socket gives: for IPv4 with the IP header before it. None: not about an echo request."""
    if family is Family.IPV4:
        data = _after_header4(data)
    if len(data) < 8:
        return None
    request, reply = _ECHO[family]
    if data[0] == reply:
        return _about(data, "") if data[1] == 0 else None
    reason = error_words(family, data[0], data[1])
    quoted = data[8:]
    if family is Family.IPV4:
        quoted = _after_header4(quoted)
    else:
        quoted = quoted[40:] if len(quoted) >= 48 and quoted[6] == _PROTOCOL[family] else b""
    if not reason or len(quoted) < 8 or quoted[0] != request:
        return None
    return _about(quoted, reason)


def _about(echo: bytes, reason: str) -> EchoReply:
    ident, sequence = struct.unpack_from("!HH", echo, 4)
    return EchoReply(ident, sequence, reason, echo[8:])


def quoted_destination(data: bytes, family: Family) -> str:
    """Where a packet went that an error is about, which :func:`parse` has read; empty where there is none."""
    start, size = ((data[0] & 15) * 4 + 8 + 16, 4) if family is Family.IPV4 else (8 + 24, 16)
    found = data[start : start + size]
    return socket.inet_ntop(family.af, found) if len(found) == size else ""


def _after_header4(packet: bytes) -> bytes:
    """What an IPv4 packet carries, if that is ICMP; else nothing."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != _PROTOCOL[Family.IPV4]:
        return b""
    size = (packet[0] & 15) * 4
    return packet[size:] if size >= 20 else b""


def receive_filter(family: Family, kinds: Sequence[int]) -> bytes:
    """The socket option that lets only these ICMP types through: a set bit keeps a type away."""
    words = [0xFFFFFFFF] * (1 if family is Family.IPV4 else 8)
    for kind in kinds:
        words[kind >> 5] &= ~(1 << (kind & 31))
    return struct.pack(f"={len(words)}I", *words)


def age(ancillary: Sequence[tuple[int, int, bytes]], now: float) -> float:
    """Seconds since the kernel took a packet in, 0 if it does not say. ``now`` is wall-clock time, as the kernel's."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) in (8, 16):
            seconds, nanoseconds = struct.unpack("=ii" if len(data) == 8 else "=qq", data)
            taken: float = seconds + nanoseconds / 1e9
            return max(0.0, now - taken)
    return 0.0


def payload(size: int) -> bytes:
    """What a probe carries: ``size`` bytes, the first TOKEN of them random, the others of a pattern."""
    return os.urandom(min(size, TOKEN)) + _pattern(max(size - TOKEN, 0))


@functools.lru_cache(maxsize=16)
def _pattern(size: int) -> bytes:
    return bytes(itertools.islice(itertools.cycle(_PATTERN), size))


class Echo(Shared):
    """Echo requests over one raw socket."""

    def __init__(self) -> None:
        super().__init__()
        self._icmp: ICMPv4Socket | ICMPv6Socket | None = None
        self._ident = int.from_bytes(os.urandom(2), "big")
        self._sequence = int.from_bytes(os.urandom(2), "big")
        self._pending: dict[int, tuple[str, bytes, float, Done]] = {}  # by sequence: address, token, time of sending

    def open(self) -> None:
        family = self.way.family
        try:
            self._icmp = (ICMPv4Socket if family is Family.IPV4 else ICMPv6Socket)()
        except ICMPLibError as error:
            raise _cause(error) from None
        sock = self.share(_socket_of(self._icmp))
        sieve.attach(sock, sieve.echo(family, self._ident))
        self.way.prepare(sock)
        errors = (3, 11, 12) if family is Family.IPV4 else (1, 2, 3, 4)
        level = _SOL_RAW if family is Family.IPV4 else socket.IPPROTO_ICMPV6
        sock.setsockopt(level, _FILTER, receive_filter(family, (_ECHO[family][1], *errors)))
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.watch()

    def close(self) -> None:
        super().close()
        self._pending.clear()
        self._icmp = None

    def probe(self, target: Target, done: Done) -> Cancel:
        self._sequence = sequence = (self._sequence + 1) & 0xFFFF
        carried = payload(target.size)
        request = ICMPRequest(
            target.address, self._ident, sequence, payload=carried, payload_size=target.size, ttl=target.ttl
        )
        assert self._icmp is not None
        sent = self.loop().time()
        try:
            self._icmp.send(request)
        except ICMPLibError as error:
            raise _cause(error) from None
        self._pending[sequence] = (target.address, carried[:TOKEN], sent, done)
        return functools.partial(self._pending.pop, sequence, None)

    def read(self, sock: socket.socket) -> None:
        data, ancillary, _, peer = sock.recvmsg(_HEADERS, 64)
        reply = parse(data, self.way.family)
        if reply is not None and reply.ident == self._ident:
            source = peer[0].partition("%")[0]
            about = quoted_destination(data, self.way.family) if reply.reason else source
            self._answer(reply, source, about, age(ancillary, time.time()))

    def _answer(self, reply: EchoReply, source: str, about: str, waited: float) -> None:
        """Match a message with the probe it is about; one that nobody waits for, a late one too, is dropped."""
        address, token, sent, done = self._pending.get(reply.sequence, ("", b"", 0.0, None))
        # An error may quote less than was sent.
        size = min(len(token), len(reply.payload)) if reply.reason else len(token)
        if done is None or about != address or reply.payload[:size] != token[:size]:
            return
        del self._pending[reply.sequence]
        # How long the answer lay here while this process was busy is not the network's latency.
        now = self.loop().time()
        done(said(reply.reason, source, self.way) if reply.reason else "", max(sent, now - waited))


def _socket_of(icmp: ICMPv4Socket | ICMPv6Socket) -> socket.socket:
    """The system's socket. icmplib 3.0 to 3.0.2 have no public name for it."""
    found: socket.socket = icmp.sock if hasattr(icmp, "sock") else icmp._sock
    return found


def _cause(error: ICMPLibError) -> OSError:
    """icmplib turns an error of the system into one of its own without the number; that is in the context."""
    return error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error))
