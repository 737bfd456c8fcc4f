"""Where a change that waits for its confirmation is kept: beside the configuration, in ``.connbal``.

``/var/run`` is gone after a reboot, and a reboot is what somebody does who is locked out. libuci does not list what
begins with a dot. Only root may look into the directory; what has to be there is forced out to the disk.

A record's name is how far it has come:

- ``new.json``: the change is about to be written. Whoever finds it alone looks whether that was done.
- ``waiting.json``: it is written, and waits.
- ``back.json``: nobody can confirm it any more; its files are being put back.
- ``kernel.json``: they are back; the kernel has to follow.

``PACKAGE.before`` holds what comes back, byte by byte, with the file's mode and owner: to put it back is to rename it,
which needs no room. ``PACKAGE.unconfirmed`` is what was in its place, ``last.json`` what became of the last change that
was not kept.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from connbal.errors import ConfigError, ConnbalError
from connbal.frozen import dataclass
from connbal.kernel import files as state
from connbal.pending import disk
from connbal.pending import record as records
from connbal.pending.record import MAX_BYTES, Back, Former, Moment, Record, Waiting, digest
from connbal.uci import files

#: Seconds to wait for others who are at the record, and for those who have the file.
_LOCK_WAIT, _FILE_WAIT = 10.0, 30.0
#: What comes back where there was no file: means nothing, and cannot be taken for a file that was damaged.
NO_FILE = b"# There was no configuration before the change that was not confirmed.\n"

_NEW, _WAITING, _BACK, _KERNEL, _LAST = "new.json", "waiting.json", "back.json", "kernel.json", "last.json"
_RECORD_MAX = 64 << 10


def now() -> Moment:
    """The moment this is called in."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            boot = stream.read().strip()
    except OSError:
        boot = ""  # the seconds since the boot tell most boots apart
    return Moment(boot, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


def clock(wall: float) -> str:
    """Seconds since 1970 as local time, for people."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(wall))


@dataclass(frozen=True)
class Wish:
    """That a change goes back unless it is confirmed."""

    seconds: int
    who: str = ""
    #: What was in force before, where that is known: it comes back, whatever the file said. None: what the file said.
    in_force: bytes | None = None
    nothing: bool = False  #: there was nothing of connbal's in the kernel
    #: Starts what takes back after so many seconds. Called before anything is changed.
    watch: Callable[[int], None] = lambda _: None


class Pending:
    """The change that waits beside the configuration of a directory. ``moment``: the clock."""

    def __init__(self, config_dir: str | os.PathLike[str], moment: Callable[[], Moment] = now) -> None:
        self._config_dir = os.fspath(config_dir)
        self._own = os.path.join(self._config_dir, ".connbal")
        self._moment = moment

    # --- looking --------------------------------------------------------------------------------------------------

    def print(self) -> object:
        """Of the record: another one once it is another, and once it is due. Costs next to nothing."""
        found = [disk.look(self._path(name)) for name in (_WAITING, _BACK, _NEW)]
        waiting = self._read(_WAITING) if found[0] else None
        return [*found, waiting is not None and not self.left(waiting)]

    def waiting(self) -> Record | None:
        """The change that waits, due or not; None: there is none."""
        if disk.look(self._path(_NEW)):
            self._recovered()
        return self._read(_WAITING)

    def following(self) -> Record | None:
        """The change whose files are back while the kernel has to follow; None: there is none."""
        return self._read(_KERNEL)

    def due(self) -> bool:
        """Whether there is something to take back now."""
        if disk.look(self._path(_BACK)):
            return True
        found = self.waiting()
        return found is not None and not self.left(found)

    def left(self, record: Record) -> float:
        """Seconds until a record's change goes back."""
        return record.left(self._moment())

    def sentence(self, record: Record) -> str:
        """A record in words, for whoever may want to keep it."""
        return records.sentence(record, self.clock(record), self.left(record))

    def clock(self, record: Record) -> str:
        """The time of day at which it goes back, by the clock as it stands now."""
        moment = self._moment()
        return time.strftime("%H:%M:%S", time.localtime(moment.wall + record.left(moment)))

    def as_data(self) -> dict[str, Any] | None:
        """The change that waits, for JSON (``Waiting`` in connbal.cli.shapes.common); None: none does."""
        record = self.waiting()
        if record is None:
            return None
        left = self.left(record)
        return {"left": round(left, 1), "seconds": record.seconds, "until": clock(self._moment().wall + left),
                "who": record.who, "what": list(record.what)}  # fmt: skip

    def last(self) -> Back | None:
        """What became of the last change that was not kept; None: since then one was, or there never was one."""
        text = self._text(_LAST)
        return None if text is None else records.back(text)

    # --- changing -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(
        self, package: str, old: bytes | None, new: bytes, wish: Wish | None, what: tuple[str, ...] = ()
    ) -> Iterator[None]:
        """Around the replacement of ``package``'s file, from ``old`` (None: there is none) to ``new``, under its lock.

        With a wish the way back is there before the file is changed. Where a change waits already, this one joins it:
        the deadline stays, and what comes back is what was before the first.

        Raises
        ------
        Waiting: without a wish, while a change waits; or one is being put back.
        ConfigError: the way back cannot be kept. Nothing is changed then.
        """
        if wish is None and not self._anything():
            yield
            return
        with self._locked(package):
            self._recover()
            found = self._admitted()
            if wish is None:
                if found is not None:
                    raise Waiting(self.sentence(found))
                yield
                return
            with disk.explained(package, self._own):
                self._prepared(found, package, old, new, wish, what)
            try:
                if found is None:
                    wish.watch(wish.seconds)
                yield
            finally:
                self._recover()

    def begin(self, package: str, content: bytes, wish: Wish, what: tuple[str, ...] = ()) -> bool:
        """For what is in the file of ``package`` already, and about to be applied; under the file's lock.

        False where nothing would come back: the file says what is in force. Raises as :meth:`changing`.
        """
        with self._locked(package):
            self._recover()
            found = self._admitted()
            if found is None and not wish.nothing and wish.in_force == content:
                return False
            with disk.explained(package, self._own):
                self._prepared(found, package, content, content, wish, what)
            if found is None:
                wish.watch(wish.seconds)
            self._recover()
        return True

    def confirm(self) -> Record | None:
        """Keep the change that waits, and return it. None: there is none, or it is due and goes back."""
        if not self._anything():
            return None
        with self._locked(""):
            self._recover()
            found = self._read(_WAITING)
            if found is None or not self.left(found):
                return None
            with disk.explained("", self._own):
                self._remove(_WAITING)
                disk.sync(self._own)
            for name in (*(one.copy for one in found.files), _LAST):
                self._remove(name)
        return found

    # --- taking back ----------------------------------------------------------------------------------------------

    def claim(self, *, due: bool = True) -> Record | None:
        """Take the change that waits for taking back: nobody can confirm it any more. ``due``: only where it is due.

        None: there is nothing to take back. A record of which not all was put back is returned again.
        """
        if not self._anything():
            return None
        with self._locked(""):
            self._recover()
            found = self._read(_BACK)
            if found is not None:
                return found
            found = self._read(_WAITING)
            if found is None or (due and self.left(found)):
                return None
            with disk.explained("", self._own):
                disk.rename(self._path(_WAITING), self._path(_BACK))
        return found

    def put_back(self, record: Record, why: str = "") -> Back:
        """Put the files of a claimed record back. ``why``: in words; "": it was not confirmed in time.

        Whatever was in a file is kept in ``PACKAGE.unconfirmed``, also where it is somebody else's by now: who cannot
        reach the router any more needs the way back before all else.

        Raises ConfigError: a file cannot be put back; the next attempt goes on from there.
        """
        moment = self._moment()
        if not why:
            why = "not confirmed in time" if moment.boot == record.boot else "the router was restarted before"
        kept: list[str] = []
        foreign = False
        lost: list[str] = []
        for former in record.files:
            with self._explaining(former.package):
                path = os.path.join(self._config_dir, former.package)
                with files.LockedFile(path, former.package, time.monotonic() + _FILE_WAIT) as file:
                    if self._read(_BACK) != record:
                        return self.last() or Back(moment.wall, why, record.what)  # another process has done it all
                    content = file.content()
                    if digest(content) == former.before:
                        continue
                    copy = self._copy(former)
                    if copy is None:  # nobody can do better, and others must not wait for it for ever
                        lost.append(self._path(former.copy))
                        continue
                    foreign = foreign or digest(content) != former.ours
                    kept += self._keep(former.package, content) if content else []
                    file.replace(copy, prepared=self._path(former.copy))
        if lost:
            why += f"; but not in the file, since {', '.join(lost)} is damaged or gone"
        told = Back(moment.wall, why, record.what, tuple(kept), foreign)
        with contextlib.suppress(OSError):  # the disk may be full
            disk.put(self._path(_LAST), records.as_json(told).encode())
        with contextlib.suppress(FileNotFoundError):
            disk.rename(self._path(_BACK), self._path(_KERNEL))
        for former in record.files:
            self._remove(former.copy)
        return told

    def done(self) -> None:
        """The kernel is as the file says."""
        self._remove(_KERNEL)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _admitted(self) -> Record | None:
        """The change that waits, for who wants to make another one. Raises Waiting where one has to go back first."""
        found = self._read(_WAITING)
        if disk.look(self._path(_BACK)) or (found is not None and not self.left(found)):
            raise Waiting("a change that was not confirmed is being taken back at this moment; try again then")
        return found

    def _prepared(
        self, found: Record | None, package: str, old: bytes | None, new: bytes, wish: Wish, what: tuple[str, ...]
    ) -> None:
        """Write the record of a change that is about to be made."""
        before = wish.in_force if wish.in_force is not None else NO_FILE if old is None else old
        if len(before) > MAX_BYTES:
            why = f"the file has more than {MAX_BYTES} bytes, which is too much for a way back; change it without one"
            raise ConfigError(package, None, None, why)
        if found is None:
            moment = self._moment()
            found = Record(os.urandom(8).hex(), moment.boot, moment.uptime, moment.uptime + wish.seconds,
                           moment.wall + wish.seconds, wish.seconds, wish.who, nothing=wish.nothing)  # fmt: skip
        former = found.of(package)
        if former is None:
            former = Former(package, digest(before), "")
            disk.put(self._path(former.copy), before, like=os.path.join(self._config_dir, package))
        record = found.having(replace(former, ours=digest(new)), what)
        disk.put(self._path(_NEW), records.as_json(record).encode())

    def _recovered(self) -> None:
        """Find out what became of a change whose process may have been killed, unless that is still at it."""
        with contextlib.suppress(ConnbalError, OSError), disk.locked(self._path("lock"), 0.0):
            self._recover()

    def _recover(self) -> None:
        """A record whose change has been made waits; one whose change has not been made is no more. Under the lock."""
        record = self._read(_NEW)
        if record is None:
            self._remove(_NEW)
            return
        former = record.of(record.changing)
        try:
            made = former and digest(files.read(os.path.join(self._config_dir, former.package))) == former.ours
        except OSError:
            made = False
        with disk.explained(record.changing, self._own):
            if made:
                disk.rename(self._path(_NEW), self._path(_WAITING))
                return
            self._remove(_NEW)
            disk.sync(self._own)
            older = self._read(_WAITING)
            if former and (older is None or older.of(former.package) is None):
                self._remove(former.copy)

    def _copy(self, former: Former) -> bytes | None:
        """What comes back; None where it is not there as it was written."""
        try:
            copy = files.read(self._path(former.copy))
        except FileNotFoundError:
            return None
        return copy if digest(copy) == former.before else None

    def _keep(self, package: str, content: bytes) -> list[str]:
        """Keep what is about to be replaced; the file's name, or none where there is no room."""
        path = self._path(f"{package}.unconfirmed")
        try:
            disk.put(path, content[:MAX_BYTES])
        except OSError:
            return []
        return [path]

    def _anything(self) -> bool:
        return any(disk.look(self._path(name)) for name in (_NEW, _WAITING, _BACK))

    @contextlib.contextmanager
    def _locked(self, package: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with disk.explained(package, self._own):
                disk.own_directory(self._own)
                stack.enter_context(disk.locked(self._path("lock"), _LOCK_WAIT))
            yield

    @contextlib.contextmanager
    def _explaining(self, package: str) -> Iterator[None]:
        try:
            yield
        except files.Busy:
            why = f"another program has kept the file locked for {_FILE_WAIT:g} seconds"
            raise ConfigError(package, None, None, why) from None
        except files.Changed:
            raise ConfigError(package, None, None, "another program changed the file at the same time") from None
        except OSError as error:
            raise files.explain(package, os.path.join(self._config_dir, package), error) from error

    def _path(self, name: str) -> str:
        return os.path.join(self._own, name)

    def _read(self, name: str) -> Record | None:
        text = self._text(name)
        return None if text is None else records.record(text)

    def _text(self, name: str) -> str | None:
        try:
            return state.read(self._path(name), _RECORD_MAX)
        except ConnbalError:
            return None

    def _remove(self, name: str) -> None:
        disk.remove(self._path(name))
