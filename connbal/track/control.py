"""The daemon's control socket: whoever may connect asks for its status, its journal, or a run of the reconciler.

A request is one line of JSON, one for each connection; so are the answers:

- ``{"ask": "status"}``: one object.
- ``{"ask": "view"}``: the same, and with it what the last run of the reconciler made of the configuration.
- ``{"ask": "apply"}``: one object (see :mod:`connbal.track.applied`), once the kernel has been brought to what the
  configuration says, by a run that began after the request.
- ``{"ask": "events", "after": 0, "follow": false}``: the records of the journal with numbers above ``after``; with
  ``follow`` each further one too, until the client closes its side or says anything more.
- anything else: ``{"error": "..."}``.

Who asks, who waits for a run, and who follows have rooms of their own, so that none of them keeps the others out. In
the room of those who ask there is always a place: a further one takes that of whoever has been there for longest, be it
without a word or without reading the answer. Where the other rooms are full, ``busy`` stands beside the error: the same
may work a moment later.

No client can cost more than a little memory: how many there are, how long they are waited for, and how much is kept
for them have limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from connbal.errors import KernelError, UsageError
from connbal.frozen import dataclass
from connbal.kernel import files
from connbal.track.client import address
from connbal.track.journal import Journal, Record

#: Bytes of a request.
REQUEST_MAX = 4096
#: Records that are sent before others have their turn.
_BATCH = 50
#: Seconds until the next attempt where no connection can be taken: no descriptor is free, say.
_AGAIN = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a client wants."""

    ask: str  #: ``status``, ``view``, ``apply`` or ``events``
    after: int = 0
    follow: bool = False


def request(said: bytes) -> Request:
    """A line as a request. UsageError for anything that is none."""
    try:
        value = files.parse_json(said.decode("utf-8", "replace"), "request")
    except KernelError as error:
        raise UsageError(str(error)) from error
    for ask in ("status", "view", "apply"):
        if value == {"ask": ask}:
            return Request(ask)
    if not isinstance(value, dict) or value.get("ask") != "events" or value.keys() - {"ask", "after", "follow"}:
        known = '{"ask": "status"}, {"ask": "view"}, {"ask": "apply"}, {"ask": "events", "after": 0, "follow": false}'
        raise UsageError(f"request: none of {known}")
    after, follow = value.get("after", 0), value.get("follow", False)
    if type(after) is not int or after < 0:
        raise UsageError("request: after is not a whole number from 0 on")
    if not isinstance(follow, bool):
        raise UsageError("request: follow is neither true nor false")
    return Request("events", after, follow)


class Room(enum.Enum):
    """What a client does."""

    ASK = "ask"  #: it is about to say what it wants, or to take an answer
    WAIT = "wait"  #: for a run
    FOLLOW = "follow"
    LEAVE = "leave"  #: it has been told to


