"""``connbal import``: a document is refused with the place, or becomes exactly what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator

from connbal.errors import ConfigError
from connbal.uci import exchange
from connbal.uci.edit import Editor
from connbal.uci.package import Package
from connbal.uci.text import encode, export, parse
from tests.fuzz import oracle, structure
from tests.fuzz.targets.uci_delta import BEFORE

TOKENS = (b'"schema": "export/1"', b'"package": "mwan3"', b'"sections": [', b'{"type": "rule", ', b'"name": null, ',
          b'"options": {', b'"options"', b'"name"', b'"type"', b"null", b"[", b"]", b"{", b"}", b'""', b"\\udcff",
          b"\\u0000", b"1e999", b"NaN", b"-1", *oracle.tokens())  # fmt: skip

mutate = structure.of_json()


def seeds() -> Iterator[bytes]:
    for text in oracle.golden():
        yield _document(parse(text, "mwan3"))
    yield _document(BEFORE)
    for value in ("1", [], [""], "", "\udcff", "\u2028", "a\nb", "a\0b", 1, None, ["x"] * 20):
        section = {"type": "rule", "name": None, "options": {"x": value}}
        yield json.dumps({"schema": "export/1", "package": "mwan3", "sections": [section]}).encode()


def _document(package: Package) -> bytes:
    return json.dumps({"schema": exchange.SCHEMA, **exchange.as_data(package)}).encode()


def check(data: bytes) -> None:
    try:
        given = exchange.parse(data, "mwan3")
    except ConfigError as error:
        oracle.is_message(str(error))
        return
    assert exchange.alike(exchange.parse(_document(given), "mwan3"), given)
    for target in (given, exchange.merged(BEFORE, given)):
        _made_of(BEFORE, target)
    _made_of(given, BEFORE)


def _is_refused_rightly(why: str, target: Package) -> None:
    """What was made is looked at once more; that finds something only where a name may be an anonymous section's."""
    oracle.is_message(why)
    crossed = any(one.name.startswith("cfg") for one in target.sections if not one.anonymous)
    assert crossed or "cannot be made so" not in why


def _made_of(before: Package, target: Package) -> None:
    editor = Editor(before)
    try:
        exchange.transform(editor, target)
    except ConfigError as error:
        _is_refused_rightly(str(error), target)
        return
    assert exchange.alike(editor.package, target)
    assert exchange.alike(parse(encode(export(editor.package)), "mwan3"), target)
    again = Editor(editor.package)
    exchange.transform(again, target)
    assert again.changes == ()
