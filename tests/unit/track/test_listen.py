"""What happens around the daemon: netlink's announcements as bytes, and the hotplug hook's lines."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.errors import KernelError
from connbal.kernel.rundir import RunDir
from connbal.plan.state import ROUTE_PROTOCOL
from connbal.track.listen import Happened, Hotplug, announcements, hotplug_event

FILES = Path(__file__).parents[3] / "files"
HOOK = FILES / "etc/hotplug.d/iface/15-connbal"
NEWLINK, DELLINK, NEWADDR, NEWROUTE, DELROUTE, NEWRULE, DELRULE = 16, 17, 20, 24, 25, 32, 33


def attribute(kind: int, value: bytes) -> bytes:
    padded = value + bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + padded


def message(kind: int, body: bytes, port: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, port) + body


def link(kind: int, name: str, flags: int) -> bytes:
    return message(kind, struct.pack("=BBHiII", 0, 0, 1, 7, flags, 0) + attribute(3, name.encode() + b"\0"))


def route(kind: int, protocol: int, port: int = 0) -> bytes:
    return message(kind, bytes([2, 0, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0]), port)


def rule(kind: int, protocol: int, port: int = 0) -> bytes:
    return message(kind, bytes(12) + attribute(15, bytes(4)) + attribute(21, bytes([protocol])), port)


@pytest.mark.parametrize(
    ("kind", "flags", "carrier"),
    [(NEWLINK, 0x10001, True), (NEWLINK, 0x1, False), (NEWLINK, 0x10000, False), (DELLINK, 0x10001, False)],
)
def test_a_link_tells_its_carrier(kind: int, flags: int, carrier: bool) -> None:
    (event,) = announcements(link(kind, "wwan0", flags))
    assert (event.device, event.carrier) == ("wwan0", carrier)
    assert "wwan0" in event.cause


def test_what_a_bridge_says_of_its_ports_is_no_event() -> None:
    data = bytearray(link(NEWLINK, "lan1", 0x10001))
    data[16] = 7  # AF_BRIDGE, in the payload's first byte
    assert not announcements(bytes(data))


def test_several_messages_of_one_datagram() -> None:
    data = link(NEWLINK, "a", 0x10001) + message(NEWADDR, bytes(8)) + route(NEWROUTE, 4)
    assert [event.cause for event in announcements(data)] == ["link a", "address", "route"]


def test_what_connbal_makes_is_no_news_but_its_loss_is() -> None:
    assert announcements(route(NEWROUTE, ROUTE_PROTOCOL) + rule(NEWRULE, ROUTE_PROTOCOL)) == []
    lost = announcements(route(DELROUTE, ROUTE_PROTOCOL) + rule(DELRULE, ROUTE_PROTOCOL))
    assert [event.cause for event in lost] == ["route gone", "rule gone"]
    assert [event.cause for event in announcements(rule(NEWRULE, 3))] == ["rule"]


def test_what_connbal_deletes_itself_is_no_news() -> None:
    def deleted(port: int) -> bytes:
        return route(DELROUTE, ROUTE_PROTOCOL, port) + rule(DELRULE, ROUTE_PROTOCOL, port)

    asked = []

    def own(port: int) -> bool:
        asked.append(port)
        return port == 7

    assert announcements(deleted(7), own) == []
    assert len(announcements(deleted(8), own)) == 2
    assert len(announcements(deleted(0), own)) == 2
    assert len(announcements(message(NEWADDR, bytes(8), 7) + link(DELLINK, "a", 0) + route(NEWROUTE, 4, 7), own)) == 3
    assert asked == [7, 7, 8, 8]


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    announcements(data)
    announcements(message(NEWLINK, data) + message(NEWRULE, data))
    hotplug_event(data)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"ifup wan1 wwan0", Happened("ifup wan1", interface="wan1", action="ifup")),
        (b"ifdown wan1 ", Happened("ifdown wan1", interface="wan1", action="ifdown")),
        (b"ifup-failed a.b_c-d@e", Happened("ifup-failed a.b_c-d@e", interface="a.b_c-d@e", action="ifup-failed")),
        (b"ifupdate " + b"x" * 64, Happened("ifupdate " + "x" * 64, interface="x" * 64, action="ifupdate")),
        (b"changed config", Happened("configuration changed", action="changed")),
        (b"changed forced", Happened("interface forced by the user", action="changed")),
        (b"changed wan1", None),
        (b"changed restart", Happened("mwan3 restart", action="changed")),
        (b"force wan1 down", Happened("mwan3 ifdown wan1", interface="wan1", action="hold")),
        (b"force wan1 auto", Happened("mwan3 ifup wan1", interface="wan1", action="release")),
        (b"force wan1 up", None),
        (b"force wan1", None),
        (b"force down", None),
        (b"force wan/1 down", None),
        (b"changed config wan1", None),
        (b"changed", None),
        (b"config changed", None),
        (b"reboot wan1", None),
        (b"ifup", None),
        (b"ifup a b c", None),
        (b"", None),
        (b"ifup " + b"x" * 65, None),
        (b"ifup wan1 " + b"x" * 300, None),
        (b"ifup ../wan1", None),
        (b"ifup wan\x1b[2J", None),
        (b"ifup w\xc3\xa4n", None),
        (b"ifup $(reboot)", None),
    ],
)
def test_lines_of_the_pipe(line: bytes, event: Happened | None) -> None:
    assert hotplug_event(line) == event


def run_hook(root: Path, times: int = 1, **environment: str) -> None:
    """Source the hook as netifd does, with its directories below ``root``."""
    text = HOOK.read_text("utf-8")
    for place in ("/var/run/connbal", "/etc/config", "/usr/bin", "/usr/libexec"):
        text = text.replace(place, f"{root}{place}")
    script = root / "hook"
    script.write_text(text)
    sourced = f'n=0; while [ $n -lt {times} ]; do n=$((n + 1)); . "$0"; done'
    environment = {"PATH": os.defpath, **environment}
    subprocess.run(["sh", "-c", sourced, str(script)], env=environment, timeout=30, check=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for place in ("var/run/connbal", "etc/config", "usr/bin", "usr/libexec", "usr/lib/connbal"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "etc/config/mwan3").touch()
    for name in ("usr/libexec/connbal-later", "usr/lib/connbal/turns.sh"):
        text = (FILES / name).read_text().replace("/var/run", f"{tmp_path}/var/run")
        (tmp_path / name).write_text(text.replace("/usr/bin", f"{tmp_path}/usr/bin"))
        (tmp_path / name).chmod(0o755)
    applied = tmp_path / "usr/bin/connbal"
    applied.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/applied\n')
    applied.chmod(0o755)
    return tmp_path


@pytest.fixture
def named_as_the_daemon() -> Iterator[None]:
    """This process has the daemon's name, by which the hook knows it."""
    name = Path("/proc/self/comm").read_text().strip()
    Path("/proc/self/comm").write_text("connbald")
    yield
    Path("/proc/self/comm").write_text(name)


