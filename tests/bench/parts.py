"""The parts of the benchmark, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.bench.bounds import bounds
from tests.bench.carrier import carrier
from tests.bench.commands import commands
from tests.bench.failover import failover
from tests.bench.hook import hook
from tests.bench.idle import idle
from tests.bench.imports import imports
from tests.bench.lost import lost
from tests.bench.packets import measure
from tests.bench.reconcile import reconcile
from tests.bench.recovery import recovery
from tests.bench.results import Figure
from tests.bench.scene import QUICK, SHORT, Options
from tests.bench.silent import silent
from tests.bench.storm import storm
from tests.bench.work import work

#: Measures, and yields figures and remarks. The first line of its docstring is its title.
Part = Callable[[Options], Iterator[Figure | str]]


def packets(options: Options) -> Iterator[Figure | str]:
    """How many packets and new connections a second the router forwards, by the number of rules and interfaces."""
    effort = measure.SHORT if options.effort is SHORT else measure.FULL
    yield from measure.figures(replace(effort, rounds=8) if options.effort is QUICK else effort)


#: What a benchmark consists of, in its order.
PARTS: dict[str, Part] = {
    "work": work, "reconcile": reconcile, "commands": commands, "hook": hook, "failover": failover, "idle": idle,
    "bounds": bounds, "packets": packets,
}  # fmt: skip

#: What takes long, or goes into detail: only when asked for.
MORE: dict[str, Part] = {
    "silent": silent, "carrier": carrier, "recovery": recovery, "lost": lost, "storm": storm,
    "imports": imports,
}  # fmt: skip
