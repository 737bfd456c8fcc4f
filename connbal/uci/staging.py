"""Changes that are staged and not committed, in libuci's own way: what ``uci set`` does before ``uci commit``.

libuci keeps them in /tmp/.uci, in one file for each package, one change a line (delta.c of 2025). ``uci set`` appends
under an exclusive ``flock``; ``uci commit`` reads the file and empties it, under the same lock. It passes over lines
that it cannot read or that do not fit, and so does this.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from connbal import locks
from connbal.errors import ConfigError
from connbal.uci import files
from connbal.uci.edit import Change, Editor, delta, parse_delta
from connbal.uci.package import Package
from connbal.uci.store import PATIENCE, Store
from connbal.uci.text import encode

#: Where libuci keeps staged changes.
DIRECTORY = "/tmp/.uci"
#: Mode of that directory where there is no directory of configurations to take it from.
_DIRECTORY_MODE = 0o700


@contextlib.contextmanager
def staged(store: Store, package: str, directory: str = DIRECTORY, patience: float = PATIENCE) -> Iterator[Editor]:
    """An editor for a ``with`` block whose changes are staged when the block ends.

    It begins with the package as it would be if all that is staged were committed, so that names and places are those
    that hold then. A missing file counts as empty. Where an exception ends the block, nothing is staged.

    Raises
    ------
    ConfigError: as for :meth:`Store.load`; the staged changes cannot be read or written. They are as before then.
    """
    path = os.path.join(directory, package)
    config = os.path.join(store.config_dir, package)
    try:
        _make_directory(directory, os.fspath(store.config_dir))
        descriptor = _locked(path, config, time.monotonic() + patience)
    except OSError as error:
        raise files.explain(package, path, error) from error
    except files.Busy:
        why = f"another program has kept {path} locked for {patience:g} seconds; try again when it is done"
        raise ConfigError(package, None, None, why) from None
    try:
        try:
            known = files.content(descriptor)
        except OSError as error:
            raise files.explain(package, path, error) from error
        editor = Editor(store.load(package) if os.path.exists(config) else Package(package))
        editor.adopt(parse_delta(known, package))
        yield editor
        try:
            _append(descriptor, encode(delta(package, editor.changes)))
        except OSError as error:
            raise files.explain(package, path, error) from error
    finally:
        files.unlock(descriptor)
        os.close(descriptor)


def _locked(path: str, config: str, deadline: float) -> int:
    """The file, locked. Where somebody keeps its lock who may not, a new one with the same content takes its place."""
    while True:
        descriptor = _open(path, config)
        try:
            files.lock(descriptor, fcntl.LOCK_EX, deadline)
            if locks.leads_to(path, descriptor):
                return descriptor
        except files.Strange:
            fresh = locks.displace(path, descriptor, b"")
            if fresh is not None:
                _take_over(descriptor, fresh, deadline)
                return fresh
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take_over(old: int, new: int, deadline: float) -> None:
    """Bring what is staged in the old file into the new one, once nobody who counts has the old one any more."""
    try:
        with contextlib.suppress(files.Strange):
            files.lock(old, fcntl.LOCK_EX, deadline)
        files.write(new, files.content(old))
    except BaseException:
        os.close(new)
        raise
    finally:
        os.close(old)


def _make_directory(directory: str, config_dir: str) -> None:
    """The directory, with the mode of that of the configurations, as libuci makes it.

    Raises PermissionError where somebody else has made it, who could put anything into it.
    """
    try:
        mode = stat.S_IMODE(os.stat(config_dir).st_mode)
    except FileNotFoundError:
        mode = _DIRECTORY_MODE
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, mode)
    owner = os.stat(directory).st_uid
    if owner not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, f"{directory} belongs to {locks.owner(owner)}; remove it", directory)


def _open(path: str, config: str) -> int:
    """The file, with the mode of the configuration, as libuci makes it."""
    try:
        mode = stat.S_IMODE(os.stat(config).st_mode)
    except FileNotFoundError:
        mode = files.NEW_MODE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    try:
        files.require_file(descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _append(descriptor: int, data: bytes) -> None:
    """Append all of ``data``, or nothing."""
    if not data:
        return
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        data = b"\n" + data  # somebody's line was cut short; ours must not be lost with it
    try:
        files.write(descriptor, data)
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def look(directory: str, package: str) -> list[Change]:
    """What is staged for a package now. Raises ConfigError where that cannot be read."""
    path = os.path.join(directory, package)
    try:
        return parse_delta(files.read(path), package)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise files.explain(package, path, error) from error
