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
from connbal.errors import Finding, KernelError, Severity
from connbal.frozen import dataclass
from connbal.kernel import exec as programs
from connbal.kernel.rundir import HELD, RunDir
from connbal.model.facts import Facts
from connbal.plan import view
from connbal.plan.values import Plan
from connbal.track import applied, board
from connbal.track.control import Control
from connbal.track.fleet import Fleet
from connbal.track.health import Event, EventKind
from connbal.track.hooks import Hooks
from connbal.track.journal import Journal
from connbal.track.listen import HOLD, RELEASE, RESTART, Happened, Hotplug, Netlink, Nftables
from connbal.track.notify import Notify
from connbal.track.repeat import every as _every
from connbal.track.report import VIEW
from connbal.track.requests import Requests
from connbal.track.worker import Job, Outcome, Worker, World

#: Seconds between looks at the files of the configuration, between writing figures that nobody waits for, and between
#: writing what has not changed, in case others have changed it.
LOOK, WRITE, WRITE_ALL = 1.0, 5.0, 60.0
#: Seconds between runs that nothing has asked for: with, and without the kernel's word on changed rules.
PERIOD_TOLD, PERIOD_BLIND = 300.0, 60.0
#: Seconds until a run that failed is tried again, doubled each time; where nothing was wrong but the moment.
RETRY_FIRST, RETRY_LAST, RETRY_SOON = 1.0, 60.0, 0.5
#: The name of the process, by which the hotplug hook knows that the process id is still ours.
NAME = "connbald"

