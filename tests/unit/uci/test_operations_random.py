"""Random operations against a plain model; random text through both readers; random edits checked both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connbal.errors import ConfigError, ConnbalError
from connbal.uci import operations, verify
from connbal.uci.buffer import Rest
from connbal.uci.decode import decode
from connbal.uci.edit import Editor
from connbal.uci.package import Package
from connbal.uci.places import After, Before, Down, First, Last, To, Up
from connbal.uci.text import Drafts, export, parse

NAMES = ["a", "b", "c", "d"]
REFERS = {"member": "interface", "policy": "use_member", "rule": "use_policy"}
BELOW = {"member": "interface", "policy": "member", "rule": "policy"}
TYPES = ["interface", "member", "policy", "rule"]


class Model:
    """Sections as a list of [type, name, options], names made unique by their type."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, str, dict[str, Any]]] = []

    def get(self, name: str) -> tuple[str, str, dict[str, Any]] | None:
        return next((one for one in self.sections if one[1] == name), None)

    def users(self, type_: str, name: str) -> list[tuple[str, str, dict[str, Any]]]:
        return [one for one in self.sections if BELOW.get(one[0]) == type_ and name in one[2].get(REFERS[one[0]], ())]

    def add(self, type_: str, name: str, references: list[str]) -> None:
        options: dict[str, Any] = {"unknown": name}
        if references and type_ != "interface":
            options[REFERS[type_]] = tuple(references)
        self.sections.append((type_, name, options))

    def delete(self, name: str, cascade: bool) -> bool:
        section = self.get(name)
        assert section is not None
        using = self.users(section[0], name)
        if using and not cascade:
            return False
        for user in using:
            if user[0] == "policy":
                left = tuple(word for word in user[2]["use_member"] if word != name)
                del user[2]["use_member"]
                if left:
                    user[2]["use_member"] = left
            else:
                self.delete(user[1], True)
        self.sections.remove(section)
        return True

    def rename(self, name: str, new: str) -> None:
        section = self.get(name)
        assert section is not None
        for _, _, options in self.users(section[0], name):
            for option in REFERS.values():
                if option in options:
                    value = options.pop(option)
                    options[option] = tuple(new if word == name else word for word in value)
        self.sections[self.sections.index(section)] = (section[0], new, section[2])

    def move(self, name: str, where: tuple[str, Any]) -> bool:
        """In terms of the list of rules alone."""
        rules = [one[1] for one in self.sections if one[0] == "rule"]
        index, (kind, value) = rules.index(name), where
        rules.remove(name)
        if kind in ("before", "after"):
            if value not in rules:
                return False
            target = rules.index(value) + (kind == "after")
        elif kind == "to":
            if not 1 <= value <= len(rules) + 1:
                return False
            target = value - 1
        else:
            target = {"first": 0, "last": len(rules), "up": max(0, index - 1), "down": min(len(rules), index + 1)}[kind]
        rules.insert(target, name)
        by_name = {one[1]: one for one in self.sections}
        self._rules = [by_name[one] for one in rules]
        others = iter([one for one in self.sections if one[0] != "rule"])
        again = iter(self._rules)
        self.sections = [next(again) if one[0] == "rule" else next(others) for one in self.sections]
        return True


PLACES = st.one_of(
    st.sampled_from([("first", 0), ("last", 0), ("up", 0), ("down", 0)]),
    st.tuples(st.sampled_from(["before", "after"]), st.sampled_from([f"rule_{name}" for name in NAMES])),
    st.tuples(st.just("to"), st.integers(-1, 6)),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(TYPES), st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES))),
        st.tuples(st.just("delete"), st.sampled_from(TYPES), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("rename"), st.sampled_from(TYPES), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.just("move"), st.just("rule"), st.sampled_from(NAMES), PLACES),
    ),
    max_size=40,
)
MAKERS = {"first": First, "last": Last, "up": Up, "down": Down, "before": Before, "after": After, "to": To}


def place(where: tuple[str, Any]) -> Any:
    kind, value = where
    return MAKERS[kind](value) if kind in ("before", "after", "to") else MAKERS[kind]()


def both(edit: Editor, model: Model, step: tuple[str, str, str, Any]) -> None:
    """One step, here and there. What the model has no answer to must be refused here."""
    verb, type_, short, rest = step
    name = f"{type_}_{short}"
    there = model.get(name) is not None
    before = edit.package
    if verb == "add":
        wanted = [f"{BELOW.get(type_)}_{one}" for one in dict.fromkeys(rest)]
        known = [one for one in wanted if model.get(one)][: 1 if type_ != "policy" else 4]
        possible = not there and (type_ in ("interface", "policy") or bool(known))
        given: dict[str, Any] = {REFERS[type_]: tuple(known)} if known and type_ in REFERS else {}
        try:
            operations.add(edit, type_, name, {key: value[0] if type_ != "policy" else value
                                               for key, value in given.items()})  # fmt: skip
            edit.set(name, "unknown", name)  # another program's
            assert possible
            model.add(type_, name, [])
            model.sections[-1][2].clear()
            model.sections[-1][2].update({**given, "unknown": name})
        except ConnbalError:
            assert not possible
            assert edit.package == before
    elif verb == "delete":
        try:
            operations.delete(edit, type_, name, cascade=rest)
            assert there
            assert model.delete(name, rest)
        except ConnbalError:
            assert not there or not model.delete(name, rest)
            assert edit.package == before
    elif verb == "rename":
        new = f"{type_}_{rest}"
        possible = there and (new == name or model.get(new) is None)
        try:
            operations.rename(edit, type_, name, new)
            assert possible
            model.rename(name, new) if new != name else None
        except ConnbalError:
            assert not possible
            assert edit.package == before
    else:
        try:
            operations.move(edit, name, place(rest))
            assert there
            assert model.move(name, rest)
        except ConnbalError:
            assert not there or not model.move(name, rest)
            assert edit.package == before


