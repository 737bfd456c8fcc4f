"""A package as a JSON value and back, and the least edits that make one package out of another. Pure.

The value is the document ``export/1``::

    {"schema": "export/1", "package": "mwan3", "sections": [
        {"type": "interface", "name": "wan", "options": {"enabled": "1", "track_ip": ["1.1.1.1", "8.8.8.8"]}},
        {"type": "rule", "name": null, "options": {"use_policy": "balanced"}}]}

Sections and entries of lists are in the order of the file. An anonymous section has the name null. Bytes that are no
UTF-8 are lone surrogates (PEP 383), as everywhere. The order of options within a section means nothing in UCI, and
programs that write JSON sort keys, so it is kept but never a difference.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from connbal.errors import ConfigError
from connbal.model.names import label
from connbal.uci.edit import TYPE, Editor
from connbal.uci.package import Package, Section, Value, anonymous_name
from connbal.uci.text import NAME

SCHEMA = "export/1"
#: Bytes of a document, and sections in it. The configuration of a router is hundreds of times smaller.
MAX_BYTES, MAX_SECTIONS = 4 << 20, 12_000

_KEYS = ("schema", "package", "sections")
_SECTION_KEYS = ("type", "name", "options")


# --- to and from JSON ---------------------------------------------------------------------------------------------


def as_data(package: Package) -> dict[str, Any]:
    """The document without its ``schema``."""
    return {
        "package": package.name,
        "sections": [
            {
                "type": section.type,
                "name": None if section.anonymous else section.name,
                "options": {
                    name: value if isinstance(value, str) else list(value) for name, value in section.options.items()
                },
            }
            for section in package.sections
        ],
    }


def parse(text: bytes, package: str) -> Package:
    """The package in a document. ConfigError, with the place, for whatever is none, however deep, large or hostile."""
    if len(text) > MAX_BYTES:
        raise ConfigError(package, None, None, f"the document has more than {MAX_BYTES} bytes")
    try:
        value: object = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_object)
    except RecursionError:
        raise ConfigError(package, None, None, "the document is nested too deep") from None
    except ValueError as error:  # a UnicodeDecodeError is one, too
        raise ConfigError(package, None, None, f"the document is no JSON: {error}") from None
    return from_data(value, package)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. ValueError where a key occurs twice: of the two values nobody knows which is meant."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise ValueError(f"the key {twice!a} occurs twice in one object")
    return made


def from_data(value: object, package: str) -> Package:
    """The package that a document says. ConfigError, with the place, for whatever is no such document."""
    document = _checked(value, _KEYS, lambda why: _refuse(package, None, None, f"the document {why}"))
    if document["schema"] != SCHEMA:
        _refuse(package, None, None, f"the document is {_shown(document['schema'])}, not {SCHEMA}")
    if document["package"] != package:
        _refuse(package, None, None, f"the document is about package {_shown(document['package'])}")
    told = document["sections"]
    if not isinstance(told, list):
        _refuse(package, None, None, "sections is no array")
    if len(told) > MAX_SECTIONS:
        _refuse(package, None, None, f"the document has more than {MAX_SECTIONS} sections")
    sections = tuple(_section(one, place, package) for place, one in enumerate(told, 1))
    _check_names(sections, package)
    return Package(package, sections)


def _section(value: object, place: int, package: str) -> Section:
    where = f"sections[{place - 1}]"
    told = _checked(value, _SECTION_KEYS, lambda why: _refuse(package, where, None, why), may_lack=("name",))
    kind, name, options = told["type"], told.get("name"), told["options"]
    if not isinstance(kind, str) or not TYPE.fullmatch(kind):
        _refuse(package, where, None, f"{_shown(kind)} is no section type")
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        _refuse(package, where, None, f"{_shown(name)} is no section name; letters, digits and _, or null for none")
    if not isinstance(options, dict):
        _refuse(package, where, None, "options is no object")
    where = name or where
    for option in options:
        if not NAME.fullmatch(option):
            _refuse(package, where, None, f"{_shown(option)} is no option name; allowed are letters, digits and _")
    return Section(
        name or anonymous_name(place, kind), kind, name is None,
        {option: _value(one, package, where, option) for option, one in options.items()},
    )  # fmt: skip


def _value(value: object, package: str, section: str, option: str) -> Value:
    if isinstance(value, list):
        if not value:
            _refuse(package, section, option, "is an empty list, which UCI cannot hold; leave the option out")
        return tuple(_text(item, package, section, option) for item in value)
    text = _text(value, package, section, option)
    if not text:
        _refuse(package, section, option, "is empty, which UCI cannot hold; leave the option out")
    return text


def _text(value: object, package: str, section: str, option: str) -> str:
    """One text; what a string holds, the editor checks."""
    if not isinstance(value, str):
        quoted = f'; write "{json.dumps(value)}"' if type(value) is int else ""
        _refuse(package, section, option, f"{_shown(value)} is no string{quoted}")
    try:
        # Escaped bytes that are UTF-8 after all become what they are read as.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        _refuse(package, section, option, f"{_shown(value)} has characters that cannot be written as UTF-8")


def _check_names(sections: Iterable[Section], package: str) -> None:
    seen: set[str] = set()
    for section in sections:
        if section.name in seen:
            why = "this name occurs twice, or is what UCI would call an anonymous section; choose another"
            _refuse(package, section.name, None, why)
        seen.add(section.name)


def _checked(value: object, keys: tuple[str, ...], refuse: Any, may_lack: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """An object with these keys and no others."""
    if not isinstance(value, dict):
        refuse(f"is no object; it needs the keys {', '.join(keys)}")
        raise AssertionError
    missing = [key for key in keys if key not in value and key not in may_lack]
    unknown = [key for key in value if key not in keys]
    if missing or unknown:
        lacks = f"lacks the key {missing[0]}" if missing else f"has an unknown key {_shown(unknown[0])}"
        refuse(f"{lacks}; its keys are {', '.join(keys)}")
    return value


def _shown(value: object) -> str:
    """A value for a message: visible ASCII, and short."""
    text = ascii(value) if isinstance(value, str | int | float | None) else f"a JSON {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse(package: str, section: str | None, option: str | None, why: str) -> NoReturn:
    raise ConfigError(package, section and label(section), option and label(option), why)


# --- from one package to another ----------------------------------------------------------------------------------


def merged(before: Package, given: Package) -> Package:
    """``before`` with the sections of ``given`` in place of those of the same names; all others stay.

    An anonymous section of ``given`` is added, unless there is one already that says the same.
    """
    named = {section.name: section for section in given.sections if not section.anonymous}
    kept = [named.pop(section.name, section) for section in before.sections]
    there: dict[Any, int] = defaultdict(int)
    for section in before.sections:
        if section.anonymous:
            there[_said(section)] += 1
    for section in given.sections:
        if not section.anonymous and section.name in named:
            kept.append(section)
        elif section.anonymous and there[_said(section)]:
            there[_said(section)] -= 1
        elif section.anonymous:
            kept.append(section)
    return Package(before.name, tuple(kept))


def transform(editor: Editor, target: Package) -> None:
    """Make the editor's package say what ``target`` says, by few changes; by none where it does already.

    Raises ConfigError where UCI cannot hold what ``target`` says. The editor is to be thrown away then.
    """
    before = editor.package
    pairs = _pairs(before, target)
    kept = {old.name for old, _ in pairs if old is not None}
    for section in before.sections:
        if section.name not in kept:
            editor.delete(section.name)
    names = [_make(editor, old, new) for old, new in pairs]
    for name, (old, new) in zip(names, pairs, strict=True):
        _fill(editor, name, old.options if old is not None else {}, new.options)
    _order(editor, names)
    if not alike(editor.package, target):
        why = "the sections cannot be made so; look for a named section called like an anonymous one (cfg...)"
        raise ConfigError(target.name, None, None, why)


def alike(one: Package, other: Package) -> bool:
    """Whether two packages say the same; the order of options does not matter, nor do names of anonymous sections."""
    return [_identity(section) for section in one.sections] == [_identity(section) for section in other.sections]


def _pairs(before: Package, target: Package) -> list[tuple[Section | None, Section]]:
    """For each section of ``target`` the one it is made of; None: it is new.

    Named ones by name, anonymous ones by content, and what is left of a type in its order.
    """
    wanted = {section.name for section in target.sections if not section.anonymous}
    by_name = {section.name: section for section in reversed(before.sections)}
    free = [section for section in before.sections if section.anonymous and section.name not in wanted]
    found: dict[int, Section] = {
        place: by_name[new.name]
        for place, new in enumerate(target.sections)
        if not new.anonymous and new.name in by_name
    }
    for key in (_said, lambda section: section.type):
        candidates: dict[Any, list[Section]] = defaultdict(list)
        for section in free:
            candidates[key(section)].append(section)
        for place, new in enumerate(target.sections):
            if new.anonymous and place not in found and candidates[key(new)]:
                found[place] = candidates[key(new)].pop(0)
        used = {section.name for section in found.values()}
        free = [section for section in free if section.name not in used]
    return [(found.get(place), new) for place, new in enumerate(target.sections)]


def _make(editor: Editor, old: Section | None, new: Section) -> str:
    """See that a section is there, with its name and type."""
    if old is None and new.anonymous:
        return editor.add(new.type)
    if old is not None and old.anonymous and not new.anonymous:
        editor.rename(old.name, new.name)
    name = new.name if old is None else old.name
    editor.set(name, new.type)
    return name


def _fill(editor: Editor, name: str, before: Mapping[str, Value], wanted: Mapping[str, Value]) -> None:
    for option in before:
        if option not in wanted:
            editor.delete(name, option)
    for option, value in wanted.items():
        if before.get(option) != value:
            editor.set(name, option, value)


def _order(editor: Editor, names: list[str]) -> None:
    """Move as few sections as can be."""
    now = [section.name for section in editor.sections()]
    rank = {name: place for place, name in enumerate(names)}
    stays = _longest([rank[name] for name in now])
    for place, name in enumerate(names):
        if place not in stays:
            now.remove(name)
            index = now.index(names[place - 1]) + 1 if place else 0
            now.insert(index, name)
            editor.reorder(name, index)


def _longest(ranks: list[int]) -> set[int]:
    """A longest rising part of ``ranks``, which are all different."""
    tops: list[int] = []  # the lowest end of a rising part of each length
    before: dict[int, int | None] = {}
    for rank in ranks:
        length = bisect_left(tops, rank)
        before[rank] = tops[length - 1] if length else None
        tops[length : length + 1] = [rank]
    part: set[int] = set()
    last = tops[-1] if tops else None
    while last is not None:
        part.add(last)
        last = before[last]
    return part


# --- what a section says ------------------------------------------------------------------------------------------


def _said(section: Section) -> tuple[str, frozenset[tuple[str, Value]]]:
    return section.type, frozenset(section.options.items())


def _identity(section: Section) -> tuple[object, ...]:
    return (None if section.anonymous else section.name, *_said(section))
