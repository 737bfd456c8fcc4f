"""How many programs were run, by whom: the kernel tells of each fork and exec (proc connector)."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import threading
import time

_NETLINK_CONNECTOR, _CN_IDX_PROC, _SO_RCVBUFFORCE = 11, 1, 33
_LISTEN, _IGNORE = 1, 2
_FORK, _EXEC = 1, 2
#: Of a message: before the event there are the headers of netlink and the connector.
_EVENT_AT = 16 + 20


class Execs:
    """Listens for a ``with`` block. ``works`` is false where the kernel does not tell, as in most containers."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}
        self._execs: list[tuple[float, int]] = []
        self.works = False

    def __enter__(self) -> Execs:
        with contextlib.ExitStack() as stack:
            try:
                self._socket = stack.enter_context(
                    socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
                )
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
                self._socket.bind((0, _CN_IDX_PROC))
                self._say(_LISTEN)
            except OSError:
                return self
            self._wake, self._end = os.pipe()
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
            self._stack = stack.pop_all()
        self.works = True
        begin = time.monotonic()
        subprocess.run(["true"], check=False)
        if self.below(os.getpid(), begin) < 1:
            self.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.works:
            self.works = False
            os.close(self._end)
            self._thread.join()
            os.close(self._wake)
            with contextlib.suppress(OSError):
                self._say(_IGNORE)
            self._stack.close()

    def below(self, pid: int, since: float, patience: float = 0.05) -> int:
        """How many programs children of a process, and theirs, have run since a moment of the monotonic clock."""
        time.sleep(patience)  # for what is still to be read
        return sum(1 for at, one in tuple(self._execs) if at >= since and self._is_below(one, pid))

    def _is_below(self, one: int, pid: int) -> bool:
        for _ in range(64):
            one = self._parents.get(one, 0)
            if one in (0, pid):
                return one == pid
        return False

    def _say(self, what: int) -> None:
        body = struct.pack("=IIIIHHI", _CN_IDX_PROC, 1, 0, 0, 4, 0, what)
        self._socket.send(struct.pack("=IHHII", 16 + len(body), 3, 0, 0, os.getpid()) + body)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._wake, self._socket], [], [])
            if self._wake in ready:
                return
            with contextlib.suppress(OSError):  # too many at once: some are not counted
                self._take(self._socket.recv(1 << 16))

    def _take(self, data: bytes) -> None:
        if len(data) < _EVENT_AT + 24:
            return
        (what,) = struct.unpack_from("=I", data, _EVENT_AT)
        if what == _FORK and len(data) >= _EVENT_AT + 32:
            _, parent, child, group = struct.unpack_from("=IIII", data, _EVENT_AT + 16)
            if child == group:  # not a thread
                self._parents[child] = parent
        elif what == _EXEC:
            (group,) = struct.unpack_from("=I", data, _EVENT_AT + 20)
            self._execs.append((time.monotonic(), group))
