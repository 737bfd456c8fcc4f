"""Values of the command line and of sites: what is taken once is taken again, and means the same."""

from __future__ import annotations

from collections.abc import Iterator

import click

from connbal.cli.output import table, visible
from connbal.errors import UsageError
from connbal.uci import sites, values
from connbal.uci.decode_match import PROTOCOLS
from connbal.uci.schema import SECTIONS
from connbal.uci.values import BadValue
from tests.fuzz import oracle

LONGEST = 300
TOKENS = (b"youtube.com", b"*.", b"xn--", b"http://", b"1d", b"12h", b"none", b"0x3F00", b"0.5s", b"200ms", b"%",
          *(word.encode() for word in PROTOCOLS), "ü".encode(), "ß".encode(), "٣".encode(), b".", b"-",
          b":")  # fmt: skip
_PARSERS = (values.parse_bool, values.parse_int, values.parse_seconds, values.parse_whole_seconds,
            values.parse_milliseconds,
            values.parse_percent, values.parse_mask, values.parse_table)  # fmt: skip
_SPECS = [spec for section in SECTIONS.values() for spec in section.options.values()]


def seeds() -> Iterator[bytes]:
    yield from (b"youtube.com", b"*.example.org", "bücher.example".encode(), b"https://a.example/x", b"7d", b"none",
    b"yt6",
                b"0x3F00", b"200ms", b"99.5%", b"yes", b"1.5", b"\x1b[31m", "語".encode())  # fmt: skip


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for parse in (sites.domain, sites.set_name, sites.timeout):
        try:
            found = parse(text)
        except UsageError:
            continue
        if parse is not sites.timeout:
            assert parse(str(found)) == found
    for parser in _PARSERS:
        for spec in _SPECS[:: max(1, len(_SPECS) // 8)]:
            try:
                parser(values.trim(text), spec)
            except BadValue as error:
                oracle.is_message(str(error))
    assert values.shown(text).isprintable()
    assert visible(text).isprintable()
    for line in table("", ("NAME", "TEXT"), [(text, text), ("short", text)], width=60):
        assert click.unstyle(line).isprintable()
