"""Another user of the machine, in processes of its own, who opens what it may and keeps its locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

#: Its number; no user of that number need exist.
UID = 65534
#: Seconds after which it ends by itself, whatever becomes of the test.
_LIFE = 120


@contextlib.contextmanager
def child(work: Callable[[Callable[[], None]], None], uid: int = UID) -> Iterator[int]:
    """A process of a user that does ``work``, which calls its argument once all is ready. It ends with the block."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(_LIFE)
            os.close(ready)
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            work(lambda: os.close(told))
            time.sleep(_LIFE)
        finally:
            os._exit(0)
    os.close(told)
    try:
        assert os.read(ready, 1) == b""
        yield pid
    finally:
        os.close(ready)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def kept(paths: Iterable[Path], how: int = fcntl.LOCK_EX) -> list[int]:
    """Open for reading what may be opened, and lock what can be locked; the descriptors."""
    found = []
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        found.append(descriptor)
    return found


@contextlib.contextmanager
def keeping(*paths: Path, how: int = fcntl.LOCK_EX, uid: int = UID, all_of_them: bool = True) -> Iterator[int]:
    """Somebody keeps the locks of these; ``all_of_them``: or the test is none."""

    def work(ready: Callable[[], None]) -> None:
        held = kept(paths, how)
        if all_of_them and len(held) < len(paths):
            os._exit(1)
        ready()

    with child(work, uid) as pid:
        time.sleep(0.01)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it could not open them"
        yield pid


@contextlib.contextmanager
def greedy(directories: Iterable[Path]) -> Iterator[int]:
    """Somebody who goes through directories again and again, and keeps everything that can be opened."""
    where = list(directories)

    def work(ready: Callable[[], None]) -> None:
        held: dict[tuple[int, int], int] = {}
        first = True
        while True:
            for directory in where:
                paths = [directory]
                with contextlib.suppress(OSError):
                    paths += [directory / name for name in os.listdir(directory)]
                for path in paths:
                    for descriptor in kept([path]):
                        found = os.fstat(descriptor)
                        if (found.st_dev, found.st_ino) in held or len(held) > 200:
                            os.close(descriptor)
                        else:
                            held[found.st_dev, found.st_ino] = descriptor
            if first:
                ready()
                first = False
            time.sleep(0.005)

    with child(work) as pid:
        yield pid
