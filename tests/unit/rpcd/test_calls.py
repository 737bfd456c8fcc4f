"""Whole calls, through the scripts and in this process: one JSON object comes out, whatever goes in."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings

from connbal.errors import ConnbalError, KernelError
from connbal.rpcd import methods, run, worker
from tests import shapes
from tests.unit.cli.run import Router, router
from tests.unit.rpcd.call import call, only
from tests.unit.rpcd.contract import check
from tests.unit.rpcd.test_arguments import _VALUE, calls

#: Methods that look at no kernel while connbal was never applied.
FILES_ONLY = {"list", "show", "check", "add", "set", "move", "delete", "rename", "setup"}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def one(tmp_path: Path) -> Router:
    return router(tmp_path)


def ask(one: Router, method: str, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = call("connbal", method, given, one.environment)
    shapes.check(found)
    return found


def tree(root: Path) -> dict[str, str]:
    """What is below a directory: names with types, sizes aside from content by its digest."""
    return {
        str(path.relative_to(root)): hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
        if path.is_file() else "" for path in sorted(root.rglob("*"))
    }  # fmt: skip


# --- through the scripts --------------------------------------------------------------------------------------------


def test_documents_are_those_of_commands(one: Router) -> None:
    assert [rule["reference"] for rule in ask(one, "list", type="rule")["rules"]] == ["tv", "@rule[1]", "rest"]
    assert ask(one, "list", type="rule") == one.run("rule", "list", "--json").data
    assert ask(one, "show", type="rule", name="@rule[1]") == one.run("rule", "show", "@rule[1]", "--json").data
    assert ask(one, "check") == one.run("check", "--json").data
    assert ask(one, "set", type="rule", name="nobody", options={"proto": "tcp"})["schema"] == "error/1"


def test_edits(one: Router) -> None:
    made = ask(one, "add", type="rule", name="web", options={"proto": "tcp", "dest_port": "80", "use_policy": "both"})
    assert (made["schema"], made["mode"], made["name"], made["changed"]) == ("edit/1", "commit", "web", True)
    assert ask(one, "move", name="web", place="first")["number"] == 1
    change = ask(one, "set", type="rule", name="web", options={"dest_port": ["80", "443"]}, unset=["proto"])
    assert change["changes"] == [
        "- mwan3.web.proto='tcp'", "- mwan3.web.dest_port='80'", "+ mwan3.web.dest_port='80,443'",
    ]  # fmt: skip
    assert ask(one, "rename", type="rule", name="web", new="pages")["changed"]
    before = one.file.read_bytes()
    told = ask(one, "setup", scenario="failover", options={"interfaces": ["wan", "wan1"], "dry_run": True})
    assert told["mode"] == "dry-run"
    assert one.file.read_bytes() == before
    assert ask(one, "delete", type="policy", name="both")["code"] == "config"
    assert ask(one, "delete", type="policy", name="both", cascade=True)["changed"]
    assert ask(one, "list", type="rule")["rules"] == []


@pytest.mark.parametrize("name", ["--help", "-x", "../../etc/passwd", "$(touch x)", "`id`", "a;b", "a\nb", "'", '"'])
def test_names_are_names(one: Router, name: str) -> None:
    before = tree(one.root)
    for method, sent in (
        ("add", {"type": "member", "name": name, "options": {"interface": "wan"}}),
        ("show", {"type": "member", "name": name}),
        ("rename", {"type": "member", "name": "m", "new": name}),
        ("set", {"type": "member", "name": "m", "options": {"interface": name}}),
    ):  # fmt: skip
        assert ask(one, method, **sent)["schema"] == "error/1", (method, name)
    after = tree(one.root)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("said", [b"[]", b"{", b"\x00", b'{"a":' * 5000, b"x" * 100_000])
def test_what_is_no_object(one: Router, said: bytes) -> None:
    for object_ in methods.OBJECTS:
        found = call(object_, "status", said, one.environment)
        assert (found["schema"], found["code"]) == ("error/1", "usage")


def test_unknown_methods(one: Router) -> None:
    for method in ("reboot", "", "--help", "; id"):
        assert call("connbal", method, {}, one.environment)["code"] == "usage"


def test_mwan3_answers_in_its_form_where_nothing_can_be_told(one: Router) -> None:
    one.file.unlink()
    odd = {"section": 5, "interface": []}
    for sent in ({}, {"section": "interfaces"}, {"section": "x", "interface": "wan", "more": 1}, odd):
        found = call("mwan3", "status", sent, one.environment)
        check(found, {"interfaces"} if sent.get("section") == "interfaces" else None)
        assert found["interfaces"] == {}


def test_an_answer_does_not_wait_for_the_end_of_the_input(one: Router) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b'{"type": "rule"}')
        done = subprocess.run(
            [sys.executable, "-m", "connbal.rpcd", "connbal", "list"], stdin=reading, capture_output=True, check=True,
            env={**os.environ, **one.environment},
        )  # fmt: skip
        assert only(done.stdout)["schema"] == "rule-list/1"
    finally:
        os.close(reading)
        os.close(writing)


# --- anything at all ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_programs() -> Iterator[None]:
    """Starting anything is a failure."""
    with mock.patch("connbal.kernel.exec.subprocess.Popen", side_effect=AssertionError), mock.patch(
        "os.system", side_effect=AssertionError
    ):
        yield


def here(one: Router, method: str, given: object) -> Mapping[str, Any]:
    """A call in this process (and its worker's), without the time that starting Python takes."""
    found = methods.find("connbal", method)
    assert found is not None
    with one.told(), no_programs():
        try:
            said = run.answer("connbal", found, json.dumps(given).encode(), time.monotonic() + 60)
        except ConnbalError as error:
            said = {"schema": "error/1", "error": str(error), "code": error.kind}
    shapes.check(json.loads(json.dumps(said)))
    assert "unexpected" not in str(said.get("error"))
    return said


@given(call=calls())
@FUZZ
def test_any_arguments(tmp_path_factory: pytest.TempPathFactory, call: tuple[str, dict[str, Any]]) -> None:
    method, given = call
    if method not in FILES_ONLY:
        return
    root = tmp_path_factory.mktemp("fuzz")
    one = router(root)
    before = tree(root)
    said = here(one, method, given)
    after = tree(root)
    found = methods.find("connbal", method)
    assert found is not None
    if not found.writes or said["schema"] == "error/1" or said["mode"] == "dry-run":
        assert {name: after.get(name) for name in before} == before
    assert {name.split("/")[0] for name in after} <= {"config", "run"}
    assert {name for name in after if name.startswith("config/")} == {"config/mwan3"}
    assert found.writes or after == before


@given(given=_VALUE)
@FUZZ
def test_any_value(tmp_path_factory: pytest.TempPathFactory, given: Any) -> None:
    one = router(tmp_path_factory.mktemp("fuzz"))
    for method in ("list", "check", "add", "setup"):
        here(one, method, given)


# --- time and processes ---------------------------------------------------------------------------------------------


def soon() -> float:
    return time.monotonic() + 0.3


def test_who_reads_too_long_is_ended() -> None:
    reading, writing = os.pipe()

    def work() -> str:
        os.write(writing, b"%d" % os.getpid())
        signal.pause()
        return ""

    with pytest.raises(worker.Late) as caught:
        worker.result(work, soon(), "status")
    assert caught.value.kind == "busy"
    pid = int(os.read(reading, 20))
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    os.close(reading)
    os.close(writing)


def test_who_writes_goes_on() -> None:
    going, go = os.pipe()
    reading, writing = os.pipe()

    def work() -> str:
        os.read(going, 1)
        os.write(writing, b"%d" % os.getpid())
        return ""

    with pytest.raises(worker.Late, match="goes on"):
        worker.result(work, soon(), "apply", keep=True)
    os.write(go, b"x")
    assert select.select([reading], [], [], 30.0)[0]
    _, status = os.waitpid(int(os.read(reading, 20)), 0)
    assert status == 0
    for descriptor in (going, go, reading, writing):
        os.close(descriptor)


def test_a_worker_has_no_pipe_of_the_caller() -> None:
    def work() -> str:
        return json.dumps([os.readlink(f"/proc/self/fd/{number}") for number in range(3)])

    assert json.loads(worker.result(work, time.monotonic() + 30, "look")) == ["/dev/null"] * 3


@pytest.mark.parametrize("error", [KernelError("ip", None, "no"), RuntimeError("x"), SystemExit(3)])
def test_a_worker_that_fails(error: BaseException) -> None:
    def work() -> str:
        raise error

    with pytest.raises(KernelError) as caught:
        worker.result(work, time.monotonic() + 30, "look")
    assert "Traceback" not in str(caught.value)


def test_nobody_keeps_the_pipes_open(one: Router, tmp_path: Path) -> None:
    """What writes beyond the time there is goes on, and who waits for the end of the output does not wait for it."""
    program = (
        "import connbal.rpcd.run as run, connbal.rpcd.worker as worker, time, pathlib\n"
        "run.LIMIT = 0.5\n"
        "def slow(argv):\n"
        f"    while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.02)\n"
        f"    pathlib.Path({str(tmp_path / 'done')!r}).write_text('')\n"
        "    return '{}'\n"
        "worker.printed = slow\n"
        "run.main(['connbal', 'apply'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"{}", capture_output=True, check=True, timeout=60,
                          env={**os.environ, **one.environment})  # fmt: skip
    assert only(done.stdout)["code"] == "busy"
    assert not (tmp_path / "done").exists()
    (tmp_path / "go").write_text("")
    end = time.monotonic() + 30
    while not (tmp_path / "done").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
