"""A netlink socket: one request, all of its answers, errors in the user's terms.

The sockets are made here because pyroute2's changed too much between the versions to build on (0.5.16 to 0.9: threads,
generators, an event loop), and give neither a time limit nor the kernel's own words for a refusal. What goes through
them is in :mod:`connbal.kernel.messages`. pyroute2 reads what is seldom read, and is imported for that alone: it costs
330 ms on a PC, seconds on a small router, and 20 MB.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from connbal.errors import KernelError
from connbal.kernel.api import PASSING, TransientError

#: A message that was read: fields by name, and ``attrs``, a list of (name, value). As pyroute2 decodes it, too.
Message = Mapping[str, Any]
#: Makes a message out of the part of a buffer, from here to there, that is its payload.
Decode = Callable[[bytes, int, int], Message]

V = TypeVar("V")

NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
NLM_F_DUMP = 0x300
NLA_F_NESTED, NLA_F_NET_BYTEORDER = 0x8000, 0x4000
#: Set on messages of a dump during which the table changed: something may be there twice or not at all.
_NLM_F_DUMP_INTR = 0x10
#: Set on an error that leaves out the request's payload, and on one with attributes.
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE, _NLMSG_MIN_TYPE = 2, 3, 16
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")

#: The kernel fills at most 32 KiB at a time.
_BUFFER = 1 << 17
#: As a plain number: flags of an enumeration are slow.
_MSG_TRUNC = int(socket.MSG_TRUNC)
#: Seconds to wait for an answer.
_PATIENCE = 10.0
#: How often a dump is begun again because the table changed meanwhile.
_DUMP_ATTEMPTS = 20


class Refused(KernelError):
    """A KernelError that knows the number: ``code`` is an errno, or a subsystem's own above 4096."""

    def __init__(self, command: str, code: int, why: str = "") -> None:
        super().__init__(command, None, why or os.strerror(code))
        self.code = code


class RefusedForNow(Refused, TransientError):
    """It was not what was asked for: see :data:`connbal.kernel.api.PASSING`."""


def refused(command: str, code: int, why: str = "") -> Refused:
    """The error for a number."""
    return (RefusedForNow if code in PASSING else Refused)(command, code, why)


class _Interrupted(Exception):
    """The table changed during a dump."""


def attribute(number: int, payload: bytes, flags: int = 0) -> bytes:
    """An attribute with its padding. ``flags``: NLA_F_NESTED, NLA_F_NET_BYTEORDER."""
    head = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), number | flags)
    return head + payload + b"\0" * (-len(payload) % 4)


class Channel:
    """A socket of one netlink protocol, opened at its first use in the network namespace of that moment.

    For one thread at a time. ``payload`` of its methods is what comes after the header, ``number`` the message's type,
    and ``command`` what a user would type for the same; errors name it. ``buffer``: bytes for what the kernel hands out
    at a time; less than the default is for questions about one thing.
    """

    def __init__(self, protocol: int, buffer: int = _BUFFER) -> None:
        self._protocol = protocol
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._buffer = memoryview(bytearray(buffer))
        #: Netlink's name for the socket, in what the kernel announces about its requests; None: not opened yet.
        self.port: int | None = None

    def close(self) -> None:
        """Let go of the socket; the next use opens another."""
        held, self._socket = self._socket, None
        if held is not None:
            held.close()

    def request(self, payload: bytes, number: int, flags: int, command: str) -> None:
        """Ask for a change and wait until it is made. Raises Refused, or TransientError without an answer in time."""
        self._ask(payload, number, NLM_F_REQUEST | NLM_F_ACK | flags, command, _unread)

    def get(self, payload: bytes, number: int, command: str, decode: Callable[[bytes, int, int], V]) -> list[V]:
        """What the kernel answers to a question about one thing. Raises Refused where there is no such thing."""
        return self._ask(payload, number, NLM_F_REQUEST | NLM_F_ACK, command, decode)

    def dump(self, payload: bytes, number: int, command: str, decode: Callable[[bytes, int, int], V]) -> list[V]:
        """All that a table holds. Raises Refused; TransientError where it changes faster than it can be read."""
        for _ in range(_DUMP_ATTEMPTS):
            try:
                return self._ask(payload, number, NLM_F_REQUEST | NLM_F_DUMP, command, decode)
            except _Interrupted:
                continue
        raise TransientError(command, None, "the table changed faster than it could be read")

    def _ask(
        self, payload: bytes, number: int, flags: int, command: str, decode: Callable[[bytes, int, int], V]
    ) -> list[V]:
        try:
            self._send(payload, number, flags)
            return self._answers(decode, command)
        except TimeoutError:
            self.close()
            raise TransientError(command, None, f"no answer from the kernel within {_PATIENCE:g} s") from None
        except OSError as error:
            self.close()  # a full buffer, an answer cut short: whatever is still in there is worth nothing
            raise refused(command, error.errno or 0, error.strerror or str(error)) from error
        except struct.error as error:
            self.close()
            raise KernelError(command, None, f"an answer that makes no sense: {error}") from error

    def _send(self, payload: bytes, number: int, flags: int) -> None:
        self._sequence += 1
        head = _HEADER.pack(_HEADER.size + len(payload), number, flags, self._sequence, 0)
        self._open().send(head + payload)

    def _open(self) -> socket.socket:
        if self._socket is None:
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self._protocol)
            opened.settimeout(_PATIENCE)
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
                opened.setsockopt(_SOL_NETLINK, option, 1)
            opened.bind((0, 0))
            self._socket = opened
            self.port = opened.getsockname()[0]
        return self._socket

    def _answers(self, decode: Callable[[bytes, int, int], V], command: str) -> list[V]:
        answers: list[V] = []
        interrupted = False
        opened = self._open()
        while True:
            # Into one buffer: to make one so large for each of thousands of answers takes longer than to read them.
            size, _, truncated, _ = opened.recvmsg_into([self._buffer])
            if truncated & _MSG_TRUNC:
                raise OSError(0, "an answer too long for the buffer")
            data = bytes(self._buffer[:size])
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, number, flags, sequence, _ = _HEADER.unpack_from(data, offset)
                if sequence == self._sequence:
                    interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                    if number in (_NLMSG_ERROR, _NLMSG_DONE):
                        _raise_if_refused(data[offset : offset + length], flags, command)
                        if interrupted:
                            raise _Interrupted
                        return answers
                    if number >= _NLMSG_MIN_TYPE:
                        answers.append(decode(data, offset + _HEADER.size, offset + length))
                offset += max(_HEADER.size, (length + 3) & ~3)


