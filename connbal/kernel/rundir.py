"""The run directory: what connbal keeps until the next boot, below ``--run-dir`` in ``connbal/``.

Nobody but root may look into it, or whoever runs connbal for a trial: what is in there is believed, and its locks keep
others out. What a version before this one made so that others could read it is mended by whoever takes a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from connbal import locks
from connbal.errors import KernelError
from connbal.kernel import files
from connbal.kernel.api import TransientError
from connbal.model.facts import Health
from connbal.plan.ledger import Ledger

if TYPE_CHECKING:
    from threading import Event

#: Seconds to wait for whoever is changing the kernel right now.
LOCK_WAIT = 60.0
#: Seconds to wait for whoever is changing which interfaces are forced.
FORCE_WAIT = 10.0
#: Seconds after which health that nobody has kept up to date says nothing any more.
HEALTH_LASTS = 600.0
#: Seconds for a look at the daemon's lock by somebody else, which may be in the way of a daemon that starts.
_DAEMON_WAIT = 0.5
#: Bytes that may wait in the pipe of the daemon's events before commands write no more.
_POKES = 16 << 10

#: The run lock, and the others.
_LOCKS = ("lock", "force.lock", "daemon.pid")

UP, DOWN = "up", "down"
#: Down until the next ifup, as ``mwan3 ifdown`` means it.
HELD = "held"

log = logging.getLogger(__name__)


class RunDir:
    """State below ``root/connbal``. What cannot be read counts as absent: it is rebuilt from the kernel."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._own = root / "connbal"

    def lock(self, ending: Event | None = None, *, needed: bool = True) -> files.Lock:
        """The run lock: who holds it may look at the kernel and change it.

        ``ending``: set where nobody wants it any more. ``needed``: False: do without where nothing can be written, so
        that nobody can have it either.
        """
        self._mend()
        return _lock(self._own / "lock", LOCK_WAIT, ending, needed=needed)

    def _mend(self) -> None:
        """Take what is in there away from others, and what killed processes have left.

        Locks are not only taken away: others may have them open. The run lock is mended by whoever takes it.
        """
        try:
            files.secure(self._own)
        except KernelError:
            return  # taking the lock says why
        files.clear_unfinished(self._own)
        files.tighten(self._own, _LOCKS)
        for name in _LOCKS[1:]:
            files.renew(self._own / name)

    # --- the ledger: reconcile.Memory ----------------------------------------------------------------------------

    def load(self) -> Ledger:
        return Ledger.from_json(self._read("ledger.json"))

    def save(self, ledger: Ledger) -> None:
        try:
            self._write("ledger.json", ledger.as_json())
        except KernelError:
            if ledger != Ledger():
                raise
            # None at all says the same, and to take it away needs no room.
            try:
                (self._own / "ledger.json").unlink(missing_ok=True)
            except OSError as error:
                raise files.failure(f"remove {self._own / 'ledger.json'}", error) from error

    def ledger_print(self) -> tuple[int, ...]:
        """Of the ledger's file; another one where it has been replaced."""
        try:
            found = os.stat(self._own / "ledger.json")
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size

    # --- interfaces the user forced ------------------------------------------------------------------------------

    def force(self, interface: str, state: str | None) -> None:
        """Treat ``interface`` as UP or DOWN, or as down until it is released (HELD), from now on; None ends that."""
        def amend(forced: dict[str, str]) -> None:
            forced.pop(interface, None)
            if state is not None:
                forced[interface] = state

        self.amend(amend)
        self.poke("forced")

    def amend(self, amend: Callable[[dict[str, str]], None], ending: Event | None = None) -> None:
        """Have ``amend`` change which interfaces are UP, DOWN or HELD; nobody is told. ``ending``: as for the run lock.

        Raises KernelError; TransientError where somebody else is at it for too long.
        """
        with _lock(self._own / "force.lock", FORCE_WAIT, ending):
            before = self._forced()
            after = dict(before)
            amend(after)
            if after != before:
                self._write("forced.json", after)

    def forced(self) -> dict[str, bool]:
        """The interfaces that the user forced up (True) or down."""
        return {name: state == UP for name, state in self._forced().items()}

    def held(self) -> frozenset[str]:
        """The interfaces that are down until they are released."""
        return frozenset(name for name, state in self._forced().items() if state == HELD)

    def _forced(self) -> dict[str, str]:
        data = self._read("forced.json")
        if not isinstance(data, dict):
            return {}
        return {str(name): state for name, state in data.items() if state in (UP, DOWN, HELD)}

    # --- health --------------------------------------------------------------------------------------------------

    def health(self) -> dict[str, Health]:
        """What is known of interfaces' health, by name: from the daemon while it runs, and from the user."""
        told = self.last_health() if self.daemon() is not None else {}
        words = {True: UP, False: DOWN}
        return told | {name: Health(up, f"forced {words[up]} by the user") for name, up in self.forced().items()}

    def last_health(self) -> dict[str, Health]:
        """What a daemon wrote last, if that was within HEALTH_LASTS seconds and since the last boot."""
        data = self._read("health.json")
        if not isinstance(data, dict):
            return {}
        try:
            at, now = float(data["uptime"]), _uptime()
            if not (0 <= at <= now and now - at <= HEALTH_LASTS):
                return {}
            return {
                str(name): Health(bool(one["online"]), str(one["reason"])) for name, one in data["interfaces"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            return {}

    def save_health(self, health: Mapping[str, Health]) -> None:
        """For commands, and for the next daemon."""
        told = {name: {"online": one.online, "reason": one.reason} for name, one in health.items()}
        self._write("health.json", {"uptime": _uptime(), "interfaces": told})

    def forget_health(self) -> None:
        """A daemon that starts after this starts from nothing."""
        with contextlib.suppress(OSError):
            (self._own / "health.json").unlink()

    # --- whether it shall run at all ------------------------------------------------------------------------------

    def stopped(self, yes: bool) -> None:
        """Remember whether the user has stopped connbal: then the hotplug hook leaves the kernel alone."""
        if yes:
            self._write_text("stopped", "")
            return
        with contextlib.suppress(OSError):
            (self._own / "stopped").unlink()

    def was_stopped(self) -> bool:
        """Whether the user has stopped connbal, and not started it since."""
        return os.path.exists(self._own / "stopped")

    # --- commands whose packets leave by one interface --------------------------------------------------------------

    def steer(self, yes: bool) -> None:
        """Remember whether there are to be lines for ``connbal use``: from its first use until connbal is stopped."""
        if yes:
            self._write_text("steer", "")
            return
        with contextlib.suppress(OSError):
            (self._own / "steer").unlink()

    def steers(self) -> bool:
        """Whether ``connbal use`` has been used."""
        return os.path.exists(self._own / "steer")

    # --- the daemon ----------------------------------------------------------------------------------------------

    @property
    def events(self) -> Path:
        """The named pipe of the daemon's events."""
        return self._own / "events"

    @property
    def control(self) -> Path:
        """The socket at which the daemon answers commands."""
        return self._own / "control"

    @property
    def forced_file(self) -> Path:
        return self._own / "forced.json"

    def daemon_lock(self, name: str) -> DaemonLock:
        """Held by the daemon for its life; the file holds its process id. ``name``: what a daemon calls itself."""
        return DaemonLock(self, self._own / "daemon.pid", name)

    def daemon(self) -> int | None:
        """The process id of the daemon that runs; None: there is none; 0: it cannot be seen from here.

        It is who keeps the daemon's lock, as the kernel says. KernelError where this user may not ask.
        """
        path = self._own / "daemon.pid"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except PermissionError as error:
            raise files.failure(f"read {path}", error) from error
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            keeper = locks.keeper(descriptor)
            return (keeper.pid or 0) if keeper.counts else None
        finally:
            os.close(descriptor)
        return None

    def forget_daemon(self) -> None:
        """For the daemon that ends: its process id will soon be another's."""
        with contextlib.suppress(OSError):
            os.truncate(self._own / "daemon.pid", 0)

    def poke(self, what: str) -> None:
        """Tell the daemon, if one runs, that ``config`` or ``forced`` has changed. Never waits."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.events, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                import termios  # only where a daemon runs

                # A daemon that reads nothing knows enough, and scripts need the room: they wait where there is none.
                if int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder) < _POKES:
                    os.write(descriptor, f"changed {what}\n".encode())
            finally:
                os.close(descriptor)

    def _read(self, name: str) -> object:
        try:
            return files.read_json(self._own / name)
        except KernelError as error:
            if isinstance(error.__cause__, PermissionError):
                raise  # it may say anything, and this user is not to know
            log.warning("taken as absent: %s", error)
            return None

    def _write(self, name: str, data: object) -> None:
        self._write_text(name, json.dumps(data, separators=(",", ":")))

    def _write_text(self, name: str, text: str) -> None:
        files.secure(self._own)
        files.write(self._own / name, text)


class DaemonLock(files.Lock):
    """The daemon's lock, which says that a daemon is running already only where that is so."""

    def __init__(self, run: RunDir, path: Path, name: str) -> None:
        super().__init__(path, wait=_DAEMON_WAIT)
        self._run, self._name = run, name

    def __enter__(self) -> files.Lock:
        """Take it. Raises KernelError: who has it."""
        try:
            return super().__enter__()
        except TransientError:
            pid = self._run.daemon()
            if pid is None or (pid and locks.name(pid) != self._name):
                raise  # it says who has the lock, which is no daemon
            where = f", as process {pid}" if pid else ", where it cannot be seen from here"
            raise KernelError("connbal daemon", None, f"a daemon is running already{where}; end it first") from None


class PatientMemory:
    """The ledger of a process that lives on: what cannot be written now is remembered, counts, and is tried again.

    Unless somebody else has written one meanwhile: then that is the younger.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._unwritten: Ledger | None = None
        self._print: tuple[int, ...] = ()

    def load(self) -> Ledger:
        if self._unwritten is None or self._print != self._run.ledger_print():
            self._unwritten = None
            return self._run.load()
        ledger = self._unwritten
        self.save(ledger)  # a run that changes nothing would not, and the next process would not know
        return ledger

    def save(self, ledger: Ledger) -> None:
        known, self._unwritten = self._unwritten is not None, None
        try:
            self._run.save(ledger)
        except KernelError as error:
            log.log(logging.DEBUG if known else logging.WARNING,
                    "remembered for as long as this process lives: %s", error)  # fmt: skip
            self._unwritten, self._print = ledger, self._run.ledger_print()


def _lock(path: Path, wait: float, ending: Event | None, *, needed: bool = True) -> files.Lock:
    """A lock for which nobody waits any more once ``ending`` is set."""
    if ending is None:
        return files.Lock(path, wait, needed=needed)

    def now() -> float:
        return math.inf if ending.is_set() else time.monotonic()

    return files.Lock(path, wait, needed=needed, now=now, sleep=ending.wait)


def _uptime() -> float:
    """Seconds since boot, standby included: the same for every process, and no clock that anybody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
