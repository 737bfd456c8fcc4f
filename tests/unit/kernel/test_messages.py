"""The reader of routing dumps; that it reads what the kernel sends is shown in tests/netns/kernel/test_routing.py."""

from __future__ import annotations

import struct
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from connbal.kernel import messages, rtnl

LAYOUTS = (messages.LINK, messages.ADDRESS, messages.ROUTE, messages.RULE)


def attribute(number: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), number) + payload + b"\0" * (-len(payload) % 4)


def test_a_route_with_everything() -> None:
    fields = struct.pack("=BBBBBBBBI", 2, 8, 0, 0, 252, 131, 0, 1, 4)
    hop = struct.pack("=HBBi", 8 + 8, 4, 0, 7) + attribute(5, bytes([10, 0, 0, 1]))
    data = (
        b"before"
        + fields
        + attribute(1, bytes([10, 0, 0, 0]))
        + attribute(15, struct.pack("=I", 1000))
        + attribute(0x8000 | 6, struct.pack("=I", 5))
        + attribute(99, b"unknown")
        + attribute(18, struct.pack("=H", 10) + bytes(15) + b"\1")
        + attribute(9, hop * 2)
    )
    message = messages.ROUTE.decode(data + b"after", 6, len(data))
    assert (message["family"], message["dst_len"], message["table"], message["flags"]) == (2, 8, 252, 4)
    assert dict(message["attrs"]) == {
        "RTA_DST": "10.0.0.0",
        "RTA_TABLE": 1000,
        "RTA_PRIORITY": 5,
        "RTA_VIA": {"family": 10, "addr": "::1"},
        "RTA_MULTIPATH": [{"oif": 7, "flags": 4, "attrs": [("RTA_GATEWAY", "10.0.0.1")]}] * 2,
    }


def test_a_name_ends_at_its_nul_and_keeps_odd_bytes() -> None:
    data = struct.pack("=BxHiII", 0, 1, 5, 1, 0) + attribute(3, b"eth\xff\0rest")
    link = messages.LINK.decode(data, 0, len(data))
    assert dict(link["attrs"]) == {"IFLA_IFNAME": "eth\udcff"}
    assert rtnl.link_of(link) is None


@given(st.sampled_from(LAYOUTS), st.binary(max_size=200))
def test_any_bytes_end_somewhere(layout: messages.Layout, data: bytes) -> None:
    with suppress(struct.error):
        layout.decode(data, 0, len(data))
