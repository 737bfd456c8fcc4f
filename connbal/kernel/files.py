"""Small files: written whole or not at all, read with suspicion, and a lock that nobody waits for without end."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from connbal.errors import KernelError
from connbal.kernel.api import TransientError

#: What is larger was not written by anybody who means well.
MAX_JSON = 16 << 20
#: Seconds between two looks at a lock that somebody holds.
_LOCK_POLL = 0.05
#: A file that a process, of this number, has not finished.
_UNFINISHED = re.compile(r"\..+\.(\d+)\.[0-9a-f]{12}", re.ASCII)


def write(path: str | os.PathLike[str], text: str, mode: int = 0o644) -> None:
    """Give a file this content in one step: a reader meets the old or the new, and a crash leaves one of them.

    Directories on the way are created. Nothing is forced out to the disk: state is for this boot.

    Raises KernelError: ``write PATH`` and why.
    """
    target = Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _beside(target)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            os.fchmod(descriptor, mode)
            stream.write(text)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise KernelError(f"write {target}", None, error.strerror or str(error)) from error


def _beside(target: Path) -> tuple[int, Path]:
    """A new file in the same directory that only this process knows, open for writing. (tempfile brings three
    compressors and more.)
    """
    while True:
        path = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(6).hex()}")
        with suppress(FileExistsError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), path


def clear_unfinished(directory: str | os.PathLike[str]) -> None:
    """Remove what processes that were killed while they wrote have left in a directory. Others are still at it."""
    with suppress(OSError):
        for name in os.listdir(directory):
            writer = _UNFINISHED.fullmatch(name)
            if writer and not os.path.exists(f"/proc/{writer[1]}"):
                with suppress(OSError):
                    os.unlink(os.path.join(directory, name))


def read(path: str | os.PathLike[str], limit: int = MAX_JSON) -> str | None:
    """The text of a file; None where there is none. Bytes that are no UTF-8 are kept as surrogates.

    Raises KernelError: it cannot be read, or has more than ``limit`` bytes.
    """
    command = f"read {os.fspath(path)}"
    try:
        with open(path, "rb") as stream:
            content = stream.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError(command, None, error.strerror or str(error)) from error
    if len(content) > limit:
        raise KernelError(command, None, f"larger than {limit} bytes")
    return content.decode("utf-8", "surrogateescape")


def read_json(path: str | os.PathLike[str]) -> object:
    """What a JSON file holds; None where there is no such file. Raises KernelError where it holds no JSON."""
    text = read(path)
    return None if text is None else parse_json(text, f"read {os.fspath(path)}")


def parse_json(text: str, command: str) -> object:
    """A JSON text as a value. KernelError about ``command`` for anything else, however deep, long or hostile."""
    if len(text) > MAX_JSON:
        raise KernelError(command, None, f"larger than {MAX_JSON} bytes")
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KernelError(command, None, f"no JSON: {error}") from error
    return value


class Lock:
    """A lock between processes: ``with Lock(path, wait=5): …``. The kernel releases it when its holder ends.

    Parameters
    ----------
    path: the lock file; it is created and never removed. It holds the process id of whoever had it last.
    wait: seconds to wait for whoever has it.
    now, sleep: the clock, for tests.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        wait: float = 10.0,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = Path(path)
        self._wait = wait
        self._now, self._sleep = now, sleep
        self._descriptor: int | None = None

    def __enter__(self) -> Lock:
        """Take it. Raises TransientError where it is held for longer than ``wait``, KernelError for other faults."""
        command = f"lock {self._path}"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise KernelError(command, None, error.strerror or str(error)) from error
        if not self._take(descriptor):
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise TransientError(command, None, f"held by process {holder} for more than {self._wait:g} s")
        mine = f"{os.getpid()}\n".encode()
        if os.pread(descriptor, 20, 0) != mine:  # a daemon takes its lock again and again, and a file may be on a disk
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, mine, 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, descriptor: int) -> bool:
        end = self._now() + self._wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._now() >= end:
                    return False
                self._sleep(_LOCK_POLL)
            else:
                return True
