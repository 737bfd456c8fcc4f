"""nping-tcp, nping-udp and nslookup: the error queue of a socket, and datagrams that came back."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

from connbal.model.config import Family
from connbal.track.probes import refusals
from connbal.track.probes.method import Target
from connbal.track.probes.udp import Datagram, Nslookup
from connbal.track.probes.way import IP_RECVERR, Way
from tests.fuzz import oracle

LONGEST = 128


def seeds() -> Iterator[bytes]:
    four = struct.pack("=HH", 2, 0) + b"\xc0\0\x02\x01" + bytes(8)
    six = struct.pack("=HHI", 10, 0, 0) + bytes(15) + b"\x01" + bytes(4)
    yield b"\x04" + struct.pack("=IBBBBII", 111, 2, 3, 3, 0, 0, 0) + four
    yield b"\x04" + struct.pack("=IBBBBII", 113, 2, 3, 1, 0, 0, 0) + four
    yield b"\x04" + struct.pack("=IBBBBII", 101, 1, 0, 0, 0, 0, 0) + four
    yield b"\x06" + struct.pack("=IBBBBII", 111, 3, 1, 4, 0, 0, 0) + six
    yield b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0"


def check(data: bytes) -> None:
    family = Family.IPV6 if data[:1] == b"\x06" else Family.IPV4
    way = Way("eth0", family, 0x100, ipaddress.ip_address("192.0.2.9"), 7)
    found = refusals.parse([(*IP_RECVERR[family], data[1:])], family)
    assert refusals.parse([(1, 1, data[1:])], family) is None
    if found is not None:
        if found.offender:
            assert Family.of(ipaddress.ip_address(found.offender)) is family
        assert refusals.words(found, way)
        oracle.is_message(refusals.words(found, way))
    target = Target("192.0.2.1", "192.0.2.1", len(data))
    sent, is_echo = Datagram().question(target)
    assert (is_echo(sent), is_echo(data), is_echo(sent[:-1])) == ("", None, None)
    if found is not None:
        assert not found.offender or not found.about(sent), "nothing of what was sent is quoted"
    query, judge = Nslookup().question(target)
    said = judge(data)
    assert said is None or data[:2] == query[:2]
    assert judge(query) is None, "what was sent is no answer"
    answer = query[:2] + b"\x81\x80" + query[4:]
    assert judge(answer) == ""
    assert judge(answer + data) == ""
    assert judge(query[:2] + b"\x81\x80" + query[4:12] + data) is None, "another question"
