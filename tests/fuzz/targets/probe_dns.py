"""Answers of name servers: whatever the bytes, an answer to our question, or a reason why it is none."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

from connbal.track.probes import dnswire
from tests.fuzz import oracle

LONGEST = 1024
TOKENS = (b"\xc0\x0c", b"\x03www\x06google\x03com\0", b"\0\x01\0\x01", b"\0\x1c\0\x01", b"\0\x05\0\x01",
          b"\0\0\0\x3c\0\x04",
          b"\0\0\0\x3c\0\x10", b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0")  # fmt: skip
_IDENT, _NAME = 0x1234, "www.google.com"


def _answer(kind: int, records: list[bytes], flags: int = 0x8180, name: str = _NAME) -> bytes:
    question = dnswire.query(_IDENT, name, kind)[12:]
    return struct.pack("!6H", _IDENT, flags, 1, len(records), 0, 0) + question + b"".join(records)


def seeds() -> Iterator[bytes]:
    owner = b"\xc0\x0c"
    four = owner + struct.pack("!HHIH", 1, 1, 60, 4) + b"\xc0\0\x02\x07"
    six = owner + struct.pack("!HHIH", 28, 1, 60, 16) + bytes(16)
    alias = owner + struct.pack("!HHIH", 5, 1, 30, 4) + b"\x01a\xc0\x10"
    yield b"\x04" + _answer(1, [four, four])
    yield b"\x06" + _answer(28, [six])
    yield b"\x04" + _answer(1, [alias, b"\x01a\xc0\x10" + four[2:]])
    yield b"\x04" + _answer(1, [], 0x8183)
    yield b"\x04" + _answer(1, [], 0x8380)
    yield b"\x04" + _answer(1, [owner + struct.pack("!HHIH", 5, 1, 30, 2) + b"\xc0\x0c"])
    yield b"\x04" + dnswire.query(_IDENT, _NAME, 1)
    yield from (b"www.Example.com.", b"a" * 63 + b".xn--bcher-kva")  # names to ask for


def check(data: bytes) -> None:
    version = 6 if data[:1] == b"\x06" else 4
    _answered(data[1:], version)
    _asked(data.decode("latin-1"))


def _answered(data: bytes, version: int) -> None:
    code = dnswire.response_code(data, _IDENT)
    try:
        found = dnswire.parse(data, _IDENT, _NAME, dnswire.ADDRESS_KIND[version])
    except dnswire.BadMessage as error:
        oracle.is_message(str(error))
        return
    assert found.code == code
    assert 0 <= found.ttl < 1 << 31
    assert not (found.truncated and found.addresses)
    for text in found.addresses:
        address = ipaddress.ip_address(text)
        assert address.version == version
        assert address.packed in data


def _asked(name: str) -> None:
    """A name becomes labels and a question that reads as the same labels; or it is none."""
    try:
        labels = dnswire.labels(name)
    except ValueError:
        return
    sent = dnswire.query(_IDENT, name, dnswire.A)
    assert dnswire._read_name(sent, 12) == (labels, len(sent) - 4)
    assert b".".join(labels).decode() == name.removesuffix(".").lower()
