"""What the daemon says: to a real syslog socket, to real streams, and on a clock that is set by hand."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connbal.cli import logs
from connbal.errors import UsageError
from connbal.model.config import LOG_LEVELS

log = logging.getLogger("connbal.test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging belongs to the whole process: put it back."""
    loggers = [logging.getLogger(name) for name in ("connbal", "asyncio")]
    before = [(one, list(one.handlers), one.level, one.propagate) for one in loggers]
    raises = logging.raiseExceptions
    yield
    logging.raiseExceptions = raises
    for one, handlers, level, propagate in before:
        for handler in list(one.handlers):
            if handler not in handlers:
                one.removeHandler(handler)
                handler.close()
        one.setLevel(level)
        one.propagate = propagate


class Syslogd:
    """A socket as ``/dev/log`` is one, and what has come in there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open()

    def open(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(self.path))

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()

    def lines(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(1 << 16).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def syslogd(tmp_path: Path) -> Iterator[Syslogd]:
    found = Syslogd(tmp_path / "log")
    yield found
    found.socket.close()


def python(program: str, stderr: int) -> None:
    """Run a program that has ``logs`` and ``log``."""
    head = "import logging\nfrom connbal.cli import logs\nlog = logging.getLogger('connbal.test')\n"
    subprocess.run([sys.executable, "-c", head + program], timeout=60, stderr=stderr, check=True)


def on_a_terminal(program: str) -> str:
    """What a program writes to a standard error that is a terminal."""
    ours, theirs = os.openpty()
    try:
        python(program, theirs)
        os.set_blocking(ours, False)
        return os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)


# -- where


@pytest.mark.parametrize(("level", "severity"), LOG_LEVELS.items())
def test_levels_are_those_of_syslog(syslogd: Syslogd, level: str, severity: int) -> None:
    logs.set_up("syslog", "debug", address=str(syslogd.path))
    log.log(logs.LEVELS[level], "%s is there", "wan1")
    assert syslogd.lines() == [f"<{24 + severity}>connbal[{os.getpid()}]: wan1 is there"]


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_what_is_less_urgent_is_left_out(capsys: pytest.CaptureFixture[str], level: str) -> None:
    logs.set_up("stderr", level)
    for name, number in logs.LEVELS.items():
        log.log(number, "it is %s", name)
    expected = [f"{name}: it is {name}" for name in LOG_LEVELS if LOG_LEVELS[name] <= LOG_LEVELS[level]]
    assert capsys.readouterr().err.splitlines() == expected


def test_levels_have_the_names_that_the_configuration_uses() -> None:
    assert list(logs.LEVELS) == list(LOG_LEVELS)
    assert logging.getLevelName(logs.NOTICE) == "NOTICE"
    assert logs.level_name(logs.NOTICE + 1) == "notice"
    assert logs.level_name(1) == "debug"


def test_notices_say_who_logs_them(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "connbal"):
        logs.notice(log, "%s is online", "wan1")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage(), record.module) == (25, "wan1 is online", "test_logs")


@pytest.mark.parametrize("there", ["socket", "file", "nothing"])
def test_auto_takes_syslog_where_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str) -> None:
    syslogd = Syslogd(tmp_path / "log")
    if there != "socket":
        syslogd.close()
    if there == "file":
        syslogd.path.touch()
    logs.set_up("auto", "info", address=str(syslogd.path))
    log.info("hello")
    assert capsys.readouterr().err == ("" if there == "socket" else "info: hello\n")
    if there == "socket":
        assert syslogd.lines() == [f"<30>connbal[{os.getpid()}]: hello"]
    syslogd.socket.close()


def test_auto_takes_a_terminal_rather_than_syslog(syslogd: Syslogd) -> None:
    text = on_a_terminal(f"logs.set_up('auto', 'info', address={str(syslogd.path)!r}); log.warning('a\\nb')")
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning a\\nb\r\n", text)
    assert syslogd.lines() == []


def test_without_a_standard_error_nothing_is_raised() -> None:
    program = "import sys; sys.stderr = None; logs.set_up('auto', 'info', address='/nowhere'); log.info('hello')"
    python(program, subprocess.DEVNULL)


@pytest.mark.parametrize(("target", "level", "word"), [("nowhere", "info", "syslog"), ("stderr", "loud", "notice")])
def test_what_there_is_none_of(target: str, level: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        logs.set_up(target, level)


def test_setting_up_again_replaces_what_was(
    syslogd: Syslogd, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logs.set_up("syslog", "info", address=str(syslogd.path))
    before = os.listdir("/proc/self/fd")
    logs.set_up("syslog", "warning", address=str(syslogd.path))
    assert sorted(os.listdir("/proc/self/fd")) == sorted(before)
    log.info("unheard")
    log.warning("heard")
    assert len(syslogd.lines()) == 1
    logs.set_up("stderr", "warning")
    log.warning("heard")
    assert syslogd.lines() == []
    assert capsys.readouterr().err == "warning: heard\n"
    assert caplog.records == []  # nor is it handed to handlers of the root logger


def test_what_asyncio_says_is_heard_but_not_its_chatter(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("stderr", "debug")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)

    asyncio.run(main())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Exception in callback")
    assert line.endswith("ZeroDivisionError: integer division or modulo by zero")


# -- a syslog that is not well


def test_a_syslog_that_goes_and_comes_back(syslogd: Syslogd, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("syslog", "info", address=str(syslogd.path))
    syslogd.close()
    log.info("one")
    syslogd.path.touch()
    log.info("two")
    syslogd.path.unlink()
    syslogd.open()
    log.info("three")
    syslogd.socket.close()  # killed: its socket's file stays
    log.info("four")
    syslogd.path.unlink()
    syslogd.open()
    log.info("five")
    assert [line.rpartition(" ")[2] for line in syslogd.lines()] == ["five"]
    assert capsys.readouterr() == ("", "")


def test_a_syslog_that_reads_nothing_holds_nobody_up(syslogd: Syslogd) -> None:
    handler = logs.Syslog(str(syslogd.path))
    for number in range(5000):
        handler.handle(record("%d", number))
    heard = syslogd.lines()
    assert 0 < len(heard) < 5000
    handler.handle(record("after"))
    assert len(syslogd.lines()) == 1
    handler.close()


def test_a_message_that_cannot_be_made_is_not_raised(syslogd: Syslogd, capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("syslog", "stderr"):
        logs.set_up(target, "info", address=str(syslogd.path))
        log.info("%d", "wrong")
    assert syslogd.lines() == []
    assert capsys.readouterr() == ("", "")


# -- one record, one line


def record(message: str, *args: object, level: int = logging.INFO, name: str = "connbal.test") -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("été 10 °C – ok", "été 10 °C – ok"),
        ("a\nb\r\tc\0", r"a\nb\r\tc\x00"),
        ("\x1b[31mred\x7f\x9b", r"\x1b[31mred\x7f\x9b"),
        ("\u2028\u202edcba\udcff", r"\u2028\u202edcba\udcff"),
    ],
)
def test_what_is_not_to_be_seen_is_shown(syslogd: Syslogd, text: str, shown: str) -> None:
    assert logs.visible(text) == shown
    logs.set_up("syslog", "info", address=str(syslogd.path))
    log.info("%s", text)
    (line,) = syslogd.lines()
    assert line.partition(" ")[2] == shown


def test_a_long_message_loses_its_middle(syslogd: Syslogd) -> None:
    logs.set_up("syslog", "info", address=str(syslogd.path))
    for letter in ("é", "\0"):
        log.info("%s", f"begin{letter * 10_000_000}end")
    for line, shown in zip(syslogd.lines(), ("é", r"\x00"), strict=True):
        text = line.partition(" ")[2]
        assert text.startswith("begin" + shown)
        assert text.endswith(shown + "end")
        assert len(text) <= (logs.MAX_LENGTH + 5) * len(shown)


def test_where_an_error_came_from_is_for_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    for level in ("info", "debug"):
        logs.set_up("stderr", level)
        try:
            raise ValueError("no\nnumber")
        except ValueError:
            log.exception("reading failed")
        log.error("nothing is raised", exc_info=True)
        short, *more = capsys.readouterr().err.splitlines()
        assert more == ["error: nothing is raised"]
        if level == "info":
            assert short == r"error: reading failed: ValueError: no\nnumber"
        else:
            assert short.startswith(r"error: reading failed\nTraceback (most recent call last):\n")
            assert short.endswith(r"\nValueError: no\nnumber")


# -- how often


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_passes_and_then_one_at_a_time(clock: Clock) -> None:
    limit = logs.RateLimit(burst=10, every=6.0, clock=clock)
    assert [limit.filter(record("%s is down", number)) for number in range(15)] == [True] * 10 + [False] * 5
    clock.now += 5.9
    assert not limit.filter(record("%s is down", 15))
    clock.now += 0.2
    passed = record("%s is down", 16, level=logging.ERROR)
    assert limit.filter(passed)
    text = logs.Formatter("{level}: {text}").format(passed)
    assert text == "error: 16 is down (6 similar not shown)"
    assert not limit.filter(record("%s is down", 17))
    clock.now += 1e6
    again = [record("%s is down", number) for number in range(11)]
    assert [limit.filter(one) for one in again] == [True] * 10 + [False]
    assert logs.Formatter("{text}").format(again[0]) == "0 is down (1 similar not shown)"
    assert logs.Formatter("{text}").format(again[1]) == "1 is down"


def test_kinds_do_not_disturb_each_other(clock: Clock) -> None:
    limit = logs.RateLimit(burst=1, clock=clock)
    assert limit.filter(record("a"))
    assert not limit.filter(record("a"))
    assert limit.filter(record("b"))
    assert limit.filter(record("a", name="connbal.other"))


def test_only_so_many_kinds_are_remembered(clock: Clock) -> None:
    limit = logs.RateLimit(burst=1, kinds=2, clock=clock)
    assert limit.filter(record("a"))
    assert limit.filter(record("b"))
    assert not limit.filter(record("a"))  # b is the one that is silent for longest now
    assert limit.filter(record("c"))
    assert not limit.filter(record("a"))
    assert limit.filter(record("b"))
    for number in range(1000):
        limit.filter(record(str(number)))
    assert len(limit._buckets) == 2


def test_threads_are_counted_one_by_one(clock: Clock) -> None:
    limit = logs.RateLimit(burst=10, clock=clock)
    passed: list[bool] = []

    def many() -> None:
        passed.extend([limit.filter(record("again")) for _ in range(500)])

    threads = [threading.Thread(target=many) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert sum(passed) == 10
    clock.now += 6.0
    last = record("again")
    assert limit.filter(last)
    assert logs.Formatter("{text}").format(last) == "again (3990 similar not shown)"


def test_set_up_limits(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("stderr", "info")
    for number in range(1000):
        log.error("%d", number)
    assert len(capsys.readouterr().err.splitlines()) in range(10, 100)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_standard_error_that_nobody_reads_holds_nobody_up(kind: str) -> None:
    ours, theirs = os.pipe() if kind == "pipe" else tuple(one.detach() for one in socket.socketpair())
    try:
        began = time.monotonic()
        python("logs.set_up('stderr', 'info')\nfor n in range(3000): log.info(f'{n}' + 'x' * 1000)", theirs)
        assert time.monotonic() - began < 20
        assert os.read(ours, 100).startswith(b"info: 0x")
        assert os.get_blocking(theirs)  # others write there too
    finally:
        os.close(ours)
        os.close(theirs)