class _Client:
    """One connection. ``pid``: whose; ``answered``: something has been said to it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.room, self.answered = connection, Room.ASK, False
        self.pid = int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


class Control:
    """The server at a path. Only the user the daemon runs as may connect.

    Parameters
    ----------
    path: of the socket; one that was left behind is replaced.
    status: what to answer to ``status``; called when somebody asks.
    apply: what to answer to ``apply``; called when somebody asks, and waited for without limit.
    journal: what to answer to ``events``.
    view: what to answer to ``view``; called when somebody asks.
    asking: clients that may ask at the same time; one more takes the place of the one that has been there for longest.
    waiting, following: clients that may wait for a run, or follow the journal; further ones are turned away.
    patience: seconds a client has to say what it wants, and to take each part of the answer.
    backlog: bytes that may wait for a client that follows.
    """

    def __init__(
        self,
        path: Path,
        status: Callable[[], Mapping[str, Any]],
        apply: Callable[[], Awaitable[Mapping[str, Any]]],
        journal: Journal,
        *,
        view: Callable[[], Mapping[str, Any]] | None = None,
        asking: int = 32,
        waiting: int = 32,
        following: int = 16,
        patience: float = 5.0,
        backlog: int = 256 << 10,
    ) -> None:
        self._path, self._status, self._apply, self._journal = path, status, apply, journal
        self._view = view or status
        self._places = {Room.ASK: asking, Room.WAIT: waiting, Room.FOLLOW: following}
        self._patience, self._backlog = patience, backlog
        self._listening: socket.socket | None = None
        self._clients: dict[asyncio.Task[None], _Client] = {}  #: in the order in which they came

    async def open(self) -> None:
        """Listen. KernelError where that cannot be, or where what is at the path is no socket."""
        try:
            self._listening = _bound(self._path)
        except OSError as error:
            raise KernelError(f"listen on {self._path}", None, error.strerror or str(error)) from error
        self._listen()

    async def close(self) -> None:
        """Drop all clients and remove the socket."""
        if self._listening is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self._listening = None
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _listen(self) -> None:
        # Not asyncio's server: a client that comes while that one is closed may stay connected to nobody.
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("nobody can connect to %s, next attempt in %g s: %s", self._path, _AGAIN, error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            loop.call_later(_AGAIN, self._listen)
            return
        connection.setblocking(False)
        asking = [task for task, one in self._clients.items() if one.room is Room.ASK]
        if len(asking) >= self._places[Room.ASK]:
            self._dismiss(asking[0])
        client = _Client(connection)
        task = asyncio.create_task(self._serve(client))
        self._clients[task] = client
        task.add_done_callback(self._clients.pop)
        task.add_done_callback(lambda _: connection.close())  # nobody else does if it was cancelled before it began

    def _dismiss(self, task: asyncio.Task[None]) -> None:
        """Let somebody else have the place."""
        client = self._clients[task]
        client.room = Room.LEAVE
        if not client.answered:
            with contextlib.suppress(OSError):
                client.connection.send(_encoded({"error": "too many ask at once; try again", "busy": True}))
        log.debug("process %d, a client of the control socket, makes room for another", client.pid)
        task.cancel()

    def _enter(self, client: _Client, room: Room) -> None:
        """Have a client change rooms. Raises _Full."""
        there = [one.pid for one in self._clients.values() if one.room is room]
        if len(there) >= self._places[room]:
            who = ", ".join(map(str, sorted(set(there))))
            what = "wait for a run" if room is Room.WAIT else "follow the journal"
            raise _Full(f"{len(there)} clients {what} already, of processes {who}; try again later, or end one")
        client.room = room

    async def _serve(self, client: _Client) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=client.connection, limit=REQUEST_MAX)
            writer.transport.set_write_buffer_limits(high=0)  # to drain is then to have handed over everything
            try:
                await self._answer(client, reader, writer)
            finally:
                writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError) as error:
            log.debug("a client of the control socket is dropped: %r", error)

    @contextlib.contextmanager
    def _soon(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Drop the client where this takes longer than it may."""
        timer = asyncio.get_running_loop().call_later(self._patience, writer.transport.abort)
        try:
            yield
        finally:
            timer.cancel()

    async def _answer(
        self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            with self._soon(writer):
                said = await reader.readuntil()
            client.answered = True
            wanted = request(said)
            if wanted.ask == "apply" or wanted.follow:
                self._enter(client, Room.FOLLOW if wanted.follow else Room.WAIT)
        except _Full as error:
            await self._send(writer, [{"error": str(error), "busy": True}])
        except UsageError as error:
            await self._send(writer, [{"error": str(error)}])
        except asyncio.LimitOverrunError:
            await self._send(writer, [{"error": f"request: longer than {REQUEST_MAX} bytes"}])
        else:
            if wanted.ask in ("status", "view"):
                await self._tell_status(writer, self._status if wanted.ask == "status" else self._view)
            elif wanted.ask == "apply":
                await self._send(writer, [await self._apply()])
            else:
                await self._tell_events(reader, writer, wanted)

    async def _tell_status(self, writer: asyncio.StreamWriter, status: Callable[[], Mapping[str, Any]]) -> None:
        try:
            answer = _encoded(status())
        except Exception as error:  # whatever is wrong with it, the daemon goes on
            log.error("the status cannot be told: %r", error)
            answer = _encoded({"error": "the status cannot be told; the daemon's log says why"})
        await self._hand_over(writer, answer)

    async def _tell_events(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: Request) -> None:
        records = self._journal.recent(wanted.after)
        while records:
            for start in range(0, len(records), _BATCH):
                await self._send(writer, records[start : start + _BATCH])
                await asyncio.sleep(0)
            records = self._journal.recent(records[-1]["number"]) if wanted.follow else []
        if wanted.follow:  # nothing was awaited since the last look at the journal, so no record is missed
            await self._follow(reader, writer)

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def push(record: Record) -> None:
            if writer.transport.is_closing():
                return
            writer.write(_encoded(record))
            if writer.transport.get_write_buffer_size() > self._backlog:
                log.debug("a client that follows the journal does not read it and is dropped")
                writer.transport.abort()

        unfollow = self._journal.follow(push)
        try:
            await reader.read(1)
        finally:
            unfollow()

    async def _send(self, writer: asyncio.StreamWriter, answers: Iterable[Mapping[str, Any]]) -> None:
        await self._hand_over(writer, b"".join(map(_encoded, answers)))

    async def _hand_over(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        with self._soon(writer):
            await writer.drain()


class _Full(Exception):
    """There is no place left."""


def _encoded(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _bound(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise KernelError(f"listen on {path}", None, "what is there is no socket; remove it")
        path.unlink()
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listening.fileno(), 0o600)  # Linux gives the name the mode the socket has, from the first moment on
        with address(path) as name:
            listening.bind(name)
        listening.listen()
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
