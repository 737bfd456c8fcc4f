"""The files in which mwan3's tracker tells others of each interface: ``/var/run/mwan3track/IF/STATUS`` and the rest.

One line each. What to write is a pure function, :func:`contents`; :class:`StateFiles` writes what has changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from connbal.errors import KernelError
from connbal.model.config import Interface
from connbal.track import health
from connbal.track.health import State
from connbal.track.quality import Host, HostState
from connbal.track.report import hosts

_FIXED = frozenset(("STATUS", "TIME", "ONLINE", "OFFLINE", "SCORE", "LOST", "TURN", "STARTED", "PID"))
_PREFIXES = ("TRACK_", "LATENCY_", "LOSS_")
#: Where a file is made before it gets its name. Others look for names without a dot.
_NEW = ".new"
#: Narrower than what a file's name may be: shells read these files.
_HOST = re.compile(r"(?!.*\.\.)[A-Za-z0-9._:%@+-]{1,200}")
_INTERFACE = re.compile(r"[A-Za-z0-9_]{1,255}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: With O_EXCL nothing that lies in the way is opened: no link is followed, no pipe waited for.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def contents(settings: Interface, state: State, now: float, uptime: float, pid: int) -> dict[str, str]:
    """File name -> text, one line with its end.

    Parameters
    ----------
    now: seconds of the monotonic clock, as the times of ``state`` are.
    uptime: seconds since the boot, at the same moment.
    pid: of the tracker.

    ``TIME`` (end of the last round), ``ONLINE`` and ``OFFLINE`` are whole seconds of uptime, 0 where there is none.
    A host has files once it was asked, or left out of a round: before that none of the words that readers know for
    it would be true, and where there is no file they take it as unknown. ``LATENCY_`` (ms) is 0 where none was
    measured; ``LOSS_`` (per cent) is 0 where nothing was sent. A host whose name makes no safe file name has none.
    """
    # The two clocks are read one after the other: their difference wavers, and seconds must not waver with it.
    ahead = round(uptime - now, 1)
    made: dict[str, str | int] = {
        "TIME": _seconds(state.time, ahead),
        "ONLINE": _seconds(state.online_since, ahead),
        "OFFLINE": _seconds(state.offline_since, ahead),
        "SCORE": state.score,
        "LOST": state.lost,
        "TURN": state.turn,
        "STARTED": int(health.running(settings, state)),
        "PID": pid,
    }
    for host in hosts(settings, state):
        if host.known is not HostState.UNKNOWN and _HOST.fullmatch(host.name):
            made.update(_of_host(host))
    made["STATUS"] = health.status(settings, state).value  # the last: who sees it change finds the others changed
    return {name: f"{value}\n" for name, value in made.items()}


def _of_host(host: Host) -> dict[str, str | int]:
    return {
        f"TRACK_{host.name}": host.known.value,
        f"LATENCY_{host.name}": round(host.latency or 0.0),
        f"LOSS_{host.name}": round(host.loss or 0.0),
    }


def _seconds(then: float | None, ahead: float) -> int:
    """0 means never, so what was in the first second of uptime was at 1."""
    return 0 if then is None else max(int(then + ahead), 1)


class StateFiles:
    """The files below ``root``, a directory for each interface. One process at a time may write them.

    What was written is remembered, so that only what has changed is written. Each file is replaced in one step. No
    link is followed: one that stands for an interface's directory, or a file there, is replaced; ``root`` itself must
    be a directory. Files that others put there are left alone, unless they have a name that is used here.

    All methods raise KernelError, with the path and why.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: dict[str, dict[str, str]] = {}

    def write(self, interface: str, contents: Mapping[str, str], *, fully: bool = False) -> None:
        """Bring an interface's files to ``contents``; files that are no longer in it go.

        ``fully``: write all, whatever is remembered. To be asked for where another program may have written: when
        tracking of the interface begins, and once in a while (ROOter writes ``STATUS`` too). One file that cannot be
        written does not keep the others from it.
        """
        known: Mapping[str, str | None] | None = None if fully else self._written.get(interface)
        if known is not None and known == contents:
            return
        path = self._root / interface
        if _INTERFACE.fullmatch(interface) is None or not all(map(_is_own, contents)):
            raise KernelError(f"write {path}", None, "no name of a directory and files that belong there")
        with _told(f"write {path}"):
            directory, made = self._open(interface)
            try:
                if known is None or made:
                    known = dict.fromkeys(filter(_is_own, os.listdir(directory)))
                # Until all is done, the memory is not to be relied on.
                self._written.pop(interface, None)
                _bring(directory, known, contents)
                self._written[interface] = dict(contents)
            finally:
                os.close(directory)

    def retain(self, interfaces: Iterable[str]) -> None:
        """Remove the files of all other interfaces, and their directories unless something else is in there."""
        kept = set(interfaces)
        self._written = {name: known for name, known in self._written.items() if name in kept}
        with _told(f"remove files in {self._root}"), contextlib.suppress(FileNotFoundError):
            root = os.open(self._root, _DIRECTORY)
            try:
                for name in os.listdir(root):
                    if name not in kept and _INTERFACE.fullmatch(name):
                        _remove(root, name)
            finally:
                os.close(root)

    def clear(self) -> None:
        """Remove all of it, and ``root`` unless something else is in there."""
        self.retain(())
        with _told(f"remove {self._root}"), _left_alone(errno.ENOTEMPTY, errno.ENOENT):
            os.rmdir(self._root)

    def _open(self, interface: str) -> tuple[int, bool]:
        """The directory of an interface, and whether it had to be made."""
        try:
            root = os.open(self._root, _DIRECTORY)
        except FileNotFoundError:
            self._root.mkdir(parents=True, exist_ok=True)
            root = os.open(self._root, _DIRECTORY)
        try:
            try:
                return os.open(interface, _DIRECTORY, dir_fd=root), False
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                os.unlink(interface, dir_fd=root)
            os.mkdir(interface, dir_fd=root)
            return os.open(interface, _DIRECTORY, dir_fd=root), True
        finally:
            os.close(root)


