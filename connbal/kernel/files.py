"""Small files: written whole or not at all, read with suspicion, and a lock that nobody waits for without end."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from connbal import locks
from connbal.errors import KernelError
from connbal.kernel.api import TransientError

#: What is larger was not written by anybody who means well.
MAX_JSON = 16 << 20
#: Seconds between two looks at a lock that somebody holds, and how many of them go by until it is asked who that is.
_LOCK_POLL, _LOCK_ASK = 0.05, 10
#: Modes of directories and files that are connbal's own.
_DIRECTORY, _FILE = 0o700, 0o600
#: Why nothing can be written that is nobody's fault, and what to do about it.
_REMEDIES = {errno.ENOSPC: "make room there", errno.EDQUOT: "make room there", errno.EROFS: "make it writable"}
_NOTICE = 25
#: A file that a process, of this number, has not finished.
_UNFINISHED = re.compile(r"\..+[.-](\d+)\.[0-9a-f]{12}", re.ASCII)

log = logging.getLogger(__name__)


def secure(directory: str | os.PathLike[str]) -> None:
    """Have a directory that only this user may look into, whatever the umask; those on the way to it are created.

    One that is there already is mended. It is refused where it is a link, which is not followed, or belongs to somebody
    else: who made it may have put anything into it, and may go on doing so.

    Raises KernelError: ``open DIRECTORY``, why, and what to do.
    """
    command = f"open {os.fspath(directory)}"
    try:
        try:
            os.mkdir(directory, _DIRECTORY)
        except FileExistsError:
            pass
        except FileNotFoundError:
            Path(directory).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(directory, _DIRECTORY)
        found = os.lstat(directory)
        _require_own(command, found, stat.S_IFDIR)
        if stat.S_IMODE(found.st_mode) != _DIRECTORY:
            _mend(directory, os.O_DIRECTORY, _DIRECTORY)
    except OSError as error:
        raise failure(command, error) from error


def _require_own(command: str, found: os.stat_result, kind: int) -> None:
    """Raises KernelError where something is not what it should be, or is not this user's."""
    if stat.S_IFMT(found.st_mode) != kind:
        word = {stat.S_IFDIR: "directory", stat.S_IFREG: "regular file"}[kind]
        link = "a link, which is not followed" if stat.S_ISLNK(found.st_mode) else f"no {word}"
        raise KernelError(command, None, f"it is {link}; remove it")
    user = os.geteuid()
    if found.st_uid != user:
        whose = f"it belongs to {locks.owner(found.st_uid)}, and not to {locks.owner(user)}"
        if user:
            raise KernelError(command, None, f"Permission denied: {whose}")
        raise KernelError(command, None, f"{whose}; see what made it, and remove it")


def _mend(path: str | os.PathLike[str], flags: int, mode: int) -> None:
    """Give what is there this mode; not what a link leads to. On a file system that is read-only it stays as it is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    finally:
        os.close(descriptor)


def tighten(directory: str | os.PathLike[str], but: Collection[str] = ()) -> None:
    """Take files in a directory of ours away from others who could open them; ``but``: leave these, they are locks.

    A version before this one made them so, or somebody with a wish to look at them.
    """
    user = os.geteuid()
    with suppress(OSError):
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            with suppress(OSError):
                found = os.lstat(path)
                loose = stat.S_ISREG(found.st_mode) and found.st_mode & locks.LOOSE
                if loose and found.st_uid == user and name not in but:
                    _mend(path, 0, _FILE)


def renew(path: str | os.PathLike[str]) -> None:
    """Have a new file in the place of a lock of ours that others could have open, unless who has it has a right to it.

    Where it cannot be done now, whoever takes the lock does it.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & locks.LOOSE or found.st_uid != os.geteuid():
            return
        descriptor = os.open(path, flags)
        try:
            fresh = locks.displace(os.fspath(path), descriptor, b"")
            if fresh is not None:
                os.close(fresh)
        finally:
            os.close(descriptor)


def failure(command: str, error: OSError) -> KernelError:
    """An error of the file system about ``command``, with what to do where that is known."""
    remedy = _REMEDIES.get(error.errno or 0)
    return KernelError(command, None, f"{error.strerror or error}{f'; {remedy}' if remedy else ''}")


def write(path: str | os.PathLike[str], text: str, mode: int = _FILE) -> None:
    """Give a file this content in one step: a reader meets the old or the new, and a crash leaves one of them.

    Directories on the way are created. Nothing is forced out to the disk: state is for this boot. ``mode`` holds
    whatever the umask.

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
        raise failure(f"write {target}", error) from error


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

    Raises KernelError: it cannot be read, is no regular file, or has more than ``limit`` bytes.
    """
    command = f"read {os.fspath(path)}"
    try:
        with open(path, "rb", opener=_at_once) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise KernelError(command, None, "no regular file; remove it")
            content = stream.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError(command, None, error.strerror or str(error)) from error
    if len(content) > limit:
        raise KernelError(command, None, f"larger than {limit} bytes")
    return content.decode("utf-8", "surrogateescape")


