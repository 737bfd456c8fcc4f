"""The parts of the benchmark, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.bench.carrier import carrier
from tests.bench.commands import commands
from tests.bench.failover import failover
from tests.bench.hook import hook
from tests.bench.idle import idle
from tests.bench.imports import imports
from tests.bench.lost import lost
from tests.bench.recovery import recovery
from tests.bench.results import Figure
from tests.bench.scene import Options
from tests.bench.silent import silent
from tests.bench.storm import storm
from tests.bench.work import work

#: Measures, and yields figures and remarks. The first line of its docstring is its title.
Part = Callable[[Options], Iterator[Figure | str]]

#: What a benchmark consists of, in its order.
PARTS: dict[str, Part] = {"work": work, "commands": commands, "hook": hook, "failover": failover, "idle": idle}

#: What takes long, or goes into detail: only when asked for.
MORE: dict[str, Part] = {
    "silent": silent, "carrier": carrier, "recovery": recovery, "lost": lost, "storm": storm,
    "imports": imports,
}  # fmt: skip
