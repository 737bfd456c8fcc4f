"""``connbal explain``: options are refused in words, or become a packet whose ways are told and add up to one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from connbal.cli.explain_gather import Look, Scene, answer
from connbal.cli.explain_output import as_data, as_text
from connbal.cli.explain_question import question
from connbal.errors import UsageError
from connbal.plan.build import plan
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.fuzz import oracle, structure

LONGEST = 200
TOKENS = (b"\0", b"192.168.1.7", b"203.0.113.7", b"fd00:1::7", b"2001:db8::1", b"tcp", b"udp", b"icmp", b"443", b"eth1",
          b"br-lan", b"wan", b"lan", b"aa:bb:cc:dd:ee:ff", b"1", b"%eth0", b"10.1.0.2")  # fmt: skip
#: The options in the order of an input's parts.
_OPTIONS = ("src", "dst", "proto", "dport", "sport", "iif", "mac", "local", "oif")


def _scene() -> Scene:
    texts = [path for path in (oracle.TESTS / "golden/cases").glob("*/config") if path.parent.name == "matches"]
    config = decode(parse(texts[0].read_bytes(), "mwan3")).config
    facts = oracle.facts()
    return Scene(config, plan(config, facts), facts, None)


_SCENE = _scene()

mutate = structure.of_parts


def seeds() -> Iterator[bytes]:
    yield b"192.168.1.7\x00203.0.113.7\0tcp\x00443\x0040000\0lan\0aa:bb:cc:dd:ee:ff"
    yield b"fd00:1::7\x002001:db8::1\0udp\x0053"
    yield b"\x00203.0.113.7\0\0\0\0\0\x001\0wan"
    yield b"10.1.0.2\x00192.168.1.7\0icmp"
    yield b"192.168.1.7\x00203.0.113.7\x0047\0\0\0br-lan"


def check(data: bytes) -> None:
    told = dict(zip(_OPTIONS, data.decode("utf-8", "surrogateescape").split("\0"), strict=False))
    words = {name: text for name, text in told.items() if text}
    ports = {name: int(words[name]) % 65536 for name in ("dport", "sport") if words.get(name, "").isdecimal()
             and len(words[name]) < 9}  # fmt: skip
    try:
        asked = question(words.get("src"), words.get("dst", ""), words.get("proto"), ports.get("dport"),
                         ports.get("sport"), words.get("iif"), words.get("mac"), "local" in words,
                         words.get("oif"))  # fmt: skip
        found = answer(_SCENE, asked)
    except UsageError:
        return
    _adds_up(found)


def _adds_up(found: Look) -> None:
    story = found.story
    assert sum((ending.probability for ending in story.endings), Fraction(0)) == 1
    assert all(ending.meaning != "unknown" for ending in story.endings)
    for line in as_text(found, everything=True).splitlines():
        assert line.isprintable()
    assert as_data(found, everything=True)
