"""Staged changes, as anybody may leave in /tmp/.uci: read, carried out on a package, and written again."""

from __future__ import annotations

from collections.abc import Iterator

from connbal.uci.edit import Editor, delta, parse_delta, same_content
from connbal.uci.package import Package, Section
from connbal.uci.text import encode, export, parse

TOKENS = (b"mwan3.", b"+mwan3.cfg01ab12='rule'\n", b"-mwan3.", b"@mwan3.", b"^mwan3.", b"|mwan3.", b"~mwan3.", b"=",
          b"'",
          b"\n", b"wan", b"use_member", b"cfg030abc", b"web", b".", b"99999999999999999999")  # fmt: skip

BEFORE = Package("mwan3", (
    Section("wan", "interface", False, {"enabled": "1", "track_ip": ("1.1.1.1", "8.8.8.8")}),
    Section("balanced", "policy", False, {"use_member": ("m1", "m2")}),
    Section("cfg030abc", "rule", True, {"proto": "tcp"}),
    Section("web", "rule", False, {"use_policy": "balanced"}),
))  # fmt: skip


def seeds() -> Iterator[bytes]:
    yield b"mwan3.wan.enabled='0'\n-mwan3.balanced.use_member\n|mwan3.balanced.use_member='m3'\n"
    yield b"+mwan3.cfg05ab12='rule'\nmwan3.cfg05ab12.src_ip='10.0.0.1'\n@mwan3.cfg05ab12='tv'\n^mwan3.web='0'\n"
    yield b"~mwan3.wan.track_ip='1.1.1.1'\nmwan3.new='member'\n-mwan3.cfg030abc\nmwan3.wan.family='it'\\''s'\n"
    yield b"other.wan.enabled='0'\nmwan3\nmwan3.wan='in\nterface'\n^mwan3.web='-1'\n"


def check(data: bytes) -> None:
    changes = parse_delta(data, "mwan3")
    assert parse_delta(encode(delta("mwan3", changes)), "mwan3") == changes
    editor = Editor(BEFORE)
    editor.adopt(changes)
    assert editor.changes == ()
    after = editor.package
    assert same_content(parse(encode(export(after)), "mwan3"), after)
    names = [section.name for section in after.sections]
    assert len(names) == len(set(names))
