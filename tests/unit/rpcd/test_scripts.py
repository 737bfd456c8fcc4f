"""The scripts that rpcd runs, the file of rights, and the page: all say what the table of methods says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connbal.rpcd import methods
from tests.unit.rpcd.call import ROOT, SCRIPTS, environment, shell

ACL = ROOT / "files/usr/share/rpcd/acl.d/connbal.json"
PAGE = ROOT / "docs/ubus.md"
each_object = pytest.mark.parametrize("name", methods.OBJECTS)


@pytest.fixture
def no_python(tmp_path: Path) -> str:
    """PATH with a Python that fails and says so, in front of all others."""
    for name in ("python3", "python", "connbal"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\nexit 99\n")
        program.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


@each_object
def test_list_prints_the_methods_without_python(name: str, no_python: str) -> None:
    done = subprocess.run(
        [*shell(), str(SCRIPTS / name), "list"], capture_output=True, check=True,
        env=environment() | {"PATH": no_python},
    )  # fmt: skip
    assert json.loads(done.stdout) == methods.signatures(name)
    assert list(json.loads(done.stdout)) == [one.name for one in methods.OBJECTS[name]]
    assert not done.stderr
    assert not (Path(no_python.split(":")[0]) / "started").exists()


@each_object
def test_a_call_is_one_process_of_python(name: str, no_python: str, tmp_path: Path) -> None:
    """The shell is replaced: nobody else holds the pipes that rpcd waits for."""
    done = subprocess.run(
        [*shell(), str(SCRIPTS / name), "call", "status"], check=False,
        env=environment(CONNBAL_RUN_DIR=str(tmp_path / "run"), PATH=no_python),
    )  # fmt: skip
    assert done.returncode == 99
    assert (SCRIPTS / name).read_text().count("exec python3") == 1


@each_object
@pytest.mark.parametrize("arguments", [[], ["help"], ["call;ls"]])
def test_anything_else_is_refused(name: str, arguments: list[str]) -> None:
    done = subprocess.run([*shell(), str(SCRIPTS / name), *arguments], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


@each_object
def test_scripts_can_be_executed(name: str) -> None:
    assert os.access(SCRIPTS / name, os.X_OK)
    assert (SCRIPTS / name).read_text().startswith("#!/bin/sh\n")


def rights() -> dict[str, dict[str, list[str]]]:
    """``read`` and ``write``: object -> methods."""
    group = json.loads(ACL.read_text())["connbal"]
    assert set(group) == {"description", "read", "write"}
    for kind in ("read", "write"):  # ubus and nothing else: no file, no program, no package of UCI
        assert set(group[kind]) == {"ubus"}
    return {kind: group[kind]["ubus"] for kind in ("read", "write")}


def test_who_may_read_can_call_nothing_that_writes() -> None:
    for name, table in methods.OBJECTS.items():
        assert rights()["read"].get(name, []) == [one.name for one in table if not one.writes]


def test_who_may_write_can_call_the_rest() -> None:
    for name, table in methods.OBJECTS.items():
        assert rights()["write"].get(name, []) == [one.name for one in table if one.writes]
    assert set(rights()["write"]) | set(rights()["read"]) == set(methods.OBJECTS)


def test_who_may_write_the_script_of_events_may_read_it() -> None:
    """The newest LuCI's page for /etc/mwan3.user may write it, not read it: it would show and save an empty one."""
    [(_, group)] = json.loads(ACL.with_name("connbal-notify.json").read_text()).items()
    assert set(group) == {"description", "write"}
    assert group["write"] == {"file": {"/etc/mwan3.user": ["read"]}}


# --- the page -----------------------------------------------------------------------------------------------------


def _cell(one: methods.Argument) -> str:
    kind = {"text": "string", "flag": "true or false"}.get(one.kind, one.kind)
    words = f" ({', '.join(f'`{word}`' for word in one.words)})" if one.words else ""
    return f"`{one.name}`: {kind}{', required' if one.required else ''}; {one.doc}{words}"


def _table(name: str) -> str:
    rows = ["| Method | Right | What it does | Arguments |", "| --- | --- | --- | --- |"]
    for one in methods.OBJECTS[name]:
        cells = "<br>".join(map(_cell, one.arguments)) or "none"
        rows.append(f"| `{one.name}` | {'write' if one.writes else 'read'} | {one.doc} | {cells} |")
    return "\n".join(rows)


@each_object
def test_the_page_has_the_methods(name: str) -> None:
    text = PAGE.read_text("utf-8")
    begin, end = f"<!-- {name} -->\n\n", "\n\n<!-- end -->"
    shown = text.split(begin)[1].split(end)[0]
    if os.environ.get("CONNBAL_DOCS") == "accept" and shown != _table(name):
        PAGE.write_text(text.replace(begin + shown + end, begin + _table(name) + end), "utf-8")
    else:
        assert shown == _table(name), "docs/ubus.md is not as the table of methods (CONNBAL_DOCS=accept writes it)"


def test_the_page_calls_what_there_is() -> None:
    calls: list[Any] = re.findall(r"^\$ ubus call (\w+) (\w+)(?: '(.*)')?$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert calls
    from connbal.rpcd import arguments
    from connbal.rpcd.words import words

    for object_, name, said in calls:
        method = methods.find(object_, name)
        assert method is not None
        given = arguments.check(method, arguments.parse(said.encode()))
        if object_ == "connbal":
            assert words(name, given)
