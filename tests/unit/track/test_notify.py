"""What systemd is told, over real sockets: sd_notify(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connbal.track.notify import BEAT, HUNG, LONGEST, Notify, words


class Manager:
    """Who listens at ``NOTIFY_SOCKET``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.busy = 0.0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def notify(self, **environment: str) -> Notify:
        return Notify(lambda: self.busy, {"NOTIFY_SOCKET": str(self.path), **environment})

    def heard(self) -> list[str]:
        """The messages so far."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "notify")
    yield one
    one.socket.close()


def test_a_life(manager: Manager) -> None:
    """Ready with the first run, and again with the one that answers a reload; what it is about only if that changes."""
    one = manager.notify()
    one.beat()
    assert manager.heard() == ["WATCHDOG=1"]
    one.ran(("start",), "", ["wan"], ["wan", "wan1"])
    assert manager.heard() == ["READY=1\nSTATUS=1 of 2 sources online: wan"]
    one.ran(("time for a look",), "", ["wan"], ["wan", "wan1"])
    assert manager.heard() == []
    one.reloading()
    state, clock = manager.heard()[0].split("\n")
    assert state == "RELOADING=1"
    assert clock.removeprefix("MONOTONIC_USEC=").isdecimal()
    one.ran(("a command",), "", ["wan"], ["wan", "wan1"])  # began before
    assert manager.heard() == []
    one.ran(("a command", "SIGHUP"), "", ["wan", "wan1"], ["wan", "wan1"])
    assert manager.heard() == ["READY=1\nSTATUS=2 of 2 sources online: wan, wan1"]
    one.stopping()
    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping; connections keep flowing until connbal stop"]
    one.close()
    one.beat()
    assert manager.heard() == []


def test_a_first_run_that_fails(manager: Manager) -> None:
    """The daemon goes on trying: whoever waits for it must not take it for one that cannot start."""
    one = manager.notify()
    one.reloading()
    assert manager.heard() == [], "nothing is reloaded before there is anything"
    one.ran(("start",), "no file", [], [])
    assert manager.heard() == ["READY=1\nSTATUS=the last run failed: no file; 0 of 0 sources online"]
    one.ran(("the last run failed",), "", [], [])
    assert manager.heard() == ["STATUS=0 of 0 sources online"]
    one.close()


def test_no_word_while_a_run_hangs(manager: Manager) -> None:
    one = manager.notify(WATCHDOG_USEC="30000000")
    for busy, told in ((0.0, ["WATCHDOG=1"]), (HUNG - 1, ["WATCHDOG=1"]), (HUNG, []), (0.5, ["WATCHDOG=1"])):
        manager.busy = busy
        one.beat()
        assert manager.heard() == told
    one.close()


@pytest.mark.parametrize(
    ("environment", "period"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, BEAT),
        ({"WATCHDOG_USEC": "0"}, BEAT),
        ({"WATCHDOG_USEC": "-5"}, BEAT),
        ({"WATCHDOG_USEC": "soon"}, BEAT),
        ({}, BEAT),
    ],
)  # fmt: skip
def test_how_often(environment: dict[str, str], period: float) -> None:
    """Twice in the time after which it is taken for dead; nothing of it is left for programs started later."""
    given = {**environment, "PATH": "/bin", "NOTIFY_SOCKET": ""}
    one = Notify(lambda: 0.0, given)
    assert one.period == period
    assert given == {"PATH": "/bin"}
    one.close()


@pytest.mark.parametrize("name", ["", "@", "/", "relative", "vsock:2:1234"])
def test_nobody_to_tell(name: str) -> None:
    """Nothing is sent, and nothing goes wrong."""
    one = Notify(lambda: 0.0, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000"})
    one.ran(("start",), "", [], [])
    one.beat()
    one.stopping()
    one.close()


def test_an_abstract_name() -> None:
    name = f"connbal-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        one = Notify(lambda: 0.0, {"NOTIFY_SOCKET": f"@{name}"})
        one.beat()
        assert listening.recv(100) == b"WATCHDOG=1"
        one.close()


def test_what_cannot_be_sent_is_sent_with_the_next(manager: Manager) -> None:
    """Nobody listens for a moment, or listens no longer: the daemon does not wait, and READY is not lost."""
    one = manager.notify()
    hidden = manager.path.with_name("hidden")
    manager.path.rename(hidden)
    one.ran(("start",), "", [], [])
    one.reloading()
    hidden.rename(manager.path)
    one.ran(("SIGHUP",), "", [], [])
    assert manager.heard() == ["READY=1\nSTATUS=0 of 0 sources online"], "one state, the last"
    one.beat()
    for _ in range(10_000):
        one.beat()  # nobody reads
    heard = manager.heard()
    assert 0 < len(heard) < 10_000
    one.close()


def test_words_are_one_short_line() -> None:
    """systemd takes each line for a message: what a program has said must not be one."""
    said = words("iptables said:\nREADY=1\nMAINPID=1\r\n", ["wan"], ["wan", "wan1"])
    assert said == "the last run failed: iptables said: READY=1 MAINPID=1; 1 of 2 sources online: wan"
    assert words("", [], ["wan"]) == "0 of 1 sources online"
    assert len(words("x" * 5000, [], [])) == LONGEST


def test_the_log_says_where_it_hung(tmp_path: Path) -> None:
    """systemd ends by SIGABRT what is silent for too long."""
    code = (
        "import os, signal\nfrom connbal.track.notify import Notify\nNotify(lambda: 0.0)\n"
        "def hanging(): os.kill(os.getpid(), signal.SIGABRT)\nhanging()\n"
    )
    for watched in (True, False):
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "none")}
        environment |= {"WATCHDOG_USEC": "1000000"} if watched else {}
        argv = ["sh", "-c", 'ulimit -c 0; exec "$@"', "sh", sys.executable, "-c", code]
        done = subprocess.run(argv, check=False, env=environment, capture_output=True, text=True)
        assert done.returncode == -signal.SIGABRT
        assert ("in hanging" in done.stderr) is watched
