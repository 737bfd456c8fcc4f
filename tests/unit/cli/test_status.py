"""``connbal status``: what is printed of a look, and looking again and again."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from connbal.cli.context import Session
from connbal.cli.output import document
from connbal.cli.status import Look, as_data, as_text, duration, frame, look
from connbal.cli.status import status as command
from connbal.errors import Finding, Severity
from connbal.kernel.api import TransientError
from connbal.reconcile import Reconciler
from connbal.uci.decode import Decoded
from tests.fakes.build import config
from tests.fakes.router import Router

ROOT = Path(__file__).resolve().parents[3]
WORDS = "wan wan1 -wan2"
LIMIT = 60.0  #: seconds after which a process that says nothing has failed

WAN: dict[str, Any] = {
    "status": "online", "online": True, "reason": "3 of 3 hosts answered, 1 needed", "enabled": True, "tracked": True,
    "running": True, "forced": None, "device": "eth1", "score": 10, "top": 10, "lost": 0, "turn": 3, "since": 7500.0,
    "round": 3.5,
    "hosts": [
        {"host": "1.1.1.1", "state": "up", "latency": 23.4, "loss": 0.0, "fault": ""},
        {"host": "www.example.com", "state": "skipped", "latency": None, "loss": None, "fault": ""},
    ],
}  # fmt: skip
WAN1: dict[str, Any] = {
    **WAN, "status": "disconnecting", "score": 7, "since": 45.0, "reason": "0 of 1 host answered, 1 needed",
    "hosts": [{"host": "9.9.9.9", "state": "down", "latency": 4.26, "loss": 33.3, "fault": "timeout"}],
}  # fmt: skip
WAN2: dict[str, Any] = {
    **WAN, "status": "disabled", "online": False, "enabled": False, "tracked": False, "running": False, "since": None,
    "reason": "disabled in the configuration", "hosts": [],
}  # fmt: skip
DAEMON: dict[str, Any] = {
    "version": 1, "pid": 123, "since": 7500.2, "interfaces": {"wan": WAN, "wan1": WAN1, "wan2": WAN2},
    "reconciles": {"count": 14, "last": {"kind": "reconcile", "error": None}},
}  # fmt: skip


class Fake(Session):
    """A session whose router is in memory."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, run_dir)
        self.router = Router()
        self.config = config(WORDS)
        self.findings: tuple[Finding, ...] = ()
        self.router.apply(self.config)

    def decoded(self) -> Decoded:
        return Decoded(self.config, self.findings)

    @contextlib.contextmanager
    def observer(self) -> Iterator[Reconciler]:
        yield self.router.reconciler


