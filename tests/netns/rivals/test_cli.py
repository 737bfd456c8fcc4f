"""Commands that cannot do what they are asked: a clear word, the right exit code, and nothing changed anywhere."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab import Lab, snapshot
from tests.lab.nobody import nobody
from tests.netns.rivals.router import ROOT, Router, section

pytestmark = pytest.mark.netns

LOCKING_COMMANDS = (["plan"], ["apply"], ["stop"])
KERNEL_COMMANDS = (*LOCKING_COMMANDS, ["status"])
CONFIG_COMMANDS = (["check"], ["plan"], ["apply"], ["status"], ["interface", "force", "wan", "down"])


def simple(router: Router) -> str:
    return router.sources() + section("rule", "rest", use_policy="only_wan1")


@pytest.fixture(scope="module")
def ready(lab_available: None) -> Iterator[Router]:
    with Lab(("wan", "wan1")) as lab:
        yield Router(lab)


@pytest.fixture
def router(ready: Router) -> Router:
    """connbal is applied, and its configuration is sound."""
    ready.apply(simple(ready))
    return ready


def tree(*directories: Path) -> dict[str, bytes]:
    """All files below, without locks: those are made by looking."""
    files = (path for directory in directories for path in directory.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if "lock" not in path.name}


def fails(router: Router, run: Callable[[], subprocess.CompletedProcess[str]], code: int, *words: str) -> str:
    """The command ends with this code, says these words, and leaves kernel and disk as they were."""
    directories = (router.lab.config_dir, router.lab.run_dir)
    before = snapshot(router.node), tree(*directories)
    done = run()
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr) < 1000
    assert (snapshot(router.node), tree(*directories)) == before
    return done.stderr


def command(
    router: Router, arguments: Sequence[str], prefix: Sequence[str] = ()
) -> Callable[[], subprocess.CompletedProcess[str]]:
    return lambda: router.program(*arguments, prefix=prefix) if prefix else router.connbal(*arguments, check=False)


def changed(router: Router, *lines: str, arguments: Sequence[str]) -> Callable[[], subprocess.CompletedProcess[str]]:
    """A command in a program of which something was changed before it began."""
    where = ["--config-dir", str(router.lab.config_dir), "--run-dir", str(router.lab.run_dir)]
    text = "\n".join([*lines, "from connbal.cli.main import main", f"main({[*where, *arguments]!r})"])
    return lambda: router.node.run([sys.executable, "-c", text], check=False, cwd=ROOT)


# --- usage: 2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["aply"], ["apply", "--verbos"], ["apply", "now"], ["interface", "force", "wan"], ["interface", "lift", "wan"],
        ["interface", "force", "wan", "sideways"], ["interface", "force"], ["--config-dir"],
    ],
)  # fmt: skip
def test_what_makes_no_sense(router: Router, arguments: list[str]) -> None:
    fails(router, lambda: router.program(*arguments), 2, "Error: ")


@pytest.mark.parametrize(
    ("name", "meant"), [("wan11", "wan1"), ("wan_1", "wan1"), ("WAN", ""), ("../etc", ""), ("x\ny", ""), ("", "")]
)
def test_an_unknown_interface(router: Router, name: str, meant: str) -> None:
    said = fails(router, command(router, ["interface", "force", name, "down"]), 2, "no interface")
    assert (f"did you mean {meant}?" in said) if meant else True
    assert len(said.splitlines()) == 1


# --- the configuration: 1 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", CONFIG_COMMANDS, ids=" ".join)
def test_no_configuration(router: Router, arguments: list[str]) -> None:
    (router.lab.config_dir / "mwan3").unlink()
    fails(router, command(router, arguments), 1, "mwan3", "connbal init")


@pytest.mark.parametrize("arguments", CONFIG_COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("text", "line"),
    [("config interface 'wan'\n\toption enabled '1\n", 2), ("option x 'y'\n", 1), ("\n\nconfig\n", 3),
     ("config rule 'a b'\n", 1), ("config interface 'wan'\n\tnonsense\n", 2)],
)  # fmt: skip
def test_a_file_that_is_no_uci(router: Router, arguments: list[str], text: str, line: int) -> None:
    router.configure(text)
    fails(router, command(router, arguments), 1, "mwan3", f"line {line}")


@pytest.mark.parametrize("arguments", CONFIG_COMMANDS, ids=" ".join)
def test_a_configuration_that_cannot_be_read(router: Router, arguments: list[str]) -> None:
    file = router.lab.config_dir / "mwan3"
    file.unlink()
    file.mkdir()
    try:
        fails(router, command(router, arguments), 1, "mwan3")
    finally:
        file.rmdir()


# --- the machine: 1 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", KERNEL_COMMANDS, ids=" ".join)
def test_no_iptables(router: Router, arguments: list[str]) -> None:
    hide = ("import os, connbal.kernel.exec as programs", "programs._SBIN = os.environ['PATH'] = '/nonexistent'")
    fails(router, changed(router, *hide, arguments=arguments), 1, "not installed", "install package iptables")


@pytest.mark.parametrize("arguments", KERNEL_COMMANDS, ids=" ".join)
def test_not_root(router: Router, arguments: list[str]) -> None:
    fails(router, command(router, arguments, prefix=nobody()), 1, "run it as root")


@pytest.mark.parametrize("arguments", KERNEL_COMMANDS, ids=" ".join)
def test_not_root_though_the_run_directory_is_theirs(router: Router, arguments: list[str], tmp_path: Path) -> None:
    lab, kept = router.lab, router.lab.run_dir
    lab.run_dir = lab.tmp / "theirs"
    lab.run_dir.mkdir(exist_ok=True)
    os.chown(lab.run_dir, 65534, 65534)
    try:
        fails(router, command(router, arguments, prefix=nobody()), 1, "run it as root")
    finally:
        lab.run_dir = kept


def test_nobody_may_check(router: Router) -> None:
    """What only reads needs no root."""
    assert router.program("check", prefix=nobody()).returncode == 0


@pytest.mark.parametrize("arguments", [*LOCKING_COMMANDS, ["interface", "force", "wan", "down"]], ids=" ".join)
def test_a_run_directory_that_is_none(router: Router, arguments: list[str]) -> None:
    lab, kept = router.lab, router.lab.run_dir
    lab.run_dir = lab.tmp / "file"
    lab.run_dir.write_text("")
    try:
        fails(router, command(router, arguments), 1, str(lab.run_dir))
    finally:
        lab.run_dir = kept


@pytest.mark.parametrize("arguments", LOCKING_COMMANDS, ids=" ".join)
def test_somebody_else_holds_the_lock(router: Router, arguments: list[str]) -> None:
    shorter = ("import connbal.kernel.rundir as rundir", "rundir.LOCK_WAIT = 0.2")
    with open(router.lab.run_dir / "connbal" / "lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fails(router, changed(router, *shorter, arguments=arguments), 1, "held by process", "0.2 s")
    assert router.connbal(*arguments).returncode == 0


def test_who_only_looks_waits_for_nobody(router: Router) -> None:
    with open(router.lab.run_dir / "connbal" / "lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "wan1" in router.connbal("status").stdout


def test_netifd_does_not_answer(router: Router) -> None:
    ubus = router.lab.bin_dir / "ubus"
    for script, word in (("exit 4", "exit status 4"), ("echo no json", "no JSON"), ("echo '[]'", "no list")):
        ubus.write_text(f"#!/bin/sh\n{script}\n")
        ubus.chmod(0o755)
        try:
            fails(router, command(router, ["apply"]), 1, "ubus call network.interface dump", word)
        finally:
            ubus.unlink()


# --- init -------------------------------------------------------------------------------------------------------------


def test_init_overwrites_nothing(router: Router) -> None:
    fails(router, command(router, ["init"]), 1, "exists", "--force")


def test_init_force_keeps_the_old_one(router: Router) -> None:
    directory = router.lab.config_dir
    before = (directory / "mwan3").read_text()
    assert router.connbal("init", "--force").stdout == f"wrote {directory / 'mwan3'}\n"
    assert (directory / "mwan3.old").read_text() == before
    (directory / "mwan3").unlink()
    assert router.connbal("init").returncode == 0
    assert router.connbal("check").returncode == 0
    (directory / "mwan3.old").unlink()


def test_init_where_nothing_can_be_written(router: Router) -> None:
    lab, kept = router.lab, router.lab.config_dir
    lab.config_dir = lab.tmp / "plain"
    lab.config_dir.write_text("")
    try:
        fails(router, command(router, ["init"]), 1, str(lab.config_dir))
    finally:
        lab.config_dir = kept


# --- output for programs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["check"], ["plan"], ["apply"], ["status"]], ids=" ".join)
def test_json(router: Router, arguments: list[str]) -> None:
    router.configure(simple(router), section("rule", "bad", proto="nonsense", use_policy="only_wan"))
    done = router.connbal(*arguments, "--json", check=False)
    data = json.loads(done.stdout)
    assert done.returncode == (1 if arguments == ["check"] else 0)
    (found,) = (one for one in data["findings"] if one["severity"] == "error")
    assert found.keys() == {"severity", "code", "place", "message", "remedy"}
    assert found["place"] == "mwan3.bad.proto"


def test_check_says_yes_and_no(router: Router) -> None:
    assert router.connbal("check").returncode == 0
    router.configure(simple(router), section("rule", "bad", proto="nonsense", use_policy="only_wan"))
    done = router.connbal("check", check=False)
    assert done.returncode == 1
    assert "mwan3.bad.proto" in done.stderr
