"""Sections to a configuration, a plan, and a text for iptables-restore: no value becomes another word or line."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from fractions import Fraction

from connbal.model.config import Config
from connbal.plan.build import plan
from connbal.plan.explain import Packet, World
from connbal.plan.explain_story import explain
from connbal.plan.lint import lint
from connbal.plan.lint_subject import Subject
from connbal.plan.values import Plan
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.fuzz import oracle, structure

TOKENS = (*oracle.tokens(), b"\0", b"\0@rule ", b"\0@policy ", b"\0@member ", b"\0@interface ", b"=", b"+=",
          b"\n-A OUTPUT",
          b'"', b"'", b" -j DROP", b"use_policy=", b"set4", b"set6", b"ports", b"list")  # fmt: skip
LONGEST = 4096

_address = ipaddress.ip_address
PACKETS = (
    Packet(_address("192.168.1.7"), _address("203.0.113.7"), 6, 40000, 443, "br-lan", "aa:bb:cc:dd:ee:ff"),
    Packet(_address("192.168.1.7"), _address("172.16.0.1"), 17, 40000, 53, "br-lan"),
    Packet(_address("fd00:1::7"), _address("2001:db8:ffff::1"), 6, 40000, 80, "br-lan"),
    Packet(_address("10.1.0.2"), _address("203.0.113.7"), 1, local=True, icmp_type=8),
)

mutate = structure.of_parts


def seeds() -> Iterator[bytes]:
    for text in oracle.golden():
        yield oracle.as_bytes(parse(text, "mwan3"))


def check(data: bytes) -> None:
    package = oracle.sections(data)
    decoded = decode(package)
    oracle.are_findings(decoded.findings, package.sections)
    facts = oracle.facts()
    made = plan(decoded.config, facts)
    assert made == plan(decode(package).config, oracle.facts()), "not the same twice"
    oracle.nothing_strange_is_written(made)
    oracle.are_findings(made.findings, package.sections)
    for finding in lint(Subject(decoded.config, frozenset(), {"list": "dhcp"}, frozenset(facts.sets))):
        oracle.is_message(str(finding))
    _explained(decoded.config, made)


def _explained(config: Config, made: Plan) -> None:
    """Each packet goes somewhere, with certainty, and that can be told."""
    for packet in PACKETS:
        story = explain(config, made, packet, World())
        assert sum((ending.probability for ending in story.endings), Fraction(0)) == 1
        assert all(ending.meaning != "unknown" for ending in story.endings)
