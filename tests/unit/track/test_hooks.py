"""What runs on events: real scripts, some of which hang, fail, fork or are not there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connbal.kernel import exec as programs
from connbal.track.hooks import Hooks

EVENTS = ("ifup", "ifdown", "connected", "disconnected", "connecting", "disconnecting")
LONG = 600.0  #: seconds; longer than any test


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that in 30 s")


def alive(session: int) -> list[int]:
    """The processes of a session, without those that only wait to be reaped."""
    return [pid for pid, (state, _, _, its) in processes().items() if int(its) == session and state not in "ZX"]


def zombies() -> list[int]:
    """Own children that nobody has reaped."""
    return [pid for pid, (state, parent, *_) in processes().items() if int(parent) == os.getpid() and state == "Z"]


def processes() -> dict[int, list[str]]:
    """State, parent, group and session of each process."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        found[int(entry.name)] = fields[:4]
    return found


class Place:
    """A directory with the two programs, and what they wrote into ``log`` there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.user, self.call = root / "mwan3.user", root / "hotplug-call"

    def scripts(self, user: str | None = None, call: str | None = None) -> None:
        if user is not None:
            self.user.write_text(f"cd {self.root}\n{user}\n")
            self.user.chmod(0o644)
        if call is not None:
            self.call.write_text(f"#!/bin/sh\ncd {self.root}\n{call}\n")
            self.call.chmod(0o755)

    def lines(self) -> list[str]:
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []

    @asynccontextmanager
    async def hooks(self, limit: float = LONG, parallel: int = 4, queue: int = 32) -> AsyncIterator[Hooks]:
        hooks = Hooks(self.user, self.call, limit=limit, parallel=parallel, queue=queue)
        try:
            yield hooks
        finally:
            await hooks.close(grace=0)

    def run(self, *events: tuple[str, str]) -> None:
        """Put events (kind, interface), and wait for their hooks."""

        async def main() -> None:
            async with self.hooks() as hooks:
                for kind, interface in events:
                    hooks.put(kind, interface, "wwan0")
                await asyncio.wait_for(hooks.wait_idle(), 60)

        asyncio.run(main())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def run() -> Callable[[Coroutine[object, object, None]], None]:
    """Runs a test's coroutine, within a minute."""

    def bounded(main: Coroutine[object, object, None]) -> None:
        asyncio.run(asyncio.wait_for(main, 60))

    return bounded