def _is_own(name: str) -> bool:
    """Whether a file is one of those written here."""
    if name in _FIXED:
        return True
    prefix = next((one for one in _PREFIXES if name.startswith(one)), None)
    return prefix is not None and _HOST.fullmatch(name, len(prefix)) is not None


def _bring(directory: int, known: Mapping[str, str | None], contents: Mapping[str, str]) -> None:
    """Write what differs from what is known, and remove what is no longer wanted; the first failure is raised last."""
    failed: OSError | None = None
    for name, text in contents.items():
        if known.get(name) != text:
            try:
                _replace(directory, name, text)
            except OSError as error:
                failed = failed or error
    for name in known.keys() - contents.keys():
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _replace(directory: int, name: str, text: str) -> None:
    """Four system calls. Nothing is forced out to the disk: state is for this boot."""
    try:
        descriptor = os.open(_NEW, _CREATE, 0o644, dir_fd=directory)
    except FileExistsError:
        os.unlink(_NEW, dir_fd=directory)
        descriptor = os.open(_NEW, _CREATE, 0o644, dir_fd=directory)
    try:
        data = text.encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
    try:
        os.rename(_NEW, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def _remove(root: int, interface: str) -> None:
    """An interface's own files and directory. What is no directory is not connbal's."""
    with _left_alone(errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        directory = os.open(interface, _DIRECTORY, dir_fd=root)
        try:
            for name in os.listdir(directory):
                if name == _NEW or _is_own(name):
                    with _left_alone(errno.ENOENT, errno.EISDIR):
                        os.unlink(name, dir_fd=directory)
        finally:
            os.close(directory)
        with _left_alone(errno.ENOENT, errno.ENOTEMPTY):
            os.rmdir(interface, dir_fd=root)


@contextlib.contextmanager
def _left_alone(*numbers: int) -> Iterator[None]:
    """Errors of these numbers only say that something is not there, or is not connbal's."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


@contextlib.contextmanager
def _told(command: str) -> Iterator[None]:
    """Failures as KernelError about ``command``."""
    try:
        yield
    except OSError as error:
        where = f"{os.fspath(error.filename)}: " if isinstance(error.filename, str | os.PathLike) else ""
        blocked = error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EISDIR)
        remedy = "; it is in the way, remove it" if blocked else ""
        raise KernelError(command, None, f"{where}{error.strerror or error}{remedy}") from error