def plain(package: Package) -> list[tuple[str, str, list[tuple[str, tuple[str, ...]]]]]:
    """Sections with sorted options, each a tuple: references are lists in policies only."""
    return [
        (one.type, one.name, sorted((key, (value,) if isinstance(value, str) else value)
                                    for key, value in one.options.items()))
        for one in package.sections
    ]  # fmt: skip


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_operations_do_what_a_plain_model_does(steps: list[Any]) -> None:
    edit, model = Editor(Package("mwan3")), Model()
    for step in steps:
        both(edit, model, step)
    assert plain(edit.package) == [
        (type_, name, sorted((key, (value,) if isinstance(value, str) else tuple(value))
                             for key, value in options.items()))
        for type_, name, options in model.sections
    ]  # fmt: skip
    assert not decode(edit.package).errors, "a reference leads nowhere"
    assert all(section.options.get("unknown") for section in edit.sections()), "another program's option is lost"
    read = parse(export(edit.package, header=False), "mwan3")
    assert [one.name for one in read.sections] == [one.name for one in edit.sections()]


# --- verify: the short way says what the long way says --------------------------------------------------------------

VALUES = {
    "src_ip": ["192.0.2.1", "x", "2001:db8::1"], "family": ["ipv4", "ipv6"], "use_policy": ["p", "q", "gone"],
    "dest_port": ["443", "0x"], "proto": ["tcp", "icmp"], "stikcy": ["1"],
}  # fmt: skip
OPTIONS = st.fixed_dictionaries({}, optional={name: st.sampled_from(texts) for name, texts in VALUES.items()})
RULES = st.lists(st.tuples(st.sampled_from(["", "r1", "r2", "r3"]), OPTIONS), max_size=6, unique_by=lambda one: one[0])


def package(rules: list[tuple[str, dict[str, str]]]) -> Package:
    lines = ["config interface 'i'", "config member 'm'", "\toption interface 'i'", "config policy 'p'",
             "\tlist use_member 'm'", "config policy 'q'", "\tlist use_member 'mm'"]  # fmt: skip
    for name, options in rules:
        lines.append(f"config rule {name}")
        lines += [f"\toption {option} '{value}'" for option, value in options.items()]
    return parse("".join(f"{line}\n" for line in lines), "mwan3")


@settings(deadline=None, max_examples=200)
@given(RULES, st.lists(st.tuples(st.integers(0, 7), st.sampled_from(sorted(VALUES))), max_size=3))
def test_checking_the_changed_rules_is_checking_everything(rules: Any, changes: Any) -> None:
    before = package(rules)
    answers = []
    for short in (True, False):
        edit = Editor(before)
        for number, option in changes:
            section = edit.sections()[number % len(edit.sections())]
            if section.type == "rule":
                edit.set(section.name, option, VALUES[option][-1])
        with pytest.MonkeyPatch.context() as patch:
            if not short:
                patch.setattr(verify, "_concerned", lambda old, new: (old, new))
            try:
                answers.append(str(verify.verify(edit, before)))
            except ConfigError as error:
                answers.append(str(error).replace(" (nothing was changed)", ""))
    assert _without_places(answers[0]) == _without_places(answers[1])


def _without_places(text: str) -> str:
    import re

    return re.sub(r" \(@rule\[\d+\]\)", "", text)


# --- reading: plain lines go past the buffer ------------------------------------------------------------------------

PIECES = st.sampled_from([
    b"config rule 'a'\n", b"config rule\n", b"config interface 'a'\n", b"\toption x 'y'\n", b"\toption x ''\n",
    b"\tlist x 'y z'\n", b"\tlist x ''\n", b" option x y\n", b"# c\n", b"\n", b" \t\n", b"\toption x 'y\nz'\n",
    b"\toption x y\\\n", b"\toption x 'a\\b'\n", b"\toption x \"q\"\n", b"option", b"\toption x 'y' # c\n", b"\0",
    b"config", b"\toption x a;b\n", b"\toption x 'a;b#c'\n", b"\toption \xc3\xa4 'y'\n", b"\toption x '\xc3\xa4\xff'\n",
    b"\tlist x y extra\n", b"\r\n", b"package mwan3\n", b"config 'rule' 'q'\n", b"\toption 'x' 'y'\n", b"'", b"\\",
    b"\toption x 1.2.3.4/5\n", b"config rule a b\n", b"\x0b\n", b"config rule a",
])  # fmt: skip


def by_the_buffer(data: bytes) -> Package:
    """All lines the long way."""
    drafts = Drafts(data)
    drafts._plain = None
    Rest(data, 0, "mwan3", drafts).read()
    return drafts.package("mwan3")


def outcome(read: Callable[[bytes], Package], data: bytes) -> object:
    try:
        return read(data)
    except ConfigError as error:
        return str(error)


@settings(deadline=None, max_examples=1500)
@given(st.lists(PIECES, max_size=12))
def test_plain_lines_mean_the_same_without_the_buffer(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert outcome(lambda text: parse(text, "mwan3"), data) == outcome(by_the_buffer, data)
