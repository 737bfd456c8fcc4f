"""What one run of the reconciler costs in a daemon that has run before, beside a bare ``iptables-restore``.

``./bench --only reconcile`` measures it in the router of a lab; see README.md here.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from connbal.cli.context import Session
from connbal.cli.daemon import SystemWorld
from connbal.cli.machine import Machine
from connbal.kernel import exec as programs
from connbal.kernel.netlink import Channel
from connbal.kernel.rundir import PatientMemory
from connbal.model.config import Config, Family
from connbal.reconcile import Report
from connbal.track import board
from connbal.track.board import Board
from connbal.track.worker import Job, Judge, Outcome, Worker
from tests.bench.results import Figure, Floor
from tests.bench.scene import SHORT, Options
from tests.demo.config import section
from tests.lab import Lab

V = TypeVar("V")

GROUP = "reconcile"
#: Interfaces and rules; the targets are for MIDDLE, and the others show what grows with what.
MIDDLE = (20, 100)
SCALES = ((2, 100), (5, 100), MIDDLE, (60, 100), (20, 10), (20, 1000), (60, 1000))
#: Rules that are sticky and name a set each: each makes a set of its own and one for each source of its policy.
STICKY = (5, 1000)
#: A run that changes one policy takes at most so many times the bare program; one without anything to do, seconds.
TIMES, NOTHING = 3.0, 0.010
_BARE = "bare iptables-restore"


def configuration(names: Sequence[str], rules: int, weight: int, *, sticky: bool = False) -> str:
    """A policy that changes with ``weight``, in IPv4 alone, and as many rules, half of which use it."""
    parts = [section("globals", "globals", ("weight_mode", "proportional"))]
    for name in names:
        parts.append(section("interface", name, ("enabled", "1"), ("family", "ipv4"), ("initial_state", "online")))
        parts.append(section("member", f"{name}_m", ("interface", name), ("metric", "1"), ("weight", "1")))
    parts.append(section("member", "weighed", ("interface", names[0]), ("metric", "1"), ("weight", f"{weight}")))
    parts.append(section("policy", "edited", ("use_member", "weighed"), ("use_member", f"{names[-1]}_m")))
    parts.append(section("policy", "all", *(("use_member", f"{name}_m") for name in names)))
    for number in range(rules):
        options = [("src_ip", f"10.{number >> 8}.{number & 255}.0/24"), ("proto", "tcp"), ("dest_port", "443")]
        if sticky:
            options += [("sticky", "1"), ("ipset", f"site{number}")]
        parts.append(section("rule", f"r{number}", *options, ("use_policy", "edited" if number % 2 else "all")))
    return "\n".join(parts)


@dataclass
class Samples:
    """Seconds, of runs that take turns; and numbers of what they did."""

    first: list[float] = field(default_factory=list)  #: with nothing of connbal's in the kernel
    nothing: list[float] = field(default_factory=list)  #: with nothing to do
    change: list[float] = field(default_factory=list)  #: one policy changed: reading the file and all
    reconciled: list[float] = field(default_factory=list)  #: of that, what came after reading the file
    bare: list[float] = field(default_factory=list)  #: the program alone, with the same text
    programs: list[float] = field(default_factory=list)  #: that runs with nothing to do started
    dumps: list[float] = field(default_factory=list)  #: that these asked for


class Subject:
    """A daemon's worker in the router of a lab, in this process. Its state is in memory, as on a router."""

    def __init__(self, lab: Lab, machine: Machine, session: Session, rules: int, *, sticky: bool) -> None:
        self._file = lab.config_dir / "mwan3"
        self._names, self._rules, self._sticky = list(lab.spec.sources), rules, sticky
        self._machine = machine
        self._world = SystemWorld(session, machine, PatientMemory(session.run()))
        self._worker = Worker(self._world)
        self._weight = 0
        self._reconciled = 0.0
        self._board: Board = {}
        self.texts: list[tuple[Family, str]] = []
        restore, apply = machine.kernel.xtables.restore, self._world.apply

        def recorded(family: Family, text: str) -> None:
            self.texts.append((family, text))
            restore(family, text)

        def timed(config: Config, judge: Judge, *, afresh: bool) -> Report:
            begin = time.perf_counter()
            try:
                return apply(config, judge, afresh=afresh)
            finally:
                self._reconciled = time.perf_counter() - begin

        machine.kernel.xtables.restore = recorded  # type: ignore[method-assign]
        self._world.apply = timed  # type: ignore[method-assign]

    def measure(self, repetitions: int) -> Samples:
        samples = Samples()
        self._edit()
        samples.first.append(self._run()[0])
        for turn in range(repetitions + 1):
            self._run()  # whatever the last turn left to notice
            dumps, started = _Dumps.count, programs.executions
            nothing, outcome = self._run()
            assert outcome.report is not None
            assert not outcome.report.changes, outcome.report.changes
            done = _Dumps.count - dumps, programs.executions - started
            assert done[0], "it looks at the kernel all the same"
            self._edit()
            self.texts.clear()
            self._reconciled, started = 0.0, programs.executions
            change, outcome = self._run()
            assert 0 < self._reconciled < change
            assert programs.executions > started, "it writes the rules by a program"
            assert [family for family, _ in self.texts] == [Family.IPV4], outcome
            if not turn:  # the first of each kind imports and looks things up
                continue
            samples.nothing.append(nothing)
            samples.dumps.append(done[0])
            samples.programs.append(done[1])
            samples.change.append(change)
            samples.reconciled.append(self._reconciled)
            samples.bare.append(self._bare(self.texts[0][1]))
        return samples

    def _edit(self) -> None:
        """Write the file with another weight."""
        self._weight += 1
        self._file.write_text(configuration(self._names, self._rules, self._weight, sticky=self._sticky))

    def _run(self) -> tuple[float, Outcome]:
        begin = time.perf_counter()
        outcome = self._worker._run(Job(self._board))  # in this thread, so that it is in the router's namespace
        took = time.perf_counter() - begin
        assert not outcome.error, outcome.error
        assert outcome.seen is not None
        self._board, _ = board.advance(self._board, outcome.seen, time.monotonic())  # as the fleet does
        return took, outcome

    @staticmethod
    def _bare(text: str) -> float:
        argv = ["iptables-restore", "--noflush"]
        begin = time.perf_counter()
        programs.run(argv, text)
        return time.perf_counter() - begin


