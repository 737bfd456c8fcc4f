"""Packages as JSON, and from one package to another."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connbal.errors import ConfigError
from connbal.uci import Editor, Package, Section, exchange, export, parse
from connbal.uci.package import anonymous_name
from connbal.uci.show import difference
from tests.unit.uci.test_text import texts

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # what the editor refuses

values = st.one_of(
    texts.filter(bool).filter(lambda text: not CONTROL.search(text)),
    st.lists(st.sampled_from(["", "1", "a b", "it's", "\udcff", "é"]), min_size=1, max_size=3).map(tuple),
)
options = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3)


@st.composite
def packages(draw: st.DrawFn) -> Package:
    """Few names, types and values: so two packages have much in common."""
    names = draw(st.lists(st.sampled_from(["x", "y", "z", "u", None, None, None]), max_size=7))
    sections, seen = [], set()
    for name in names:
        if name is not None and name in seen:
            continue
        seen.add(name)
        kind = draw(st.sampled_from(["rule", "policy", "r"]))
        given_name = name or anonymous_name(len(sections) + 1, kind)
        sections.append(Section(given_name, kind, name is None, draw(options)))
    return Package("mwan3", tuple(sections))


def document(package: Package) -> dict[str, Any]:
    return {"schema": exchange.SCHEMA, **exchange.as_data(package)}


def moves(editor: Editor) -> int:
    return sum(change.kind == "^" for change in editor.changes)


# --- to and from JSON ---------------------------------------------------------------------------------------------


@given(packages())
def test_there_and_back(package: Package) -> None:
    text = json.dumps(document(package)).encode()
    assert text.isascii()
    assert exchange.parse(text, "mwan3") == package


def test_bytes_that_are_no_text_survive() -> None:
    package = parse(b"config rule 'r'\n\toption x 'a\xff\xfeb'\n\tlist y '\xc3'\n", "mwan3")
    back = exchange.parse(json.dumps(document(package)).encode(), "mwan3")
    assert back == package
    assert export(back).encode("utf-8", "surrogateescape").count(b"a\xff\xfeb") == 1


def test_escaped_bytes_that_are_text_become_it() -> None:
    (section,) = exchange.from_data(one({"x": "\udcc3\udca9"}), "mwan3").sections
    assert section.options == {"x": "é"}


def one(options: object, **other: object) -> dict[str, Any]:
    section = {"type": "rule", "name": "r", "options": options, **other}
    return {"schema": "export/1", "package": "mwan3", "sections": [section]}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "mwan3: the document is no object"),
        (None, "no object"),
        ({}, "lacks the key schema"),
        ({**one({}), "schema": "export/2"}, "the document is 'export/2', not export/1"),
        ({**one({}), "schema": ["x"] * 1000}, "is a JSON list, not"),
        ({**one({}), "package": "network"}, "is about package 'network'"),
        ({**one({}), "sections": {}}, "sections is no array"),
        ({**one({}), "rules": []}, "has an unknown key 'rules'"),
        ({**one({}), "sections": [1]}, r"mwan3.sections\[0\]: is no object"),
        ({**one({}), "sections": [{}] * 12_001}, "more than 12000 sections"),
        (one([]), "options is no object"),
        (one({}, type="it's"), "is no section type"),
        (one({}, type=3), "3 is no section type"),
        (one({}, type="a\nb"), r"'a\\nb' is no section type"),
        (one({}, name="a b"), "'a b' is no section name"),
        (one({}, name=""), "'' is no section name"),
        (one({}, name=True), "True is no section name"),
        (one({}, anonymous=True), "unknown key 'anonymous'"),
        (one({"a.b": "1"}), "'a.b' is no option name"),
        (one({"": "1"}), "'' is no option name"),
        (one({"x": 1}), 'mwan3.r.x: 1 is no string; write "1"'),
        (one({"x": 1}, name="n" * 2000), "mwan3.n+~.x: 1 is no string"),
        (one({"o" * 2000: 1}), "mwan3.r.o+~: 1 is no string"),
        (one({"x": True}), "True is no string"),
        (one({"x": None}), "None is no string"),
        (one({"x": {"y": "z"}}), "a JSON dict is no string"),
        (one({"x": ""}), "is empty, which UCI cannot hold"),
        (one({"x": []}), "is an empty list"),
        (one({"x": [["y"]]}), "a JSON list is no string"),
        (one({"x": "\ud800"}), "cannot be written as UTF-8"),
        ({**one({}), "sections": one({})["sections"] * 2}, "mwan3.r: this name occurs twice"),
    ],
)
def test_what_is_no_document_is_refused(value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        exchange.from_data(value, "mwan3")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff{}", "no JSON"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep"),
        (b" " * (exchange.MAX_BYTES + 1), "more than 4194304 bytes"),
        (b'{"schema": "export/1", "schema": "export/1"}', "the key 'schema' occurs twice"),
        (b"9" * 10_000, "no JSON|no object"),
        (b"NaN", "no object"),
    ],
    ids=range(9),
)
def test_hostile_texts_are_refused(text: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        exchange.parse(text, "mwan3")


def test_a_name_that_uci_would_give_an_anonymous_section_is_refused() -> None:
    sections = (Section("", "rule", True), Section(anonymous_name(1, "rule"), "rule"))
    with pytest.raises(ConfigError, match="occurs twice, or is what UCI would call an anonymous"):
        exchange.from_data(document(Package("mwan3", sections)), "mwan3")


def test_a_byte_order_mark_is_passed_over() -> None:
    assert exchange.parse(b"\xef\xbb\xbf" + json.dumps(one({})).encode(), "mwan3").get("r") is not None


# --- from one package to another ----------------------------------------------------------------------------------


@given(packages(), packages())
def test_any_package_becomes_any_other(before: Package, target: Package) -> None:
    editor = Editor(before)
    exchange.transform(editor, target)
    assert exchange.alike(editor.package, target)
    # The record of changes does the same to another editor, and what is written says the same.
    again = Editor(before)
    again.redo(editor.changes)
    assert exchange.alike(again.package, target)
    assert exchange.alike(parse(export(editor.package), "mwan3"), target)


@given(packages(), packages())
def test_there_are_changes_exactly_where_there_is_a_difference(before: Package, target: Package) -> None:
    editor = Editor(before)
    exchange.transform(editor, target)
    assert bool(editor.changes) == (not exchange.alike(before, target))
    assert bool(editor.changes) == bool(difference(before, editor.package)) or _only_types_changed_places(editor)


def _only_types_changed_places(editor: Editor) -> bool:
    """The order of sections of different types means nothing to the reader of a difference."""
    return all(change.kind == "^" for change in editor.changes)


@given(packages())
def test_nothing_is_done_to_what_is_so_already(package: Package) -> None:
    turned = replace(
        package,
        sections=tuple(replace(one, options=dict(reversed(one.options.items()))) for one in package.sections),
    )
    for target in (package, turned):
        editor = Editor(package)
        exchange.transform(editor, target)
        assert editor.changes == ()


@given(st.permutations(range(6)))
@example([5, 0, 1, 2, 3, 4])
def test_as_few_sections_move_as_can(order: list[int]) -> None:
    before = Package("mwan3", tuple(Section(f"s{number}", "rule") for number in range(6)))
    target = Package("mwan3", tuple(Section(f"s{number}", "rule") for number in order))
    editor = Editor(before)
    exchange.transform(editor, target)
    rising = max(
        len(part)
        for length in range(1, 7)
        for part in itertools.combinations(order, length)
        if list(part) == sorted(part)
    )
    assert moves(editor) == len(editor.changes) == 6 - rising


BEFORE = parse(
    """
