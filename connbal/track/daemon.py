"""The daemon: what happens around it becomes runs of the reconciler, and probes become the health they go by.

Nothing is decided by an event. Events say that something has happened, runs find out what (see architecture.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from connbal import __version__
from connbal.errors import KernelError
from connbal.frozen import dataclass
from connbal.kernel import exec as programs
from connbal.kernel.rundir import RunDir
from connbal.model.facts import Facts
from connbal.track import applied, board, culprits
from connbal.track.account import Account
from connbal.track.aside import aside
from connbal.track.control import Control
from connbal.track.fleet import Fleet
from connbal.track.health import Event, EventKind
from connbal.track.holds import Holds
from connbal.track.hooks import Hooks
from connbal.track.journal import Journal
from connbal.track.listen import RESTART, RULES, Happened, Hotplug, Netlink, Nftables, changed_rules
from connbal.track.notify import Notify
from connbal.track.repeat import every as _every
from connbal.track.requests import Requests
from connbal.track.rivals import Rivals
from connbal.track.worker import Job, Outcome, Worker, World

#: Seconds between looks at the files of the configuration, and at rules of which the kernel says nothing; between
#: writing figures that nobody waits for, and what has not changed, in case others have changed it.
LOOK, WRITE, WRITE_ALL = 1.0, 5.0, 60.0
#: How many times the length of a look at rules, at least, until the next one.
LOOK_SHARE = 20.0
#: Seconds between runs that nothing has asked for: with, and without the kernel's word on changed rules.
PERIOD_TOLD, PERIOD_BLIND = 300.0, 60.0
#: Seconds until a run that failed, or what the kernel refused, is tried again, doubled each time; where nothing was
#: wrong but the moment.
RETRY_FIRST, RETRY_LAST, RETRY_SOON = 1.0, 60.0, 0.5
#: The name of the process, by which the hotplug hook knows that the process id is still ours.
NAME = "connbald"

_PERIODIC, _AGAIN, _STALE = "time for a look", "the last run failed", "netifd did not answer"
_REFUSED = "the kernel refused a part"
_PASSING = (EventKind.CONNECTING, EventKind.DISCONNECTING)
_NOTICE = 25

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    config_file: Path = Path("/etc/config/mwan3")  #: for who asks what the daemon goes by
    user_script: Path = Path("/etc/mwan3.user")
    hotplug_call: Path = Path("/sbin/hotplug-call")
    news: Callable[[], Iterable[str]] = tuple  #: for the journal, after each run


class Daemon:
    """One life. ``own_port``: whether a netlink port is that of connbal's own changes."""

    def __init__(self, run: RunDir, world: World, options: Options, own_port: Callable[[int], bool]) -> None:
        self._run, self._world, self._options, self._own_port = run, world, options, own_port
        self._journal = Journal()
        self._worker = Worker(world)
        self._notify = Notify(self._worker.busy)
        self._requests = Requests()
        self._fleet = Fleet(run, self._tell, self._turned, self._complain)
        self._hooks = Hooks(options.user_script, options.hotplug_call)
        self._holds = Holds(run, self._held, self._complain)
        self._account = Account(self._journal, options.config_file, (_PERIODIC, _STALE, _REFUSED))
        self._rivals = Rivals(world, self._requests, self._account.repairs)
        self._renewed: set[str] = set()
        self._pending: list[tuple[Event, str]] = []  #: for the hooks, once the kernel is as they say
        self._remembered: Mapping[str, bool] = {}
        self._failures = 0
        self._refusals = 0  #: attempts in a row at what the kernel refuses
        self._unsettled: tuple[frozenset[str], ...] = ()  #: what was in use, and what should have been, after a run
        self._began = time.monotonic()
        self._print = world.fingerprint()
        self._period = PERIOD_BLIND
        self._look_next = 0.0
        self._transient = False
        self._stale = ""
        self._afresh = False  #: what the kernel refused is tried again
        self._ended = asyncio.Event()

    # --- life ----------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Run until a signal ends it. The kernel stays as it is then.

        Raises KernelError: another daemon is running, or what the daemon needs cannot be opened.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._be_the_only_one(stack)
            self._remembered = {name: one.online for name, one in self._run.last_health().items()}
            self._become_known(stack)
            await self._open(stack)
            self._hooks.look()
            self._journal.daemon(f"started, version {__version__}, process {os.getpid()}")
            log.log(_NOTICE, "started, version %s", __version__)
            self._requests.ask("start")
            work = asyncio.create_task(self._work())
            stack.push_async_callback(self._stop, work)
            # Ended before that: what is cleared away at the end must not be written again.
            for seconds, action in ((LOOK, self._look), (WRITE, self._fleet.write_rest), (WRITE_ALL, self._refresh)):
                stack.callback(asyncio.create_task(_every(seconds, action)).cancel)
            ended = asyncio.create_task(self._ended.wait())
            await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if work.done():
                work.result()

    async def _be_the_only_one(self, stack: contextlib.AsyncExitStack) -> None:
        lock = self._run.daemon_lock(NAME)
        stack.callback(lock.__exit__, None, None, None)
        await aside(lock.__enter__)
        stack.callback(self._run.forget_daemon)
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text(NAME)

    def _become_known(self, stack: contextlib.AsyncExitStack) -> None:
        """``/var/run/mwan3`` is there while the service runs: others look for it."""
        self._run.stopped(False)
        shown = self._run.root / "mwan3"
        try:
            shown.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KernelError(f"mkdir {shown}", None, error.strerror or str(error)) from error
        stack.callback(_remove_directory, shown)

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
            stack.callback(loop.remove_signal_handler, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        stack.callback(loop.remove_signal_handler, signal.SIGHUP)
        stack.callback(Netlink(self._happened, self._own_port).close)
        hotplug = Hotplug(self._run.events, self._happened)
        stack.callback(hotplug.close)
        stack.callback(asyncio.create_task(_every(WRITE_ALL, hotplug.recount)).cancel)
        rules = Nftables(self._happened, lambda pid: pid in programs.own_pids)
        stack.callback(rules.close)
        if rules.available and self._world.announced:
            self._period = PERIOD_TOLD
        else:
            stack.callback(asyncio.create_task(_every(LOOK, self._look_at_rules)).cancel)
        control = Control(self._run.control, self._status, self._apply, self._journal, view=self._viewed)
        await control.open()
        stack.push_async_callback(control.close)
        stack.callback(self._notify.close)
        stack.callback(asyncio.create_task(_every(self._notify.period, self._notify.beat)).cancel)

    async def _stop(self, work: asyncio.Task[None]) -> None:
        log.log(_NOTICE, "stopping; connections keep flowing until connbal stop")
        self._journal.daemon("stopping")
        self._notify.stopping()
        work.cancel()
        await asyncio.wait({work})
        await asyncio.gather(self._holds.close(), self._hooks.close(), self._end_worker())
        self._fleet.close()

    async def _end_worker(self) -> None:
        if not await self._worker.close():
            log.warning("a run that hangs was left as it is; the next one begins from there")

    # --- what happens ---------------------------------------------------------------------------------------------

    def _happened(self, event: Happened) -> None:
        if event.action == "changed":
            self._afresh = True
            self._print = self._world.fingerprint()
        if event.action == "ifup" and event.interface is not None:
            self._renewed.add(event.interface)
        if event.cause == RESTART:
            self._worker.forget()
        if event.action == RULES:
            self._rivals.heard(event)
        elif not self._holds.heed(event):
            self._requests.ask(event.cause, urgent=event.carrier is not None and self._fleet.uses(event.device))

    def _held(self, event: Happened) -> None:
        self._print = self._world.fingerprint()
        self._requests.ask(event.cause)

    def _reload(self) -> None:
        log.info("SIGHUP: reading the configuration again")
        self._notify.reloading()
        self._afresh = True
        self._worker.forget()
        self._print = self._world.fingerprint()
        self._requests.ask("SIGHUP")

    async def _apply(self) -> dict[str, Any]:
        """A command has committed something, and waits until it is in force."""
        self._print = self._world.fingerprint()
        return applied.as_data(await self._requests.wanted("a command"))

    def _look(self) -> None:
        """Whether somebody has changed the configuration without a word."""
        before, self._print = self._print, self._world.fingerprint()
        if before != self._print:
            self._requests.ask("configuration changed")

    async def _look_at_rules(self) -> None:
        """Look for what somebody does to rules, where nobody tells of it: cheaply, and so often."""
        began = time.monotonic()
        # A run that failed has a time of its own to be tried again.
        if self._failures or began < self._look_next:
            return
        if await self._worker.disturbed():
            self._rivals.heard(changed_rules(await aside(culprits.holder)))
        self._look_next = time.monotonic() + (time.monotonic() - began) * LOOK_SHARE

    def _refresh(self) -> None:
        self._fleet.write_everything()
        self._fleet.save_health()

    def _turned(self, cause: str) -> None:
        self._requests.ask(cause, urgent=True)

    def _tell(self, event: Event, device: str) -> None:
        """An event of a source, found out by a probe: the kernel has to follow before the hooks are run."""
        self._announce(event, device)
        self._pending.append((event, device))
        self._pass_on(0)

    def _pass_on(self, count: int) -> None:
        """Hand events to the hooks: so many, and those after them for which the kernel has nothing to do."""
        while self._pending and (count > 0 or self._pending[0][0].kind in _PASSING):
            event, device = self._pending.pop(0)
            self._hooks.put(event.kind.value, event.interface, device)
            count -= 1

    def _announce(self, event: Event, device: str) -> None:
        """An event of a source, for everybody who only wants to know."""
        self._journal.transition(event, device or None)
        level = logging.INFO if event.kind in _PASSING else _NOTICE
        # Name and kind are part of the message's kind, so that one source's changes do not hold another's back.
        log.log(level, f"{event.interface} {event.kind.value}: %s", event.cause)

    def _complain(self, error: KernelError) -> None:
        log.warning("%s", error)

    # --- runs ------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            timer = self._requests.later(*self._next())
            causes = await self._requests.due()
            timer.cancel()
            if self._requests.awaited:  # whoever has just committed does not rely on what files look like
                self._worker.forget()
            result = applied.Result(error="the run was not taken over; the daemon's log says why")
            try:
                result = self._account.result(await self._one_run(causes))
            except Exception:  # the daemon goes on, whatever it comes upon
                log.exception("a run was not taken over")
                self._failures += 1
                self._account.errors += 1
            finally:
                self._fleet.release()
            self._notify.ran(causes, result.error, board.usable(self._fleet.verdicts()), self._fleet.board)
            self._requests.answer(result)

    def _next(self) -> tuple[str, float]:
        """Why and when to run though nothing happens."""
        if self._failures:
            soon = self._transient and self._failures < 10
            return _AGAIN, RETRY_SOON if soon else _backed_off(self._failures)
        if self._stale:
            return _STALE, RETRY_FIRST
        if self._refusals:
            return _REFUSED, _backed_off(self._refusals)
        return _PERIODIC, self._period

    async def _one_run(self, causes: tuple[str, ...]) -> Outcome:
        renewed, self._renewed = frozenset(self._renewed), set()
        try:
            outcome = await self._do(renewed, causes)
        except BaseException:
            self._renewed |= renewed
            raise
        if outcome.seen is None:
            self._renewed |= renewed
        return outcome

    async def _do(self, renewed: frozenset[str], causes: tuple[str, ...]) -> Outcome:
        waiting = len(self._pending)
        hold = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, self._fleet.hold)
        afresh = self._afresh or self._requests.awaited or _REFUSED in causes
        job = Job(dict(self._fleet.board), renewed, self._remembered, self._fleet.marks(), afresh, hold)
        self._afresh = False
        with self._rivals.meanwhile():
            outcome = await self._worker.run(job)
        self._requests.done(outcome.seconds)
        self._journal.daemon(*self._options.news())
        self._account.configured(outcome)
        told = self._settle(outcome)
        self._account.record(causes, outcome, self._rivals.last())
        self._pending[waiting:waiting] = told
        self._pass_on(waiting + len(told))
        self._failures = self._failures + 1 if outcome.error else 0
        self._transient = outcome.transient
        self._hear(outcome.report.facts.stale if outcome.report is not None else self._stale)
        self._look_back(causes, outcome)
        return outcome

    def _look_back(self, causes: tuple[str, ...], outcome: Outcome) -> None:
        """Whether there has to be another run."""
        if outcome.error:
            log.error("not reconciled, next attempt in %g s: %s", self._next()[1], outcome.error)
            return
        wanted = board.usable(self._fleet.verdicts())
        before, self._unsettled = self._unsettled, (outcome.used, wanted) if outcome.used != wanted else ()
        # What another run has not brought together, a third one will not either: that has time.
        stuck = bool(self._unsettled) and self._unsettled == before
        if outcome.refused or stuck:
            self._refusals += not self._refusals or _REFUSED in causes
        else:
            self._refusals = 0
        if self._unsettled and not stuck:
            self._requests.ask("health changed meanwhile", urgent=True)

    def _hear(self, stale: str) -> None:
        """Whether a part of the facts was out of date: then there is another look soon."""
        if stale and not self._stale:
            log.warning("%s", stale)
        self._stale = stale

    def _settle(self, outcome: Outcome) -> tuple[tuple[Event, str], ...]:
        """Take over what a run saw; returns the events that are true of the kernel by now."""
        report, seen = outcome.report, outcome.seen
        if seen is None or (report is None and not self._fleet.board):
            return ()  # in the second case what was remembered is kept for a run that succeeds
        if report is None:
            seen = board.held_back(seen, self._fleet.board, f"the kernel could not be set up: {outcome.error}")
        facts = report.facts if report is not None else Facts()
        told = self._fleet.settle(seen, report.plan if report is not None else None, facts, self._remembered)
        self._remembered = {}
        for event, device in told:
            self._announce(event, device)
        return told

    # --- what is known ---------------------------------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        """What commands ask for (see connbal.track.client)."""
        return {
            "version": 1,
            "pid": os.getpid(),
            "since": round(time.monotonic() - self._began, 3),
            "interfaces": self._fleet.snapshot(),
            "reconciles": self._account.reconciles(),
        }

    def _viewed(self) -> dict[str, Any]:
        """The status, and with it what the last run made of the configuration, where that is how things are."""
        return {**self._status(), "view": self._account.view(self._world.fingerprint(), self._hooks.findings())}


def _backed_off(attempts: int) -> float:
    """Seconds until the next attempt, after so many in a row."""
    return min(RETRY_FIRST * float(2 ** min(attempts - 1, 10)), RETRY_LAST)


def _remove_directory(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()
