"""What all probe methods have in common."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

from connbal.frozen import dataclass
from connbal.track.api import Miss
from connbal.track.probes.way import Way


class Done(Protocol):
    """Takes what has become of a probe. Called at most once, never from within :meth:`Method.probe`."""

    def __call__(self, reason: str, at: float, miss: Miss = Miss.LOST) -> None:
        """``reason``: in words, empty where the host answered. ``at``: when that was, in seconds of the loop's clock.
        ``miss``: what it means where it did not.
        """


#: Forgets a probe: nothing of it is left, and its ``Done`` is not called any more. May be called afterwards too.
Cancel = Callable[[], object]

#: Packets read in one go, so that a flood leaves time for others.
_AT_ONCE = 1000


@dataclass(frozen=True)
class Target:
    """Whom to probe, and with what."""

    host: str  #: as configured: an address or a name
    address: str  #: of the prober's family, without a scope
    size: int = 56  #: bytes of payload, where the method has one
    ttl: int = 60  #: 1..255, where the method has one


class Method:
    """One way to find out whether a host is there. Has no timeout: whoever asks cancels."""

    def __init__(self) -> None:
        self._way: Way | None = None

    @property
    def way(self) -> Way:
        assert self._way is not None, "prepare comes first"
        return self._way

    def prepare(self, way: Way) -> None:
        """Before a round: open what probes share, anew if the way has changed. Raises OSError."""
        if way != self._way:
            self.close()
            self._way = way
            try:
                self.open()
            except OSError:
                self.close()
                raise

    def open(self) -> None:
        """Open what probes share. Raises OSError; :meth:`close` follows then."""

    def close(self) -> None:
        """Close what is open; probes that are under way get no answer. May be called twice."""
        self._way = None

    def probe(self, target: Target, done: Done) -> Cancel:
        """Send one probe. Raises OSError where it cannot even leave."""
        raise NotImplementedError

    @staticmethod
    def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class Shared(Method):
    """A method with one socket for all its probes."""

    def __init__(self) -> None:
        super().__init__()
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def sock(self) -> socket.socket:
        assert self._socket is not None, "prepare comes first"
        return self._socket

    def share(self, sock: socket.socket) -> socket.socket:
        """Take a socket over: it is closed with the method."""
        self._socket = sock
        return sock

    def watch(self) -> None:
        """From now on :meth:`read` is called for what comes in."""
        self._loop = self.loop()
        self._loop.add_reader(self.sock.fileno(), self._drain)

    def close(self) -> None:
        super().close()
        if self._socket is not None:
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: then nothing is watched either
                    self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        self._socket = self._loop = None

    def _drain(self) -> None:
        for _ in range(_AT_ONCE):
            # What is read may lead to a close.
            if self._socket is None:
                return
            try:
                self.read(self._socket)
            except OSError:
                return

    def read(self, sock: socket.socket) -> None:
        """Read one packet. Raises OSError, when there is none too."""
        raise NotImplementedError
