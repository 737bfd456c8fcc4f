"""ARP replies and neighbour advertisements: an address that they say is there, or none."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from connbal.track.probes import arp, neighbour

LONGEST = 256
_MAC = bytes.fromhex("02000000000a")


def seeds() -> Iterator[bytes]:
    yield b"\x04" + bytes.fromhex("0001080006040002") + _MAC + b"\xc0\0\x02\x01" + _MAC + b"\xc0\0\x02\x02"
    yield b"\x04" + arp.request(_MAC, b"\xc0\0\x02\x02", b"\xc0\0\x02\x01")
    yield b"\x06" + b"\x88\0\0\0\x60\0\0\0" + bytes(16) + b"\x02\x01" + _MAC
    yield b"\x06" + neighbour.solicitation(_MAC, bytes(range(16)))


def check(data: bytes) -> None:
    kind, body = data[:1], data[1:]
    address = arp.parse(body) if kind == b"\x04" else neighbour.parse(body)
    if address is None:
        return
    assert len(address) == (4 if kind == b"\x04" else 16)
    if kind == b"\x04":
        assert arp.is_to(body, _MAC, body[24:28]) <= (body[18:24] == _MAC and body[8:14] != _MAC)
        assert body[6:8] == b"\0\x02"
        assert body[14:18] == address
    else:
        hops = [(41, 52, struct.pack("=i", 255))]
        assert neighbour.is_believed(body, hops) == bool(body[4] & 0x40)
        assert not neighbour.is_believed(body, [])
        assert not neighbour.is_believed(body, [(41, 52, struct.pack("=i", 64))])
        assert body[0] == 136
        assert body[8:24] == address
