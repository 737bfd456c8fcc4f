"""Files that are forced out to the disk, written whole or not at all, and what is said where that fails."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from connbal.errors import ConfigError
from connbal.model.names import PACKAGE
from connbal.uci import files


@contextlib.contextmanager
def explained(package: str, path: str) -> Iterator[None]:
    """Turn what goes wrong with the way back of a change into a ConfigError."""
    try:
        yield
    except OSError as error:
        why = f"nothing was changed, because its way back cannot be kept: {path}: {error.strerror or error}"
        remedy = "make room, or change it without --confirm"
        raise ConfigError(package or PACKAGE, None, None, f"{why}; {remedy}") from error


def look(path: str) -> tuple[int, int, int] | None:
    """Of a file: another one where it was replaced or written; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def put(path: str, content: bytes, like: str | None = None) -> None:
    """Write a file whole, and for good; only its owner may read it. ``like``: with mode and owner of that file.

    Raises OSError: the file is as before then.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.unfinished")
    try:
        other = os.stat(like) if like is not None else None
    except FileNotFoundError:
        other = None
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(temporary, flags, files.NEW_MODE)
        try:
            if other is not None:
                os.fchown(descriptor, other.st_uid, other.st_gid)
            os.fchmod(descriptor, files.NEW_MODE if other is None else stat.S_IMODE(other.st_mode))
            files.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        sync(directory)
    except OSError:
        remove(temporary)
        raise


def rename(path: str, new: str) -> None:
    """Within a directory, and for good. Raises OSError."""
    os.rename(path, new)
    sync(os.path.dirname(new))


def remove(path: str) -> None:
    """Remove a file that may not be there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def own_directory(path: str) -> None:
    """A directory into which only root looks. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if stat.S_IMODE(os.lstat(path).st_mode) & 0o077:
        os.chmod(path, 0o700)


@contextlib.contextmanager
def locked(path: str, wait: float) -> Iterator[None]:
    """With the lock of a file held, which is made and stays empty. Raises OSError, after ``wait`` seconds, too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.NEW_MODE)
    try:
        try:
            files.lock(descriptor, fcntl.LOCK_EX, time.monotonic() + wait)
        except (files.Busy, files.Strange):
            raise TimeoutError(errno.ETIMEDOUT, "another command is at it") from None
        yield
    finally:
        files.unlock(descriptor)
        os.close(descriptor)


def sync(directory: str) -> None:
    """What was renamed or removed in a directory stays so, also after a power cut, if the disk can do that."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