Run = Callable[[Coroutine[object, object, None]], None]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_environment_and_arguments(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """``/proc/PID/environ`` is what a program was started with. Its shell adds its own, such as PWD, SHLVL and _."""
    monkeypatch.setenv("SECRET", "1")
    place.scripts(*(f"cat /proc/$$/environ >{name}; cat /proc/$$/cmdline >{name}-argv" for name in ("user", "call")))
    place.run(("connected", "wan1"))
    for name in ("user", "call"):
        given = (place.root / name).read_bytes().split(b"\0")
        assert sorted(given) == [b"", b"ACTION=connected", b"DEVICE=wwan0", b"INTERFACE=wan1"]
    assert (place.root / "user-argv").read_text() == f"/bin/sh\0{place.user}\0"
    assert (place.root / "call-argv").read_text() == f"/bin/sh\0{place.call}\0iface\0"  # by its #! line


@pytest.mark.parametrize(("first", "ran"), [
    ("#!/usr/bin/env -S sh -u", "sh\0-u\0"), ("#! /bin/sh  -e ", "/bin/sh\0-e\0"), ("#!/bin/sh\r", "/bin/sh\0"),
    ("#!/no/such/program", "/bin/sh\0"), ("#!sh", "/bin/sh\0"), ("#!", "/bin/sh\0"), ("# a remark", "/bin/sh\0"),
    ("#!/etc/passwd", "/bin/sh\0"),
])  # fmt: skip
def test_the_first_line_says_what_runs_the_users_script(place: Place, first: str, ran: str) -> None:
    """As mwan3 has it, which makes the script executable; a file that LuCI wrote is not."""
    place.user.write_text(f"{first}\ncat /proc/$$/cmdline >{place.root}/argv\n")
    place.user.chmod(0o644)
    place.run(("connected", "wan1"))
    assert (place.root / "argv").read_text() == f"{ran}{place.user}\0"


def test_what_a_shell_exports_besides(place: Place) -> None:
    place.scripts(user="env >log")
    place.run(("ifup", "wan1"))
    names = {line.partition("=")[0] for line in place.lines()}
    given = {"ACTION", "INTERFACE", "DEVICE"}
    assert given <= names <= given | {"PWD", "OLDPWD", "SHLVL", "_"}


@pytest.mark.parametrize("kind", EVENTS)
def test_which_programs_run_for_which_events(place: Place, kind: str) -> None:
    place.scripts("echo user >>log", "echo call >>log")
    place.run((kind, "wan1"), ("ifupdate", "wan1"))
    assert place.lines() == {
        "ifup": ["user"], "ifdown": ["user"], "connecting": ["call"], "disconnecting": ["call"],
        "connected": ["user", "call"], "disconnected": ["user", "call"],
    }[kind]  # fmt: skip


def test_events_of_one_interface_keep_their_order(place: Place) -> None:
    write = "echo {0} begins $ACTION >>log; for i in 1 2 3; do :; done; echo {0} ends $ACTION >>log"
    place.scripts(write.format("user"), write.format("call"))
    kinds = ("ifup", "connected", "disconnecting", "disconnected", "ifdown") * 3
    place.run(*((kind, "wan1") for kind in kinds))
    expected = []
    for kind in kinds:
        expected += [f"user begins {kind}", f"user ends {kind}"] if kind != "disconnecting" else []
        expected += [f"call begins {kind}", f"call ends {kind}"] if not kind.startswith("if") else []
    assert place.lines() == expected


def test_interfaces_run_beside_each_other_but_not_too_many(place: Place, run: Run) -> None:
    place.scripts(user="echo $INTERFACE >>log; read line <gate")
    os.mkfifo(place.root / "gate")

    async def main() -> None:
        async with place.hooks(parallel=3) as hooks:
            before = programs.executions
            for number in range(8):
                hooks.put("ifup", f"wan{number}", "")
            assert programs.executions == before  # put starts nothing itself
            await until(lambda: len(place.lines()) == 3)
            for _ in range(20):
                await asyncio.sleep(0)
            assert programs.executions == before + 3
            gate = os.open(place.root / "gate", os.O_RDWR)
            os.write(gate, b"go\n" * 8)
            await until(lambda: len(place.lines()) == 8)
            await hooks.wait_idle()
            os.close(gate)

    run(main())
    assert sorted(place.lines()) == [f"wan{number}" for number in range(8)]


def test_while_one_hangs_others_run_and_it_waits_within_bounds(
    place: Place, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    place.scripts(user="echo $INTERFACE $DEVICE >>log; [ $INTERFACE.$DEVICE != bad.0 ] || read line <gate")
    os.mkfifo(place.root / "gate")

    async def main() -> None:
        async with place.hooks() as hooks:
            for number in range(1000):
                hooks.put("ifup", "bad", str(number))
                await asyncio.sleep(0)
            hooks.put("ifdown", "good", "0")
            await until(lambda: "good 0" in place.lines())
            await until(lambda: "bad 0" in place.lines())
            assert not hooks.idle
            gate = os.open(place.root / "gate", os.O_RDWR)
            os.write(gate, b"go\n")
            await hooks.wait_idle()
            assert hooks.idle
            os.close(gate)

    run(main())
    ran = [line for line in place.lines() if line.startswith("bad")]
    assert ran == ["bad 0", *(f"bad {number}" for number in range(1000 - 32, 1000))]
    said = warnings(caplog)
    assert len(said) == 1000 - 33
    assert set(said) == {"no hooks for ifup of bad: 32 later events wait"}


@pytest.mark.parametrize("pidfd", [True, False])
def test_one_that_hangs_is_killed_with_its_children(
    place: Place, run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, pidfd: bool
) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    place.scripts(user="[ $ACTION = ifdown ] && exit 0; sleep 1000 & sleep 1000 & wait")

    async def main() -> None:
        async with place.hooks(limit=0.5) as hooks:
            hooks.put("ifup", "wan1", "wwan0")
            await hooks.wait_idle()
            sessions.append(programs.own_pids[-1])
            await until(lambda: not alive(sessions[0]))

    sessions: list[int] = []
    run(main())
    assert warnings(caplog) == [f"/bin/sh {place.user}, for ifup of wan1: killed, it took longer than 0.5 s"]
    assert not zombies()


@pytest.mark.parametrize(
    ("body", "why"), [("exit 3", "exit status 3"), ("kill -9 $$", "killed by signal 9"), ("exit 0", None)]
)
@pytest.mark.parametrize("pidfd", [True, False])
def test_how_it_ended(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, pidfd: bool, body: str,
    why: str | None,
) -> None:  # fmt: skip
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    place.scripts("echo user >>log; " + body, "echo call >>log")
    place.run(("connected", "wan1"))
    expected = [f"/bin/sh {place.user}, for connected of wan1: {why}"] if why else []
    assert warnings(caplog) == expected
    assert place.lines() == ["user", "call"]


def test_what_is_not_there_is_not_run(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    before = programs.executions
    place.run(("connected", "wan1"))
    place.scripts(call="echo call >>log")
    place.call.chmod(0o644)
    place.run(("connected", "wan1"))
    assert programs.executions == before
    assert warnings(caplog) == []
    place.scripts(user="echo user >>log")  # it is looked for at each event
    place.run(("connected", "wan1"))
    assert place.lines() == ["user"]


def test_what_others_can_have_written_is_not_run(
    place: Place, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Looked at each time; the log is told once for each change."""
    place.scripts("echo user $ACTION >>log", "echo call $ACTION >>log")

    async def main() -> None:
        async with place.hooks() as hooks:

            async def happen(*kinds: str) -> None:
                for kind in kinds:
                    hooks.put(kind, "wan1", "")
                await hooks.wait_idle()

            await happen("connected")
            place.user.chmod(0o666)
            await happen("disconnected", "connected")
            assert [one.place for one in hooks.findings()] == [str(place.user)]
            place.call.chmod(0o757)
            await happen("disconnected", "ifup")
            assert [one.place for one in hooks.findings()] == [str(place.user), str(place.call)]
            place.user.chmod(0o644)
            place.call.chmod(0o755)
            await happen("ifdown", "connecting")
            assert hooks.findings() == ()

    run(main())
    assert place.lines() == ["user connected", "call connected", "call disconnected", "call connected", "user ifdown",
                             "call connecting"]  # fmt: skip
    assert warnings(caplog) == [
        f"{place.user}: not run as root: others may write it, mode 666; chmod go-w {place.user}",
        f"{place.call}: not run as root: others may write it, mode 757; chmod go-w {place.call}",
        f"/bin/sh {place.user}: it is run again", f"{place.call} iface: it is run again",
    ]  # fmt: skip


def test_one_that_cannot_start(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.call.write_bytes(b"\x7fELF rubbish")
    place.call.chmod(0o755)
    place.scripts(user="echo $ACTION >>log")
    place.run(("connected", "wan1"), ("disconnected", "wan\0"), ("ifdown", "wan1"))
    assert sorted(place.lines()) == ["connected", "ifdown"]
    call = f"{place.call} iface, for"
    assert sorted(warnings(caplog)) == sorted([
        f"{call} connected of wan1: cannot be started: Exec format error",
        f"{call} disconnected of wan\0: cannot be started: embedded null byte",
        f"/bin/sh {place.user}, for disconnected of wan\0: cannot be started: embedded null byte",
    ])  # fmt: skip


def test_what_a_script_leaves_in_the_background_lives_on(place: Place) -> None:
    place.scripts(user="sleep 1000 & echo $! >log")
    place.run(("ifup", "wan1"))
    (pid,) = map(int, place.lines())
    try:
        assert os.getsid(pid) == programs.own_pids[-1]
        assert alive(programs.own_pids[-1]) == [pid]
    finally:
        os.kill(pid, signal.SIGKILL)


def test_closing_kills_what_runs_and_forgets_what_waits(
    place: Place, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    place.scripts("echo $INTERFACE $ACTION >>log; sleep 1000 & wait", "echo call >>log")

    async def main() -> None:
        async with place.hooks(parallel=2) as hooks:
            for interface in ("wan1", "wan2", "wan3"):
                hooks.put("connected", interface, "")
                hooks.put("disconnected", interface, "")
            await until(lambda: len(place.lines()) == 2)
            started = list(programs.own_pids)[-2:]
            await hooks.close(grace=0.05)
            assert hooks.idle
            await until(lambda: not any(map(alive, started)))
            hooks.put("connected", "wan1", "")
            assert hooks.idle
            await hooks.close()

    run(main())
    assert sorted(place.lines()) == ["wan1 connected", "wan2 connected"]
    assert not zombies()
    said = [f"/bin/sh {place.user}, for connected of {name}: killed, connbal ends" for name in ("wan1", "wan2")]
    assert sorted(warnings(caplog)) == said


def test_closing_lets_what_runs_end(place: Place, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    place.scripts("echo begins >>log; read line <gate; echo ends >>log", "echo call >>log")
    os.mkfifo(place.root / "gate")

    async def main() -> None:
        async with place.hooks() as hooks:
            hooks.put("connected", "wan1", "")
            hooks.put("ifdown", "wan1", "")
            await until(lambda: place.lines() == ["begins"])
            closing = asyncio.ensure_future(hooks.close(grace=LONG))
            await asyncio.sleep(0)
            gate = os.open(place.root / "gate", os.O_RDWR)
            os.write(gate, b"go\n")
            await closing
            os.close(gate)

    run(main())
    assert place.lines() == ["begins", "ends"]
    assert warnings(caplog) == []


def test_nothing_is_left_behind(place: Place, run: Run) -> None:
    place.scripts("[ $ACTION = ifup ] || exit 1", "exit 1")

    def descriptors() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    async def main() -> None:
        async with place.hooks() as hooks:
            before = descriptors()
            for number in range(100):
                hooks.put(EVENTS[number % len(EVENTS)], f"wan{number % 7}", "wwan0")
            await hooks.wait_idle()
            assert descriptors() == before
            assert not zombies()

    run(main())