def _at_once(path: str, flags: int) -> int:
    """Opens without waiting for anybody: a named pipe has no writer, perhaps for good."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


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

    Only root may hold it, or whoever owns its directory: a lock that somebody else keeps is put aside, and a new one
    takes its place (see :mod:`connbal.locks`). On a file system that is full or read-only an existing lock file does,
    and without one its directory.

    Parameters
    ----------
    path: the lock file, in a directory of connbal's own; it is created and never removed. It holds the process id of
    whoever had it last, for scripts to read.
    wait: seconds to wait for whoever has it; 0: not at all, but for some 0.2 s where it seems to be nobody who counts.
    needed: False: where nothing can be locked, because nothing can be written, go on without.
    now, sleep: the clock, for tests.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        wait: float = 10.0,
        *,
        needed: bool = True,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._path = Path(path)
        self._command = f"lock {self._path}"
        self._wait, self._needed = wait, needed
        self._now, self._sleep = now, sleep
        self._held: list[int] = []  #: the descriptors; of files that were put aside, too

    def __enter__(self) -> Lock:
        """Take it. Raises TransientError where it is held for longer than ``wait``, KernelError for other faults."""
        end = self._now() + self._wait
        try:
            self._acquire(end)
        except BaseException as error:
            self._release()
            cause = error.__cause__
            if self._needed or not isinstance(cause, OSError) or cause.errno not in _REMEDIES:
                raise
            log.info("%s; without it", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _acquire(self, end: float) -> None:
        secure(self._path.parent)
        try:
            while not self._taken(end):
                self._release()
        except OSError as error:
            raise failure(self._command, error) from error

    def _taken(self, end: float) -> bool:
        """Whether it is ours now. False: what was opened is not the lock any more."""
        descriptor = self._open()
        self._held.append(descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):  # there is no file, and none can be made
            self._await(descriptor, end)
            return True
        _require_own(self._command, found, stat.S_IFREG)
        if not found.st_mode & 0o777:  # a strange umask
            os.fchmod(descriptor, _FILE)
        if not self._await(descriptor, end):
            fresh = locks.displace(os.fspath(self._path), descriptor, b"")
            if fresh is None:
                return False
            self._held.append(fresh)
            self._await(descriptor, end)  # who has a right to it may have come to the old one at the last moment
        elif found.st_mode & locks.LOOSE and locks.leads_to(self._path, descriptor):
            self._renew(found)
        if not locks.leads_to(self._path, self._held[-1]):
            return False
        self._sign(self._held[-1])
        return True

    def _open(self) -> int:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | flags, _FILE)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise KernelError(self._command, None, "it is a link, which is not followed; remove it") from None
            if error.errno not in _REMEDIES:
                raise
            try:
                return os.open(self._path, os.O_RDONLY | flags)
            except FileNotFoundError:
                return os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | flags)

    def _await(self, descriptor: int, end: float) -> bool:
        """Wait for a lock. False: somebody keeps it who does not count. TransientError: somebody who does."""
        watch, looks = locks.Watch(descriptor), 0
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            late = self._now() >= end
            if late or watch.doubtful or looks % _LOCK_ASK == 0:
                strange = watch.strange()
                if strange:
                    what = f"{watch.keeper} keeps it without a right to; that does not count"
                    log.log(_NOTICE, "%s: %s", self._command, what)
                    return False
                if late and not watch.doubtful:
                    why = f"held by {watch.keeper} for more than {self._wait:g} s"
                    raise TransientError(self._command, None, why)
            looks += 1
            self._sleep(locks.DOUBT if watch.doubtful else _LOCK_POLL)

    def _renew(self, found: os.stat_result) -> None:
        """Have a new file in the place of ours that others could have open, and could lock once we are done."""
        try:
            self._held.append(locks.replace(os.fspath(self._path), found, b""))
        except OSError as error:
            if error.errno not in _REMEDIES:
                raise

    def _sign(self, descriptor: int) -> None:
        """Leave our process id. Where there is no room for it, the lock is ours all the same."""
        mine = f"{os.getpid()}\n".encode()
        with suppress(OSError):
            if os.pread(descriptor, 20, 0) != mine:  # a daemon takes its lock again and again, perhaps on a disk
                os.pwrite(descriptor, mine, 0)  # before it is cut: a full file system would not give the room back
                os.ftruncate(descriptor, len(mine))
