"""Operations on whole sections: what they do, what they refuse, and that nothing is half done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connbal.errors import ConfigError, ConnbalError, UsageError
from connbal.uci import operations
from connbal.uci.edit import Editor
from connbal.uci.package import Package, Section
from connbal.uci.places import After, Before, Down, First, Last, Place, To, Up
from connbal.uci.text import export, parse

BASE = """
config globals 'globals'
	option mmx_mask '0x3F00'
	option made_by_others 'kept'

config interface 'wan'
	option enabled '1'

config interface 'wan1'
	option enabled '1'

config member 'm'
	option interface 'wan'
	option colour 'blue'

config member 'm1'
	option interface 'wan1'

config policy 'both'
	list use_member 'm'
	list use_member 'm1'

config policy 'one'
	option use_member 'm, m1'

config rule 'tv'
	option src_ip '192.0.2.7'
	option use_policy 'one'

config rule
	option dest_port '443'
	option proto 'tcp'
	option use_policy 'both'

config rule 'rest'
	option use_policy 'both'
"""


def editor(text: str = BASE) -> Editor:
    return Editor(parse(text, "mwan3"))


def anonymous(edit: Editor) -> str:
    return next(section.name for section in edit.sections() if section.anonymous)


def refused(edit: Editor, do: Callable[[], Any], error: type[ConnbalError], *words: str) -> None:
    """``do`` raises ``error``, whose text has ``words``, and leaves the package as it was."""
    before, changes = edit.package, edit.changes
    with pytest.raises(error) as told:
        do()
    assert all(word in str(told.value) for word in words), str(told.value)
    assert (edit.package, edit.changes) == (before, changes)


class TestFind:
    def test_by_name_and_by_place(self) -> None:
        edit = editor()
        names = [operations.find(edit, "rule", one).name for one in ("tv", "@rule[0]", "@rule[-1]", anonymous(edit))]
        assert names == ["tv", "tv", "rest", anonymous(edit)]
        assert operations.find(edit, "rule", "@rule[1]").anonymous

    @pytest.mark.parametrize(
        ("reference", "words"),
        [
            ("Tvv", ["no rule 'Tvv'", "did you mean tv?"]),
            ("@rule[3]", ["no rule '@rule[3]'"]),
            ("one", ["type policy, not rule"]),
            ("x\n\x1b[31m", ["'x\\n\\x1b[31m'"]),
            ("", ["no rule ''"]),
        ],
    )
    def test_what_is_not_there(self, reference: str, words: list[str]) -> None:
        edit = editor()
        refused(edit, lambda: operations.find(edit, "rule", reference), UsageError, *words)


class TestAdd:
    def test_a_section_with_its_options(self) -> None:
        edit = editor()
        given = {"src_ip": ("192.0.2.1", "192.0.2.2"), "use_policy": "one", "sticky": "1", "ipset": ""}
        assert operations.add(edit, "rule", "new", given) == "new"
        made = edit.sections()[-1]
        assert (made.name, made.type, made.anonymous) == ("new", "rule", False)
        assert made.options == {"src_ip": ("192.0.2.1", "192.0.2.2"), "use_policy": "one", "sticky": "1"}

    def test_a_list_is_a_list_and_a_value_a_value(self) -> None:
        edit = editor()
        operations.add(edit, "policy", "p", {"use_member": "m", "last_resort": "default"})
        assert edit.sections()[-1].options == {"use_member": ("m",), "last_resort": "default"}

    def test_a_rule_without_a_name(self) -> None:
        edit = editor()
        name = operations.add(edit, "rule", None, {"use_policy": "one"})
        assert edit.sections()[-1].anonymous
        assert operations.find(edit, "rule", "@rule[-1]").name == name

    @pytest.mark.parametrize(
        ("type_", "name", "options", "error", "words"),
        [
            ("policy", None, {}, UsageError, ["needs a name"]),
            ("rule", "tv", {"use_policy": "one"}, UsageError, ["there is a rule tv already"]),
            ("member", "wan", {"interface": "wan"}, UsageError, ["type interface", "unique in the whole file"]),
            ("rule", "a-b", {"use_policy": "one"}, UsageError, ["letters, digits and _"]),
            ("rule", "", {"use_policy": "one"}, UsageError, ["letters, digits and _"]),
            ("rule", "r", {}, UsageError, ["needs --use-policy"]),
            ("member", "r", {}, UsageError, ["needs --interface"]),
            ("rule", "r", {"use_policy": "one", "src_pi": "1"}, UsageError, ["src_pi", "did you mean src_ip?"]),
            ("rule", "r", {"use_policy": "one", "src_ip": ("300.1.1.1",)}, ConfigError, ["mwan3.r.src_ip", "300"]),
            ("rule", "r", {"use_policy": "one", "timeout": "0"}, ConfigError, ["timeout", "from 1 to"]),
            ("rule", "r", {"use_policy": "one\x07"}, ConfigError, ["control character"]),
            ("globals", "other", {}, UsageError, ["called globals"]),
        ],
    )
    def test_what_is_refused(
        self, type_: str, name: str | None, options: dict[str, Any], error: type[ConnbalError], words: list[str]
    ) -> None:
        edit = editor()
        refused(edit, lambda: operations.add(edit, type_, name, options), error, *words)


class TestChange:
    def options(self, edit: Editor, name: str) -> dict[str, Any]:
        return dict(operations.find(edit, "policy" if name in ("both", "one") else "rule", name).options)

    def test_set_and_unset(self) -> None:
        edit = editor()
        assert operations.change(edit, "rule", "tv", {"proto": ("tcp",)}, unset=["src_ip"]) == []
        assert self.options(edit, "tv") == {"use_policy": "one", "proto": "tcp"}

    def test_what_mwan3_reads_as_an_option_is_one_while_it_can_be(self) -> None:
        edit = editor()
        operations.change(edit, "rule", "tv", {"dest_port": ("80", "443"), "src_ip": ("10.0.0.1", "10.0.0.2")})
        assert self.options(edit, "tv")["dest_port"] == "80,443"
        assert self.options(edit, "tv")["src_ip"] == ("10.0.0.1", "10.0.0.2")
        operations.change(edit, "rule", "tv", remove={"src_ip": ["10.0.0.1"], "dest_port": ["80"]})
        assert self.options(edit, "tv")["dest_port"] == "443"
        assert self.options(edit, "tv")["src_ip"] == "10.0.0.2"
        operations.change(edit, "rule", "tv", add={"dest_port": ["8080:8090"]})
        assert self.options(edit, "tv")["dest_port"] == "443,8080:8090"
        operations.change(edit, "rule", "tv", remove={"dest_port": ["443", "8080:8090"]})
        assert "dest_port" not in self.options(edit, "tv")

    def test_a_list_keeps_its_other_entries(self) -> None:
        edit = editor()
        operations.change(edit, "policy", "both", add={"use_member": ["m2"]}, remove={"use_member": ["m"]})
        assert self.options(edit, "both") == {"use_member": ("m1", "m2")}

    def test_a_list_in_one_string_becomes_a_list(self) -> None:
        edit = editor()
        operations.change(edit, "policy", "one", remove={"use_member": ["m"]})
        assert self.options(edit, "one") == {"use_member": ("m1",)}

    def test_the_last_entry_takes_the_option_with_it(self) -> None:
        edit = editor()
        operations.change(edit, "policy", "both", remove={"use_member": ["m", "m1"]})
        assert self.options(edit, "both") == {}

    def test_what_has_no_effect_is_said(self) -> None:
        edit = editor()
        notes = operations.change(edit, "policy", "one", add={"use_member": ["m1"]}, unset=["last_resort"])
        assert notes == [
            "m1 is in use_member of policy one already",
            "policy one has no last_resort; there is nothing to unset",
        ]
        assert not edit.changes

    def test_options_of_others_can_be_unset_and_stay_otherwise(self) -> None:
        edit = editor()
        operations.change(edit, "globals", "globals", {"logging": "1"})
        assert edit.sections()[0].options["made_by_others"] == "kept"
        operations.change(edit, "globals", "globals", unset=["made_by_others"])
        assert "made_by_others" not in edit.sections()[0].options

    @pytest.mark.parametrize(
        ("how", "error", "words"),
        [
            ({"set": {"colour": "red"}}, UsageError, ["no option 'colour'"]),
            ({"unset": ["use_membr"]}, UsageError, ["did you mean use_member?"]),
            ({"add": {"last_resort": ["x"]}}, UsageError, ["not a list", "--last-resort"]),
            ({"remove": {"use_member": ["x"]}}, UsageError, ["no entry 'x'", "m, m1"]),
            ({"set": {"use_member": ("m",)}, "add": {"use_member": ["x"]}}, UsageError, ["at once"]),
            ({"set": {"use_member": ("m",)}, "unset": ["use_member"]}, UsageError, ["at once"]),
            ({"add": {"use_member": ["x"]}, "unset": ["use_member"]}, UsageError, ["at once"]),
            ({"set": {"weight_mode": "odd", "affinity": "pair"}}, ConfigError, ["mwan3.both.weight_mode", "inverse"]),
        ],
    )
    def test_what_is_refused(self, how: dict[str, Any], error: type[ConnbalError], words: list[str]) -> None:
        edit = editor()
        refused(edit, lambda: operations.change(edit, "policy", "both", **how), error, *words)


class TestDelete:
    def test_what_nobody_uses(self) -> None:
        edit = editor()
        assert operations.delete(edit, "rule", "@rule[1]") == []
        assert [section.name for section in edit.package.of_type("rule")] == ["tv", "rest"]

    @pytest.mark.parametrize(
        ("type_", "name", "words"),
        [
            ("policy", "one", ["in use by rule tv;", "--cascade"]),
            ("member", "m1", ["policy both and policy one"]),
            ("interface", "wan", ["in use by member m;"]),
        ],
    )
    def test_what_is_in_use_is_refused(self, type_: str, name: str, words: list[str]) -> None:
        edit = editor()
        refused(edit, lambda: operations.delete(edit, type_, name), ConfigError, *words)

    def test_cascade_takes_the_rules_of_a_policy(self) -> None:
        edit = editor()
        assert len(operations.delete(edit, "policy", "both", cascade=True)) == 2
        assert [section.name for section in edit.package.of_type("rule")] == ["tv"]

    def test_cascade_takes_members_out_of_policies(self) -> None:
        edit = editor()
        notes = operations.delete(edit, "interface", "wan", cascade=True)
        assert edit.package.get("m") is None
        assert [section.options["use_member"] for section in edit.package.of_type("policy")] == [("m1",), ("m1",)]
        assert notes[:3] == ["took m out of policy both", "took m out of policy one",
                             "deleted member m, which used interface wan"]  # fmt: skip
        assert "wan1 gets another number" in notes[3]

    def test_a_policy_that_loses_its_last_member_is_named(self) -> None:
        edit = editor()
        notes = [note for name in ("m", "m1") for note in operations.delete(edit, "member", name, cascade=True)]
        assert "policy both has no member left: its last_resort decides" in notes
        assert edit.package.get("both") is not None

    def test_a_policy_called_like_a_verdict_is_used_by_nobody(self) -> None:
        edit = editor(BASE + "\nconfig policy 'default'\n\nconfig rule 'r'\n\toption use_policy 'default'\n")
        assert operations.delete(edit, "policy", "default") == []


class TestRename:
    def test_references_follow(self) -> None:
        edit = editor()
        notes = operations.rename(edit, "member", "m", "first")
        assert notes == ["policy both: use_member follows", "policy one: use_member follows"]
        assert edit.package.get("both").options["use_member"] == ("first", "m1")
        assert edit.package.get("one").options["use_member"] == "first m1"
        assert edit.package.get("first").options == {"interface": "wan", "colour": "blue"}

    def test_an_interface_and_a_policy(self) -> None:
        edit = editor()
        assert "a network called modem" in operations.rename(edit, "interface", "wan1", "modem")[-1]
        operations.rename(edit, "policy", "both", "all")
        assert edit.package.get("m1").options["interface"] == "modem"
        assert [section.options["use_policy"] for section in edit.package.of_type("rule")] == ["one", "all", "all"]

    def test_an_anonymous_rule_gets_its_first_name(self) -> None:
        edit = editor()
        assert operations.rename(edit, "rule", "@rule[1]", "https") == []
        assert not operations.find(edit, "rule", "https").anonymous

    def test_to_the_name_it_has(self) -> None:
        edit = editor()
        assert operations.rename(edit, "rule", "tv", "tv") == ["the rule is called tv already"]
        assert not edit.changes

    @pytest.mark.parametrize("new", ["rest", "wan", "a b", "", "x" * 9 + "'"])
    def test_what_is_refused(self, new: str) -> None:
        edit = editor()
        refused(edit, lambda: operations.rename(edit, "rule", "tv", new), UsageError)


MIXED = "".join(
    f"\nconfig {type_} '{name}'\n"
    for type_, name in (("rule", "a"), ("x", "x1"), ("rule", "b"), ("x", "x2"), ("rule", "c"), ("x", "x3"))
)


class TestMove:
    @pytest.mark.parametrize(
        ("rule", "place", "order"),
        [
            ("c", First(), "cab"), ("a", First(), "abc"), ("a", Last(), "bca"), ("b", Up(), "bac"), ("a", Up(), "abc"),
            ("b", Down(), "acb"), ("c", Down(), "abc"), ("c", Before("a"), "cab"), ("a", Before("c"), "bac"),
            ("a", After("b"), "bac"), ("c", After("a"), "acb"), ("a", After("@rule[-1]"), "bca"), ("c", To(1), "cab"),
            ("a", To(2), "bac"), ("a", To(3), "bca"), ("@rule[0]", To(3), "bca"),
        ],
    )  # fmt: skip
    def test_to_each_place(self, rule: str, place: Place, order: str) -> None:
        edit = editor(MIXED)
        operations.move(edit, rule, place)
        assert [section.name for section in edit.package.of_type("rule")] == list(order)
        assert [section.name for section in edit.package.of_type("x")] == ["x1", "x2", "x3"]

    @pytest.mark.parametrize("place", [To(0), To(4), To(-1), Before("a"), After("a"), Before("z"), After("x1")])
    def test_there_is_no_such_place(self, place: Place) -> None:
        edit = editor(MIXED)
        refused(edit, lambda: operations.move(edit, "a", place), UsageError)

    def test_what_is_no_rule_does_not_move(self) -> None:
        edit = editor(MIXED)
        refused(edit, lambda: operations.move(edit, "x1", First()), UsageError, "not rule")


class TestVerify:
    def verified(self, edit: Editor, do: Callable[[], Any]) -> tuple[str, ...]:
        before = edit.package
        do()
        return tuple(finding.code for finding in operations.verify(edit, before))

    def test_a_policy_that_does_not_exist(self) -> None:
        edit = editor()
        with pytest.raises(ConfigError) as told:
            self.verified(edit, lambda: operations.change(edit, "rule", "tv", {"use_policy": "bth"}))
        assert "mwan3.tv.use_policy" in str(told.value)
        assert "did you mean both?" in str(told.value)

    def test_a_section_without_a_name_is_meant_by_its_place(self) -> None:
        edit = editor()
        with pytest.raises(ConfigError, match=r"^mwan3\.@rule\[3\]\.use_policy: policy 'x' does not exist; name"):
            self.verified(edit, lambda: operations.add(edit, "rule", None, {"use_policy": "x"}))

    def test_a_member_that_does_not_exist(self) -> None:
        edit = editor()
        with pytest.raises(ConfigError, match="member 'm9' does not exist"):
            self.verified(edit, lambda: operations.change(edit, "policy", "both", add={"use_member": ["m9"]}))

    def test_options_that_cannot_hold_together(self) -> None:
        edit = editor()
        with pytest.raises(ConfigError, match="no IPv6 address"):
            self.verified(edit, lambda: operations.change(edit, "rule", "tv", {"family": "ipv6"}))

    def test_warnings_are_told(self) -> None:
        edit = editor()
        found = self.verified(edit, lambda: operations.change(edit, "rule", "tv", {"dest_port": ("80",)}))
        assert found == ("narrowed",)

    BROKEN = BASE + "\nconfig rule 'bad'\n\toption use_policy 'nobody'\n\toption src_ip 'tv.lan'\n"

    def test_what_was_wrong_before_stands_in_nobodys_way(self) -> None:
        edit = editor(self.BROKEN)
        assert self.verified(edit, lambda: operations.change(edit, "rule", "tv", {"sticky": "1"})) == ()
        assert self.verified(edit, lambda: operations.delete(edit, "rule", "@rule[1]")) == ()
        assert self.verified(edit, lambda: operations.move(edit, "rest", First())) == ()
        assert self.verified(edit, lambda: operations.rename(edit, "rule", "bad", "worse")) == ()
        assert self.verified(edit, lambda: operations.change(edit, "rule", "worse", {"use_policy": "one"})) == ()

    def test_but_one_wrong_value_does_not_replace_another(self) -> None:
        edit = editor(self.BROKEN.replace("\toption src_ip 'tv.lan'\n", ""))
        with pytest.raises(ConfigError, match="'noone' does not exist"):
            self.verified(edit, lambda: operations.change(edit, "rule", "bad", {"use_policy": "noone"}))

    def test_wrong_sections_without_names_may_move_up(self) -> None:
        edit = editor(BASE.replace("config rule 'tv'", "config rule") + "\nconfig rule\n\toption use_policy 'nobody'\n")
        assert self.verified(edit, lambda: operations.delete(edit, "rule", "@rule[0]")) == ()

    def test_a_warning_about_a_rule_without_a_name_says_where_it_is(self) -> None:
        edit = editor()
        before = edit.package
        operations.change(edit, "rule", "@rule[1]", unset=["proto"])
        (finding,) = operations.verify(edit, before)
        assert finding.message.endswith("(@rule[1])")

    def test_an_interface_more_may_not_take_somebodys_table(self) -> None:
        edit = editor(BASE.replace("option mmx_mask '0x3F00'", "list rt_table_lookup '3'"))
        with pytest.raises(ConfigError, match="routing table of an interface"):
            self.verified(edit, lambda: operations.add(edit, "interface", "wan2", {}))


def test_what_is_done_reads_back() -> None:
    """The text of the result says what the editor says, comments aside."""
    edit = editor()
    operations.add(edit, "rule", "q", {"src_ip": ("192.0.2.1",), "use_policy": "one"})
    operations.move(edit, "q", First())
    package = parse(export(edit.package, header=False), "mwan3")
    assert [(s.type, s.options) for s in package.sections] == [(s.type, s.options) for s in edit.sections()]
    assert isinstance(package, Package)


# --- work, whatever the size of the file ----------------------------------------------------------------------------

LARGE = BASE + "".join(
    f"\nconfig rule 'r{number}'\n\toption src_ip '10.0.{number // 250}.{number % 250}'\n\toption use_policy 'both'\n"
    for number in range(1000)
)


@pytest.mark.parametrize(
    ("do", "rules"),
    [
        (lambda edit: operations.add(edit, "rule", "new", {"use_policy": "both"}), 1),
        (lambda edit: operations.change(edit, "rule", "r500", {"sticky": "1"}), 1),
        (lambda edit: operations.move(edit, "r900", First()), 0),
        (lambda edit: operations.delete(edit, "rule", "r3"), 0),
    ],
    ids=["add", "set", "move", "delete"],
)
def test_only_the_rules_that_changed_are_decoded(
    do: Callable[[Editor], Any], rules: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connbal.uci import decode

    real, seen = decode.read_rule, []

    def counting(section: Section, index: int) -> Any:
        seen.append(section.name)
        return real(section, index)

    monkeypatch.setattr(decode, "read_rule", counting)
    edit = editor(LARGE)
    before = edit.package
    do(edit)
    operations.verify(edit, before)
    assert len(seen) == rules


def test_plain_lines_need_no_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What connbal and uci write is read by a few patterns; the long way is for what people write."""
    from connbal.uci import buffer

    monkeypatch.setattr(buffer, "Rest", lambda *_: pytest.fail("the long way"))
    package = parse(export(parse(LARGE, "mwan3"), header=False), "mwan3")
    assert len(package.sections) == 1010
