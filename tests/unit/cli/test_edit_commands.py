"""The editing commands: what they write, what they print, what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from connbal.cli import applying, verbs
from connbal.cli.applying import Applied, NotApplied
from connbal.cli.main import cli
from connbal.errors import Finding, Severity
from connbal.uci.schema import SECTIONS, Kind
from connbal.uci.text import parse
from tests.unit.cli.run import CONFIG, Router, router


@pytest.fixture
def here(tmp_path: Path) -> Router:
    return router(tmp_path)


def section(here: Router, reference: str) -> dict[str, Any]:
    found = parse(here.file.read_bytes(), "mwan3").find(reference)
    assert found is not None
    return dict(found.options)


class TestEachVerb:
    def test_add(self, here: Router) -> None:
        out = here.good("rule", "add", "new", "--src-ip", "192.0.2.1", "--src-ip", "192.0.2.2", "--use-policy", "both",
                        "--sticky", "--timeout", "10m", "--no-apply")  # fmt: skip
        assert out == "added rule new\ncommitted; connbal apply applies it\n"
        assert section(here, "new") == {
            "use_policy": "both", "src_ip": ("192.0.2.1", "192.0.2.2"), "sticky": "1", "timeout": "10m",
        }  # fmt: skip
        assert section(here, "wan1")["made_by_others"] == "kept"

    def test_add_at_a_place_and_without_a_name(self, here: Router) -> None:
        assert "added rule @rule[0]" in here.good("rule", "add", "--use-policy", "both", "--first")
        assert "added rule @rule[2]" in here.good("rule", "add", "--use-policy", "both", "--before", "@rule[2]")
        assert "added rule last" in here.good("rule", "add", "last", "--use-policy", "both")
        rules = parse(here.file.read_bytes(), "mwan3").of_type("rule")
        assert [one.name for one in rules if not one.anonymous] == ["tv", "rest", "last"]
        assert [one.anonymous for one in rules] == [True, False, True, True, False, False]

    def test_every_type_can_be_added(self, here: Router) -> None:
        here.good("interface", "add", "wan2", "--enabled", "--track-ip", "1.1.1.1", "--track-method", "ping")
        here.good("member", "add", "m2", "--interface", "wan2", "--metric", "2", "--weight", "3")
        here.good("policy", "add", "p2", "--use-member", "m2", "--last-resort", "blackhole")
        here.good("globals", "set", "--weight-mode", "inverse", "--rt-table-lookup", "100")
        assert section(here, "wan2")["track_ip"] == ("1.1.1.1",)
        assert section(here, "p2") == {"use_member": ("m2",), "last_resort": "blackhole"}
        assert section(here, "globals") == {"rt_table_lookup": ("100",), "weight_mode": "inverse"}

    def test_set(self, here: Router) -> None:
        here.good("policy", "set", "both", "--remove", "use_member=m", "--add", "use-member=m", "--affinity", "pair")
        assert section(here, "both") == {"affinity": "pair", "use_member": ("m1", "m")}
        here.good("policy", "set", "both", "--use-member", "m", "--unset", "affinity")
        assert section(here, "both") == {"use_member": ("m",)}

    def test_what_changes_nothing_writes_nothing(self, here: Router) -> None:
        os.utime(here.file, (1, 1))
        out = here.good("policy", "set", "both", "--add", "use_member=m")
        assert out == "note: m is in use_member of policy both already\nnothing to change\n"
        assert here.file.stat().st_mtime == 1
        assert here.file.read_text() == CONFIG

    def test_delete(self, here: Router) -> None:
        assert "deleted rule @rule[1]" in here.good("rule", "delete", "@rule[1]")
        out = here.good("member", "delete", "m", "--cascade")
        assert "note: took m out of policy both\n" in out
        assert section(here, "both") == {"use_member": ("m1",)}

    def test_deleting_an_interface_says_that_numbers_shift(self, here: Router) -> None:
        assert "note: wan1 gets another number" in here.good("interface", "delete", "wan", "--cascade")

    def test_rename(self, here: Router) -> None:
        out = here.good("policy", "rename", "both", "all")
        assert "renamed policy both to all\nnote: rule tv: use_policy follows\n" in out
        assert section(here, "rest")["use_policy"] == "all"

    def test_move(self, here: Router) -> None:
        assert "rule rest is rule 1 now" in here.good("rule", "move", "rest", "--first")
        assert "rule @rule[2] is rule 2 now" in here.good("rule", "move", "@rule[-1]", "--to", "2")

    def test_enable_and_disable(self, here: Router) -> None:
        assert "disabled rule tv" in here.good("rule", "disable", "tv")
        here.good("interface", "disable", "wan")
        assert (section(here, "tv")["enabled"], section(here, "wan")["enabled"]) == ("0", "0")
        here.good("rule", "enable", "tv")
        assert section(here, "tv")["enabled"] == "1"

    def test_there_need_be_no_file(self, tmp_path: Path) -> None:
        here = router(tmp_path, None)
        here.good("interface", "add", "wan")
        assert here.file.stat().st_mode & 0o777 == 0o600
        assert "+ mwan3.wan1=interface" in here.good("interface", "add", "wan1", "--dry-run")


REFUSED = {
    "rule add tv --use-policy both": (2, "there is a rule tv already"),
    "rule add wan --use-policy both": (2, "unique in the whole file"),
    "rule add x": (2, "needs --use-policy"),
    "rule add x --use-policy bth": (1, "did you mean both?"),
    "rule add x --use-policy both --src-ip tv.lan": (1, "mwan3.x.src_ip"),
    "rule add x --use-policy both --dest-port 443 --proto icmp": (1, "protocol 1 has none"),
    "rule add x --use-policy both --first --before tv": (2, "--first and --before"),
    "rule add x --use-policy both --to 9": (2, "places are 1 to 4"),
    "policy add": (2, "NAME"),
    "policy delete both": (1, "rule tv, rule"),
    "policy set both --use-member m9": (1, "'m9' does not exist"),
    "policy set both --add use_member=m9": (1, "'m9' does not exist"),
    "policy set both --add use_member": (2, "is not OPTION=VALUE"),
    "policy set both": (2, "nothing is asked for"),
    "policy set bot --last-resort default": (2, "did you mean both?"),
    "policy set both --last-resort odd": (2, "unreachable"),
    "member set m --weight 0": (1, "from 1 to 1000"),
    "member rename m m1": (2, "there is a member m1 already"),
    "interface rename wan a.b": (2, "letters, digits and _"),
    "rule move tv": (2, "--first, --last"),
    "rule move tv --to 4": (2, "there is no place 4"),
    "rule move tv --to x": (2, "'x' is not a valid integer"),
    "rule move tv --after tv": (2, "itself"),
    "rule disable nobody": (2, "no rule 'nobody'"),
    "interface delete m": (2, "type member, not interface"),
    "rule set tv --srcip 1": (2, "--src-ip"),
}


@pytest.mark.parametrize("way", ["", "--stage", "--dry-run", "--json"])
@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused_changes_nothing(line: str, way: str, here: Router) -> None:
    code, words = REFUSED[line]
    done = here.run(*line.split(), *filter(None, [way]))
    assert done.code == code
    assert words in done.err
    if way == "--json":
        assert done.data["schema"] == "error/1"
    else:
        assert done.out == ""
    assert here.file.read_text() == CONFIG
    assert not here.staged.exists() or here.staged.read_bytes() == b""


class TestWays:
    def test_dry_run(self, here: Router) -> None:
        out = here.good("rule", "set", "tv", "--src-ip", "192.0.2.9", "--dry-run")
        assert out == "- mwan3.tv.src_ip='192.0.2.7'\n+ mwan3.tv.src_ip='192.0.2.9'\nnothing was written\n"
        assert here.file.read_text() == CONFIG

    def test_dry_run_of_a_move(self, here: Router) -> None:
        out = here.good("rule", "move", "rest", "--first", "--dry-run")
        assert out == "- rule 3: rest\n+ rule 1: rest\nnothing was written\n"

    def test_json(self, here: Router) -> None:
        done = here.run("rule", "add", "new", "--use-policy", "both", "--dest-port", "80", "--json")
        data = done.data
        assert next(iter(data)) == "schema"
        assert (data["schema"], data["mode"], data["changed"], data["name"]) == ("edit/1", "commit", True, "new")
        assert data["changes"][0] == "+ mwan3.new=rule"
        assert [one["code"] for one in data["findings"]] == ["narrowed"]
        assert data["applied"]["by"] == "nobody"
        assert done.err == ""

    def test_warnings_are_shown(self, here: Router) -> None:
        done = here.run("rule", "set", "tv", "--dest-port", "80")
        assert done.code == 0
        assert "warning: mwan3.tv.dest_port" in done.err

    def test_hostile_values_reach_no_terminal(self, here: Router) -> None:
        here.file.write_text(CONFIG + "\nconfig rule 'x'\n\toption use_policy 'both'\n\toption note 'a\x1b[31mb'\n")
        out = here.good("rule", "delete", "x", "--dry-run") + here.good("rule", "show", "x")
        assert "\x1b" not in out

    def test_hostile_arguments_reach_no_terminal(self, here: Router) -> None:
        """As a page may have them from anybody: what is wrong with them is said without them, on both ways."""
        bell = "\x1b]0;x\r\n\x07"
        for words in (["explain", "--local", "--dst", bell], ["rule", "set", bell, "--proto=tcp"]):
            done = here.run(*words, "--json")
            assert done.code == 2
            for text in (done.data["error"], done.err):
                assert all(char.isprintable() or char == "\n" for char in text), text


class TestApplying:
    def test_nobody_applies_where_nothing_was_applied(self, here: Router) -> None:
        out = here.good("rule", "disable", "tv")
        assert out.startswith("disabled rule tv\ncommitted; not applied: nothing has been applied yet")

    def test_what_was_applied_is_said(self, here: Router, monkeypatch: pytest.MonkeyPatch) -> None:
        found = Finding(Severity.WARNING, "odd", "kernel", "something is odd", "look")
        monkeypatch.setattr(applying, "apply_now", lambda session: Applied("daemon", ("one", "two"), (found,)))
        done = here.run("rule", "disable", "tv")
        assert done.out == "disabled rule tv\ncommitted and applied; changes: 2\n"
        assert "something is odd" in done.err
        assert here.run("rule", "enable", "tv", "--json").data["applied"] == {
            "by": "daemon", "changes": ["one", "two"], "reason": "",
        }  # fmt: skip

    @pytest.mark.parametrize("way", [["--no-apply"], ["--stage"], ["--dry-run"]])
    def test_what_is_not_to_be_applied_is_not(
        self, way: list[str], here: Router, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(applying, "apply_now", lambda session: pytest.fail("applied"))
        here.good("rule", "disable", "tv", *way)

    def test_failing_to_apply_is_said_and_fails(self, here: Router, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(session: object) -> Applied:
            raise NotApplied("committed, but not applied: no such thing; connbal apply tries again")

        monkeypatch.setattr(applying, "apply_now", fails)
        done = here.run("rule", "disable", "tv")
        assert (done.code, done.out) == (1, "disabled rule tv\n")
        assert "committed, but not applied" in done.err
        assert section(here, "tv")["enabled"] == "0"
        done = here.run("rule", "enable", "tv", "--json")
        assert done.code == 1
        edit, _, error = done.out.partition("\n}\n")
        assert '"error": "committed, but not applied' in edit
        assert '"schema": "error/1"' in error


class TestOptions:
    @pytest.mark.parametrize("type_", [name for name in SECTIONS if name != "globals"])
    @pytest.mark.parametrize("verb", ["add", "set"])
    def test_every_option_of_the_schema_is_there_with_range_and_default(self, type_: str, verb: str) -> None:
        command = verbs.command(type_, verb)
        options = {one.name: one for one in command.params if isinstance(one, click.Option)}
        for spec in SECTIONS[type_].options.values():
            option = options[spec.name]
            assert option.opts == [f"--{spec.name.replace('_', '-')}"]
            assert option.help is not None
            assert option.multiple == spec.is_list
            if spec.default is not None and spec.kind is not Kind.BOOL:
                assert f"efault: {spec.default}" in option.help
            if spec.low is not None and spec.kind is not Kind.PORT:
                assert f"from {spec.low} to {spec.high}" in option.help
            assert spec.unit in option.help

    def test_the_group_knows_each_noun(self) -> None:
        context = click.Context(cli)
        assert {"interface", "member", "policy", "rule", "globals"} <= set(cli.list_commands(context))


class TestLooking:
    def test_rules(self, here: Router) -> None:
        assert here.good("rule", "list").splitlines() == [
            "  #  NAME      ENABLED  POLICY  MATCHES",
            "  1  tv        yes      both    from 192.0.2.7",
            "  2  @rule[1]  yes      both    tcp to port 443",
            "  3  rest      yes      both    everything",
        ]
        data = here.run("rule", "list", "--json").data
        assert data["schema"] == "rule-list/1"
        assert [(one["number"], one["name"], one["reference"]) for one in data["rules"]] == [
            (1, "tv", "tv"), (2, None, "@rule[1]"), (3, "rest", "rest"),
        ]  # fmt: skip

    def test_policies_have_shares(self, here: Router) -> None:
        assert here.good("policy", "list").splitlines()[1].split() == [
            "both", "ipv4", "1", "proportional", "wan", "33", "%,", "wan1", "67", "%",
        ]  # fmt: skip
        here.good("globals", "set", "--weight-mode", "inverse")
        (policy,) = here.run("policy", "list", "--json").data["policies"]
        assert [one["percent"] for one in policy["tiers"][0]["shares"]] == [67, 33]

    def test_interfaces_and_members(self, here: Router) -> None:
        assert here.good("interface", "list").splitlines()[1].split() == ["1", "wan", "yes", "ipv4", "ping", "not",
                                                                          "tracked"]  # fmt: skip
        assert here.good("member", "list").splitlines()[2].split() == ["m1", "wan1", "1", "2"]

    def test_show_marks_defaults_and_what_is_unknown(self, here: Router) -> None:
        lines = [line.split() for line in here.good("interface", "show", "wan1").splitlines()]
        assert ["enabled", "1"] in lines
        assert ["timeout", "4", "default"] in lines
        assert ["failure_interval", "10", "default"] in lines
        assert ["made_by_others", "kept", "unknown"] in lines
        data = here.run("interface", "show", "wan1", "--json").data
        assert (data["schema"], data["options"], data["unknown"]) == (
            "interface/1", {"enabled": "1"}, {"made_by_others": "kept"},
        )  # fmt: skip

    def test_globals_need_not_be_there(self, here: Router) -> None:
        assert "weight_mode      proportional  default" in here.good("globals", "show")

    def test_nothing_there(self, tmp_path: Path) -> None:
        assert router(tmp_path, "").good("rule", "list") == "no rules\n"

    @pytest.mark.parametrize("noun", ["interface", "member", "policy", "rule"])
    def test_what_is_not_there(self, noun: str, here: Router) -> None:
        done = here.run(noun, "show", "nobody")
        assert (done.code, done.out) == (2, "")
        assert f"no {noun} 'nobody'" in done.err


def test_listing_rules_loads_what_it_needs_and_no_more(here: Router) -> None:
    """What costs is the import of modules; a router is 20 to 50 times slower."""
    program = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('LOADED', *sys.modules))\n"
        "from connbal.cli.main import main\n"
        "main(['rule', 'list'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **here.environment},
                          capture_output=True, text=True, check=True)  # fmt: skip
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    by_click = subprocess.run(
        [sys.executable, "-c", "import click, sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    extra = {name for name in loaded - set(by_click) if not name.startswith("connbal")}
    heavy = {"pyroute2", "icmplib", "asyncio", "json", "ipaddress", "hashlib", "socket", "difflib", "pathlib",
             "subprocess", "logging", "fractions", "tempfile"}  # fmt: skip
    assert not extra & heavy
    ours = {name for name in loaded if name.startswith("connbal.")}
    rooms = ("connbal.kernel", "connbal.plan", "connbal.track", "connbal.reconcile", "connbal.model.config")
    assert not {name for name in ours if name.startswith(rooms)}
    assert not {"connbal.uci.schema", "connbal.uci.decode", "connbal.uci.edit", "connbal.cli.verbs"} & ours