config globals 'globals'
	option mmx_mask '0x3F00'

config interface 'wan'
	option enabled '1'
	list track_ip '1.1.1.1'

config rule 'one'
	option use_policy 'p'

config rule
	option use_policy "it's"

config rule 'three'
	option use_policy 'q'
""",
    "mwan3",
)
# --- merging ------------------------------------------------------------------------------------------------------


def test_merging_changes_the_given_sections_and_no_others() -> None:
    given_ = Package(
        "mwan3",
        (
            Section("one", "rule", False, {"use_policy": "z"}),
            Section("new", "rule", False, {}),
            Section("", "rule", True, {"use_policy": "it's"}),
            Section("", "rule", True, {"use_policy": "it's"}),
        ),
    )
    merged = exchange.merged(BEFORE, given_)
    assert [(one.name, one.options.get("use_policy")) for one in merged.sections if one.type == "rule"] == [
        ("one", "z"), (BEFORE.sections[3].name, "it's"), ("three", "q"), ("new", None), ("", "it's"),
    ]  # fmt: skip
    assert merged.sections[:2] == BEFORE.sections[:2]
    editor = Editor(BEFORE)
    exchange.transform(editor, merged)
    assert exchange.alike(exchange.merged(editor.package, given_), editor.package)


@given(packages(), packages())
def test_merging_twice_is_merging_once(before: Package, given_: Package) -> None:
    editor = Editor(before)
    exchange.transform(editor, exchange.merged(before, given_))
    once = editor.package
    assert exchange.alike(exchange.merged(once, given_), once)
    given_names = {section.name for section in given_.sections if not section.anonymous}
    untouched = [section for section in before.sections if section.name not in given_names]
    assert untouched == [section for section in once.sections if section in untouched][: len(untouched)]


def test_a_thousand_rules_turned_round() -> None:
    before = Package("mwan3", tuple(Section(f"r{number}", "rule", False, {"x": "1"}) for number in range(1000)))
    target = replace(before, sections=before.sections[::-1])
    editor = Editor(before)
    exchange.transform(editor, target)
    assert exchange.alike(editor.package, target)
    assert moves(editor) == 999
