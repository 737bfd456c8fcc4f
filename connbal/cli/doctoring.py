"""Looking for mwan3 on this machine, taking over from it, and cleaning up after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from connbal.errors import KernelError
from connbal.kernel import rival
from connbal.model.config import FAMILIES, Config
from connbal.model.facts import Facts, Health
from connbal.model.marks import MarkSpace
from connbal.plan.describe import rule_text
from connbal.plan.leftovers import Found, Leftovers, conflicts, leftovers, route_words
from connbal.uci.decode import Decoded, decode
from connbal.uci.package import Package

if TYPE_CHECKING:
    from connbal.cli.context import Session
    from connbal.cli.machine import Machine
    from connbal.plan.values import Plan
    from connbal.reconcile import Reconciler

#: How often what is left is looked for again: mwan3 may have been in the middle of something.
ROUNDS = 3


@dataclass(frozen=True)
class Examination:
    """What was found."""

    running: tuple[rival.Process, ...]
    supervised: bool  #: procd would start them again
    installed: tuple[str, ...]
    left: Leftovers
    files: tuple[str, ...]
    conflicts: tuple[str, ...]  #: why open connections cannot go on; none: they can
    applied: bool  #: connbal is at work
    changes: tuple[str, ...]  #: what connbal apply would do, in words

    @property
    def alone(self) -> bool:
        """connbal is at work, and nothing of mwan3 is there."""
        return self.applied and not (self.running or self.supervised or self.left or self.files or self.installed)

    @property
    def well(self) -> bool:
        """So it is, and the kernel is as connbal wants it."""
        return self.alone and not self.changes

    def removal(self) -> Iterator[str]:
        """What there is to take away besides what apply changes, in words and in order."""
        yield from (f"- route {route_words(one)}" for one in self.left.routes)
        yield from (f"- rule {rule_text(one.rule)}" for one in self.left.rules)
        yield from (f"- set {name}" for name in self.left.sets)
        yield from (f"- file {path}" for path in self.files)


def configuration(session: Session, *, needed: bool = False) -> tuple[Package, Decoded]:
    """The configuration; empty where there is none and it is not ``needed``. ConfigError where it cannot be read."""
    known = needed or session.config_file.exists()
    package = session.store().load("mwan3") if known else Package("mwan3")
    return package, decode(package)


class Doctor:
    """One visit. The caller of what changes something holds the run lock; see :func:`visit`."""

    def __init__(self, session: Session, machine: Machine, routing: rival.RivalRouting) -> None:
        self._session, self._machine, self._routing = session, machine, routing
        self._run = session.run()
        self._offline: frozenset[str] = frozenset()  #: by what mwan3's trackers said last
        self.done: list[str] = []  #: in words, in order
        self.reconciler: Reconciler = machine.reconciler(self._judge)

    def examine(self, config: Config, *, clean: bool = False) -> Examination:
        """Look at everything. Changes nothing. ``clean``: nobody is going to use any of it."""
        running = rival.processes()
        self._offline = self._offline or rival.offline(self._session.run_dir, running)
        report = self.reconciler.preview(config)
        ledger = self._run.load()
        left = self._left(config, report.plan if ledger.mask or not clean else replace(report.plan, sets=()))
        return Examination(
            running=running,
            supervised=rival.supervised(),
            installed=rival.installed(),
            left=left,
            files=rival.state_files(self._session.run_dir),
            conflicts=() if ledger.mask else tuple(conflicts(left, report.plan)),
            applied=bool(ledger.mask),
            changes=tuple(report.changes),
        )

    def take_over(self, config: Config) -> None:
        """End mwan3, apply ``config``, and take away what is left. Open connections go on where marks agree."""
        found = self.examine(config)
        self._end(found)
        if found.conflicts:
            self._sweep(found.left)
        elif self._offline and self._run.daemon() is None:
            self._run.save_health(self._told())  # for the daemon that is started next
        self.done += self.reconciler.apply(config).changes
        for _ in range(ROUNDS):
            left = self._left(config, self.reconciler.preview(config).plan)
            if not left:
                break
            self._remove(left)
            self.done += self.reconciler.apply(config).changes
        self._remove_files()
        self._run.stopped(False)
        self._run.poke("config")

    def clean(self, config: Config) -> None:
        """Take away what mwan3 left. KernelError while it runs."""
        found = self.examine(config, clean=True)
        if found.running or found.supervised:
            who = ", ".join(str(one.pid) for one in found.running) or "kept by procd"
            raise KernelError("connbal doctor --clean", None, f"mwan3 is running ({who}): take over with --take-over")
        if not found.applied:
            self.done += self.reconciler.stop()
        self._remove(found.left)
        self._remove_files()

    # --- parts --------------------------------------------------------------------------------------------------

    def _judge(self, config: Config, facts: Facts) -> Mapping[str, Health]:
        return self._told() | self._run.health()

    def _told(self) -> dict[str, Health]:
        return {name: Health(False, "offline, as mwan3 saw it last") for name in self._offline}

    def _left(self, config: Config, plan: Plan) -> Leftovers:
        rules, routes = self._routing.found()
        xtables = self._machine.kernel.xtables
        chains = {family: xtables.save(family) for family in FAMILIES if xtables.available(family)}
        found = Found(rules, routes, chains, self._machine.kernel.sets.headers())
        return leftovers(found, self._run.load(), plan, config.globals.rt_table_lookup)

    def _end(self, found: Examination) -> None:
        if found.supervised:
            rival.release()
            self.done.append("- service mwan3")
        for process in rival.processes():
            if rival.end(process):
                self.done.append(f"- process {process.pid}: {process.script}")

    def _sweep(self, left: Leftovers) -> None:
        """Take all of mwan3's away first, and forget its connections, because their marks will mean something else."""
        self.done += self.reconciler.stop()
        self._remove(left)
        space = MarkSpace(left.mask)
        numbers = {*left.ids.values(), *left.devices, *(one.rule.table for one in left.rules), space.highest} - {0}
        for number in sorted(numbers):
            self._machine.kernel.conntrack.flush(space.mark(number), space.mask)
        self.done.append(f"- connections marked under {left.mask:#x}")

    def _remove(self, left: Leftovers) -> None:
        """Routes before the rules by which they are known; sets last, when no chain names them."""
        for route in left.routes:
            self._routing.remove_route(route)
            self.done.append(f"- route {route_words(route)}")
        for rule in left.rules:
            if self._routing.remove_rule(rule):
                self.done.append(f"- rule {rule_text(rule.rule)}")
        for name in left.sets:
            with contextlib.suppress(KernelError):  # of another's rule, or gone with the chains
                self._machine.kernel.sets.destroy(name)
                self.done.append(f"- set {name}")

    def _remove_files(self) -> None:
        for path in rival.state_files(self._session.run_dir):
            rival.remove_state(path)
            self.done.append(f"- file {path}")


@contextlib.contextmanager
def visit(session: Session, *, lock: bool) -> Iterator[Doctor]:
    """A doctor for this machine. ``lock``: it will change something."""
    from connbal.cli.output import progress

    with contextlib.ExitStack() as stack:
        if lock:
            with progress("waiting for another command, or for the daemon, to be done"):
                stack.enter_context(session.run().lock())
        stack.enter_context(progress("looking for mwan3"))
        machine = stack.enter_context(session.machine())
        routing = stack.enter_context(contextlib.closing(rival.RivalRouting()))
        yield Doctor(session, machine, routing)
