"""``connbal events``: what it prints, and what it does when one side or the other goes away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connbal.cli.context import Session
from connbal.cli.events import events
from connbal.errors import KernelError
from connbal.track.client import control_path
from connbal.track.health import Event, EventKind, Status
from connbal.track.journal import Journal
from tests.unit.track.test_control import LONG, impostor, served

#: A shell that runs tests in the background may have told its children to ignore SIGINT.
PROGRAM = """
import signal, sys
from pathlib import Path
from connbal.cli.context import Session
from connbal.cli.events import events
signal.signal(signal.SIGINT, signal.default_int_handler)
run_dir, *arguments = sys.argv[1:]
events.main(arguments, obj=Session(Path("none"), Path(run_dir)))
"""
GONE = "connbal: the daemon has gone; waiting for it\n"


def run(run_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(events, arguments, obj=Session(Path("none"), run_dir))


@contextlib.contextmanager
def running(run_dir: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process; one that hangs is killed, so that reading from it ends."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(run_dir), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    ) as process:
        deadline = threading.Timer(LONG, process.kill)
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            process.kill()


def read(process: subprocess.Popen[str]) -> str:
    """The next line of its output, from the third word on."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n").partition("  daemon  ")[2]


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code, and the rest of what it said on standard error."""
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=LONG)
    return process.returncode, error


def told(journal: Journal) -> None:
    journal.daemon("started")
    journal.transition(
        Event(EventKind.DISCONNECTED, "wan1", "1.1.1.1 timeout", Status.ONLINE, Status.OFFLINE, 0.0), "wwan0"
    )
    journal.transition(Event(EventKind.IFUP, "wan2", "link\x1b", Status.ONLINE, Status.ONLINE, 0.0), None)
    journal.reconcile(["wan1 disconnected"], ["a"], [], 0, 0.046)


def test_lines_oldest_first(tmp_path: Path) -> None:
    journal = Journal()
    told(journal)
    with served(tmp_path, journal=journal):
        result = run(tmp_path)
    assert result.exit_code == 0
    assert [line.split("  ", 1)[1] for line in result.stdout.splitlines()] == [
        "daemon  started",
        "wan1  disconnected (online -> offline): 1.1.1.1 timeout",
        "wan2  ifup (online): link\\x1b",
        "reconcile  1 change in 46 ms, because of: wan1 disconnected",
    ]


def test_json_is_a_record_a_line(tmp_path: Path) -> None:
    journal = Journal()
    told(journal)
    with served(tmp_path, journal=journal):
        result = run(tmp_path, "--json")
    wanted = [{"schema": "event/1", **record} for record in journal.recent()]
    assert [json.loads(line) for line in result.stdout.splitlines()] == wanted


@pytest.mark.parametrize(("name", "kinds"), [("wan1", ["disconnected"]), ("wan2", ["ifup"]), ("wan3", [])])
def test_one_interface(tmp_path: Path, name: str, kinds: list[str]) -> None:
    journal = Journal()
    told(journal)
    with served(tmp_path, journal=journal):
        result = run(tmp_path, "--json", "--interface", name)
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()] == kinds


def test_nothing_yet(tmp_path: Path) -> None:
    with served(tmp_path):
        result = run(tmp_path)
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("arguments", [(), ("--follow",)])
def test_no_daemon(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(tmp_path, *arguments)
    assert isinstance(result.exception, KernelError)
    assert str(result.exception).endswith("no daemon is running; start it with connbal daemon")


def test_following_until_interrupted(tmp_path: Path) -> None:
    with served(tmp_path) as daemon:
        daemon.say("one", "two")
        with running(tmp_path, "--follow") as process:
            assert [read(process), read(process)] == ["one", "two"]
            for text in ("three", "four"):
                daemon.say(text)
                assert read(process) == text
            assert interrupt(process) == (0, "")


def test_a_daemon_that_restarts_is_waited_for(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with served(tmp_path) as daemon:
            daemon.say("first life", "more")
            process = stack.enter_context(running(tmp_path, "--follow"))
            assert [read(process), read(process)] == ["first life", "more"]
        assert process.stderr is not None
        assert process.stderr.readline() == GONE
        with served(tmp_path) as daemon:
            daemon.say("second life")
            assert read(process) == "second life"
            daemon.say("goes on")
            assert read(process) == "goes on"
        assert process.stderr.readline() == GONE
        assert interrupt(process) == (0, "")


def test_a_daemon_that_ends_at_once_again_and_again_is_told_of_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with served(tmp_path) as daemon:
            daemon.say("first life")
            process = stack.enter_context(running(tmp_path, "--follow"))
            assert read(process) == "first life"
        with impostor(tmp_path) as asked:
            for _ in range(3):
                assert json.loads(asked.get(timeout=LONG)) == {"ask": "events", "after": 0, "follow": True}
        control_path(tmp_path).unlink()
        with served(tmp_path) as daemon:
            daemon.say("second life")
            assert read(process) == "second life"
            assert interrupt(process) == (0, GONE)


def test_the_same_daemon_repeats_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as daemon:
        daemon.say("one", "two")
        with running(tmp_path, "--follow") as process:
            assert [read(process), read(process)] == ["one", "two"]
            daemon.wait(daemon.control.close())
            assert process.stderr is not None
            assert process.stderr.readline() == GONE
            daemon.say("three")
            daemon.wait(daemon.control.open())
            assert read(process) == "three"
            assert interrupt(process) == (0, "")


@pytest.mark.parametrize("follow", [False, True])
def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path, follow: bool) -> None:
    with served(tmp_path) as daemon:
        daemon.say(*["x" * 400] * 1000)
        with running(tmp_path, *["--follow"] * follow) as process:
            assert process.stdout is not None
            assert read(process).startswith("xxx")
            process.stdout.close()
            daemon.say("more")
            assert process.wait(LONG) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""


def test_help_has_examples() -> None:
    result = CliRunner().invoke(events, ["--help"])
    assert "connbal events --follow --interface wan1" in result.output