@pytest.fixture
def session(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def seen(session: Fake, daemon: dict[str, Any] | None = None) -> Look:
    return replace(look(session), daemon=daemon)


def part(text: str, title: str) -> list[str]:
    """The lines of one table."""
    (found,) = (block for block in text.split("\n\n") if click.unstyle(block).startswith(f"{title}\n"))
    return click.unstyle(found).splitlines()[1:]


# --- without a daemon ---------------------------------------------------------------------------------------------


def test_without_a_daemon(session: Fake) -> None:
    text = as_text(seen(session))
    assert text.startswith("daemon: not running: ")
    assert part(text, "Interfaces") == [
        "  NAME  ID  FAMILY  DEVICE  STATE     REASON",
        "  wan   1   ipv4    eth1    up        up",
        "  wan1  2   ipv4    eth2    up        up",
        "  wan2  3   ipv4    -       disabled  disabled",
    ]
    assert "Hosts" not in text
    data = as_data(seen(session))
    assert data["daemon"] is None
    assert [one["tracker"] for one in data["interfaces"]] == [None, None, None]


def test_what_is_not_applied_says_so(session: Fake) -> None:
    assert "Not applied" not in as_text(seen(session))
    session.router.reconciler.stop()
    assert as_text(seen(session)).splitlines()[1].startswith("Not applied: ")


# --- with one -----------------------------------------------------------------------------------------------------


def test_with_a_daemon(session: Fake) -> None:
    text = as_text(seen(session, DAEMON))
    assert text.splitlines()[:2] == ["daemon: process 123, running for 2h05m, 14 reconciles", ""]
    assert part(text, "Interfaces") == [
        "  NAME  ID  IP  DEVICE  STATE          SCORE  SINCE  REASON",
        "  wan   1   4   eth1    online         10/10  2h05m  3 of 3 hosts answered,",
        "                                                     1 needed",
        "  wan1  2   4   eth2    disconnecting  7/10   45s    0 of 1 host answered,",
        "                                                     1 needed",
        "  wan2  3   4   -       disabled       -      -      disabled in the",
        "                                                     configuration",
    ]
    assert part(text, "Hosts") == [
        "  INTERFACE  HOST             STATE    LATENCY  LOSS  FAULT",
        "  wan        1.1.1.1          up       23 ms    0 %   -",
        "  wan        www.example.com  skipped  -        -     -",
        "  wan1       9.9.9.9          down     4.3 ms   33 %  timeout",
    ]


def test_it_fits_80_columns(session: Fake) -> None:
    text = as_text(seen(session, DAEMON))
    tables = [*part(text, "Interfaces"), *part(text, "Hosts"), *part(text, "Policies"), *part(text, "Rules")]
    assert max(map(len, tables)) <= 80


def test_an_interface_that_the_daemon_does_not_know(session: Fake) -> None:
    text = as_text(seen(session, {**DAEMON, "interfaces": {}}))
    assert part(text, "Interfaces")[1] == "  wan   1   4   eth1    up        -      -      up"
    assert "Hosts" not in text


def test_one_that_answers_but_cannot_be_used_says_why(session: Fake) -> None:
    session.router.machine.uplinks["wan"].up = False
    rows = part(as_text(seen(session, DAEMON)), "Interfaces")[1:3]
    assert " ".join(row[53:] for row in rows) == "not used, no carrier; 3 of 3 hosts answered, 1 needed"


def test_the_daemons_line(session: Fake) -> None:
    def line(**changes: Any) -> str:
        return as_text(seen(session, {**DAEMON, **changes})).splitlines()[0]

    assert line(reconciles={"count": 1, "last": None}).endswith(", 1 reconcile")
    undone = {"count": 9, "recent": 9, "by": "iptables (process 7)", "last": [], "text": "undone 9 times"}
    with_repairs = {"count": 3, "last": None, "repairs": undone}
    assert "\nwarning: undone 9 times\n" in as_text(seen(session, {**DAEMON, "reconciles": with_repairs}))
    failed = line(reconciles={"count": 2, "last": {"error": "iptables-restore:\n\x1b[31mno"}})
    assert failed.endswith(", 2 reconciles; the last failed: iptables-restore:??[31mno")


def test_nothing_reaches_a_terminal_that_it_would_obey(session: Fake) -> None:
    hostile = {**WAN, "reason": "a\x1b[2Jb\nc\u202ed\udc80", "hosts": [{**WAN["hosts"][0], "fault": "\x07\r\t"}]}
    text = as_text(seen(session, {**DAEMON, "interfaces": {"wan": hostile}}))
    assert "a?[2Jb?c?d?" in text
    assert not set(click.unstyle(text)) & set("\x1b\x07\r\t\u202e\udc80")


def test_json_has_what_the_daemon_said(session: Fake) -> None:
    data = json.loads(json.dumps(as_data(seen(session, DAEMON))))
    assert data["daemon"] == {key: DAEMON[key] for key in ("pid", "since", "reconciles")}
    assert {one["name"]: one["tracker"] for one in data["interfaces"]} == DAEMON["interfaces"]
    assert data["interfaces"][0].keys() == {
        "name", "id", "family", "enabled", "device", "up", "present", "reason", "tracker",
    }  # fmt: skip
    assert data.keys() == {"applied", "daemon", "waiting", "interfaces", "policies", "rules", "findings"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (7500, "2h05m"),
     (86399, "23h59m"), (86400, "1d00h"), (277200, "3d05h"), (86400 * 4000, "4000d00h")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


# --- asking it ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(run_dir: Path, answer: bytes) -> Iterator[None]:
    """Something on the daemon's socket that gives everybody this answer."""
    (run_dir / "connbal").mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(run_dir / "connbal" / "control"))
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def run(session: Session, *arguments: str, code: int = 0) -> str:
    """Both outputs of the command."""
    done = CliRunner().invoke(command, arguments, obj=session)
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_the_daemon_is_asked(session: Fake) -> None:
    with answering(session.run_dir, json.dumps(DAEMON).encode() + b"\n"):
        assert "\n  wan1       9.9.9.9 " in run(session)
        assert json.loads(run(session, "--json"))["interfaces"][1]["tracker"] == WAN1
    assert run(session).startswith("daemon: not running")


@pytest.mark.parametrize("said", [{**DAEMON, "version": 2}, {**DAEMON, "interfaces": {"wan": {}}}, {"x": 1}])
def test_a_daemon_that_cannot_be_understood(session: Fake, said: dict[str, Any]) -> None:
    with answering(session.run_dir, json.dumps(said).encode() + b"\n"):
        text = run(session)
        assert json.loads(run(session, "--json"))["daemon"] is None
    assert text.startswith("daemon: of another version: ")
    assert "FAMILY" in text


# --- again and again ----------------------------------------------------------------------------------------------

QUICK = ("--watch", "--interval", "0.2", "--count", "2")
FINDING = Finding(Severity.WARNING, "bad-value", "mwan3.wan.up", "is \x1b", "use 1 to 1000")


def test_watching_off_a_terminal(session: Fake) -> None:
    session.findings = (FINDING,)
    once = f"warning: mwan3.wan.up: is ?; use 1 to 1000 [bad-value]\n\n{as_text(seen(session))}"
    assert run(session, *QUICK) == click.unstyle(once * 2)


def test_watching_as_json(session: Fake) -> None:
    lines = run(session, *QUICK, "--json").splitlines()
    assert [json.loads(line) for line in lines] == [document("status", as_data(seen(session)))] * 2


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_shown_in_place(session: Fake, monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    """The first look finds the lock held, the second does not."""
    errors = [TransientError("lock /run/lock", None, "held by process 7")]
    good = session.decoded

    def decoded() -> Decoded:
        if errors:
            raise errors.pop()
        return good()

    monkeypatch.setattr(session, "decoded", decoded)
    text = run(session, *QUICK, *(["--json"] if as_json else []))
    first, second = text.split("\n", 1)
    if as_json:
        expected = {"error": "lock /run/lock: held by process 7", "code": "busy", "command": "lock /run/lock"}
        assert json.loads(first) == {"schema": "error/1", **expected}
        assert json.loads(second) == document("status", as_data(seen(session)))
    else:
        assert first == "connbal: lock /run/lock: held by process 7"
        assert second == "\n" + click.unstyle(as_text(seen(session)))


@pytest.mark.parametrize(
    "arguments",
    [["--interval", "0.1"], ["--interval", "3601"], ["--interval", "nan"], ["--interval", "inf"], ["--count", "0"]],
    ids=" ".join,
)
def test_figures_that_make_no_sense(session: Fake, arguments: list[str]) -> None:
    assert "Error: Invalid value" in run(session, "--watch", *arguments, code=2)


def shown(text: str, columns: int, rows: int, screen: str = "") -> list[str]:
    """What a terminal has on its screen after a text, written over ``screen``. One that knows only what is needed."""
    lines = [list(line.ljust(columns)) for line in screen.split("\n")]
    lines += [[" "] * columns for _ in range(rows - len(lines))]
    row = column = 0
    for token in re.findall(r"\x1b\[[\d;]*[A-Za-z]|\n|.", text):
        if token == "\n":
            row, column = row + 1, 0
            assert row < rows, "it scrolls"
        elif token == "\x1b[H":
            row = column = 0
        elif token == "\x1b[K":
            lines[row][column:] = " " * (columns - column)
        elif token == "\x1b[J":
            lines[row][column:] = " " * (columns - column)
            lines[row + 1 :] = [[" "] * columns for _ in lines[row + 1 :]]
        elif not token.startswith("\x1b"):
            assert column < columns - 1, "the last column is used"
            lines[row][column] = token
            column += 1
    return ["".join(line).rstrip() for line in lines]


def test_a_frame_covers_the_one_before() -> None:
    before = "\n".join(["x" * 20] * 6)
    assert shown(frame("one\n\nthree\n", 20, 6), 20, 6, before) == ["one", "", "three", "", "", ""]
    bold = click.style("Interfaces", bold=True)
    assert shown(frame(f"{bold}\n", 20, 6), 20, 6, before) == ["Interfaces", "", "", "", "", ""]


def test_a_frame_is_cut_to_the_screen() -> None:
    assert shown(frame("y" * 30 + "\n" + "z\n" * 30, 10, 5), 10, 5) == ["y" * 9, "z", "z", "...", ""]
    assert shown(frame(f"{'y' * 10}\n{'z' * 9}\n", 10, 3), 10, 3) == ["y" * 9, "z" * 9, ""]
    assert shown(frame("z\n" * 4, 10, 5), 10, 5) == ["z", "z", "z", "z", ""]
    assert "\x1b[1m" not in frame(click.style("a title", bold=True), 6, 5)
    for rows in (1, 2, 3):
        shown(frame("z\n" * 9, 10, rows), 10, max(rows, 2))


class Program:
    """The program itself, without a configuration: every look is an error, shown in place."""

    def __init__(self, directory: Path, *arguments: str, output: int = subprocess.PIPE) -> None:
        where = ["--config-dir", str(directory), "--run-dir", str(directory)]
        argv = [sys.executable, "-m", "connbal.cli.main", *where, "status", "--watch", "--interval", "0.2", *arguments]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE)

    def interrupt(self) -> tuple[int, bytes]:
        """Ctrl-C. Its exit code, and what it said of it."""
        self.process.send_signal(signal.SIGINT)
        _, stderr = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, stderr

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def test_it_goes_on_until_it_is_interrupted(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        assert program.process.stdout is not None
        lines = [program.process.stdout.readline() for _ in range(5)]
        assert program.interrupt() == (0, b"")
    assert lines[0].startswith(b"connbal: mwan3")
    assert lines == [lines[0], b"\n", lines[0], b"\n", lines[0]]


def test_on_a_terminal_it_draws_in_place(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    said = b""
    try:
        with Program(tmp_path, output=theirs) as program:
            while said.count(b"\x1b[J") < 2:
                assert select.select([ours], [], [], LIMIT)[0], said
                said += os.read(ours, 4096)
            assert program.interrupt() == (0, b"")
    finally:
        os.close(ours)
        os.close(theirs)
    drawn = re.fullmatch(rb"(\x1b\[Hconnbal: mwan3.*?\x1b\[K\r\n\x1b\[K\r\n\x1b\[J)\1.*", said, re.DOTALL)
    assert drawn, said
