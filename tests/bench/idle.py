"""What the daemon costs while nothing happens but probes, by the number of interfaces."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.bench import configuration, imports, proc
from tests.bench.execs import Execs
from tests.bench.results import Figure, Floor
from tests.bench.scene import Options
from tests.bench.subject import Connbal
from tests.lab import Lab

#: Per cent of one core that 60 interfaces may take.
LIMIT, LIMIT_AT = 10.0, 60
_RULES = 10
_PROBING = (("interval", "1"), ("timeout", "1"), ("down", "3"), ("up", "3"))


@dataclass(frozen=True)
class _One:
    interfaces: int
    subject: Connbal

    @property
    def scale(self) -> Mapping[str, int | str]:
        return {"interfaces": self.interfaces}


def idle(options: Options) -> Iterator[Figure | str]:
    """Processor time, memory and processes, with each interface's four hosts probed every second."""
    effort = options.effort
    with contextlib.ExitStack() as stack:
        execs = stack.enter_context(Execs())
        ones = [_ready(stack, count, options) for count in effort.idle]
        time.sleep(effort.calm)
        yield from _rest(ones, execs, effort.seconds)
        yield from _memory(ones)


def _ready(stack: contextlib.ExitStack, count: int, options: Options) -> _One:
    lab = stack.enter_context(Lab(configuration.sources(count), xtables=options.xtables))
    subject = Connbal(lab)
    stack.callback(subject.close)
    subject.configure(configuration.configuration(lab.spec.sources, _RULES, probing=_PROBING, hosts=4))
    subject.start()
    subject.ready()
    return _One(count, subject)


def _rest(ones: list[_One], execs: Execs, seconds: float) -> Iterator[Figure]:
    """All at once: what one uses is its own."""
    before = [one.subject.usage() for one in ones]
    most = [0] * len(ones)
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        most = [max(known, proc.children(one.subject.pid())) for known, one in zip(most, ones, strict=True)]
        time.sleep(min(0.25, max(end - now, 0)))
    for one, begun, children in zip(ones, before, most, strict=True):
        after = one.subject.usage()
        passed = after.at - begun.at
        limit = LIMIT if one.interfaces == LIMIT_AT else None
        scale = one.scale
        yield Figure("idle: processor", (100 * (after.cpu - begun.cpu) / passed,), limit, "%", scale=scale)
        yield Figure("idle: wakeups a second", ((after.wakeups - begun.wakeups) / passed,), unit="", scale=scale)
        yield Figure("idle: processes", (1 + children,), 1, "", scale=scale)
        if execs.works:
            ran = execs.below(one.subject.pid(), begun.at)
            yield Figure("idle: programs run", (ran,), 0, "", scale=scale)


def _memory(ones: list[_One]) -> Iterator[Figure]:
    """One after the other: what several have in common would be divided among them."""
    for one in ones:
        one.subject.end()
    with imports.bare(imports.modules_of(ones[0].subject.lab)) as pid:
        floor = Floor(imports.ALL, (proc.memory(pid),))
    yield Figure(f"memory of {imports.ALL}", floor.samples, unit="MB")
    for one in ones:
        one.subject.start()
        one.subject.ready()
        time.sleep(1.0)
        yield Figure("memory of the daemon", (proc.memory(one.subject.pid()),), unit="MB", scale=one.scale,
                     floor=floor, times=imports.MEMORY_TIMES)  # fmt: skip
        one.subject.end()
