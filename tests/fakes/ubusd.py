"""ubusd on a socket: messages as ubus and libubox lay them out, and a server with one object, netifd's."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

HELLO_KIND, STATUS, DATA, LOOKUP, INVOKE = 0, 1, 2, 4, 5
NOT_FOUND, TIMED_OUT = 4, 7
_OBJECT = b"\1\2\3\4"
_HEAD = struct.Struct(">BBHII")


def attribute(number: int, content: bytes) -> bytes:
    return struct.pack(">I", number << 24 | len(content) + 4) + content + b"\0" * (-len(content) % 4)


def named(name: str, value: Any) -> bytes:
    """A value as libubox lays it out."""
    text = name.encode()
    head = struct.pack(">H", len(text)) + text + b"\0"
    kind, content = _content(value)
    return attribute(0x80 | kind, head + b"\0" * (-len(head) % 4) + content)


def _content(value: Any) -> tuple[int, bytes]:
    if isinstance(value, dict):
        return 2, table(value)
    if isinstance(value, list):
        return 1, b"".join(named("", item) for item in value)
    if isinstance(value, str):
        return 3, value.encode() + b"\0"
    if isinstance(value, bool):
        return 7, bytes((value,))
    if isinstance(value, float):
        return 8, struct.pack(">d", value)
    return (5, struct.pack(">i", value)) if abs(value) < 1 << 31 else (4, struct.pack(">q", value))


def table(values: dict[str, Any]) -> bytes:
    return b"".join(named(name, value) for name, value in values.items())


def message(kind: int, sequence: int, body: bytes = b"") -> bytes:
    return _HEAD.pack(0, kind, sequence, 7, len(body) + 4) + body


def status(sequence: int, number: int = 0) -> bytes:
    return message(STATUS, sequence, attribute(1, struct.pack(">i", number)))


HELLO = message(HELLO_KIND, 0)


class Bus(socketserver.ThreadingUnixStreamServer):
    """Answers ``network.interface dump`` at a socket with what a file says then, until it is closed."""

    daemon_threads = True

    def __init__(self, where: Path, file: Path) -> None:
        super().__init__(str(where), _Talk)
        self.file = file
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it. The socket's file stays, as that of a ubusd that died does."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Talk(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Bus)
        with suppress(OSError):
            self.request.sendall(HELLO)
            while head := self.request.recv(_HEAD.size, socket.MSG_WAITALL):
                _, kind, sequence, peer, length = _HEAD.unpack(head)
                body = self.request.recv((length & 0xFFFFFF) - 4, socket.MSG_WAITALL)
                if kind == LOOKUP and b"network.interface\0" in body:
                    data = message(DATA, sequence, attribute(3, _OBJECT))
                elif kind == INVOKE and peer == int.from_bytes(_OBJECT, "big") and b"dump\0" in body:
                    told = json.loads(self.server.file.read_text())
                    data = message(DATA, sequence, attribute(3, _OBJECT) + attribute(7, table(told)))
                else:
                    self.request.sendall(status(sequence, NOT_FOUND))
                    continue
                self.request.sendall(data + status(sequence))
