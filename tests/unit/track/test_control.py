"""The daemon's control socket and its client: real sockets, and every limit reached."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.errors import KernelError, UsageError
from connbal.track import client
from connbal.track.applied import Result, as_data
from connbal.track.client import NAME_MAX, control_path
from connbal.track.control import REQUEST_MAX, Control, Request, request
from connbal.track.journal import Follower, Journal

#: Seconds after which a test that hangs is given up.
LONG = 60.0
STATUS = {"version": 1, "pid": 7}
APPLIED = Result("/etc/config/mwan3", ("a change",), interfaces={"wan": (True, "up")})
FOLLOW = b'{"ask": "events", "follow": true}\n'


@dataclass(frozen=True)
class Served:
    """A control socket that is served by a loop in a thread of its own."""

    loop: asyncio.AbstractEventLoop
    control: Control
    journal: Journal

    def wait(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self.loop).result(LONG)

    def say(self, *texts: str) -> None:
        """Records for the journal, one turn of the loop each."""

        async def said() -> None:
            for text in texts:
                self.journal.daemon(text)
                await asyncio.sleep(0)

        self.wait(said())


async def applied() -> dict[str, Any]:
    return as_data(APPLIED)


@contextlib.contextmanager
def served(
    run_dir: Path, status: Any = lambda: STATUS, journal: Journal | None = None, apply: Any = applied, **limits: Any
) -> Iterator[Served]:
    """Afterwards nothing may be left, and nothing may have gone wrong that asyncio has to tell of."""
    loop, faults = asyncio.new_event_loop(), []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        journal = journal or Journal()
        made = Served(loop, Control(control_path(run_dir), status, apply, journal, **limits), journal)
        made.wait(made.control.open())
        try:
            yield made
        finally:
            made.wait(made.control.close())
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), loop).result(LONG)
            assert not asyncio.all_tasks(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LONG)
        loop.close()
    assert not faults


@contextlib.contextmanager
def connected(run_dir: Path, said: bytes = b"") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(LONG)
        connection.connect(str(control_path(run_dir)))
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(said)
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            said += piece
    return said


def line_of(connection: socket.socket) -> dict[str, Any]:
    """One line, byte by byte, so that what follows stays."""
    said = b""
    while not said.endswith(b"\n"):
        piece = connection.recv(1)
        assert piece, said
        said += piece
    answer = json.loads(said)
    assert isinstance(answer, dict)
    return answer


def answers(run_dir: Path, said: bytes) -> list[dict[str, Any]]:
    with connected(run_dir, said) as connection:
        return [json.loads(one) for one in rest(connection).splitlines()]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """What follows waits for the next record without end."""

    def late(*_: Any) -> None:
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(int(3 * LONG))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever clients do, it is no reason for a warning."""
    yield
    assert [one for one in caplog.get_records("call") if one.levelno >= logging.WARNING] == []


# --- requests --------------------------------------------------------------------------------------------------------

WRONG = [
    b"", b"status", b"[]", b"null", b'"status"', b"{}", b'{"ask": "stop"}', b'{"ask": ["status"]}', b'{"ask": NaN}',
    b'{"ask": "status", "follow": true}', b'{"ask": "apply", "after": 0}',
    b'{"ask": "events", "since": 1}', b'{"ask": "events", "after": -1}',
    b'{"ask": "events", "after": 1.0}', b'{"ask": "events", "after": true}', b'{"ask": "events", "after": "1"}',
    b'{"ask": "events", "follow": 1}', b'{"ask": "events", "follow": null}', b"\xff\xfe\x00", b"[" * 4000,
    b'{"ask": "events", "after": ' + b"9" * 5000 + b"}x", b"GET / HTTP/1.1\r",
]  # fmt: skip


def test_requests() -> None:
    assert request(b'{"ask": "status"}\r\n') == Request("status")
    assert request(b'{"ask": "apply"}') == Request("apply")
    assert request(b'{"ask": "events"}\n') == Request("events", 0, False)
    assert request(b'{"ask": "events", "after": 7, "follow": true}') == Request("events", 7, True)


@pytest.mark.parametrize("said", WRONG)
def test_what_is_no_request(said: bytes) -> None:
    with pytest.raises(UsageError, match=r"^request: "):
        request(said)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(said: bytes) -> None:
    with contextlib.suppress(UsageError):
        request(said)


