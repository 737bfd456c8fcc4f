"""One call of a method over ubus, OpenWrt's bus, without the program ``ubus``: every run of the daemon asks netifd.

Messages are those of ubus's ``ubusmsg.h``: a header, then attributes as libubox lays them out (``blob.h`` and
``blobmsg.h``): four bytes of number and length in network order, the content, and what a multiple of four lacks.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

from connbal.errors import KernelError
from connbal.kernel.api import TransientError

#: Where ubusd listens: since OpenWrt 21.02, and before.
SOCKETS = ("/var/run/ubus/ubus.sock", "/var/run/ubus.sock")

_MESSAGE = struct.Struct(">BBHI")  # version, type, sequence, peer
_ATTRIBUTE = struct.Struct(">I")
_LENGTH, _NAMED = 0xFFFFFF, 0x80000000
_HELLO, _STATUS, _DATA, _LOOKUP, _INVOKE = 0, 1, 2, 4, 5
_ATTR_STATUS, _ATTR_OBJPATH, _ATTR_OBJID, _ATTR_METHOD, _ATTR_DATA = 1, 2, 3, 4, 7
_ARRAY, _TABLE, _STRING = 1, 2, 3
_NUMBERS = {4: struct.Struct(">q"), 5: struct.Struct(">i"), 6: struct.Struct(">h"), 7: struct.Struct(">?"),
            8: struct.Struct(">d")}  # fmt: skip
#: What a status means that matters here.
_TIMED_OUT = 7
_WORDS = {4: "Not found", 6: "Permission denied", _TIMED_OUT: "Request timed out"}
_MAX_DEPTH = 32


class Odd(Exception):
    """What came is not what this module understands: the program may do better."""


def path() -> str | None:
    """Where ubusd listens; None where it does not."""
    return next((one for one in SOCKETS if os.path.exists(one)), None)


def call(where: str, name: str, method: str, timeout: float) -> dict[str, Any]:
    """What a method of an object answers, as a table.

    Parameters
    ----------
    where: the socket of ubusd.
    name, method: such as ``network.interface`` and ``dump``.
    timeout: seconds for all of it.

    Raises
    ------
    KernelError: there is no such object or method, or it refused. TransientError: no answer in time.
    Odd: an answer that makes no sense, or nobody listens.
    """
    command = f"ubus call {name} {method}"
    try:
        with _open() as opened:
            return _Talk(opened, command, time.monotonic() + timeout).ask(where, name, method)
    except TimeoutError:
        raise TransientError(command, None, f"no answer within {timeout:g} s") from None
    except (OSError, struct.error, ValueError) as error:
        raise Odd(str(error)) from error


def _open() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)


class _Talk:
    """One connection."""

    def __init__(self, opened: socket.socket, command: str, deadline: float) -> None:
        self._socket, self._command, self._deadline = opened, command, deadline
        self._sequence = 0

    def ask(self, where: str, name: str, method: str) -> dict[str, Any]:
        self._wait()
        self._socket.connect(where)
        version, kind, *_ = self._message()
        if (version, kind) != (0, _HELLO):
            raise Odd(f"version {version} of ubus, message {kind}")
        found = self._request(_LOOKUP, 0, _attribute(_ATTR_OBJPATH, name.encode() + b"\0"))
        if not found or len(found[0].get(_ATTR_OBJID, b"")) != 4:
            raise Odd("no object in the answer")
        number = found[0][_ATTR_OBJID]
        body = _attribute(_ATTR_OBJID, number) + _attribute(_ATTR_METHOD, method.encode() + b"\0")
        answers = self._request(_INVOKE, int.from_bytes(number, "big"), body + _attribute(_ATTR_DATA, b""))
        if not answers:
            raise KernelError(self._command, None, "no answer")
        return _table(answers[-1].get(_ATTR_DATA, b""), 0)

    def _request(self, kind: int, peer: int, body: bytes) -> list[dict[int, bytes]]:
        """The data that is answered, up to the status, which says whether all went well."""
        self._sequence += 1
        head = _MESSAGE.pack(0, kind, self._sequence, peer)
        self._wait()
        self._socket.sendall(head + _ATTRIBUTE.pack(_ATTRIBUTE.size + len(body)) + body)
        data: list[dict[int, bytes]] = []
        while True:
            _, kind, sequence, _, content = self._message()
            if sequence != self._sequence:
                continue
            told = dict(_attributes(content))
            if kind == _DATA:
                data.append(told)
            elif kind == _STATUS:
                status = int.from_bytes(told.get(_ATTR_STATUS, b""), "big")
                if status:
                    raised = TransientError if status == _TIMED_OUT else KernelError
                    raise raised(self._command, None, _WORDS.get(status, f"Command failed: status {status}"))
                return data

    def _message(self) -> tuple[int, int, int, int, bytes]:
        version, kind, sequence, peer = _MESSAGE.unpack(self._read(_MESSAGE.size))
        (length,) = _ATTRIBUTE.unpack(self._read(_ATTRIBUTE.size))
        content = self._read(max(0, (length & _LENGTH) - _ATTRIBUTE.size))
        return version, kind, sequence, peer, content

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            self._wait()
            part = self._socket.recv(min(size - len(parts), 1 << 16))
            if not part:
                raise Odd("the connection ended")
            parts += part
        return bytes(parts)

    def _wait(self) -> None:
        """What follows may take until the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


# --- attributes ---------------------------------------------------------------------------------------------------


def _attribute(number: int, content: bytes) -> bytes:
    head = _ATTRIBUTE.pack(number << 24 | (_ATTRIBUTE.size + len(content)))
    return head + content + b"\0" * (-len(content) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        (head,) = _ATTRIBUTE.unpack_from(data, offset)
        length = head & _LENGTH
        if length < _ATTRIBUTE.size or offset + length > len(data):
            raise Odd("an attribute that is longer than what it is in")
        yield (head & ~_LENGTH) >> 24, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _table(data: bytes, depth: int) -> dict[str, Any]:
    return dict(_named(data, depth))


def _named(data: bytes, depth: int) -> Iterator[tuple[str, Any]]:
    """Names and values; in arrays names are empty."""
    if depth > _MAX_DEPTH:
        raise Odd("too deep")
    for number, content in _attributes(data):
        if not number << 24 & _NAMED:
            raise Odd("an attribute without a name")
        length = int.from_bytes(content[:2], "big")
        name = content[2 : 2 + length].decode("utf-8", "surrogateescape")
        yield name, _value(number & 0x7F, content[(2 + length + 1 + 3) & ~3 :], depth)


def _value(kind: int, content: bytes, depth: int) -> Any:
    if kind == _TABLE:
        return _table(content, depth + 1)
    if kind == _ARRAY:
        return [value for _, value in _named(content, depth + 1)]
    if kind == _STRING:
        return content.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if kind not in _NUMBERS:
        return None
    return _NUMBERS[kind].unpack_from(content)[0]
