"""What the network says about a packet of ours: the error queue of UDP and TCP sockets (IP_RECVERR, ip(7))."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence

from connbal.frozen import dataclass
from connbal.model.config import Family
from connbal.track.probes import icmp
from connbal.track.probes.way import IP_RECVERR, Way

_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
_UNREACHABLE_PORT = {Family.IPV4: (3, 3), Family.IPV6: (1, 4)}


#: Bytes of what was sent that an ICMP message has to quote before it is believed. The kernel has compared addresses
#: and ports only, which a flood of tens of thousands of packets guesses.
PROOF = 8


@dataclass(frozen=True)
class Refusal:
    """An error that was reported for a packet."""

    errno: int
    kind: int = 0  #: ICMP type and code; 0, 0 where the kernel here refused
    code: int = 0
    offender: str = ""  #: who says so; empty: this machine
    quoted: bytes = b""  #: of the payload that was sent, as far as the message has it

    @property
    def is_local(self) -> bool:
        """The kernel here refused; no message came."""
        return (self.kind, self.code, self.offender) == (0, 0, "")

    def about(self, sent: bytes) -> bool:
        """Whether it is about a datagram with this payload, as nobody who has not seen it could say."""
        common = min(len(self.quoted), len(sent))
        # Behind what they quote routers may pad (RFC 4884).
        return self.is_local or (common >= PROOF and self.quoted[:common] == sent[:common])

    def port_unreachable(self, family: Family) -> bool:
        return (self.kind, self.code) == _UNREACHABLE_PORT[family]


def parse(ancillary: Sequence[tuple[int, int, bytes]], family: Family, quoted: bytes = b"") -> Refusal | None:
    """Read the control messages of an error queue: ``struct sock_extended_err`` and the offender's address."""
    for level, kind, data in ancillary:
        if (level, kind) != IP_RECVERR[family] or len(data) < 16:
            continue
        number, origin, icmp_type, icmp_code = struct.unpack_from("=iBBB", data)
        if origin not in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
            return Refusal(number)
        return Refusal(number, icmp_type, icmp_code, _offender(data[16:], family), quoted)
    return None


def _offender(data: bytes, family: Family) -> str:
    """The address in a ``sockaddr_in`` or ``sockaddr_in6``; empty where there is none."""
    start, size = (4, 4) if family is Family.IPV4 else (8, 16)
    if len(data) < start + size or struct.unpack_from("=H", data)[0] != family.af:
        return ""
    return socket.inet_ntop(family.af, data[start : start + size])


def read(sock: socket.socket, family: Family) -> Refusal | None:
    """Take one error off a socket's queue; None: there is none."""
    try:
        data, ancillary, _, _ = sock.recvmsg(256, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return None
    return parse(ancillary, family, data)


def words(refusal: Refusal, way: Way) -> str:
    """A refusal as the reason of a probe that failed."""
    reason = icmp.error_words(way.family, refusal.kind, refusal.code)
    if reason and refusal.offender:
        return icmp.said(reason, refusal.offender, way)
    return way.words(OSError(refusal.errno, ""))


def send(sock: socket.socket, family: Family, data: bytes) -> None:
    """Send on a socket that listens for errors. Raises OSError.

    Such a socket is told ENOBUFS where the queue of its device is full, which is a loss as on the way, not a want of
    memory here: then it goes as from any other socket.
    """
    try:
        sock.send(data)
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        sock.setsockopt(*IP_RECVERR[family], 0)
        sock.send(data)
        listen(sock, family)


def listen(sock: socket.socket, family: Family) -> None:
    """Have errors reported at once, with who says so. Raises OSError."""
    sock.setsockopt(*IP_RECVERR[family], 1)
