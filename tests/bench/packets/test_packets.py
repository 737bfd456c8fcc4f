"""What is sent, and the rules it meets."""

from __future__ import annotations

import struct

import pytest

from connbal.model.config import Family
from connbal.plan.build import plan
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.bench.packets.frames import Flow, frame
from tests.bench.packets.text import configuration
from tests.fakes.build import facts
from tests.lab.topology import Spec


def ones(data: bytes) -> int:
    """The ones' complement sum of RFC 1071; 0xFFFF where a checksum within is right."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return (total & 0xFFFF) + (total >> 16)


@pytest.mark.parametrize(
    ("flow", "header"),
    [
        (Flow("192.168.1.20", 1024, "203.0.113.7", 5000), 20),
        (Flow("fd01::20", 1024, "2001:db8:ffff::7", 5000), 40),
    ],
)
def test_a_frame_has_right_checksums(flow: Flow, header: int) -> None:
    packet = frame(flow, "02:00:00:00:00:01", b"four")[14:]
    udp = packet[header:]
    addresses = packet[12:20] if header == 20 else packet[8:40]
    assert ones(addresses + struct.pack("!HH", len(udp), 17) + udp) == 0xFFFF
    assert header == 40 or ones(packet[:20]) == 0xFFFF
    assert struct.unpack("!HHH", udp[:6]) == (flow.sport, flow.dport, len(udp))


@pytest.mark.parametrize("rules", [1, 2, 1000])
def test_there_are_as_many_lines_as_rules_in_both_families(rules: int) -> None:
    spec = Spec(("s1", "s2"))
    decoded = decode(parse(configuration(spec, rules, "pair"), "mwan3"))
    assert not decoded.findings
    found = plan(decoded.config, facts("s1 s1_6:6 s2 s2_6:6"))
    for family in Family:
        (chain,) = (chain for chain in found.rulesets[family].chains if chain.name == "mwan3_rules")
        assert len(chain.rules) == rules