def test_what_is_no_request_is_answered_with_an_error(tmp_path: Path) -> None:
    with served(tmp_path) as daemon:
        daemon.say("started")
        for said in WRONG:
            if len(said) <= REQUEST_MAX:
                (answer,) = answers(tmp_path, said + b"\n")
                assert list(answer) == ["error"]
        assert answers(tmp_path, b'{"ask": "status"}\n') == [STATUS]


# --- answers ---------------------------------------------------------------------------------------------------------


def test_the_status_is_worked_out_when_asked_for(tmp_path: Path) -> None:
    asked: list[int] = []

    def status() -> dict[str, Any]:
        asked.append(1)
        return {"asked": len(asked)}

    with served(tmp_path, status) as daemon:
        daemon.say("started")
        assert answers(tmp_path, b'{"ask": "events"}\n')[0]["text"] == "started"
        assert not asked
        assert answers(tmp_path, b'{"ask": "status"}\n') == [{"asked": 1}]
        assert client.status(tmp_path) == {"asked": 2}


def test_the_view_is_worked_out_when_asked_for(tmp_path: Path) -> None:
    with served(tmp_path, view=lambda: {**STATUS, "view": {"version": 1}}):
        assert client.status(tmp_path) == STATUS
        assert client.view(tmp_path) == {**STATUS, "view": {"version": 1}}
        assert answers(tmp_path, b'{"ask": "view"}\n') == [client.view(tmp_path)]


def test_where_there_is_no_view_to_be_told(tmp_path: Path) -> None:
    assert client.view(tmp_path) is None
    with served(tmp_path):
        assert client.view(tmp_path) == STATUS


@pytest.mark.parametrize("status", [lambda: {"at": object()}, lambda: 1 / 0], ids=["no JSON", "fails"])
def test_a_status_that_cannot_be_told(tmp_path: Path, status: Any, caplog: pytest.LogCaptureFixture) -> None:
    with served(tmp_path, status) as daemon:
        assert list(answers(tmp_path, b'{"ask": "status"}\n')[0]) == ["error"]
        assert client.status(tmp_path) is None
        daemon.say("still there")
        assert len(list(client.events(tmp_path))) == 1
    told = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert [one.exc_info for one in told] == [None, None]
    caplog.clear()


# --- apply -----------------------------------------------------------------------------------------------------------


def test_who_asks_for_a_run_waits_for_it_and_nobody_else_does(tmp_path: Path) -> None:
    """Longer than a client may take for anything else."""
    begun, end = threading.Event(), threading.Event()

    async def slow() -> dict[str, Any]:
        begun.set()
        while not end.is_set():
            await asyncio.sleep(0.01)
        return as_data(APPLIED)

    found: list[Any] = []
    with served(tmp_path, apply=slow, patience=0.1):
        asking = threading.Thread(target=lambda: found.append(client.apply(tmp_path, LONG)))
        asking.start()
        assert begun.wait(LONG)
        time.sleep(0.3)
        assert client.status(tmp_path) == STATUS
        assert not found
        end.set()
        asking.join(LONG)
    assert found == [APPLIED]


def test_a_daemon_that_ends_before_it_could_answer(tmp_path: Path) -> None:
    begun = threading.Event()

    async def never() -> dict[str, Any]:
        begun.set()
        await asyncio.sleep(LONG)
        raise AssertionError

    found: list[Any] = []
    with served(tmp_path, apply=never):
        asking = threading.Thread(target=lambda: found.append(client.apply(tmp_path, LONG)))
        asking.start()
        assert begun.wait(LONG)
    asking.join(LONG)
    assert found == [None]
    assert client.apply(tmp_path, LONG) is None


def test_who_is_turned_away_tries_again(tmp_path: Path) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    async def slow() -> dict[str, Any]:
        begun.release()
        while not go.is_set():
            await asyncio.sleep(0.01)
        return as_data(APPLIED)

    with served(tmp_path, waiting=2, apply=slow):
        found: list[Any] = []
        asking = [threading.Thread(target=lambda: found.append(client.apply(tmp_path, LONG))) for _ in range(4)]
        for one in asking:
            one.start()
        for _ in range(2):
            assert begun.acquire(timeout=LONG)
        time.sleep(0.3)
        assert not found
        (answer,) = answers(tmp_path, b'{"ask": "apply"}\n')
        assert answer["busy"] is True
        assert answer["error"].startswith(f"2 clients wait for a run already, of processes {os.getpid()};")
        with pytest.raises(client.Busy, match=r"no answer within 0\.2 s, it is busy: 2 clients wait"):
            client.apply(tmp_path, LONG, 0.2)
        assert client.status(tmp_path) == STATUS
        go.set()
        for one in asking:
            one.join(LONG)
        assert found == [APPLIED] * 4


