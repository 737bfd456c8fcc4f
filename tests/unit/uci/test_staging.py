"""Staged changes: what is appended to libuci's file means what was done, and what others staged is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.errors import ConfigError
from connbal.uci import operations
from connbal.uci.edit import Change, Editor, delta, parse_delta, same_content
from connbal.uci.embedded import EmbeddedStore
from connbal.uci.package import Package
from connbal.uci.places import First
from connbal.uci.staging import look, staged
from connbal.uci.text import encode, parse

BASE = """
config member 'm'
	option interface 'wan'

config policy 'p'
	list use_member 'm'

config rule 'a'
	option use_policy 'p'

config rule
	option use_policy 'p'
"""


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    (tmp_path / "config").mkdir(mode=0o755)
    (tmp_path / "config" / "mwan3").write_text(BASE)
    return EmbeddedStore(tmp_path / "config")


def stage(store: EmbeddedStore, do: Any) -> Package:
    """Stage what ``do`` does to an editor; what it had made of the package then."""
    with staged(store, "mwan3", str(store.config_dir.parent / "stage"), patience=1) as edit:
        do(edit)
    return edit.package


def committed(store: EmbeddedStore) -> Package:
    """What ``uci commit`` would make of it."""
    edit = Editor(store.load("mwan3"))
    edit.adopt(look(str(store.config_dir.parent / "stage"), "mwan3"))
    return edit.package


class TestStaging:
    def test_the_lines_are_those_of_uci_set(self, store: EmbeddedStore, tmp_path: Path) -> None:
        def do(edit: Editor) -> None:
            operations.change(edit, "policy", "p", {"last_resort": "default"}, add={"use_member": ["x"]})
            operations.rename(edit, "rule", "a", "b")
            operations.delete(edit, "rule", "@rule[1]")
            operations.add(edit, "rule", "new", {"use_policy": "p"})
            operations.move(edit, "new", First())

        name = store.load("mwan3").sections[3].name
        stage(store, do)
        assert (tmp_path / "stage" / "mwan3").read_text().splitlines() == [
            "mwan3.p.last_resort='default'",
            "-mwan3.p.use_member",
            "|mwan3.p.use_member='m'",
            "|mwan3.p.use_member='x'",
            "@mwan3.a='b'",
            f"-mwan3.{name}",
            "mwan3.new='rule'",
            "mwan3.new.use_policy='p'",
            "^mwan3.new='2'",
        ]
        assert store.load("mwan3") == parse(BASE, "mwan3")

    def test_what_others_staged_comes_first_and_stays(self, store: EmbeddedStore, tmp_path: Path) -> None:
        (tmp_path / "stage").mkdir()
        file = tmp_path / "stage" / "mwan3"
        file.write_text("mwan3.q='policy'\nmwan3.a.use_policy='q'\n~mwan3.p.use_member='m'\n+mwan3.cfg99='rule'\n")
        made = stage(store, lambda edit: operations.change(edit, "rule", "a", {"sticky": "1"}))
        assert file.read_text().endswith("+mwan3.cfg99='rule'\nmwan3.a.sticky='1'\n")
        assert made.get("a") is not None
        assert committed(store).find("a").options == {"use_policy": "q", "sticky": "1"}
        assert committed(store).find("p").options == {}
        assert committed(store).sections[-1].anonymous

    def test_a_policy_that_is_only_staged_can_be_used(self, store: EmbeddedStore) -> None:
        stage(store, lambda edit: operations.add(edit, "policy", "q", {}))
        stage(store, lambda edit: operations.change(edit, "rule", "a", {"use_policy": "q"}))
        assert committed(store).find("a").options["use_policy"] == "q"

    def test_what_is_refused_stages_nothing(self, store: EmbeddedStore, tmp_path: Path) -> None:
        def do(edit: Editor) -> None:
            operations.add(edit, "policy", "q", {})
            raise KeyError

        with pytest.raises(KeyError):
            stage(store, do)
        assert (tmp_path / "stage" / "mwan3").read_bytes() == b""

    def test_modes_are_those_of_the_configuration(self, store: EmbeddedStore, tmp_path: Path) -> None:
        (tmp_path / "config" / "mwan3").chmod(0o640)
        stage(store, lambda edit: operations.delete(edit, "rule", "a"))
        assert (tmp_path / "stage").stat().st_mode & 0o777 == 0o755
        assert (tmp_path / "stage" / "mwan3").stat().st_mode & 0o777 == 0o640

    def test_a_line_cut_short_takes_no_other_with_it(self, store: EmbeddedStore, tmp_path: Path) -> None:
        (tmp_path / "stage").mkdir()
        (tmp_path / "stage" / "mwan3").write_text("mwan3.a.sticky='1'\nmwan3.a.timeo")
        stage(store, lambda edit: operations.change(edit, "rule", "a", {"logging": "1"}))
        assert committed(store).find("a").options == {"use_policy": "p", "sticky": "1", "logging": "1"}

    def test_there_need_be_no_file(self, store: EmbeddedStore, tmp_path: Path) -> None:
        (tmp_path / "config" / "mwan3").unlink()
        stage(store, lambda edit: operations.add(edit, "interface", "wan", {}))
        assert (tmp_path / "stage" / "mwan3").read_text() == "mwan3.wan='interface'\n"

    def test_a_file_where_the_directory_should_be(self, store: EmbeddedStore, tmp_path: Path) -> None:
        (tmp_path / "stage").write_text("")
        with pytest.raises(ConfigError, match="mwan3"):
            stage(store, lambda edit: None)


class TestReading:
    @pytest.mark.parametrize(
        ("line", "change"),
        [
            ("mwan3.a=rule", Change("", "a", None, "rule")),
            ("mwan3.a.b='c d'", Change("", "a", "b", "c d")),
            ("mwan3.a.b=''", Change("", "a", "b", "")),
            ("mwan3.a.b='it'\\''s'", Change("", "a", "b", "it's")),
            ("mwan3.a.b='x=y.z'", Change("", "a", "b", "x=y.z")),
            ("-mwan3.a", Change("-", "a")),
            ("-mwan3.a.b", Change("-", "a", "b")),
            ("^mwan3.a='3'", Change("^", "a", None, "3")),
            ("|mwan3.a.b='c'", Change("|", "a", "b", "c")),
            ("~mwan3.a.b='c'", Change("~", "a", "b", "c")),
            ("+mwan3.cfg01='rule'", Change("+", "cfg01", None, "rule")),
        ],
    )
    def test_a_line(self, line: str, change: Change) -> None:
        assert parse_delta(f"{line}\n".encode(), "mwan3") == [change]

    @pytest.mark.parametrize(
        "line",
        ["", "# x", "other.a=rule", "mwan3", "mwan3=x", "mwan3.a", "mwan3.a.b.c='d'", "mwan3.@rule[0]='x'",
         "|mwan3.a='x'", "^mwan3.a.b='1'", "mwan3.a-b='x'", "mwan3.a='x' y", "'mwan3.a=x"],
    )  # fmt: skip
    def test_what_is_no_change(self, line: str) -> None:
        good = b"mwan3.good='rule'\n"
        assert parse_delta(good + f"{line}\n".encode(), "mwan3") == [Change("", "good", None, "rule")]

    @pytest.mark.parametrize(
        "line", ["@mwan3.none='x'", "|mwan3.none.x='y'", "^mwan3.none='1'", "+mwan3.none.x='rule'"]
    )
    def test_what_does_not_fit_is_passed_over(self, line: str) -> None:
        edit = Editor(parse(BASE, "mwan3"))
        edit.adopt(parse_delta(f"{line}\nmwan3.a.sticky='1'\n".encode(), "mwan3"))
        assert edit.package.find("a").options == {"use_policy": "p", "sticky": "1"}
        assert edit.changes == ()
        assert len(edit.package.sections) == 4

    @pytest.mark.parametrize(
        ("place", "names"),
        [("0", "a m p"), ("1", "m a p"), ("9", "m p a"), ("x", "a m p"), ("", "a m p"), ("-1", "a m p"),
         (" +1x", "m a p"), ("4294967297", "m a p"), ("2147483648", "a m p"), ("9" * 30, "a m p")],
    )  # fmt: skip
    def test_a_place_is_what_c_reads_of_it(self, place: str, names: str) -> None:
        """Whatever text stands there, the section moves somewhere; so says the real libuci."""
        edit = Editor(parse(BASE.rpartition("config rule")[0], "mwan3"))
        edit.adopt(parse_delta(f"^mwan3.a='{place}'\n".encode(), "mwan3"))
        assert [section.name for section in edit.sections()] == names.split()

    def test_a_list_that_grows_or_shrinks_keeps_its_place(self) -> None:
        text = "config rule 'a'\n\tlist x '1'\n\tlist x '2'\n\toption y '3'\n\toption z '4'\n"
        edit = Editor(parse(text, "mwan3"))
        edit.adopt(parse_delta(b"|mwan3.a.x='5'\n|mwan3.a.y='6'\n~mwan3.a.x='2'\n~mwan3.a.z='4'\n", "mwan3"))
        assert list(edit.package.sections[0].options.items()) == [("x", ("1", "5")), ("y", ("3", "6")), ("z", "4")]
        edit.adopt(parse_delta(b"~mwan3.a.x='1'\n~mwan3.a.x='5'\n", "mwan3"))
        assert list(edit.package.sections[0].options) == ["y", "z"]

    def test_an_option_of_a_new_section_is_no_section(self) -> None:
        edit = Editor(parse(BASE, "mwan3"))
        edit.adopt(parse_delta(b"+mwan3.a.sticky='1'\n+mwan3.other.sticky='1'\n", "mwan3"))
        assert edit.package.find("a").options == {"use_policy": "p", "sticky": "1"}
        assert edit.package.find("other") is None


VALUES = st.text(st.sampled_from("a'\"\\\n\t =#;.ä,"), min_size=1, max_size=8)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "list", "unset", "new", "anonymous", "delete", "rename", "move"]),
        st.integers(0, 5), st.sampled_from(["x", "y", "use_policy"]), VALUES,
    ),
    max_size=25,
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_committed_and_staged_together_are_what_was_meant(steps: list[tuple[str, int, str, str]]) -> None:
    edit = Editor(parse(BASE, "mwan3"))
    for number, (verb, index, option, value) in enumerate(steps):
        sections = edit.sections()
        name = sections[index % len(sections)].name if sections else ""
        if verb == "new":
            edit.set(f"n{number}", "rule")
        elif verb == "anonymous":
            edit.add("rule")
        elif not sections:
            continue
        elif verb == "set":
            edit.set(name, option, value)
        elif verb == "list":
            edit.set(name, option, (value, "", "z"))
        elif verb == "unset":
            edit.delete(name, option)
        elif verb == "delete":
            edit.delete(name)
        elif verb == "rename":
            edit.rename(name, f"r{number}")
        else:
            edit.reorder(name, index % len(sections))
    again = Editor(parse(BASE, "mwan3"))
    again.adopt(parse_delta(encode(delta("mwan3", edit.changes)), "mwan3"))
    assert same_content(again.package, edit.package)
