"""What was applied last: the text of the configuration, in the run directory, so that a change can go back to it.

``connbal apply --confirm`` changes no file: somebody else has, before. What was in force can only be known from here.
"""

from __future__ import annotations

import contextlib
import os

from connbal.errors import KernelError
from connbal.kernel import files
from connbal.pending.record import MAX_BYTES

#: Tells whether a file was replaced or written; None: there is none.
Print = tuple[int, int, int]


def look(path: str | os.PathLike[str]) -> Print | None:
    """Of a file as it is now."""
    try:
        return _print(os.stat(path))
    except OSError:
        return None


def remember(run_dir: str | os.PathLike[str], path: str | os.PathLike[str], seen: Print | None) -> None:
    """What is in the file ``path`` has been applied, if it is still as it was ``seen`` before it was read."""
    if seen is None or seen[2] > MAX_BYTES:
        forget(run_dir)
        return
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
            if _print(os.fstat(stream.fileno())) != seen:
                return  # the next run applies it
    except OSError:
        return
    if content != recall(run_dir):
        with contextlib.suppress(KernelError):  # the run directory may be full
            files.write(_path(run_dir), content.decode("utf-8", "surrogateescape"), 0o600)


def recall(run_dir: str | os.PathLike[str]) -> bytes | None:
    """The text that was applied last; None: it is not known."""
    try:
        with open(_path(run_dir), "rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError:
        return None


def forget(run_dir: str | os.PathLike[str]) -> None:
    """Nothing is in force any more, or it is not known what."""
    with contextlib.suppress(OSError):
        os.unlink(_path(run_dir))


def _path(run_dir: str | os.PathLike[str]) -> str:
    return os.path.join(run_dir, "connbal", "applied.uci")


def _print(found: os.stat_result) -> Print:
    return found.st_ino, found.st_mtime_ns, found.st_size
