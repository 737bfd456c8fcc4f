"""The editor: strict where libuci is silent, and a record that can be done again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.errors import ConfigError
from connbal.uci import Editor, export, parse
from connbal.uci.edit import Change, delta, same_content

TEXT = """
config interface 'wan'
	option enabled '1'
	list track_ip '1.1.1.1'
	option up '3'

config rule 'first'
	option use_policy 'p'

config rule
	option use_policy 'q'

config rule 'last'

"""


def editor() -> Editor:
    return Editor(parse(TEXT, "mwan3"))


def names(edit: Editor) -> list[str]:
    return [section.name for section in edit.sections()]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda e: e.set("a-b", "rule"), "mwan3.a-b: 'a-b' is no section name; allowed are letters, digits and _"),
        (lambda e: e.set("", "rule"), "'' is no section name"),
        (lambda e: e.set("wan", "a.b", "1"), "mwan3.wan.a.b: 'a.b' is no option name"),
        (lambda e: e.set("wan", "a\nb", "1"), "is no option name"),
        (lambda e: e.set("wan", "a b", ""), "is no option name"),
        (lambda e: e.set("wan", "x", "a\0b"), "control character"),
        (lambda e: e.set("wan", "x", ["a", "\x1b"]), "control character"),
        (lambda e: e.set("wan", "x", "\ud800"), "cannot be written as UTF-8"),
        (lambda e: e.set("new", "ru le"), "'ru le' is no section type"),
        (lambda e: e.set("new", "it's"), "is no section type"),
        (lambda e: e.add(""), "'' is no section type"),
        (lambda e: e.add("a;b"), "is no section type"),
        (lambda e: e.set("nope", "x", "1"), "mwan3.nope: there is no such section"),
        (lambda e: e.set("nope", "x", ""), "there is no such section"),
        (lambda e: e.rename("nope", "x"), "there is no such section"),
        (lambda e: e.rename("wan", "first"), "cannot be renamed to 'first', which exists"),
        (lambda e: e.rename("wan", "x y"), "'x y' is no section name"),
        (
            lambda e: e.rename_option("wan", "nope", "x"),
            "there is no such option; the section has enabled, track_ip, up",
        ),
        (lambda e: e.rename_option("wan", "up", "enabled"), "cannot be renamed to 'enabled', which exists"),
        (lambda e: e.reorder("nope", 0), "there is no such section"),
        (lambda e: e.reorder("last", 4), "cannot move to place 4; places are 0 to 3"),
        (lambda e: e.reorder("last", -1), "places are 0 to 3"),
    ],
)
def test_what_uci_cannot_hold_is_refused_and_nothing_changes(action: Callable[[Editor], object], words: str) -> None:
    edit = editor()
    with pytest.raises(ConfigError) as caught:
        action(edit)
    assert words in str(caught.value)
    assert not edit.changes
    assert edit.package == parse(TEXT, "mwan3")


@pytest.mark.parametrize(
    "action",
    [
        lambda e: e.set("wan", "interface"),
        lambda e: e.set("wan", "enabled", "1"),
        lambda e: e.set("wan", "track_ip", ["1.1.1.1"]),
        lambda e: e.set("wan", "nope", ""),
        lambda e: e.set("wan", "nope", []),
        lambda e: e.delete("nope"),
        lambda e: e.delete("wan", "nope"),
        lambda e: e.rename("wan", "wan"),
        lambda e: e.rename_option("wan", "up", "up"),
        lambda e: e.reorder("first", 1),
    ],
)
def test_what_makes_no_difference_is_no_change(action: Callable[[Editor], object]) -> None:
    edit = editor()
    action(edit)
    assert not edit.changes


def test_reorder_moves_among_all_sections() -> None:
    edit = editor()
    edit.reorder("last", 1)
    assert names(edit) == ["wan", "last", "first", "cfg0392bd"]
    edit.reorder("wan", 3)
    assert names(edit) == ["last", "first", "cfg0392bd", "wan"]
    edit.reorder("wan", 0)
    assert names(edit) == ["wan", "last", "first", "cfg0392bd"]


def test_equal_sections_are_told_apart() -> None:
    edit = Editor(parse("config rule\nconfig rule\nconfig rule\n", "t"))
    edit.reorder("cfg0392bd", 0)
    edit.delete("cfg0292bd")
    assert names(edit) == ["cfg0392bd", "cfg0192bd"]


def test_options_keep_their_place_and_new_lists_go_to_the_end() -> None:
    edit = editor()
    edit.set("wan", "enabled", "0")
    edit.set("wan", "track_ip", ["9.9.9.9", ""])
    edit.rename_option("wan", "up", "down")
    section = edit.package.get("wan")
    assert section is not None
    assert list(section.options.items()) == [("enabled", "0"), ("down", "3"), ("track_ip", ("9.9.9.9", ""))]


def test_add_names_the_section_and_avoids_names_in_use() -> None:
    edit = editor()
    edit.set("cfg0692bd", "rule")
    assert edit.add("rule") == "cfg0792bd"
    edit.delete("cfg0792bd")
    assert edit.add("policy") == "cfg086ff5"
    assert edit.sections()[-1].anonymous
    edit.rename("cfg086ff5", "p")
    assert not edit.sections()[-1].anonymous


def test_delta_is_libucis_notation() -> None:
    changes = [
        Change("", "wan", None, "interface"),
        Change("-", "r"),
        Change("|", "wan", "x", "it's"),
        Change("^", "r", None, "2"),
    ]
    assert delta("mwan3", changes) == "mwan3.wan='interface'\n-mwan3.r\n|mwan3.wan.x='it'\\''s'\n^mwan3.r='2'\n"


sections = st.sampled_from(["wan", "first", "last", "cfg0392bd", "a", "b"])
options = st.sampled_from(["enabled", "track_ip", "x", "y"])
values = st.one_of(st.sampled_from(["1", "", "it's", "a\nb"]), st.lists(st.sampled_from(["1", "", "'"]), max_size=3))
actions = st.one_of(
    st.tuples(st.just("set"), sections, st.sampled_from(["rule", "interface", "policy"])),
    st.tuples(st.just("set"), sections, options, values),
    st.tuples(st.just("add"), st.sampled_from(["rule", "policy"])),
    st.tuples(st.just("delete"), sections),
    st.tuples(st.just("delete"), sections, options),
    st.tuples(st.just("rename"), sections, st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("rename_option"), sections, options, options),
    st.tuples(st.just("reorder"), sections, st.integers(0, 5)),
)


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(st.lists(actions, max_size=12))
def test_the_record_gives_the_same_package_again(todo: list[tuple[str, ...]]) -> None:
    edit = editor()
    for verb, *arguments in todo:
        try:
            getattr(edit, verb)(*arguments)
        except ConfigError:
            continue
    again = editor()
    again.redo(edit.changes)
    assert again.package == edit.package
    assert [list(s.options.items()) for s in again.sections()] == [list(s.options.items()) for s in edit.sections()]
    if not edit.changes:
        assert export(edit.package) == export(parse(TEXT, "mwan3"))
    assert same_content(parse(export(edit.package), "mwan3"), edit.package)


def test_a_record_that_no_longer_fits_is_refused() -> None:
    edit = editor()
    edit.set("first", "use_policy", "other")
    without = Editor(parse("config rule 'last'\n", "mwan3"))
    with pytest.raises(ConfigError, match="there is no such section"):
        without.redo(edit.changes)