class _Dumps:
    """Counts what netlink is asked to list."""

    count = 0
    _dump = Channel.dump

    @classmethod
    @contextlib.contextmanager
    def counted(cls) -> Iterator[None]:
        def dump(
            self: Channel, payload: bytes, number: int, command: str, decode: Callable[[bytes, int, int], V]
        ) -> list[V]:
            cls.count += 1
            return cls._dump(self, payload, number, command, decode)

        Channel.dump = dump  # type: ignore[method-assign]
        try:
            yield
        finally:
            Channel.dump = cls._dump  # type: ignore[method-assign]


def measured(xtables: str, interfaces: int, rules: int, repetitions: int, *, sticky: bool = False) -> Samples:
    """What runs take in a router of so many sources, with so many rules."""
    names = [f"wan{number}" for number in range(1, interfaces + 1)]
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    kept = {name: os.environ.get(name) for name in ("PATH",)}
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(names, xtables=xtables, nat=False))
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="connbal-bench-", dir=memory)))
        stack.callback(os.environ.update, {name: value for name, value in kept.items() if value is not None})
        os.environ.update(lab.router.env)
        stack.enter_context(lab.router.enter())
        stack.enter_context(_Dumps.counted())
        session = Session(lab.config_dir, run_dir)
        machine = stack.enter_context(session.machine())
        return Subject(lab, machine, session, rules, sticky=sticky).measure(repetitions)


def reconcile(options: Options) -> Iterator[Figure | str]:
    """One run in a daemon that has run before, beside a bare iptables-restore of what it writes."""
    build, short = options.xtables, options.effort is SHORT
    for interfaces, rules in (MIDDLE,) if short else SCALES:
        samples = measured(build, interfaces, rules, options.effort.repetitions)
        scale: dict[str, int | str] = {"iptables": build, "interfaces": interfaces, "rules": rules}
        yield from _figures(samples, scale, target=(interfaces, rules) == MIDDLE)
    interfaces, rules = (2, 10) if short else STICKY
    samples = measured(build, interfaces, rules, 1, sticky=True)
    scale = {"iptables": build, "interfaces": interfaces, "rules": rules}
    yield Figure("first run, each rule sticky and with a set", tuple(samples.first), group=GROUP, scale=scale)
    yield Figure("run with nothing to do, each rule sticky and with a set", tuple(samples.nothing), group=GROUP,
                 scale=scale)  # fmt: skip


def _figures(samples: Samples, scale: dict[str, int | str], *, target: bool) -> Iterator[Figure]:
    floor = Floor(_BARE, tuple(samples.bare))
    yield Figure("first run", tuple(samples.first), group=GROUP, scale=scale)
    yield Figure("run with nothing to do", tuple(samples.nothing), NOTHING if target else None, group=GROUP,
                 scale=scale, by="median")  # fmt: skip
    yield Figure("programs started by a run with nothing to do", tuple(samples.programs), 0, "", group=GROUP,
                 scale=scale)  # fmt: skip
    yield Figure("netlink tables listed by a run with nothing to do", tuple(samples.dumps), None, "", group=GROUP,
                 scale=scale)  # fmt: skip
    yield Figure("run that changes one policy", tuple(samples.change), group=GROUP, scale=scale, floor=floor,
                 times=TIMES if target else None)  # fmt: skip
    yield Figure("of that, after reading the file", tuple(samples.reconciled), group=GROUP, scale=scale, floor=floor)
