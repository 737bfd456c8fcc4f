"""What a raw ICMP socket gives: echo replies and errors about our requests, of either family."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

from connbal.model.config import Family
from connbal.track.probes import icmp
from tests.fuzz import oracle

LONGEST = 300
_IP4 = bytes.fromhex("450000540000400040010000c0000201c6336402")
_IP6 = bytes.fromhex("6000000000403a40") + bytes(32)
_ECHO = bytes.fromhex("1234abcd")


def seeds() -> Iterator[bytes]:
    yield b"\x04" + _IP4 + b"\0\0\0\0" + _ECHO
    yield b"\x04" + _IP4 + b"\x03\x01\0\0\0\0\0\0" + _IP4 + b"\x08\0\0\0" + _ECHO
    yield b"\x04" + b"\x46" + _IP4[1:] + b"\0\0\0\0" + b"\x0b\0\0\0\0\0\0\0" + _IP4 + b"\x08\0\0\0" + _ECHO
    yield b"\x06\x81\0\0\0" + _ECHO
    yield b"\x06\x01\x03\0\0\0\0\0\0" + _IP6 + b"\x80\0\0\0" + _ECHO


def check(data: bytes) -> None:
    family = Family.IPV6 if data[:1] == b"\x06" else Family.IPV4
    found = icmp.parse(data[1:], family)
    assert icmp.age([(1, 35, data[1:17])], 2e9) >= 0
    if found is None:
        return
    oracle.is_message(found.reason)
    if found.reason:
        about = icmp.quoted_destination(data[1:], family)
        assert Family.of(ipaddress.ip_address(about)) is family
    assert found.payload in data
    at = data.find(struct.pack("!HH", found.ident, found.sequence), 5)
    assert at > 0, "numbers that nobody sent"
    # What it answers, or is about, is an echo, eight bytes of which are there.
    wanted = {(Family.IPV4, False): 0, (Family.IPV4, True): 8, (Family.IPV6, False): 129, (Family.IPV6, True): 128}
    kind = wanted[family, bool(found.reason)]
    echo = struct.pack("!HH", found.ident, found.sequence)
    assert any(data[one - 4] == kind for one in range(5, len(data) - 3) if data[one : one + 4] == echo)
