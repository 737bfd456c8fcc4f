"""What happens around the daemon, as a stream of events: netlink's announcements, and lines from the hotplug hook.

Both are read without blocking from the loop. An event only says that something changed and gives a word for the log;
what it is now, the next look at the kernel tells. Only a lost carrier is told apart, because it counts at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from connbal.errors import KernelError
from connbal.plan.state import ROUTE_PROTOCOL

#: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, RTNLGRP_IPV6_RULE (rtnetlink.h).
_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_DELADDR = 16, 17, 20, 21
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWRULE, _RTM_DELRULE = 24, 25, 32, 33
_WORDS = {
    _RTM_NEWLINK: "link", _RTM_DELLINK: "link gone", _RTM_NEWADDR: "address", _RTM_DELADDR: "address gone",
    _RTM_NEWROUTE: "route", _RTM_DELROUTE: "route gone", _RTM_NEWRULE: "rule", _RTM_DELRULE: "rule gone",
}  # fmt: skip
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_IFLA_IFNAME, _FRA_PROTOCOL = 3, 21
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
#: A storm that overruns this is no loss: whatever was missed, one look at the kernel finds it.
_BUFFER = 1 << 20

#: Actions netifd's hotplug hook hands on.
ACTIONS = ("ifup", "ifdown", "ifupdate", "ifup-failed")


@dataclass(frozen=True)
class Happened:
    """Something changed. ``cause`` in words; ``device`` with ``carrier`` False: nothing is connected to it any more."""

    cause: str
    device: str | None = None
    carrier: bool | None = None


Listener = Callable[[Happened], None]


class Netlink:
    """Calls ``listener`` for each announcement that may matter."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, _GROUPS))
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(64):  # a storm must not keep the loop from everything else
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                self._listener(Happened("netlink events were lost"))
                return
            for event in announcements(data):
                self._listener(event)


def announcements(data: bytes) -> list[Happened]:
    """The events in one datagram. connbal's own routes and rules are none when they are made."""
    found = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            break
        event = _event(kind, data[offset + _HEADER.size : offset + length])
        if event is not None:
            found.append(event)
        offset += (length + 3) & ~3
    return found


def _event(kind: int, body: bytes) -> Happened | None:
    word = _WORDS.get(kind)
    if word is None:
        return None
    if kind in (_RTM_NEWLINK, _RTM_DELLINK):
        return _link_event(kind, body, word)
    if kind == _RTM_NEWROUTE and len(body) > 5 and body[5] == ROUTE_PROTOCOL:
        return None
    if kind == _RTM_NEWRULE and _attribute(body, 12, _FRA_PROTOCOL) == bytes([ROUTE_PROTOCOL]):
        return None
    return Happened(word)


def _link_event(kind: int, body: bytes, word: str) -> Happened | None:
    if len(body) < 16:
        return None
    name = _attribute(body, 16, _IFLA_IFNAME)
    device = name.rstrip(b"\0").decode("utf-8", "replace") if name else None
    flags = int.from_bytes(body[8:12], "little" if struct.pack("=H", 1)[0] else "big")
    carrier = kind == _RTM_NEWLINK and flags & _IFF_UP != 0 and flags & _IFF_LOWER_UP != 0
    return Happened(f"{word} {device or ''}".rstrip(), device, carrier)


def _attribute(body: bytes, offset: int, wanted: int) -> bytes | None:
    """The payload of the first attribute of one type, after ``offset`` bytes of a fixed part."""
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            return None
        if kind & 0x3FFF == wanted:
            return body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return None


class Hotplug:
    """A named pipe into which the hotplug hook writes ``ACTION INTERFACE DEVICE`` lines.

    The hook opens it for reading and writing, so that it never waits, and writes less than a pipe takes in one piece.
    """

    def __init__(self, path: Path, listener: Listener) -> None:
        self._path, self._listener = path, listener
        self._rest = b""
        try:
            if path.exists() and not stat.S_ISFIFO(path.lstat().st_mode):
                path.unlink()
            if not path.exists():
                os.mkfifo(path, 0o600)
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(f"mkfifo {path}", None, error.strerror or str(error)) from error
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:256]
        for line in lines:
            event = hotplug_event(line)
            if event is not None:
                self._listener(event)


def hotplug_event(line: bytes) -> Happened | None:
    """A line of the hook as an event; None for anything else, whoever wrote it."""
    words = line.decode("ascii", "replace").split()
    if not 2 <= len(words) <= 3 or words[0] not in ACTIONS or len(line) > 256:
        return None
    return Happened(f"{words[0]} {words[1]}")