@pytest.mark.usefixtures("named_as_the_daemon")
def test_the_hook_hands_over_to_the_daemon(root: Path) -> None:
    heard: list[Happened] = []
    (root / "var/run/connbal/daemon.pid").write_text(f"{os.getpid()}\n")

    async def daemon() -> None:
        pipe = Hotplug(root / "var/run/connbal/events", heard.append)
        for action in ("ifup", "connected", "ifdown"):  # what the tracker itself announces is not handed back to it
            run_hook(root, ACTION=action, INTERFACE="wan1", DEVICE="wwan0")
        for _ in range(100):
            if len(heard) == 2:
                break
            await asyncio.sleep(0.02)
        pipe.close()

    asyncio.run(daemon())
    assert [(event.action, event.interface) for event in heard] == [("ifup", "wan1"), ("ifdown", "wan1")]
    assert not (root / "var/run/connbal/events").exists()
    assert not (root / "applied").exists()


@pytest.mark.usefixtures("named_as_the_daemon")
def test_a_daemon_that_reads_nothing_blocks_neither_the_hook_nor_commands(root: Path) -> None:
    """netifd handles events one after the other: a hook that waits stops all of them."""
    own = root / "var/run/connbal"
    (own / "daemon.pid").write_text(f"{os.getpid()}\n")
    heard: list[Happened] = []

    async def daemon() -> None:
        pipe = Hotplug(own / "events", heard.append)
        for _ in range(5000):
            RunDir(root / "var/run").poke("config")
        # Sourced again and again, in one shell: the loop of this process, which would read, stands meanwhile.
        run_hook(root, times=5000, ACTION="ifup-failed", INTERFACE="i" * 64)
        for _ in range(100):
            await asyncio.sleep(0.01)
        assert Happened("events may have been lost") in heard
        heard.clear()
        run_hook(root, ACTION="ifup", INTERFACE="wan1")
        while not heard:
            await asyncio.sleep(0.01)
        pipe.close()

    asyncio.run(daemon())
    assert [event.interface for event in heard] == ["wan1"]
    assert sorted(path.name for path in own.iterdir()) == ["daemon.pid"]


@pytest.mark.usefixtures("named_as_the_daemon")
@pytest.mark.parametrize("count", ["", "x", "-1", "3 4", "$(id)", "12\n"])
def test_whatever_is_counted_the_daemon_is_told(root: Path, count: str) -> None:
    own = root / "var/run/connbal"
    (own / "daemon.pid").write_text(f"{os.getpid()}\n")
    os.mkfifo(own / "events")
    (own / "unread").write_text(count)
    reader = os.open(own / "events", os.O_RDWR | os.O_NONBLOCK)
    run_hook(root, ACTION="ifup", INTERFACE="wan1")
    assert os.read(reader, 100) == b"ifup wan1\n"
    os.close(reader)
    assert (own / "unread").read_text() == ("13\n" if count == "12\n" else "1\n")


@pytest.mark.parametrize("pid", [999999999, os.getpid()], ids=["nobody", "somebody else"])
def test_without_a_daemon_the_hook_applies(root: Path, pid: int) -> None:
    (root / "var/run/connbal/ledger.json").touch()
    os.mkfifo(root / "var/run/connbal/events")  # left by a daemon that was killed
    (root / "var/run/connbal/daemon.pid").write_text(f"{pid}\n")
    run_hook(root, ACTION="ifup", INTERFACE="wan1", DEVICE="wwan0")
    for _ in range(200):
        if (root / "applied").exists() and (root / "applied").stat().st_size:
            break
        subprocess.run(["sleep", "0.02"], check=True)
    assert (root / "applied").read_text() == "apply --if-applied\n"


def test_where_nothing_has_been_applied_since_the_boot_the_hook_does_nothing(root: Path) -> None:
    """The service may be disabled: then no rule comes back because a network did."""
    run_hook(root, ACTION="ifup", INTERFACE="wan1", DEVICE="wwan0")
    subprocess.run(["sleep", "0.2"], check=True)
    assert not (root / "applied").exists()


def test_a_pipe_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    async def daemon() -> None:
        Hotplug(tmp_path / "missing" / "events", lambda event: None)

    with pytest.raises(KernelError, match="mkfifo"):
        asyncio.run(daemon())
