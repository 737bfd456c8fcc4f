"""The channel's reading of answers, against a kernel that answers whatever the test wants."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from connbal.errors import KernelError
from connbal.kernel.api import TransientError
from connbal.kernel.messages import ROUTE
from connbal.kernel.netlink import Channel, Refused, attributes, codec

HEADER = struct.Struct("=IHHII")
ERROR, DONE, TYPE = 2, 3, 16


class Answer(dict[str, Any]):
    """An answer as it came."""

    payload: bytes


def taken(data: bytes, start: int, end: int) -> Answer:
    answer = Answer()
    answer.payload = data[start:end]
    return answer


def message(kind: int, payload: bytes = b"", flags: int = 0, sequence: int = 1) -> bytes:
    padded = payload + b"\0" * (-len(payload) % 4)
    return HEADER.pack(HEADER.size + len(payload), kind, flags, sequence, 0) + padded


#: Both ends of the channels of a test, open until it is over.
ENDS: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while ENDS:
        ENDS.pop().close()


def answering(*datagrams: bytes) -> Channel:
    """A channel whose other end has already said all it will say."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for datagram in datagrams:
        theirs.send(datagram)
    theirs.setblocking(False)
    ours.settimeout(0.2)
    channel = Channel(0)
    channel._socket = ours
    ENDS.extend((ours, theirs))
    return channel


def payloads(channel: Channel) -> list[bytes]:
    answers: list[Any] = list(channel.dump(b"", TYPE, "ip link", taken))
    return [answer.payload for answer in answers]


def errno_payload(code: int) -> bytes:
    return struct.pack("=i", code)


def test_a_dump_in_parts_with_strangers_in_between() -> None:
    channel = answering(
        message(TYPE, b"one") + message(TYPE, b"alien", sequence=99) + message(TYPE, b"two"),
        message(DONE, errno_payload(-5), sequence=98),
        message(TYPE, b"three") + message(DONE, errno_payload(0)),
    )
    assert payloads(channel) == [b"one", b"two", b"three"]


def test_a_dump_that_was_disturbed_is_done_again() -> None:
    channel = answering(
        message(TYPE, b"half", flags=0x10) + message(DONE, errno_payload(0)),
        message(TYPE, b"half", sequence=2) + message(DONE, errno_payload(0), flags=0x10, sequence=2),
        message(TYPE, b"whole", sequence=3) + message(DONE, errno_payload(0), sequence=3),
    )
    assert payloads(channel) == [b"whole"]


def test_a_dump_that_is_always_disturbed_is_given_up() -> None:
    answers = [message(DONE, errno_payload(0), flags=0x10, sequence=number) for number in range(1, 30)]
    with pytest.raises(TransientError, match="faster than"):
        payloads(answering(*answers))


@pytest.mark.parametrize(
    ("payload", "flags", "words"),
    [
        (errno_payload(-2), 0, "No such file or directory"),
        (errno_payload(-2) + message(TYPE), 0x100, "No such file or directory"),
        (errno_payload(-2) + message(TYPE) + struct.pack("=HH", 8, 1) + b"why\0", 0x300, "why"),
        (errno_payload(-2) + message(TYPE, b"asked") + struct.pack("=HH", 8, 1) + b"why\0", 0x200, "why"),
        (errno_payload(-2) + message(TYPE) + struct.pack("=HH", 8, 2) + b"????", 0x300, "No such file"),
        (errno_payload(-2) + message(TYPE) + struct.pack("=HH", 0, 2) * 3, 0x300, "No such file"),
        (errno_payload(-2) + b"\0\0", 0x300, "No such file"),
    ],
)
def test_a_refusal_has_the_number_and_the_kernels_words(payload: bytes, flags: int, words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        answering(message(ERROR, payload, flags=flags)).request(b"", TYPE, 0, "ip rule add")
    assert caught.value.code == 2
    assert caught.value.command == "ip rule add"


@pytest.mark.parametrize(("code", "passing"), [(12, True), (105, True), (16, True), (1, False), (22, False)])
def test_a_kernel_without_memory_refuses_nothing_for_good(code: int, passing: bool) -> None:
    with pytest.raises(Refused) as caught:
        answering(message(ERROR, errno_payload(-code))).request(b"", TYPE, 0, "ip rule add")
    assert isinstance(caught.value, TransientError) == passing
    assert caught.value.code == code


def test_success_silence_and_a_dead_socket() -> None:
    answering(message(ERROR, errno_payload(0))).request(b"", TYPE, 0, "ip rule add")
    with pytest.raises(TransientError, match="no answer"):
        answering().request(b"", TYPE, 0, "ip rule add")
    channel = answering()
    ENDS.pop().close()  # the kernel's
    with pytest.raises(KernelError, match="ip rule add"):
        channel.request(b"", TYPE, 0, "ip rule add")


def test_an_answer_that_makes_no_sense() -> None:
    with pytest.raises(KernelError, match="makes no sense"):
        answering(message(TYPE, b"x")).dump(b"", TYPE, "ip rule", ROUTE.decode)


def test_an_answer_that_is_longer_than_there_is_room_for() -> None:
    """Of a dump the rest would be missing, and nobody would know."""
    channel = answering(message(TYPE, b"one") + message(TYPE, bytes(200)), message(DONE, errno_payload(0)))
    channel._buffer = memoryview(bytearray(64))
    with pytest.raises(KernelError, match="too long for the buffer"):
        payloads(channel)


def test_a_missing_codec_names_the_package() -> None:
    with pytest.raises(KernelError, match="pyroute2"):
        codec("nothing.of.the.kind", "x", "ip rule")


def test_attributes() -> None:
    told = {"attrs": [("A", 1), ("B", 2)]}
    assert attributes(told) == {"A": 1, "B": 2}
    assert attributes(told, frozenset({"B"})) == {"B": 2}
