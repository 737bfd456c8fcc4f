"""What commands say of changes that go back by themselves, where connbal was never applied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connbal.pending import waiter
from tests import shapes
from tests.unit.cli.run import Router, router

ADD = ("rule", "add", "new", "--use-policy", "both")
#: Every verb that changes the configuration.
VERBS = [
    ("interface", "add", "wan9"), ("interface", "set", "wan", "--interval", "9"),
    ("interface", "delete", "wan1", "--cascade"),
    ("interface", "rename", "wan1", "modem"), ("interface", "disable", "wan"),
    ("member", "add", "x", "--interface", "wan"),
    ("member", "set", "m", "--weight", "7"), ("member", "delete", "m", "--cascade"), ("member", "rename", "m", "x"),
    ("policy", "add", "p", "--use-member", "m"), ("policy", "set", "both", "--last-resort", "default"),
    ("policy", "rename", "both", "all"), ("policy", "delete", "both", "--cascade"), ADD,
    ("rule", "set", "tv", "--proto", "udp"), ("rule", "delete", "tv"), ("rule", "rename", "tv", "x"),
    ("rule", "move", "rest", "--first"), ("rule", "disable", "tv"), ("globals", "set", "--weight-mode", "inverse"),
    ("setup", "device", "--ip", "192.0.2.9", "--use", "wan"), ("setup", "failover", "wan", "wan1"),
    ("setup", "split", "wan=2", "wan1=1"),
]  # fmt: skip


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Router:
    """A router on which nobody waits: no process is started."""
    monkeypatch.setattr(waiter, "start", lambda *_: None)
    return router(tmp_path)


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_has_a_way_back(one: Router, words: tuple[str, ...]) -> None:
    before = one.file.read_bytes()
    done = one.run(*words, "--confirm", "60", "--json")
    assert done.code == 0, done.err
    shapes.check(done.data)
    assert done.data["waiting"]["seconds"] == 60
    assert one.file.read_bytes() != before
    assert one.run(*words, "--dry-run").code in (0, 1, 2)
    assert one.run("rule", "add", "--use-policy", "unreachable").code == 1
    one.good("confirm", "--revert")
    assert one.file.read_bytes() == before


def test_import_too(one: Router, tmp_path: Path) -> None:
    before = one.file.read_bytes()
    (tmp_path / "new.json").write_text(json.dumps({"schema": "export/1", "package": "mwan3", "sections": []}))
    one.good("import", str(tmp_path / "new.json"), "--confirm", "60")
    assert b"rule" not in one.file.read_bytes()
    one.good("confirm", "--revert")
    assert one.file.read_bytes() == before


@pytest.mark.parametrize("flag", ["--no-apply", "--stage", "--dry-run"])
def test_what_makes_no_sense_together(one: Router, flag: str) -> None:
    before = one.file.read_bytes()
    done = one.run(*ADD, "--confirm", "60", flag)
    assert (done.code, one.file.read_bytes()) == (2, before)
    assert f"--confirm and {flag} exclude each other: with {flag} nothing is in force that could go back" in done.err
    assert one.run("import", "-", "--confirm", "60", "--diff").code == 2
    assert one.run("confirm", "--revert", "--status").code == 2


@pytest.mark.parametrize("seconds", ["4", "3601", "-1", "x", "1e3", "inf"])
def test_times_that_cannot_be_asked_for(one: Router, seconds: str) -> None:
    assert one.run(*ADD, "--confirm", seconds).code == 2
    assert one.run("apply", "--confirm", seconds).code == 2


def test_what_changes_nothing_does_not_wait(one: Router) -> None:
    one.good("rule", "enable", "tv", "--no-apply")
    assert "nothing to change" in one.good("rule", "enable", "tv", "--confirm", "60")
    assert not (one.file.parent / ".connbal").exists()
    assert one.good("confirm", "--status") == "no change waits for its confirmation\n"


def test_refused_without_a_trace(one: Router) -> None:
    one.good(*ADD, "--confirm", "60")
    before = one.file.read_bytes()
    done = one.run("rule", "delete", "tv", "--json")
    assert (done.code, done.data["code"]) == (1, "waiting")
    assert "a change waits for its confirmation until" in done.data["error"]
    assert one.run("init", "--force").code == 1
    assert one.file.read_bytes() == before
    one.good("rule", "delete", "tv", "--stage")


def test_check_says_so(one: Router) -> None:
    one.good(*ADD, "--confirm", "60")
    found = {finding["code"]: finding for finding in json.loads(one.run("check", "--json").out)["findings"]}
    assert "added rule new" in found["unconfirmed"]["message"]
    assert one.run("check", "--strict", "--select", "unconfirmed").code == 1
    one.good("confirm")
    assert "unconfirmed" not in one.run("check", "--json").out


def test_documents_are_as_their_shapes_say(one: Router) -> None:
    one.good(*ADD, "--confirm", "60")
    for words in (("--status",), (), ("--status",)):
        shapes.check(one.run("confirm", "--json", *words).data)
    one.good(*ADD[:2], "other", "--use-policy", "both", "--confirm", "60")
    found = one.run("confirm", "--revert", "--json").data
    shapes.check(found)
    assert (found["done"], found["what"], found["last"]["why"]) == ("taken back", ["added rule other"], "asked for")
    shapes.check(one.run("confirm", "--json").data)