def test_a_busy_daemon_is_not_absent(tmp_path: Path) -> None:
    with impostor(tmp_path, b'{"error": "full", "busy": true}\n'):
        begin = time.monotonic()
        assert client.status(tmp_path, 1.0) == {"busy": True}
        assert 1.0 <= time.monotonic() - begin < 5
        assert client.view(tmp_path, 1.0) == {"busy": True}
        with pytest.raises(client.Busy, match="it refused: full"):
            list(client.events(tmp_path, wait=1.0))
        with pytest.raises(client.Busy, match=r"no answer within 1 s, it is busy: full"):
            client.apply(tmp_path, 1.0)


def test_who_is_busy_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    answer = {"text": b'{"error": "full", "busy": true}\n'}
    with impostor(tmp_path, lambda: answer["text"]):
        later = threading.Timer(0.3, lambda: answer.update(text=b'{"version": 1}\n'))
        later.start()
        assert client.status(tmp_path, LONG) == {"version": 1}
        later.join()


@pytest.mark.parametrize("said", [b'{"error": "request: no"}\n', b"{}\n", b"no\n", b'{"version": 9}\n'])
def test_a_daemon_that_does_not_know_how(tmp_path: Path, said: bytes) -> None:
    with impostor(tmp_path, said) as asked, pytest.raises(client.Deaf, match="does not know how to apply"):
        client.apply(tmp_path, LONG)
    assert asked.get(timeout=LONG) == b'{"ask": "apply"}\n'


@pytest.mark.parametrize("said", [b"", b'{"version": 1'])
def test_a_daemon_that_dies_in_the_middle(tmp_path: Path, said: bytes) -> None:
    with impostor(tmp_path, said):
        assert client.apply(tmp_path, LONG) is None


@pytest.mark.parametrize("said", [b"", b'{"error": "full", "busy": true}\n'], ids=["silent", "full"])
def test_a_daemon_that_never_applies(tmp_path: Path, said: bytes) -> None:
    with impostor(tmp_path, said, stays=not said), pytest.raises(KernelError, match=r"no answer within 0\.3 s"):
        client.apply(tmp_path, 0.3)


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_that_are_remembered(tmp_path: Path) -> None:
    with served(tmp_path) as daemon:
        assert list(client.events(tmp_path)) == []
        daemon.say(*map(str, range(1, 201)))
        assert [record["text"] for record in client.events(tmp_path)] == [str(number) for number in range(1, 201)]
        assert [record["number"] for record in client.events(tmp_path, after=198)] == [199, 200]
        assert list(client.events(tmp_path, after=200)) == list(client.events(tmp_path, after=10**30)) == []


def test_the_fullest_journal_comes_whole_to_a_slow_reader(tmp_path: Path) -> None:
    """It is read whole before the first of it is shown: a pager may take its time."""
    with served(tmp_path) as daemon:
        daemon.say(*["x" * 1000] * 1000)
        records = client.events(tmp_path)
        next(records)
        daemon.wait(daemon.control.close())
        assert len(list(records)) == 999


def test_following_misses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as daemon:
        talking = threading.Thread(target=daemon.say, args=["x"] * 900)
        talking.start()
        followed = [client.events(tmp_path, follow=True) for _ in range(3)]
        seen = [[next(records)["number"] for _ in range(900)] for records in followed]
        talking.join(LONG)
        daemon.say("and then")
        assert seen == [list(range(1, 901))] * 3
        assert [next(records)["text"] for records in followed] == ["and then"] * 3


def test_following_from_a_number_on(tmp_path: Path) -> None:
    with served(tmp_path) as daemon:
        daemon.say("one", "two")
        records = client.events(tmp_path, after=1, follow=True)
        assert next(records)["text"] == "two"
        daemon.say("three")
        assert next(records)["text"] == "three"


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_longest_request(tmp_path: Path) -> None:
    said = b'{"ask": "status"}'
    with served(tmp_path):
        assert answers(tmp_path, said.ljust(REQUEST_MAX) + b"\n") == [STATUS]
        assert list(answers(tmp_path, said.ljust(REQUEST_MAX + 1) + b"\n")[0]) == ["error"]
        assert list(answers(tmp_path, b"x" * 100_000)[0]) == ["error"]


