"""What keeps an agent from outliving the lab that started it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
from typing import Any

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000


def bound(seconds: float, parent: int, use_signal: bool) -> None:
    """End this process after `seconds`, and at once when its parent dies.

    `parent` is the pid of the process whose death ends this one; 0 means none, for a lab that is
    kept. `use_signal` is False when a thread other than the parent's main one started this process: the
    kernel would send the signal at that thread's end. SIGALRM keeps its default action, so that a
    hung loop ends too.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, max(0.1, seconds))
    if not parent or not use_signal:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one; sockets are files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def enter_netns(path: str) -> None:
    """Move this process into the network namespace at `path` (such as /run/netns/cb1234-router).

    Sockets stay in the namespace they were opened in, so one process can serve many.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
    finally:
        os.close(fd)


def read_job() -> Any:
    """The job on standard input: its length as 12 characters, then JSON.

    Read without a buffer, so that what the parent writes later stays in the pipe for epoll to see.
    """
    left = int(os.read(0, 12))
    parts = []
    while left:
        part = os.read(0, left)
        if not part:
            os._exit(1)
        parts.append(part)
        left -= len(part)
    return json.loads(b"".join(parts))


def render_job(job: Any) -> bytes:
    """What `read_job` reads."""
    text = json.dumps(job).encode()
    return f"{len(text):11d}\n".encode() + text
