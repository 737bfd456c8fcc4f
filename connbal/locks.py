"""Who keeps the lock of a file, whether that counts, and what to do where it does not.

``flock`` works on a descriptor that was opened for reading: whoever may read a file, or could at any time before, can
keep its lock for as long as they like. So a lock counts where a process of root keeps it, or one of the file's owner.
Anybody else's is no reason to wait: a new file, which only its owner may open, takes the place of the one that is kept.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator

from connbal.frozen import dataclass

#: Mode of a file that serves as a lock, and of one that takes the place of another.
MODE = 0o600
#: Bits of a mode by which others than the owner could open a file, and lock it.
LOOSE = 0o077
#: How often in a row nobody who counts has to be found until that is believed, and seconds between two looks: where a
#: lock goes quickly from hand to hand, a look comes too late to see who had it.
_LOOKS, DOUBT = 8, 0.02
#: Seconds between looks at a guard that another process has, and for how long: it has it for a few system calls.
_PAUSE, _GUARD = 0.005, 5.0
_UNPRINTABLE = re.compile(rb"[^!-~]")


@dataclass(frozen=True)
class Keeper:
    """Who keeps a lock.

    ``pid``: None where no such process can be seen from here: it is in another pid namespace, or whoever took the lock
    has ended and left it to another. ``counts``: whether to wait for it.
    """

    pid: int | None
    name: str  #: what the process calls itself, printable; empty where it is not known
    counts: bool

    def __str__(self) -> str:
        if self.pid is None:
            return "a process that cannot be seen from here"
        return f"process {self.pid} ({self.name})" if self.name else f"process {self.pid}"


def keeper(descriptor: int, *, thorough: bool = True) -> Keeper:
    """Who keeps the lock of the open file ``descriptor``, as /proc says: /proc/locks, and processes' own descriptors.

    ``thorough``: look at every process where /proc/locks does not lead to one that counts, which takes 10 ms or more.

    What a file says of whoever had its lock is not asked: anybody's lock on it would be put down to them. Where several
    share the lock, one that counts is told. Where nobody can be seen, that counts if nobody but the owner may open the
    file, or if there is no /proc to look at.
    """
    file = os.fstat(descriptor)
    trusted = {b"0", b"%d" % os.geteuid(), b"%d" % file.st_uid}
    strangers, unsolved = [], False
    listed = _listed(file.st_ino)
    for pid in listed:
        uids = _uids(pid)
        if uids and not uids <= trusted:
            strangers.append(pid)
        elif uids and _keeps(pid, file, unseen=True):
            return Keeper(pid, name(pid), True)
        else:
            unsolved = True  # another file of that number, or who took the lock has ended and left it to a child
    if thorough and (unsolved or not listed):
        for pid in _processes():
            if pid not in listed and (uids := _uids(pid)) and uids <= trusted and _keeps(pid, file, unseen=False):
                return Keeper(pid, name(pid), True)
    if strangers:
        return Keeper(strangers[0], name(strangers[0]), False)
    return Keeper(None, "", not file.st_mode & LOOSE or not os.path.exists("/proc/self/status"))


class Watch:
    """Looks, again and again, at who keeps a lock that could not be had."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._misses = 0
        self.keeper: Keeper | None = None  #: as seen last

    @property
    def doubtful(self) -> bool:
        """Whether nobody who counts was found last time, and it has to be looked at again soon."""
        return self._misses > 0

    def strange(self) -> bool:
        """Look once more. True: it is kept by somebody whose lock does not count."""
        last = self._misses + 1 >= _LOOKS
        self.keeper = keeper(self._descriptor, thorough=last)
        self._misses = 0 if self.keeper.counts else self._misses + 1
        return last and not self.keeper.counts


def name(pid: int) -> str:
    """What a process calls itself, printable; empty where there is none."""
    return _UNPRINTABLE.sub(b"?", _content(f"/proc/{pid}/comm").removesuffix(b"\n")).decode("ascii")