_PERIODIC, _AGAIN, _STALE = "time for a look", "the last run failed", "netifd did not answer"
_PASSING = (EventKind.CONNECTING, EventKind.DISCONNECTING)
_LEVELS = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING, Severity.INFO: logging.INFO}
_NOTICE = 25

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    config_file: Path = Path("/etc/config/mwan3")  #: for who asks what the daemon goes by
    user_script: Path = Path("/etc/mwan3.user")
    hotplug_call: Path = Path("/sbin/hotplug-call")


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
        self._renewed: set[str] = set()
        self._pending: list[tuple[Event, str]] = []  #: for the hooks, once the kernel is as they say
        self._remembered: Mapping[str, bool] = {}
        self._failures = self._reconciles = 0
        self._errors = 0  #: runs that failed
        self._last: dict[str, Any] | None = None
        self._made: tuple[Plan, Facts, tuple[Finding, ...], float] | None = None  #: by the last run, and when
        self._began = time.monotonic()
        self._print = world.fingerprint()
        self._period = PERIOD_BLIND
        self._transient = False
        self._stale = ""
        self._findings: frozenset[Finding] = frozenset()
        self._ended = asyncio.Event()

    # --- life ----------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Run until a signal ends it. The kernel stays as it is then.

        Raises KernelError: another daemon is running, or what the daemon needs cannot be opened.
        """
        async with contextlib.AsyncExitStack() as stack:
            self._be_the_only_one(stack)
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

    def _be_the_only_one(self, stack: contextlib.AsyncExitStack) -> None:
        lock = self._run.daemon_lock(NAME).__enter__()
        stack.callback(lock.__exit__, None, None, None)
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
        self._period = PERIOD_TOLD if rules.available and self._world.announced else PERIOD_BLIND
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
        await asyncio.get_running_loop().run_in_executor(None, self._worker.close)
        self._fleet.close()
        await self._hooks.close()

    # --- what happens ---------------------------------------------------------------------------------------------

    def _happened(self, event: Happened) -> None:
        if event.action == "changed":
            self._print = self._world.fingerprint()
        if event.action == "ifup" and event.interface is not None:
            self._renewed.add(event.interface)
        try:
            self._hold(event)
        except KernelError as error:
            self._complain(error)
        self._requests.ask(event.cause, urgent=event.carrier is not None and self._fleet.uses(event.device))

    def _hold(self, event: Happened) -> None:
        """``mwan3 ifdown`` lasts until ``mwan3 ifup``, ``mwan3 restart`` or the next ifup of the network."""
        name = event.interface or ""
        if event.action == HOLD:
            self._run.force(name, HELD)
        elif event.action == RELEASE:
            self._run.force(name, None)
        elif event.action == "ifup":
            self._run.release({name, name.removesuffix("_4"), name.removesuffix("_6")})
        elif event.cause == RESTART:
            self._worker.forget()
            self._run.release(self._run.held())

    def _reload(self) -> None:
        log.info("SIGHUP: reading the configuration again")
        self._notify.reloading()
        self._worker.forget()
        self._print = self._world.fingerprint()
        self._requests.ask("SIGHUP")

    async def _apply(self) -> dict[str, Any]:
        """A command has committed something, and waits until it is in force."""
        self._print = self._world.fingerprint()
        return applied.as_data(await self._requests.wanted("a command"))

    def _look(self) -> None:
        """Whether somebody has changed the configuration without a word."""
        found = self._world.fingerprint()
        if found != self._print:
            self._print = found
            self._requests.ask("configuration changed")

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
                result = self._result(await self._one_run(causes))
            except Exception:  # the daemon goes on, whatever it comes upon
                log.exception("a run was not taken over")
                self._failures += 1
                self._errors += 1
            finally:
                self._fleet.release()
            self._notify.ran(causes, result.error, board.usable(self._fleet.verdicts()), self._fleet.board)
            self._requests.answer(result)

    def _next(self) -> tuple[str, float]:
        """Why and when to run though nothing happens."""
        if not self._failures:
            return (_STALE, RETRY_FIRST) if self._stale else (_PERIODIC, self._period)
        soon = self._transient and self._failures < 10
        return _AGAIN, RETRY_SOON if soon else min(RETRY_FIRST * 2 ** min(self._failures - 1, 10), RETRY_LAST)

    async def _one_run(self, causes: tuple[str, ...]) -> Outcome:
        renewed, self._renewed = frozenset(self._renewed), set()
        waiting = len(self._pending)
        hold = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, self._fleet.hold)
        job = Job(dict(self._fleet.board), renewed, self._remembered, self._fleet.marks(), hold)
        outcome = await self._worker.run(job)
        self._requests.done(outcome.seconds)
        self._configured(outcome)
        told = self._settle(outcome)
        self._made = _made(outcome)
        self._record(causes, outcome)
        self._pending[waiting:waiting] = told
        self._pass_on(waiting + len(told))
        if outcome.seen is None:
            self._renewed |= renewed
        self._failures = self._failures + 1 if outcome.error else 0
        self._transient = outcome.transient
        self._hear(outcome.report.facts.stale if outcome.report is not None else self._stale)
        if outcome.error:
            log.error("not reconciled, next attempt in %g s: %s", self._next()[1], outcome.error)
        elif board.usable(self._fleet.verdicts()) != outcome.used:
            self._requests.ask("health changed meanwhile", urgent=True)
        return outcome

    def _result(self, outcome: Outcome) -> applied.Result:
        """For those who waited for a run. A configuration that cannot be read is not in force."""
        file, error = os.fspath(self._options.config_file), outcome.error or outcome.trouble
        if outcome.report is None:
            return applied.Result(file, error=error or "nothing was done; the daemon's log says why")
        report = outcome.report
        interfaces = {view.name: (view.usable, view.reason) for view in report.plan.interfaces}
        return applied.Result(file, tuple(report.changes), tuple(report.findings), interfaces, error)

    def _hear(self, stale: str) -> None:
        """Whether a part of the facts was out of date: then there is another look soon."""
        if stale and not self._stale:
            log.warning("%s", stale)
        self._stale = stale

    def _configured(self, outcome: Outcome) -> None:
        if outcome.trouble:
            kept = "the last configuration stays in force" if outcome.decoded else "the kernel stays as it is"
            log.error("%s; %s", outcome.trouble, kept)
            self._journal.daemon(f"configuration not read: {outcome.trouble}; {kept}")
        elif outcome.fresh and outcome.decoded is not None:
            errors = len(outcome.decoded.errors)
            self._journal.daemon(f"configuration read, errors: {errors}")
            _log_findings(outcome.decoded.findings)

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

    def _record(self, causes: tuple[str, ...], outcome: Outcome) -> None:
        self._reconciles += 1
        self._errors += bool(outcome.error)
        report = outcome.report
        changes = report.changes if report is not None else []
        findings = [str(finding) for finding in report.findings] if report is not None else []
        findings += [report.facts.stale] if report is not None and report.facts.stale else []
        if set(causes) <= {_PERIODIC, _STALE} and not changes and not outcome.error:
            return
        flushed = report.flushed if report is not None else 0
        error = outcome.error or None
        self._last = self._journal.reconcile(causes, changes, findings, flushed, outcome.seconds, error)
        log.debug("reconciled in %.0f ms, %d changes: %s", outcome.seconds * 1000, len(changes), ", ".join(causes))
        if report is not None:
            _log_findings([finding for finding in report.findings if finding not in self._findings])
            self._findings = frozenset(report.findings)

    # --- what is known ---------------------------------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        """What commands ask for (see connbal.track.client)."""
        return {
            "version": 1,
            "pid": os.getpid(),
            "since": round(time.monotonic() - self._began, 3),
            "interfaces": self._fleet.snapshot(),
            "reconciles": {"count": self._reconciles, "errors": self._errors, "last": self._last},
        }

    def _viewed(self) -> dict[str, Any]:
        """The status, and with it what the last run made of the configuration, where that is how things are."""
        made = None
        if self._made is not None and self._print == self._world.fingerprint():
            plan, facts, findings, at = self._made
            made = view.as_data(plan, facts)
            for network in made["networks"].values():
                if network["uptime"] is not None:
                    network["uptime"] += int(time.monotonic() - at)
            made["version"] = VIEW
            made["findings"] = [applied.finding_data(one) for one in (*findings, *self._hooks.findings())]
            made["file"] = os.fspath(self._options.config_file)
        return {**self._status(), "view": made}


def _made(outcome: Outcome) -> tuple[Plan, Facts, tuple[Finding, ...], float] | None:
    """What a run made of the configuration in force; None where it failed."""
    if outcome.report is None or outcome.decoded is None:
        return None
    report = outcome.report
    return report.plan, report.facts, (*outcome.decoded.findings, *report.plan.findings), time.monotonic()


def _log_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        log.log(_LEVELS[finding.severity], str(finding))


def _remove_directory(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()
