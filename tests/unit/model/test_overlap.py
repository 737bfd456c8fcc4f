"""What two rules have in common, held against packets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from connbal.model.config import FAMILIES, Rule
from connbal.model.overlap import covers, families, overlaps
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.fakes.packets import PACKETS, Packet, matches, takes


def rule(options: dict[str, str]) -> Rule | None:
    """The rule that options make, always enabled; None where they make none."""
    wanted = {**options, "use_policy": "default", "enabled": "1"}
    text = "config rule 'x'\n" + "".join(f"\toption {key} '{value}'\n" for key, value in wanted.items())
    return next(iter(decode(parse(text.encode(), "mwan3")).config.rules), None)


def packets(version: int) -> list[Packet]:
    return [packet for packet in PACKETS if (":" in packet.src) == (version == 6)]


@given(matches, matches)
@settings(max_examples=500, deadline=None)
def test_never_against_the_packets(some: dict[str, str], others: dict[str, str]) -> None:
    """What covers takes every packet of the other; what does not overlap, none."""
    one, other = rule(some), rule(others)
    if one is None or other is None:
        return
    for family in FAMILIES:
        both = family in families(one) and family in families(other)
        met = [packet for packet in packets(family.version) if takes(other, packet)]
        if both and covers(one, other, family):
            assert all(takes(one, packet) for packet in met)
        if not both or not overlaps(one, other, family):
            assert not any(takes(one, packet) for packet in met)


WHOLE = {"dest_ip": "0.0.0.0/0"}
LAN, TV, NOT_TV = ({"src_ip": text} for text in ("192.168.1.0/24", "192.168.1.178", "!192.168.1.178"))
WEB, PORTS = ({"proto": "tcp", "dest_port": text} for text in ("443", "80 440:445"))
MAC, OTHER_MAC = ({"src_mac": f"aa:bb:cc:00:11:{end}"} for end in ("22", "33"))
SET, OTHER_SET = {"ipset": "youtube"}, {"ipset": "netflix"}


@pytest.mark.parametrize(
    ("some", "others", "covered", "overlap"),
    [
        (WHOLE, {}, True, True),
        ({}, WHOLE, True, True),
        (LAN, TV, True, True),
        (TV, LAN, False, True),
        (NOT_TV, TV, False, False),
        (TV, NOT_TV, False, False),
        (NOT_TV, {"src_ip": "192.168.1.0/25"}, True, True),
        (NOT_TV, {"src_ip": "!192.168.1.0/24"}, True, True),
        ({"src_ip": "!192.168.1.0/24"}, NOT_TV, False, True),
        (NOT_TV, LAN, False, True),
        (PORTS, WEB, True, True),
        (WEB, PORTS, False, True),
        (WEB, {"proto": "tcp", "dest_port": "80"}, False, False),
        (WEB, {"proto": "udp", "dest_port": "443"}, False, False),
        ({"proto": "tcp", "dest_port": "1:5 6:9"}, {"proto": "tcp", "dest_port": "2:8"}, True, True),
        (MAC, OTHER_MAC, False, False),
        ({}, MAC, True, True),
        (MAC, TV, False, True),
        ({}, SET, True, True),
        (SET, OTHER_SET, False, True),
        (SET, SET, True, True),
        ({"src_iface": "lan guest"}, {"src_iface": "lan"}, True, True),
        ({"src_iface": "guest"}, {"src_iface": "lan"}, False, False),
        ({"src_port": "5"}, {"src_port": "6"}, False, False),
        ({"ipset_src": "kids"}, TV, False, True),
    ],
)  # fmt: skip
def test_what_is_known_is_said(some: dict[str, str], others: dict[str, str], covered: bool, overlap: bool) -> None:
    one, other, four = rule(some), rule(others), FAMILIES[0]
    assert one is not None
    assert other is not None
    assert (covers(one, other, four), overlaps(one, other, four)) == (covered, overlap)
