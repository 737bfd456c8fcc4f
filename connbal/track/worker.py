"""Runs of the reconciler, one after the other, in a thread of their own: probes never wait for them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Protocol

from connbal.errors import ConnbalError
from connbal.frozen import dataclass
from connbal.kernel import exec as programs
from connbal.kernel.api import TransientError
from connbal.model.config import Config
from connbal.model.facts import Facts, Health
from connbal.model.marks import MarkSpace
from connbal.reconcile import Report
from connbal.refusal import REFUSED
from connbal.track import board
from connbal.track.aside import Aside
from connbal.track.board import Board, Seen
from connbal.uci.decode import Decoded

log = logging.getLogger(__name__)

#: Seconds that the run which is under way has to end when the daemon does: by itself, and once its programs are killed.
ENDING, ENDED = 1.0, 0.5

#: What the plan has to know of health, given the rest.
Judge = Callable[[Config, Facts], Mapping[str, Health]]


class World(Protocol):
    """What a run needs of the machine. For one thread at a time, except what says otherwise."""

    @property
    def announced(self) -> bool:
        """Whether the kernel tells when somebody else changes the rules of iptables."""

    def fingerprint(self) -> object:
        """Of the files that somebody may change; equal as long as nobody did. For any thread."""

    def load(self) -> Decoded:
        """The configuration as committed. ConfigError where it cannot be read at all."""

    def forced(self) -> Mapping[str, bool]:
        """The interfaces that the user forced up or down."""

    def lock(self, ending: threading.Event) -> AbstractContextManager[object]:
        """Whoever holds it may change the kernel. TransientError where somebody else has it for too long, or until
        ``ending`` is set.
        """

    @property
    def generation(self) -> int:
        """Of the rules, as the last look found them; 0: nobody numbers them. For any thread."""

    def disturbed(self) -> bool:
        """Whether somebody has changed the rules of iptables since the last run looked at them; no where the kernel
        cannot tell at little cost. The run lock is not needed.
        """

    def apply(self, config: Config, judge: Judge, *, afresh: bool) -> Report:
        """Bring the kernel to what the configuration says. ``afresh``: with what it refused before. Raises KernelError.
        """


@dataclass(frozen=True)
class Job:
    """What a run starts from."""

    board: Board
    renewed: frozenset[str] = frozenset()  #: networks that came up anew
    remembered: Mapping[str, bool] = field(default_factory=dict)  #: see board.advance
    marks: Mapping[str, int] = field(default_factory=dict)  #: those that probes carry now
    afresh: bool = False  #: what the kernel refused before is tried again
    #: Called, in the worker's thread, where the run is about to give these marks another meaning.
    hold: Callable[[], object] = lambda: None


@dataclass
class Outcome:
    """What came of a run. ``report`` and ``error`` exclude each other."""

    seconds: float = 0.0
    decoded: Decoded | None = None  #: the configuration in force; None: there is none that can be read
    fresh: bool = False  #: it was read for this run
    print: object = None  #: the fingerprint of the files that the run has looked at, whether they could be read or not
    trouble: str = ""  #: why it could not be read anew; the last one that could be stays in force
    seen: Seen | None = None  #: None: the run did not get that far
    used: frozenset[str] = frozenset()  #: the sources that policies use by now
    report: Report | None = None
    error: str = ""
    transient: bool = False  #: the same may work a moment later

    @property
    def refused(self) -> bool:
        """Whether the kernel refused sections, which were left out."""
        return self.report is not None and any(one.code == REFUSED for one in self.report.findings)


class Worker:
    """Does jobs in its thread, one at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._thread = Aside("reconcile")
        self._ending = threading.Event()
        self._print: object = None
        self._decoded: Decoded | None = None
        self._since: float | None = None

    def busy(self) -> float:
        """For how many seconds a run has been waited for that is not over; 0: there is none."""
        return time.monotonic() - self._since if self._since is not None else 0.0

    async def run(self, job: Job) -> Outcome:
        """Do a job to its end. Raises nothing for what the machine does: that is in the outcome."""
        self._since = time.monotonic()
        try:
            return await self._thread.do(lambda: self._run(job))
        finally:
            self._since = None

    async def disturbed(self) -> bool:
        """As :meth:`World.disturbed`, after the run that may be under way. Raises KernelError."""
        return await self._thread.do(self._world.disturbed)

    def forget(self) -> None:
        """Read the configuration anew next time, changed or not."""
        self._print = None

    async def close(self) -> bool:
        """End soon: no lock is waited for any more, and a run that is under way has a moment to end.

        One that hangs is cut short: its programs are killed, as they are when time runs out, and what it says then is
        heard by nobody. False where even that does not end it.
        """
        self._ending.set()
        if await self._thread.close(ENDING):
            return True
        programs.give_up()
        return await self._thread.close(ENDED)

    def _run(self, job: Job) -> Outcome:
        outcome = Outcome()
        began = time.monotonic()
        try:
            with self._world.lock(self._ending):
                # Under the lock: who comes last must not apply what it read first.
                self._read(outcome)
                if outcome.decoded is not None:
                    outcome.report = self._apply(job, outcome)
        except TransientError as error:
            outcome.error, outcome.transient = str(error), True
        except ConnbalError as error:
            outcome.error = str(error)
        except Exception as error:  # the daemon goes on, whatever one run comes upon
            log.exception("a run failed")
            outcome.error = f"{type(error).__name__}: {error}"
        outcome.seconds = time.monotonic() - began
        return outcome

    def _read(self, outcome: Outcome) -> None:
        found = self._world.fingerprint()
        if found != self._print:
            self._print = found
            try:
                self._decoded = self._world.load()
                outcome.fresh = True
            except ConnbalError as error:
                outcome.trouble = str(error)
        outcome.decoded, outcome.print = self._decoded, found

    def _apply(self, job: Job, outcome: Outcome) -> Report:
        def judge(config: Config, facts: Facts) -> Mapping[str, Health]:
            outcome.seen = board.seen(config, facts, forced, job.renewed)
            after, _ = board.advance(job.board, outcome.seen, time.monotonic(), job.remembered)
            verdicts = board.verdicts(after)
            if shifts(config, job.marks):
                job.hold()
            return verdicts

        assert outcome.decoded is not None
        forced = self._world.forced()
        report = self._world.apply(outcome.decoded.config, judge, afresh=job.afresh or outcome.fresh)
        assert outcome.seen is not None
        outcome.seen = board.corrected(outcome.seen, report.plan.interfaces)
        # Of the plan that is in the kernel, so without what the kernel refused.
        outcome.used = frozenset(view.name for view in report.plan.interfaces if view.usable)
        return report


def shifts(config: Config, marks: Mapping[str, int]) -> bool:
    """Whether a configuration gives sources other marks than those that probes carry now. Pure."""
    space = MarkSpace(config.globals.mmx_mask)
    wanted = {one.name: space.mark(one.id) for one in config.interfaces if one.enabled and one.id <= space.capacity}
    return any(wanted.get(name, mark) != mark for name, mark in marks.items())