class Reader(Generic[V]):
    """Decodes the messages of a dump that is made again and again. One that was there the last time is not read again.

    Most of what a dump takes is the reading, and from one dump to the next nearly nothing changes. ``skip``: bytes at
    the beginning of each message that say nothing of it.
    """

    def __init__(self, read: Callable[[bytes], V], skip: int = 0) -> None:
        self._read = read
        self._skip = skip
        self._before: dict[bytes, V] = {}
        self._now: dict[bytes, V] = {}
        self._last: list[V] = []

    def __call__(self, data: bytes, start: int, end: int) -> V:
        """The value of the message whose payload is ``data[start:end]``."""
        payload = data[start + self._skip : end]
        if payload not in self._now:
            self._now[payload] = self._before[payload] if payload in self._before else self._read(payload)
        return self._now[payload]

    def settled(self, values: list[V]) -> list[V]:
        """The values of a whole dump; where all are as before, the same object as before."""
        self._before, self._now = self._now, {}
        if values != self._last:
            self._last = values
        return self._last


def _unread(_data: bytes, _start: int, _end: int) -> None:
    """For what the kernel says beside the answer to a request."""


def decoder(kind: Any) -> Decode:
    """Decodes with a message class of pyroute2, which wants to see the header too."""

    def decode(data: bytes, start: int, _: int) -> Message:
        message = kind(data, offset=start - _HEADER.size)
        message.decode()
        decoded: Message = message
        return decoded

    return decode


def _raise_if_refused(message: bytes, flags: int, command: str) -> None:
    """Both the end of a dump and an answer to a request begin with an error number, 0 for success."""
    if len(message) < _HEADER.size + _ERRNO.size:
        return
    (error,) = _ERRNO.unpack_from(message, _HEADER.size)
    if error < 0:
        raise refused(command, -error, _explanation(message, flags))


def _explanation(message: bytes, flags: int) -> str:
    """What the kernel says in words about an error; empty where it says nothing."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    offset = _HEADER.size + _ERRNO.size
    if flags & _NLM_F_CAPPED:
        offset += _HEADER.size
    elif len(message) >= offset + _HEADER.size:
        offset += (_HEADER.unpack_from(message, offset)[0] + 3) & ~3
    while offset + _ATTRIBUTE.size <= len(message):
        length, number = _ATTRIBUTE.unpack_from(message, offset)
        if number == _NLMSGERR_ATTR_MSG:
            return message[offset + _ATTRIBUTE.size : offset + length].rstrip(b"\0").decode("utf-8", "replace")
        offset += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return ""


def codec(module: str, name: str, command: str) -> Any:
    """A message class of pyroute2. KernelError, naming the package to install, where it is missing."""
    import importlib

    try:
        return getattr(importlib.import_module(f"pyroute2.netlink.{module}"), name)
    except ImportError as error:
        raise KernelError(command, None, "not installed: Python package pyroute2 (python3-pyroute2)") from error


def attributes(message: Message, wanted: frozenset[str] | None = None) -> dict[str, Any]:
    """The attributes of a message by name; only ``wanted`` ones where given, which saves decoding the others."""
    return {slot[0]: slot[1] for slot in message["attrs"] if wanted is None or slot[0] in wanted}
