"""What probes send and how they read what comes back: pure functions, which no bytes from the network may upset."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Family
from connbal.track.probes import arp, http, icmp, neighbour, refusals
from connbal.track.probes.icmp import EchoReply
from connbal.track.probes.way import Way, address6

V4, V6 = Family.IPV4, Family.IPV6
FAMILIES = st.sampled_from([V4, V6])
HEADER4 = bytes((0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2))
HEADER6 = struct.pack("!IHBB16s16s", 6 << 28, 8, 58, 64, bytes(16), bytes(16))
NUMBERS = st.integers(0, 0xFFFF)


def message(kind: int, code: int, rest: bytes) -> bytes:
    return bytes((kind, code, 0, 0)) + rest


def echo(kind: int, ident: int, sequence: int) -> bytes:
    return message(kind, 0, struct.pack("!HH", ident, sequence))


@given(st.binary(max_size=200), FAMILIES)
def test_no_bytes_upset_the_reading_of_icmp(data: bytes, family: Family) -> None:
    assert isinstance(icmp.parse(data, family), EchoReply | None)
    assert isinstance(icmp.parse(HEADER4 + data, V4), EchoReply | None)


@given(NUMBERS, NUMBERS, st.integers(5, 15))
def test_an_answer_is_read_also_behind_ip_options(ident: int, sequence: int, words: int) -> None:
    header = bytes((0x40 | words,)) + HEADER4[1:] + bytes(words * 4 - 20)
    assert icmp.parse(header + echo(0, ident, sequence), V4) == EchoReply(ident, sequence)
    assert icmp.parse(echo(129, ident, sequence), V6) == EchoReply(ident, sequence)


def test_a_header_that_says_it_is_shorter_than_one_carries_nothing() -> None:
    """Or what is in the header would be an answer: zeros are the type and the code of one."""
    for words in range(5):
        assert icmp.parse(bytes((0x40 | words,)) + HEADER4[1:12] + bytes(16), V4) is None


@pytest.mark.parametrize(
    ("family", "kind", "code", "words"),
    [
        (V4, 3, 0, "network unreachable"), (V4, 3, 1, "host unreachable"), (V4, 3, 99, "unreachable"),
        (V4, 11, 0, "TTL exceeded"), (V6, 1, 0, "no route"), (V6, 1, 3, "host unreachable"), (V6, 3, 0, "TTL exceeded"),
        (V6, 2, 0, "packet too big"),
    ],
)  # fmt: skip
def test_an_error_about_our_request_is_read(family: Family, kind: int, code: int, words: str) -> None:
    if family is V4:
        data = HEADER4 + message(kind, code, bytes(4) + HEADER4 + echo(8, 7, 9))
    else:
        data = message(kind, code, bytes(4) + HEADER6 + echo(128, 7, 9))
    assert icmp.parse(data, family) == EchoReply(7, 9, words)


def test_an_error_about_something_else_is_not_ours() -> None:
    udp = HEADER4[:9] + b"\x11" + HEADER4[10:]
    for inner in (udp + echo(8, 7, 9), HEADER4 + echo(0, 7, 9), HEADER4 + b"\x08"):
        assert icmp.parse(HEADER4 + message(3, 1, bytes(4) + inner), V4) is None
    assert icmp.parse(HEADER4 + echo(8, 7, 9), V4) is None  # somebody's request


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.binary(max_size=80))), FAMILIES)
def test_no_control_message_upsets_us(ancillary: list[tuple[int, int, bytes]], family: Family) -> None:
    refusals.parse(ancillary, family)
    assert icmp.age(ancillary, 1e9) >= 0


@given(st.binary(max_size=80), FAMILIES)
def test_no_error_queue_upsets_the_reading_of_errors(data: bytes, family: Family) -> None:
    level, kind = (socket.IPPROTO_IP, 11) if family is V4 else (socket.IPPROTO_IPV6, 25)
    found = refusals.parse([(level, kind, data)], family)
    assert found is None or refusals.words(found, Way("e-wan", family))


def test_a_refusal_names_who_refused() -> None:
    way = Way("e-wan", V4, source=ipaddress.ip_address("10.1.0.2"))
    for offender, words in (("10.1.0.1", "host unreachable from 10.1.0.1"), ("10.1.0.2", "next hop does not answer")):
        data = struct.pack("=IBBBxII", 113, 2, 3, 1, 0, 0) + struct.pack("=HH", 2, 0) + socket.inet_aton(offender)
        found = refusals.parse([(socket.IPPROTO_IP, 11, data + bytes(8))], V4)
        assert found is not None
        assert refusals.words(found, way) == words
        other = refusals.parse([(socket.IPPROTO_IP, 11, data.replace(b"\x02\0\0\0" + socket.inet_aton(offender),
                                                                     b"\x0a\0\0\0" + bytes(12)))], V4)  # fmt: skip
        assert other is not None
        assert other.offender == "", "an address of the other family"
    odd = refusals.parse([(socket.IPPROTO_IP, 11, b"\xff" * 16)], V4)  # a number that is none, nor fits any
    assert odd is not None
    assert refusals.words(odd, way)
    local = refusals.parse([(socket.IPPROTO_IP, 11, struct.pack("=IBBBxII", 101, 1, 0, 0, 0, 0))], V4)
    assert local is not None
    assert refusals.words(local, way) == "network unreachable"


def test_an_answer_that_lay_here_is_dated_back() -> None:
    stamp = struct.pack("=qq", 100, 500_000_000)
    assert icmp.age([(socket.SOL_SOCKET, 35, stamp)], 101.0) == pytest.approx(0.5)
    assert icmp.age([(socket.SOL_SOCKET, 35, struct.pack("=ii", 100, 0))], 101.0) == 1.0
    assert icmp.age([(socket.SOL_SOCKET, 35, stamp)], 50.0) == 0.0  # the clock was set back
    assert icmp.age([], 101.0) == 0.0


@given(st.integers(0, 2000))
def test_the_payload_has_the_size_asked_for(size: int) -> None:
    assert len(icmp.payload(size)) == size


@given(st.binary(max_size=60))
def test_no_bytes_upset_the_reading_of_neighbours(data: bytes) -> None:
    assert arp.parse(data) is None or len(data) >= 28
    found = neighbour.parse(data)
    assert found is None or len(found) == 16


@given(st.binary(min_size=6, max_size=6), st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4))
def test_an_arp_reply_is_told_from_a_request(mac: bytes, source: bytes, target: bytes) -> None:
    packet = arp.request(mac, source, target)
    assert len(packet) == 28
    assert arp.parse(packet) is None
    assert arp.parse(packet[:7] + b"\x02" + packet[8:]) == source
    assert arp.parse(packet[:7] + b"\x02" + packet[8:] + bytes(18)) == source  # padded to what Ethernet needs


def test_a_solicitation_goes_to_the_group_of_its_target() -> None:
    target = socket.inet_pton(socket.AF_INET6, "fd00::12:3456")
    packet = neighbour.solicitation(b"\1\2\3\4\5\6", target)
    assert (len(packet), packet[0], packet[8:24], packet[24:26]) == (32, 135, target, b"\1\1")
    assert neighbour.group(target) == "ff02::1:ff12:3456"
    assert neighbour.parse(b"\x88\0" + bytes(6) + target + bytes(8)) == target


@given(st.binary(max_size=40))
def test_no_bytes_upset_the_reading_of_http(data: bytes) -> None:
    assert http.is_answer(data) in (True, False)
    assert http.is_answer(b"HTTP/1.1 " + data) == (len(data) >= 3 and data[:3].isdigit())


@given(st.text(max_size=30))
def test_an_http_request_is_one_request_for_any_host_word(host: str) -> None:
    if host.isprintable():
        lines = http.request(host).split(b"\r\n")
        assert lines[0] == b"HEAD / HTTP/1.1"
        assert len(lines) == 7
    assert b"Host: [2001:db8::1]\r\n" in http.request("2001:db8::1")


@given(st.text(max_size=200), st.text(max_size=15))
def test_no_listing_upsets_the_search_for_an_address(listing: str, device: str) -> None:
    assert address6(listing, device) is None or device


def test_the_first_fit_global_address_counts() -> None:
    listing = (
        "fe800000000000000000000000000001 02 40 20 80 e-wan\n"  # link-local
        "20010db8000000000000000000000001 02 40 00 c0 e-wan\n"  # tentative
        "20010db8000000000000000000000002 03 40 00 80 e-wan1\n"
        "20010db8000000000000000000000003 02 40 00 80 e-wan\n"
        "short 02 40 00 80 e-wan\n"
    )
    assert address6(listing, "e-wan") == ipaddress.ip_address("2001:db8::3")
    assert address6(listing, "e-wan2") is None