@pytest.mark.parametrize("said", [b"", b'{"ask":'])
def test_who_says_nothing_is_dropped(tmp_path: Path, said: bytes) -> None:
    with served(tmp_path, patience=0.2), connected(tmp_path, said) as connection:
        assert rest(connection) == b""


def test_who_does_not_take_an_answer_is_dropped(tmp_path: Path) -> None:
    big = {"text": "x" * (8 << 20)}
    with served(tmp_path, lambda: big, patience=0.2, asking=1), connected(tmp_path, b'{"ask": "status"}\n') as lazy:
        assert freed(tmp_path)
        assert len(rest(lazy)) < 8 << 20


def test_who_follows_and_does_not_read_is_dropped(tmp_path: Path) -> None:
    with served(tmp_path, backlog=10_000) as daemon, connected(tmp_path, FOLLOW) as lazy:
        daemon.say("started")
        assert line_of(lazy)["text"] == "started"
        reading = client.events(tmp_path, follow=True)
        for _ in range(30):
            daemon.say(*["x" * 400] * 100)
            for _ in range(100):
                next(reading)
        got = rest(lazy).count(b"\n")
        assert 0 < got < 3000


def test_who_says_more_is_done(tmp_path: Path) -> None:
    with served(tmp_path), connected(tmp_path, FOLLOW + FOLLOW) as connection:
        assert rest(connection) == b""


