"""A configuration file under its lock: read, then replaced as a whole or not at all.

What libuci does (file.c and util.c of 2025), and what follows from it here:

- Readers take a shared ``flock`` on the file, ``uci commit`` an exclusive one. It reads the file through the
  descriptor it locked, writes ``.<package>.uci-XXXXXX`` beside it, *unlocks*, and then renames. So:
- We take the same exclusive lock, check that the file is still the one the name leads to, and wait while such a
  temporary file shows that a rename is still to come.
- A ``uci commit`` that was waiting for our lock wakes up with the file that we have replaced in its hands, and would
  carry the old content over ours. So before unlocking we write the new content into the replaced file, too, if no
  other name leads to it any more.
- It might then rename behind the back of the next one who locks the new file. So the new file is locked before it
  gets its name, and stays so until those who were waiting have had their turn.

Whoever may read a file can lock it. So only locks of root and of the file's owner count (see :mod:`connbal.locks`): a
reader does not wait for others, a writer puts a new file that only the owner may open in the place of theirs.

Long, because reading, locking and replacing are one agreement with libuci, and each step relies on the others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from types import TracebackType

from connbal import locks
from connbal.errors import ConfigError

#: Bytes of a file. 10,000 rules fit; a router would have no memory for what is ten times as large.
MAX_BYTES = 5 << 19
#: Mode of a new file, as libuci makes them.
NEW_MODE = 0o600
#: Pauses between attempts to get a lock, seconds: the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02
#: How long a temporary file of ``uci commit`` is taken to be in use. What is older was left by a crash.
_FRESH = 5.0
#: How long to wait for a rename by ``uci commit`` to happen, seconds. It takes less than a millisecond.
_HANDOVER = 1.0
#: How long the lock on the new file is kept for those who opened the replaced one, but have not locked it yet, seconds.
_LINGER = 0.002
#: How long a reader waits for a writer before it reads without a lock, which costs it nothing but being up to date.
_READER_PATIENCE = 1.0
#: How long a lock is waited for before it is asked who keeps it, and until that is asked again, seconds.
_GRACE, _ASK = 0.05, 0.5
_READS = 5  #: attempts to read a file that is replaced again and again while it cannot be locked
#: What file systems without second names for a file answer to who asks for one.
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK)


class Busy(Exception):
    """The lock could not be had in time."""


class Strange(Exception):
    """The lock is kept by somebody whose lock does not count."""


class Changed(Exception):
    """The file is no longer the one that was locked: somebody replaced it without regard to the lock."""


def read(path: str) -> bytes:
    """The content of the regular file ``path``.

    Raises OSError: FileNotFoundError, IsADirectoryError, or EINVAL where it is no file at all.
    """
    for _ in range(_READS):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            require_file(descriptor, path)
            try:
                lock(descriptor, fcntl.LOCK_SH, time.monotonic() + _READER_PATIENCE)
                return content(descriptor)
            except (Busy, Strange, OSError):
                data = content(descriptor)
            # Whoever replaces the file writes into the old one, too.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return data
        finally:
            os.close(descriptor)
    return data


class LockedFile:
    """The file ``path`` locked for a change; a context manager.

    path: may be a symbolic link, which stays one; may be missing, which counts as empty.
    package: part of the names of temporary files.
    deadline: on the monotonic clock, for getting the lock.

    Raises
    ------
    Busy: the lock could not be had in time.
    OSError: the file cannot be opened for writing.
    """

    def __init__(self, path: str, package: str, deadline: float) -> None:
        self._link_directory = os.path.dirname(path)
        self._path = os.path.realpath(path)
        self._directory = os.path.dirname(self._path)
        self._package = package
        self._deadline = deadline
        self._descriptor = -1  # of the file, or of its directory where there is no file yet
        self._aside = -1  # of the file that was there, if somebody kept its lock
        self._exists = False
        self._alone = True  # False: somebody keeps the directory's lock, so that we could not have it

    def __enter__(self) -> LockedFile:
        try:
            while True:
                self._open()
                self._lock()
                self._await_renames()
                if self._current():
                    break
                self._close()
                if time.monotonic() > self._deadline:
                    raise Busy
        except BaseException:
            self._close()
            raise
        if self._alone:
            self._remove_leftovers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return self._exists

    def content(self) -> bytes:
        """What the file says; nothing where it does not exist."""
        return content(self._descriptor) if self._exists else b""

    def replace(self, data: bytes, prepared: str | None = None) -> None:
        """Make ``data`` the content, at once and for good: after this returns, a power cut does not undo it.

        Mode and owner stay. ``prepared``: a file that holds ``data`` already. It becomes the file, which needs no room
        on the disk, and is gone then.

        Raises Changed, and OSError where it cannot be written; the file is as before then.
        """
        if prepared is not None and os.stat(prepared).st_dev != os.stat(self._directory).st_dev:
            prepared = None  # the configuration is a symbolic link to another disk
        temporary, descriptor = self._temporary() if prepared is None else (prepared, _opened(prepared))
        try:
            lock(descriptor, fcntl.LOCK_EX, self._deadline)
            self._copy_attributes(descriptor)
            if prepared is None:
                write(descriptor, data)
            os.fsync(descriptor)
            self._await_renames()
            if not self._current():
                raise Changed
            self._name(temporary)
        except BaseException:
            os.close(descriptor)
            if prepared is None:
                _unlink(temporary)
            raise
        try:
            _sync_directory(self._directory)
        except OSError:
            self._put_back()
            os.close(descriptor)
            raise
        try:
            self._hand_over(data)
        finally:
            self._close()
            self._descriptor, self._exists = descriptor, True

    def _name(self, temporary: str) -> None:
        """Have the new file under the name; Changed where there was none, and somebody else has made one meanwhile."""
        if self._exists:
            os.rename(temporary, self._path)
            return
        try:
            os.link(temporary, self._path)
            _unlink(temporary)
        except (FileExistsError, FileNotFoundError):  # who had the new one's lock took ours for a leftover
            raise Changed from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.rename(temporary, self._path)

    def _put_back(self) -> None:
        """Undo a replacement that the disk may not keep: what has failed must not have changed anything."""
        with contextlib.suppress(OSError):  # the disk is broken, and the caller says so
            if not self._exists:
                os.unlink(self._path)
                return
            temporary, descriptor = self._temporary()
            try:
                self._copy_attributes(descriptor)
                write(descriptor, content(self._descriptor))
                os.rename(temporary, self._path)
            except OSError:
                _unlink(temporary)
                raise
            finally:
                os.close(descriptor)

    def _temporary(self) -> tuple[str, int]:
        """A new file beside the one that is locked: its name and a descriptor."""
        name = os.path.join(self._directory, f"{self._prefix()}{os.urandom(6).hex()}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return name, os.open(name, flags, NEW_MODE)

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            self._descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._exists = False
        else:
            require_file(self._descriptor, self._path)
            self._exists = True

    def _lock(self) -> None:
        """Lock what is open; a file that somebody keeps locked who may not is put aside, and the new one is locked."""
        while True:
            with contextlib.suppress(Strange):
                lock(self._descriptor, fcntl.LOCK_EX, self._deadline)
                return
            if not self._exists:
                self._alone = False  # of those who make a file, one is the first, and the others see that
                return
            self._await_renames()
            fresh = locks.displace(self._path, self._descriptor, content(self._descriptor), lasting=True)
            if fresh is not None:
                break
            if not self._current():
                return
        self._descriptor, self._aside = fresh, self._descriptor
        with contextlib.suppress(Strange):  # who has a right to it may have come to the old one at the last moment
            lock(self._aside, fcntl.LOCK_EX, self._deadline)

    def _current(self) -> bool:
        """Whether what is locked is (still) what the path leads to."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return not self._exists
        return self._exists and os.path.samestat(there, os.fstat(self._descriptor))

    def _close(self) -> None:
        for descriptor in (self._descriptor, self._aside):
            if descriptor >= 0:
                unlock(descriptor)
                os.close(descriptor)
        self._descriptor = self._aside = -1

    def _prefix(self) -> str:
        return f".{self._package}.connbal-"

    def _remove_leftovers(self) -> None:
        """Remove temporary files of ours: only who has the lock makes any, so they were left by a crash."""
        for name in os.listdir(self._directory):
            if name.startswith(self._prefix()):
                _unlink(os.path.join(self._directory, name))

    def _await_renames(self) -> None:
        """Wait until no ``uci commit`` is between its unlocking and its renaming."""
        give_up = time.monotonic() + _HANDOVER
        while self._rename_to_come() and time.monotonic() < give_up:
            time.sleep(_FIRST_PAUSE)

    def _rename_to_come(self) -> bool:
        prefix = f".{self._package}.uci-"
        for name in os.listdir(self._link_directory):
            if name.startswith(prefix):
                try:
                    age = time.time() - os.stat(os.path.join(self._link_directory, name)).st_mtime
                except FileNotFoundError:
                    continue
                if abs(age) < _FRESH:
                    return True
        return False

    def _copy_attributes(self, descriptor: int) -> None:
        if not self._exists:
            return
        old, new = os.fstat(self._descriptor), os.fstat(descriptor)
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))

    def _hand_over(self, data: bytes) -> None:
        """Let those who opened the replaced file find the new content in it, and wait for what they make of it."""
        if not self._exists:
            return
        replaced = os.fstat(self._descriptor)
        for descriptor in (self._descriptor, self._aside):
            if descriptor >= 0:
                _leave(descriptor, data)
        unlock(self._descriptor)
        give_up = time.monotonic() + _HANDOVER
        while time.monotonic() < give_up:
            time.sleep(_LINGER)
            if not (_somebody_locks(replaced.st_ino) or self._rename_to_come()):
                return


