"""UDP datagrams in Ethernet frames, made by hand. No side effects."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

_UDP = 17
_TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}


@dataclass(frozen=True)
class Flow:
    """A UDP connection as its first packet has it; addresses of one family as text."""

    src: str
    sport: int
    dst: str
    dport: int


def frame(flow: Flow, to: str, payload: bytes = b"connbal") -> bytes:
    """A datagram of ``flow`` in a frame for the MAC address ``to``, with right checksums."""
    src, dst = (ipaddress.ip_address(one) for one in (flow.src, flow.dst))
    length = 8 + len(payload)
    pseudo = src.packed + dst.packed + struct.pack("!IBBBB", length, 0, 0, 0, _UDP)
    udp = struct.pack("!HHHH", flow.sport, flow.dport, length, 0) + payload
    check = _checksum(pseudo + udp) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", check) + udp[8:]
    if src.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, _UDP, 0) + src.packed + dst.packed
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    else:
        head = struct.pack("!IHBB", 6 << 28, length, _UDP, 64) + src.packed + dst.packed
    return bytes.fromhex(to.replace(":", "")) + b"\x02\0\0\0\0\x99" + _TYPES[src.version] + head + udp


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(data[0::2]) * 256 + sum(data[1::2])
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
