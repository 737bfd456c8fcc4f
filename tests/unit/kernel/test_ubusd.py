"""Calls over ubus without the program, against a ubusd that says what the test wants."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel import ubus, ubusd
from connbal.kernel.api import TransientError
from tests.fakes.ubusd import DATA, HELLO, TIMED_OUT, attribute, message, status, table

DUMP: dict[str, Any] = {
    "interface": [
        {"interface": "wan", "up": True, "uptime": 77, "metric": 10, "large": 2**40, "less": -5, "part": 0.25,
         "l3_device": "eth1", "ipv4-address": [{"address": "10.1.0.2", "mask": 24}], "route": [], "data": {}},
        {"interface": "lan", "up": False, "dns-server": ["10.0.0.1", "é"]},
    ]
}  # fmt: skip
FOUND = message(DATA, 1, attribute(3, b"\1\2\3\4")) + status(1)


def answer(values: dict[str, Any]) -> bytes:
    return message(DATA, 2, attribute(3, b"\1\2\3\4") + attribute(7, table(values))) + status(2)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[bytes]]]:
    """``bus(greeting, answer, …)``: a ubusd that says one thing to a greeting and to each request, then nothing more.

    What it was asked is in the list that this returns.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "ubus.sock"))
    listener.listen()
    monkeypatch.setattr(ubusd, "SOCKETS", (str(tmp_path / "none"), str(tmp_path / "ubus.sock")))
    threads: list[threading.Thread] = []
    asked: list[bytes] = []
    over = threading.Event()

    def serve(said: tuple[bytes, ...], hang: bool) -> None:
        with listener.accept()[0] as one, suppress(OSError):
            one.settimeout(5)
            for text in said:
                half = len(text) // 2  # as it may come over a socket
                one.sendall(text[:half])
                one.sendall(text[half:])
                if text is not said[-1]:
                    asked.append(one.recv(4096))
            if hang:
                over.wait(5)

    def start(*said: bytes, hang: bool = False) -> list[bytes]:
        threads.append(threading.Thread(target=serve, args=(said, hang)))
        threads[-1].start()
        return asked

    yield start
    over.set()
    listener.close()
    for thread in threads:
        thread.join()


def test_what_is_answered_is_what_the_program_prints(bus: Callable[..., list[bytes]]) -> None:
    asked = bus(HELLO, FOUND, answer(DUMP))
    started = programs.executions
    assert ubus.dump() == ubus.parse_dump(json.dumps(DUMP))
    assert programs.executions == started
    assert asked == [
        message(4, 1, attribute(2, b"network.interface\0")).replace(struct.pack(">I", 7), bytes(4), 1),
        struct.pack(">BBHI", 0, 5, 2, 0x01020304)
        + attribute(0, attribute(3, b"\1\2\3\4") + attribute(4, b"dump\0") + attribute(7, b"")),
    ]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ((HELLO, status(1, 4)), "Not found"),
        ((HELLO, FOUND, status(2, 6)), "Permission denied"),
        ((HELLO, FOUND, status(2, 3)), "status 3"),
        ((HELLO, FOUND, status(2)), "no answer"),
        ((HELLO, FOUND, answer({"other": 1})), "no list of interfaces"),
    ],
)
def test_a_refusal_is_an_error(bus: Callable[..., list[bytes]], said: tuple[bytes, ...], words: str) -> None:
    bus(*said)
    with pytest.raises(KernelError, match=words):
        ubus.dump()


@pytest.mark.parametrize("said", [(b"\0",), (HELLO, b""), (HELLO, FOUND, answer(DUMP)[:40])], ids=len)
def test_silence_lasts_no_longer_than_was_said(bus: Callable[..., list[bytes]], said: tuple[bytes, ...]) -> None:
    bus(*said, hang=True)
    with pytest.raises(TransientError, match=r"within 0\.2 s"):
        ubus.dump(0.2)


def test_time_that_ran_out_at_the_other_end_passes(bus: Callable[..., list[bytes]]) -> None:
    bus(HELLO, FOUND, status(2, TIMED_OUT))
    with pytest.raises(TransientError, match="Request timed out"):
        ubus.dump()


def nested(depth: int) -> dict[str, Any]:
    return {"x": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    "said",
    [
        (b"",),
        (b"\1" + HELLO[1:],),
        (message(3, 0),),
        (HELLO, status(1)),
        (HELLO, message(DATA, 1, attribute(3, b"\1")) + status(1)),
        (HELLO, FOUND, message(DATA, 2, attribute(7, b"\0\0\0\2xx")) + status(2)),
        (HELLO, FOUND, message(DATA, 2, attribute(7, attribute(3, b"no name"))) + status(2)),
        (HELLO, FOUND, message(DATA, 2, attribute(7, attribute(0x85, b"\0\0\0\0\1"))) + status(2)),
        (HELLO, FOUND, message(DATA, 2, b"\7\0\1\0") + status(2)),
        (HELLO, FOUND, answer(nested(100))),
        (HELLO, FOUND, answer(DUMP)[:-30]),
    ],
    ids=range(11),
)
def test_the_program_is_asked_where_the_answer_makes_no_sense(
    bus: Callable[..., list[bytes]], said: tuple[bytes, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ubus"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(DUMP)}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    bus(*said)
    assert ubus.dump() == ubus.parse_dump(json.dumps(DUMP))


def test_without_ubus_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ubusd, "SOCKETS", (str(tmp_path / "none"),))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SBIN", str(tmp_path))
    assert ubus.dump() is None


def test_a_ubus_that_cannot_be_reached_is_not_none(
    bus: Callable[..., list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts must not come from /etc/config/network for a moment, where there is no program ``ubus`` to ask instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SBIN", str(tmp_path))
    bus(b"")
    with pytest.raises(KernelError, match="the connection ended"):
        ubus.dump()