def freed(run_dir: Path) -> bool:
    """Whether somebody can connect again, after a while at most."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        with connected(run_dir, FOLLOW) as connection:
            connection.settimeout(0.3)
            try:
                said = connection.recv(1 << 16)
                if said and b'"error"' not in said:
                    return True
            except TimeoutError:  # it is followed in silence
                return True
            except ConnectionResetError:
                pass
        time.sleep(0.02)
    return False


def test_so_many_followers_and_no_more(tmp_path: Path) -> None:
    with served(tmp_path, following=3) as daemon, contextlib.ExitStack() as stack:
        daemon.say("started")
        followers = [stack.enter_context(connected(tmp_path, FOLLOW)) for _ in range(3)]
        for follower in followers:
            line_of(follower)
        why = f"3 clients follow the journal already, of processes {os.getpid()}; try again later, or end one"
        for _ in range(20):
            assert answers(tmp_path, FOLLOW) == [{"error": why, "busy": True}]
        with pytest.raises(client.Busy, match="it refused: 3 clients follow"):
            next(client.events(tmp_path, follow=True, wait=0.2))
        # Questions are none of their business.
        assert client.status(tmp_path) == STATUS
        assert client.apply(tmp_path, LONG) == APPLIED
        assert len(list(client.events(tmp_path))) == 1
        followers[0].close()
        assert freed(tmp_path)
        daemon.say("on")
        assert line_of(followers[1])["text"] == "on"


def test_whoever_asks_always_finds_a_place(tmp_path: Path) -> None:
    """Connections that say nothing, that stop half way, and that do not read: the oldest makes room."""
    big = {"text": "x" * (1 << 20)}
    with served(tmp_path, lambda: big, asking=8) as daemon, contextlib.ExitStack() as stack:
        daemon.say("started")
        before = descriptors()
        kinds = (b"", b'{"ask"', b'{"ask": "status"}\n')
        lazy = [stack.enter_context(connected(tmp_path, kinds[number % 3])) for number in range(60)]
        for _ in range(10):
            begin = time.monotonic()
            assert client.status(tmp_path, LONG) == big
            assert time.monotonic() - begin < 2
        assert descriptors() <= before + 60 + 8 + 2
        # Who had said nothing is told why, and no follower was asked to go.
        assert json.loads(rest(lazy[0])) == {"error": "too many ask at once; try again", "busy": True}
        assert len(rest(lazy[2])) < 1 << 20


def test_many_at_once_are_all_answered(tmp_path: Path) -> None:
    """Whoever is asked to make room, by a rush, asks again."""
    found: list[Any] = []

    def ask() -> None:
        for _ in range(10):
            found.append(client.status(tmp_path, LONG))

    with served(tmp_path, asking=4):
        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert found == [STATUS] * 200


def leave_at_once(connection: socket.socket) -> None:
    connection.close()


def read_no_more(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RD)


def say_no_more(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    rest(connection)


@pytest.mark.parametrize("leave", [leave_at_once, read_no_more, say_no_more])
def test_clients_that_come_and_go_leave_nothing(tmp_path: Path, leave: Callable[[socket.socket], None]) -> None:
    with served(tmp_path, lambda: {"text": "x" * 300_000}) as daemon:
        daemon.say(*["x" * 300] * 100)
        before = descriptors()
        for said in (b"", b'{"ask"', b'{"ask": "status"}\n', b'{"ask": "events"}\n', FOLLOW, b"\n" * 9000) * 6:
            with connected(tmp_path, said) as connection:
                leave(connection)
            daemon.say("x")
        assert freed(tmp_path)
        end = time.monotonic() + LONG
        while descriptors() > before and time.monotonic() < end:
            time.sleep(0.02)
        assert descriptors() <= before


def test_no_descriptor_left_to_take_a_client_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(tmp_path), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LONG)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            connection.connect(str(control_path(tmp_path)))
            end = time.monotonic() + LONG
            while not caplog.records and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "nobody can connect" in caplog.records[0].getMessage()
        assert len(caplog.records) < 10  # one a second
        connection.sendall(b'{"ask": "status"}\n')
        assert line_of(connection) == STATUS
    caplog.clear()


class Counted(Journal):
    """How many follow it."""

    followed = 0

    def follow(self, callback: Follower) -> Callable[[], None]:
        leave = super().follow(callback)
        self.followed += 1

        def leaves() -> None:
            leave()
            self.followed -= 1

        return leaves


@pytest.mark.parametrize("leave", [leave_at_once, read_no_more, say_no_more])
def test_who_has_gone_follows_no_more(tmp_path: Path, leave: Callable[[socket.socket], None]) -> None:
    journal = Counted()
    with served(tmp_path, journal=journal) as daemon:
        daemon.say("one")
        for _ in range(5):
            with connected(tmp_path, FOLLOW) as connection:
                line_of(connection)
                leave(connection)
        end = time.monotonic() + LONG
        while journal.followed and time.monotonic() < end:
            daemon.say("more")
            time.sleep(0.01)
        assert not journal.followed


def test_half_closing_after_the_request_is_no_harm(tmp_path: Path) -> None:
    with served(tmp_path) as daemon:
        daemon.say("started")
        for said in (b'{"ask": "status"}\n', b'{"ask": "events"}\n', FOLLOW):
            with connected(tmp_path, said) as connection:
                connection.shutdown(socket.SHUT_WR)
                assert rest(connection).count(b"\n") == 1


# --- the socket ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_nobody_else_can_ever_connect(tmp_path: Path) -> None:
    path, modes, done = control_path(tmp_path), set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):
                modes.add(path.lstat().st_mode)

    async def opened_and_closed() -> None:
        for _ in range(200):
            control = Control(path, dict, applied, Journal())
            await control.open()
            modes.add(path.lstat().st_mode)
            await control.close()
            await asyncio.sleep(0)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        asyncio.run(opened_and_closed())
    finally:
        done.set()
        watching.join(LONG)
    assert modes == {stat.S_IFSOCK | 0o600}


def test_what_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = control_path(tmp_path)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with served(tmp_path):
        assert client.status(tmp_path) == STATUS


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_stays(tmp_path: Path, kind: str) -> None:
    path = control_path(tmp_path)
    path.parent.mkdir()
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("elsewhere")
    control = Control(path, dict, applied, Journal())
    with pytest.raises(KernelError, match=f"listen on {path}: what is there is no socket; remove it"):
        asyncio.run(control.open())
    asyncio.run(control.close())
    assert os.path.lexists(path)


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "connbal").write_text("a file")
    path = control_path(tmp_path)
    with pytest.raises(KernelError, match=f"listen on {path}: Not a directory"):
        asyncio.run(Control(path, dict, applied, Journal()).open())
    with pytest.raises(KernelError, match="no daemon is running"):
        list(client.events(tmp_path))


def test_closing_removes_the_socket_and_ends_followers(tmp_path: Path) -> None:
    with served(tmp_path) as daemon:
        daemon.say("started")
        records = client.events(tmp_path, follow=True)
        next(records)
        with connected(tmp_path) as silent:
            daemon.wait(daemon.control.close())
            assert rest(silent) == b""
        assert not control_path(tmp_path).exists()
        with pytest.raises(client.Gone, match="the daemon has ended"):
            next(records)
        daemon.wait(daemon.control.close())
        daemon.wait(daemon.control.open())
        assert client.status(tmp_path) == STATUS


def test_a_path_longer_than_a_socket_can_be_named(tmp_path: Path) -> None:
    run_dir = tmp_path / "a-directory-with-a-long-name" / ("x" * NAME_MAX)
    before = descriptors()
    with served(run_dir) as daemon:
        daemon.say("started")
        assert control_path(run_dir).lstat().st_mode == stat.S_IFSOCK | 0o600
        assert client.status(run_dir) == STATUS
        assert [record["text"] for record in client.events(run_dir)] == ["started"]
    assert not control_path(run_dir).exists()
    assert client.status(run_dir) is None
    with pytest.raises(KernelError, match="no daemon is running"):
        list(client.events(run_dir))
    assert descriptors() <= before


@pytest.mark.parametrize("length", [NAME_MAX, NAME_MAX + 1])
def test_a_path_just_as_long_as_a_name_can_be(tmp_path: Path, length: int) -> None:
    run_dir = tmp_path / ("x" * (length - len(str(control_path(tmp_path))) - 1))
    assert len(str(control_path(run_dir))) == length
    with served(run_dir):
        assert client.status(run_dir) == STATUS


# --- the client, with daemons that are none --------------------------------------------------------------------------


@contextlib.contextmanager
def impostor(
    run_dir: Path, *pieces: bytes | Callable[[], bytes], pause: float = 0.0, stays: bool = False
) -> Iterator[queue.SimpleQueue[bytes]]:
    """Something that answers whoever comes with the same, a piece at a time; ``stays``: and does not close.

    Gives what it is asked.
    """
    done, asked = threading.Event(), queue.SimpleQueue[bytes]()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(LONG)
                    asked.put(connection.recv(4096))
                    for piece in pieces:
                        connection.sendall(piece if isinstance(piece, bytes) else piece())
                        done.wait(pause)
                    if stays:
                        done.wait(LONG)

    control_path(run_dir).parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(control_path(run_dir)))
        listening.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            done.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(LONG)


def test_no_daemon(tmp_path: Path) -> None:
    path = control_path(tmp_path)

    def absent() -> None:
        assert client.status(tmp_path) is None
        for follow in (False, True):
            with pytest.raises(KernelError, match=f"{path}: no daemon is running; start it with connbal daemon"):
                next(client.events(tmp_path, follow=follow))

    absent()
    path.parent.mkdir()
    absent()
    path.write_text("no socket")
    absent()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    absent()


@pytest.mark.parametrize(
    "said", [b"", b"\n", b"[]\n", b"7\n", b'{"version": 1', b'{"error": "no"}\n', b"\xff\n", b"[" * 100_000 + b"\n"]
)
def test_an_answer_that_makes_no_sense_is_none(tmp_path: Path, said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with impostor(tmp_path, said):
        assert client.status(tmp_path) is None
    assert [one.levelno for one in caplog.records if one.name == client.__name__] == [logging.DEBUG]


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    with impostor(tmp_path, stays=True):
        assert client.status(tmp_path, wait=0.2) is None
    control_path(tmp_path).unlink()
    with impostor(tmp_path, stays=True), pytest.raises(KernelError, match=r"no answer within 0\.2 s"):
        list(client.events(tmp_path, wait=0.2))


def test_a_daemon_that_answers_drop_by_drop(tmp_path: Path) -> None:
    with impostor(tmp_path, b'{"version": 1', *[b" "] * 400, b"}\n", pause=0.05):
        assert client.status(tmp_path, wait=0.3) is None


@pytest.mark.parametrize("said", [b"no\n", b"[]\n", b"{}\n", b'{"number": 1, "kind": "daemon"}\n', b"x" * (1 << 20)])
@pytest.mark.parametrize("follow", [False, True])
def test_what_is_no_record_is_an_error(tmp_path: Path, said: bytes, follow: bool) -> None:
    with impostor(tmp_path, said), pytest.raises(KernelError, match="its answer is no record"):
        list(client.events(tmp_path, follow=follow))


def test_a_connection_that_ends_in_the_middle_of_a_line(tmp_path: Path) -> None:
    record = Journal().reconcile([], [], [], 0, 0.0, "failed")
    said = json.dumps(record).encode() + b'\n{"number": 2'
    with impostor(tmp_path, said):
        assert list(client.events(tmp_path)) == [record]
        records = client.events(tmp_path, follow=True)
        assert next(records) == record
        with pytest.raises(client.Gone):
            next(records)


def test_the_client_loads_nothing_slow() -> None:
    """What every status command would pay for."""
    program = "import connbal.track.client, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    slow = {"asyncio", "pyroute2", "icmplib", "subprocess", "connbal.track.health", "connbal.plan.values"}
    assert not slow & set(done.stdout.split())
