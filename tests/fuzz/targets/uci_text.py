"""A configuration file: what the quick way reads of it, the exact one does; and nothing is lost on the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator

from connbal.errors import ConfigError
from connbal.uci.buffer import Rest
from connbal.uci.edit import TYPE, same_content
from connbal.uci.package import Package
from connbal.uci.show import difference, show
from connbal.uci.text import Drafts, encode, export, parse
from tests.fuzz import oracle

TOKENS = (*oracle.tokens(), b"config ", b"\noption ", b"\nlist ", b"package ", b"\\\n", b"'", b'"', b"#", b";", b"\t",
          b"\r\n", b"\0")  # fmt: skip


def seeds() -> Iterator[bytes]:
    yield from oracle.golden()
    for case in json.loads((oracle.TESTS / "vectors/uci/parse.json").read_text("utf-8")):
        yield case["input"].encode("utf-8", "surrogateescape")


def check(data: bytes) -> None:
    read = _read(data)
    assert read == _exactly(data)
    if isinstance(read, Package):
        _comes_back(read)


def _read(data: bytes) -> Package | str:
    try:
        return parse(data, "mwan3")
    except ConfigError as error:
        _names_the_line(error, data.count(b"\n") + 1)
        return str(error)


def _names_the_line(refusal: ConfigError, lines: int) -> None:
    assert refusal.package == "mwan3"
    assert refusal.line is not None
    assert 1 <= refusal.line <= lines
    oracle.is_message(str(refusal))


def _exactly(data: bytes) -> Package | str:
    """The same, every line by way of libuci's buffer."""
    drafts = Drafts(data)
    drafts._plain = None
    try:
        Rest(data, 0, "mwan3", drafts).read()
    except ConfigError as error:
        return str(error)
    return drafts.package("mwan3")


def _comes_back(read: Package) -> None:
    for section in read.sections:
        for line in show(section, "mwan3"):
            assert line.isprintable()
    assert difference(read, read) == []
    # libuci reads types with quotes in them, but not what it writes then; and so does this.
    if all(TYPE.fullmatch(section.type) for section in read.sections):
        again = parse(encode(export(read)), "mwan3")
        assert same_content(read, again)
        assert parse(encode(export(again, header=False)), "mwan3") == again