def leads_to(path: str | os.PathLike[str], descriptor: int) -> bool:
    """Whether ``path`` is (still) the name of the open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def owner(uid: int) -> str:
    """A user, in words: ``root``, or ``user 65534``. Names are for whoever can look them up without being fooled."""
    return "root" if uid == 0 else f"user {uid}"


def displace(path: str, descriptor: int, content: bytes, *, lasting: bool = False) -> int | None:
    """Put a new file with ``content`` in the place of ``path``, whose lock somebody keeps that does not count.

    The new file belongs to the owner of the old one, nobody else may open it, and it is locked: its descriptor is
    returned. None: by now there is another file, or somebody keeps the lock who counts: try again. Who has got it must
    look at the lock of the old file once more before it goes on: somebody who counts may have come to that meanwhile.

    Parameters
    ----------
    path: the file itself, not a link to it.
    descriptor: the old file, open.
    lasting: force the content out to the disk.

    Raises OSError: no new file can be made there.
    """
    with _guard(_hidden(path, "mend")):
        if not leads_to(path, descriptor) or (not _locked(descriptor) and keeper(descriptor).counts):
            return None
        try:
            return replace(path, os.fstat(descriptor), content, lasting=lasting)
        except FileNotFoundError:  # somebody who has just got the lock takes what is not finished for a leftover
            return None


def replace(path: str, old: os.stat_result, content: bytes, *, lasting: bool = False) -> int:
    """The same, for whoever may do it: has the lock, or has found that nobody has it who counts."""
    temporary = _hidden(path, f"connbal-{os.getpid()}.{os.urandom(6).hex()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fresh = os.open(temporary, flags, MODE)
    try:
        fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if old.st_uid != os.fstat(fresh).st_uid:
            os.fchown(fresh, old.st_uid, old.st_gid)
        os.fchmod(fresh, MODE)
        view = memoryview(content)
        while view:
            view = view[os.write(fresh, view) :]
        if lasting:
            os.fsync(fresh)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        os.close(fresh)
        raise
    return fresh


def _hidden(path: str, word: str) -> str:
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{word}")


@contextlib.contextmanager
def _guard(path: str) -> Iterator[None]:
    """One process at a time. The file is there for as long as somebody is inside: nobody else could open it before."""
    end = time.monotonic() + _GUARD
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if leads_to(path, descriptor):
                break
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path) from None
            time.sleep(_PAUSE)
        os.close(descriptor)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether it could be locked after all."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listed(inode: int) -> list[int]:
    """The processes that took a ``flock`` on a file of that number, as /proc/locks has them; who waits is left out.

    Numbers of devices are not compared: those of overlays and subvolumes are others there than ``stat`` tells.
    """
    found = []
    for line in _content("/proc/locks").splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE 814 00:1a:9876 0 EOF
        if len(words) >= 6 and words[1] == b"FLOCK" and words[5].endswith(b":%d" % inode) and words[4].isdigit():
            found.append(int(words[4]))
    return [pid for pid in found if pid]


def _processes() -> Iterable[int]:
    with contextlib.suppress(OSError):
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return ()


def _uids(pid: int) -> set[bytes]:
    """The users a process acts for: real, effective, saved, and of its file system; none where there is no process."""
    for line in _content(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return set(line.split()[1:])
    return set()


def _keeps(pid: int, file: os.stat_result, *, unseen: bool) -> bool:
    """Whether a process has that file open and keeps its lock. ``unseen``: the answer where it may not be looked at."""
    ending = b":%d" % file.st_ino
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return unseen
    except OSError:
        return False
    for one in descriptors:
        for line in _content(f"/proc/{pid}/fdinfo/{one}").splitlines():  # lock: 1: FLOCK ADVISORY WRITE 814 00:1a:9876
            words = line.split()
            if len(words) >= 7 and words[0] == b"lock:" and words[2] == b"FLOCK" and words[6].endswith(ending):
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{pid}/fd/{one}"), file):
                        return True
    return False


def _content(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as stream:
            return stream.readall()
    except OSError:
        return b""