def _leave(descriptor: int, data: bytes) -> None:
    """Write into a file that has no name any more: a favour to others, our own change is done."""
    found = os.fstat(descriptor)
    if found.st_nlink == 0:
        with contextlib.suppress(OSError):
            os.lseek(descriptor, 0, os.SEEK_SET)
            write(descriptor, data)
            if found.st_size > len(data):  # giving blocks back makes the disk's journal work
                os.ftruncate(descriptor, len(data))


def explain(package: str, path: str, error: OSError) -> ConfigError:
    """``error``, from this module, for the user."""
    reason = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "run this as root, and check that the file system is writable"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "make room on the file system; the file is as it was before"
    elif error.errno == errno.EFBIG:
        remedy = "nothing of it is used; no router's configuration is so large, so look what has filled it"
    else:
        remedy = "it has to be a regular file in an existing directory"
    return ConfigError(package, None, None, f"{path}: {reason}; {remedy}")


def lock(descriptor: int, kind: int, deadline: float) -> None:
    """Lock, or raise Busy after ``deadline``. A file system without locks is left alone, as libuci does.

    Raises Strange, after a moment, where it is kept by somebody whose lock does not count.
    """
    pause = _FIRST_PAUSE
    ask, watch = time.monotonic() + _GRACE, locks.Watch(descriptor)
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            now = time.monotonic()
            if now > min(ask, deadline):
                if watch.strange():
                    raise Strange from None
                ask = now + (locks.DOUBT if watch.doubtful else _ASK)
            if now > deadline and not watch.doubtful:
                raise Busy from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP):
                raise
            return
        else:
            return


def unlock(descriptor: int) -> None:
    """Unlock now: closing would not, if a child process has inherited the descriptor."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def require_file(descriptor: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)


def content(descriptor: int) -> bytes:
    """All of a file from its beginning on. OSError (EFBIG) where that is more than MAX_BYTES: then it is not read."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    left = MAX_BYTES + 1 if os.fstat(descriptor).st_size <= MAX_BYTES else 0
    parts = []
    while left and (part := os.read(descriptor, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise OSError(errno.EFBIG, f"more than {MAX_BYTES} bytes")
    return b"".join(parts)


def write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _opened(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync a directory
            raise
    finally:
        os.close(descriptor)


def _somebody_locks(inode: int) -> bool:
    """Whether /proc/locks knows somebody who has, or waits for, a lock on a file of that inode number."""
    try:
        with open("/proc/locks", "rb") as table:
            lines = [line.split() for line in table]
    except OSError:
        return False
    ending = b":%d" % inode
    return any(b"FLOCK" in words and any(word.endswith(ending) for word in words) for words in lines)
