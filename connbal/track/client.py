"""Talking to the daemon over its control socket, without asyncio: what commands ask it, and where it is.

What it answers, :mod:`connbal.track.control`, :mod:`connbal.track.applied` and :mod:`connbal.track.journal` say.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from connbal.errors import KernelError
from connbal.track.applied import Result, parse
from connbal.track.journal import Record, is_record

#: Bytes that the name of a socket can have.
NAME_MAX = 107
#: Bytes of an answer that is not refused unread.
_STATUS_MAX, _RECORD_MAX = 16 << 20, 1 << 20
#: More records than a daemon remembers.
_RECORDS = 10_000
#: Seconds until the next attempt where the daemon is busy: too many clients are connected.
_AGAIN = 0.1

log = logging.getLogger(__name__)


class Gone(KernelError):
    """The daemon ended, or closed the connection, while it was followed."""


class Unanswered(KernelError):
    """A daemon listens, but has not answered: what it has done is not known."""

    kind = "busy"


class Busy(Unanswered):
    """A daemon listens, but has turned this client away, again and again: it has done nothing for it."""


class Deaf(KernelError):
    """A daemon answers, but does not know what it was asked for: it is of another version."""


def control_path(run_dir: Path) -> Path:
    """Where the daemon's control socket is."""
    return run_dir / "connbal" / "control"


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """A name by which a socket can be bound or reached, however long its path is. OSError: no such directory."""
    if len(os.fsencode(path)) <= NAME_MAX:
        yield os.fspath(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def status(run_dir: Path, wait: float = 2.0) -> dict[str, Any] | None:
    """What the daemon says of itself and of the sources; None where none answers within ``wait`` seconds.

    One that turns this client away for as long is there all the same: ``busy`` stands in what is returned.
    """
    return _asked(run_dir, "status", wait)


def view(run_dir: Path, wait: float = 2.0) -> dict[str, Any] | None:
    """As :func:`status`, with ``view``: what its last run made of the configuration (see :mod:`connbal.plan.view`).

    ``view`` also has ``file``, the configuration that the daemon goes by, and ``findings``. It is None where that is
    not how things are: the last run failed, or the configuration has changed since. A daemon of an earlier version does
    not know the question: None is returned, as where none answers.
    """
    return _asked(run_dir, "view", wait)


def _asked(run_dir: Path, ask: str, wait: float) -> dict[str, Any] | None:
    path = control_path(run_dir)
    try:
        said = _patiently(path, {"ask": ask}, wait)
    except Busy:
        return {"busy": True}
    except OSError as error:
        log.debug("no daemon answers at %s: %s", path, error)
        return None
    answer = _parsed(said)
    if answer is None or "error" in answer:
        log.debug("the daemon at %s does not answer what it was asked: %.200r", path, said)
        return None
    return answer


def _patiently(path: Path, request: Mapping[str, Any], wait: float) -> bytes:
    """An answer, for which is asked again where the daemon is busy. Raises Busy, and OSError as :func:`_answer`."""
    end = time.monotonic() + wait
    while True:
        try:
            said = _answer(path, request, max(end - time.monotonic(), 0.001))
        except BlockingIOError:  # too many wait to be let in
            said = b""
        else:
            if not (said.endswith(b"\n") and "busy" in (_parsed(said) or {})):
                return said
        if time.monotonic() > end:
            raise _busy(path, wait, (_parsed(said) or {}).get("error"))
        time.sleep(_AGAIN)


def _busy(path: Path, wait: float, said: object) -> Busy:
    why = said if isinstance(said, str) else "too many wait to be let in"
    return Busy(f"ask the daemon at {path}", None, f"no answer within {wait:g} s, it is busy: {why}")


def apply(run_dir: Path, wait: float, patience: float | None = None) -> Result | None:
    """Have the daemon bring the kernel to what the configuration says now, and wait until it has.

    ``patience``: seconds to ask again and again where it is busy; None: as many as ``wait``.

    Returns None where no daemon listens, or it ended before it could answer.

    Raises
    ------
    Deaf: it does not know how.
    Busy: it was busy for all of ``patience``.
    Unanswered: no answer within ``wait`` seconds; it may do it all the same.
    KernelError: the daemon cannot be asked.
    """
    path, patience = control_path(run_dir), wait if patience is None else patience
    end = time.monotonic() + patience
    while True:
        try:
            said = _answer(path, {"ask": "apply"}, wait)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            return None
        except TimeoutError as error:
            raise Unanswered(f"ask the daemon at {path}", None, f"no answer within {wait:g} s") from error
        except BlockingIOError:
            said = b'{"busy": true}\n'
        except OSError as error:
            raise KernelError(f"ask the daemon at {path}", None, error.strerror or str(error)) from error
        if not said.endswith(b"\n"):
            return None
        answer = _parsed(said) or {}
        if "busy" not in answer:
            break
        if time.monotonic() > end:
            raise _busy(path, patience, answer.get("error"))
        time.sleep(_AGAIN)
    result = parse(answer)
    if result is None:
        raise Deaf(f"ask the daemon at {path}", None, f"it does not know how to apply: {said[:200]!r}")
    return result


def events(run_dir: Path, after: int = 0, follow: bool = False, wait: float = 5.0) -> Iterator[Record]:
    """The records of the daemon's journal with numbers above ``after``, oldest first.

    Parameters
    ----------
    follow: go on with each further record as it comes.
    wait: seconds to wait for the daemon; for further records there is no limit.

    Raises
    ------
    Busy: it has turned this client away for ``wait`` seconds.
    KernelError: no daemon runs, or it does not answer, refuses, or says what makes no sense.
    Gone: it was followed, and the connection ended. Without ``follow`` the end is just the end.
    """
    path, end = control_path(run_dir), time.monotonic() + wait
    while True:
        try:
            yield from _events(path, {"ask": "events", "after": after, "follow": follow}, wait)
        except Busy:
            if time.monotonic() > end:
                raise
            time.sleep(_AGAIN)
        else:
            return


def _events(path: Path, request: Mapping[str, Any], wait: float) -> Iterator[Record]:
    """As :func:`events`, asked once. Busy, before any record: the daemon has turned this client away."""
    follow, remembered = request["follow"], list[Record]()
    try:
        with _connected(path, wait) as connection, connection.makefile("rb") as stream:
            _send(connection, request)
            if follow:
                connection.settimeout(None)
                yield from _records(stream, path)
            else:  # all of it at once: the daemon does not wait while somebody reads it in a pager
                remembered = list(itertools.islice(_records(stream, path), _RECORDS))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise KernelError(f"connect to {path}", None, "no daemon is running; start it with connbal daemon") from error
    except TimeoutError as error:
        why = f"no answer within {wait:g} s; if that goes on, restart the daemon"
        raise KernelError(f"ask the daemon at {path}", None, why) from error
    except BlockingIOError as error:
        raise Busy(f"ask the daemon at {path}", None, "too many wait to be let in") from error
    except OSError as error:
        raise KernelError(f"ask the daemon at {path}", None, error.strerror or str(error)) from error
    if follow:
        raise Gone(f"follow the daemon at {path}", None, "the daemon has ended, or closed the connection")
    yield from remembered


@contextlib.contextmanager
def _connected(path: Path, wait: float) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(wait)
        with address(path) as name:
            connection.connect(name)
        yield connection


def _send(connection: socket.socket, request: Mapping[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):  # it may have refused already, and that can still be read
        connection.sendall(json.dumps(request).encode() + b"\n")


def _answer(path: Path, request: Mapping[str, Any], wait: float) -> bytes:
    end = time.monotonic() + wait
    said = bytearray()
    with _connected(path, wait) as connection:
        _send(connection, request)
        while not said.endswith(b"\n") and len(said) <= _STATUS_MAX:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            connection.settimeout(left)
            piece = connection.recv(1 << 16)
            if not piece:
                break
            said += piece
    return bytes(said)


def _records(stream: BinaryIO, path: Path) -> Iterator[Record]:
    """Each record up to the end of the connection, be it in the middle of a line."""
    with contextlib.suppress(ConnectionError):
        while said := stream.readline(_RECORD_MAX):
            if not said.endswith(b"\n") and len(said) < _RECORD_MAX:
                return
            record = _parsed(said) or {}
            if "kind" not in record and "error" in record:
                kind = Busy if "busy" in record else KernelError
                raise kind(f"ask the daemon at {path}", None, f"it refused: {record['error']}")
            if not is_record(record):
                raise KernelError(f"ask the daemon at {path}", None, f"its answer is no record: {said[:200]!r}")
            yield record


def _parsed(said: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
