"""What connbal does, at several scales: it starts, takes up events and edits, and tells how things are.

There is a lab for each scale, all at once, and they take turns: each operation is done in one after the other, so a
busy moment of the machine meets all alike, and each subject has rested when it is its turn again. Beside each operation
stands a floor, measured in the same turn: what one bare ``iptables-restore`` takes for the same text, in a namespace
that is filled like the router.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.bench import configuration, programs
from tests.bench.changes import Changes
from tests.bench.execs import Execs
from tests.bench.programs import Floors, timed
from tests.bench.results import Figure, Floor
from tests.bench.scene import Options, Scale
from tests.bench.subject import EVENTS, Connbal
from tests.lab import Lab

#: Names of lines. They are quoted, so they stay.
START, EDIT = "start", "one policy edited"
COLD_APPLY, COLD_STATUS = "connbal apply, nothing to change, no daemon", "connbal status, no daemon"
WHOLE, PART = "one iptables-restore of the same text", "one iptables-restore of the changed chain"
#: After so many turns there is not another one that would end after so many seconds.
FEW_TURNS, LONG = 3, 180.0


@dataclass
class Place:
    """A lab with connbal in it, and what has been measured there."""

    scale: Scale
    lab: Lab
    subject: Connbal
    changes: Changes
    execs: Execs
    samples: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    ran: dict[str, list[float]] = field(default_factory=dict)
    weight: int = 1

    @property
    def source(self) -> str:
        """The one to which things happen."""
        return self.lab.spec.sources[-1]

    def configuration(self) -> str:
        return configuration.configuration(
            self.lab.spec.sources, self.scale.rules, quick=self.source, weight=self.weight
        )

    def forget(self) -> None:
        """Nothing has been measured yet."""
        for kept in (self.samples, self.cpu, self.ran):
            kept.clear()

    def took(self, what: str, seconds: float) -> None:
        self.samples.setdefault(what, []).append(seconds)

    def watch(self, what: str, happen: Callable[[], float]) -> None:
        """From the moment that ``happen`` returns until the kernel has it; and what it costs."""
        before = self.subject.usage().cpu
        self._finish(what, happen(), before)

    def _finish(self, what: str, begin: float, before: float) -> None:
        self.took(what, self.changes.settled(begin, self.subject.busy) - begin)
        self.cpu.setdefault(what, []).append(self.subject.usage().cpu - before)
        if self.execs.works:
            self.ran.setdefault(what, []).append(self.execs.below(self.subject.pid(), begin))

    def start(self) -> None:
        self._finish(START, self.subject.start(), 0.0)

    # --- steps -----------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Take it away, and start it from nothing."""
        self.subject.stop()
        self.start()

    def event(self, kind: str) -> None:
        self.watch(kind, lambda: self.subject.event(kind, self.source))

    def edit(self) -> None:
        self.weight = 3 - self.weight
        self.subject.configure(self.configuration())
        self.watch(EDIT, self.subject.apply)

    def status(self) -> None:
        for name, argv in self.subject.status().items():
            self.took(name, timed(self.lab.router, argv, self.subject.environment(), "{}\n"))

    def floor(self) -> None:
        """The same text, in a namespace that nobody uses, by ``iptables-restore`` alone."""
        restored = Restored(self.lab)
        self.took(WHOLE, restored.whole())
        self.took(PART, restored.chain(f"mwan3_policy_{configuration.EDITED}"))


class Restored:
    """What is in the router, put into another namespace of the lab. Sets are there before."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._node, self._env = lab, lab.node("tv"), programs.environment(lab)
        self._texts = {tool: lab.router.run([f"{tool}-save", "-t", "mangle"]).stdout
                       for tool in ("iptables", "ip6tables")}  # fmt: skip
        for tool in self._texts:
            self._node.run([f"{tool}-restore"], input="*mangle\nCOMMIT\n", env=self._env)
        self._node.run(["ipset", "destroy"], check=False)
        self._node.run(["ipset", "restore"], input=lab.router.run(["ipset", "save"]).stdout)

    def whole(self) -> float:
        """Both families, one after the other, from nothing: seconds."""
        return sum(
            timed(self._node, [f"{tool}-restore", "--noflush"], self._env, text) for tool, text in self._texts.items()
        )

    def chain(self, name: str) -> float:
        """One chain, which is there, with the same lines."""
        lines = [line for line in self._texts["iptables"].splitlines() if line.startswith(f"-A {name} ")]
        text = "\n".join(["*mangle", f":{name} - [0:0]", *lines, "COMMIT", ""])
        return timed(self._node, ["iptables-restore", "--noflush"], self._env, text)


def cold(place: Place) -> None:
    """connbal's commands where no daemon runs, and the kernel is as it should be."""
    subject = place.subject
    subject.end()
    for name, command in ((COLD_STATUS, "status"), (COLD_APPLY, "apply")):
        place.took(name, timed(place.lab.router, subject.commands(command), subject.environment()))


#: In this order: each leaves things as the next one wants them.
STEPS: tuple[Callable[[Place], None], ...] = (
    cold, Place.restart, Place.status, Place.floor, *(lambda place, kind=kind: place.event(kind) for kind in EVENTS),
    Place.edit,
)  # fmt: skip


def work(options: Options) -> Iterator[Figure | str]:
    """What starting, events, edits and questions take, and what they run, by the number of interfaces and rules."""
    if options.xtables != "nft":
        yield "not measured: the kernel does not tell of chains that the legacy iptables changes"
        return
    with contextlib.ExitStack() as stack:
        execs = stack.enter_context(Execs())
        places = [_place(stack, scale, execs, options) for scale in options.effort.scales]
        floors = Floors(places[0].lab)
        for place in places:
            place.subject.configure(place.configuration())
            place.start()
            place.forget()  # the first compiles
        begin = time.monotonic()
        for turn in range(options.effort.turns):
            for step in STEPS:
                for place in places:
                    step(place)
            floors.turn()
            if turn + 1 >= FEW_TURNS and (time.monotonic() - begin) * (turn + 2) / (turn + 1) > LONG:
                yield f"a slow or busy machine: {turn + 1} turns"
                break
        if not execs.works:
            yield "the kernel does not tell of programs that are run, so they are not counted"
        yield from figures(places, floors)


def _place(stack: contextlib.ExitStack, scale: Scale, execs: Execs, options: Options) -> Place:
    lab = stack.enter_context(Lab(configuration.sources(scale.interfaces), xtables=options.xtables))
    subject = Connbal(lab)
    stack.callback(subject.close)
    return Place(scale, lab, subject, stack.enter_context(Changes(lab.router)), execs)


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(places: list[Place], floors: Floors) -> Iterator[Figure]:
    """Operation by operation, and in each from the smallest scale to the largest."""
    for name, samples in floors.samples.items():
        yield Figure(name, tuple(samples), group="floors")
    for part in (_start, _events, _commands):
        found = [figure for place in places for figure in part(place, floors)]
        order = list(dict.fromkeys(figure.what for figure in found))
        yield from sorted(found, key=lambda figure: order.index(figure.what))


def _start(place: Place, floors: Floors) -> Iterator[Figure]:
    yield _times(place, START, "start", place_floor(place, WHOLE))
    yield from _costs(place, START, "start")


def _events(place: Place, floors: Floors) -> Iterator[Figure]:
    for kind in (*EVENTS, EDIT):
        yield _times(place, kind, "events", place_floor(place, PART))
        yield from _costs(place, kind, "events")


def _commands(place: Place, floors: Floors) -> Iterator[Figure]:
    for name in (*place.subject.status(), COLD_STATUS, COLD_APPLY):
        floor = floors.floor(programs.PYROUTE2 if name in (COLD_STATUS, COLD_APPLY) else programs.CLICK)
        times = 2.0 if name == COLD_APPLY else None
        yield Figure(name, tuple(place.samples[name]), group="status", scale=place.scale.told(), floor=floor,
                     times=times)  # fmt: skip


def place_floor(place: Place, name: str) -> Floor:
    return Floor(name, tuple(place.samples[name]))


def _times(place: Place, what: str, group: str, floor: Floor) -> Figure:
    return Figure(what, tuple(place.samples[what]), group=group, scale=place.scale.told(), floor=floor)


def _costs(place: Place, what: str, group: str) -> Iterator[Figure]:
    """Processor time is counted in hundredths of a second, so only the mean of all says something."""
    spent = place.cpu[what]
    yield Figure(f"{what}: processor time", (sum(spent) / len(spent),), group=group, scale=place.scale.told())
    if what in place.ran:
        yield Figure(f"{what}: programs run", tuple(place.ran[what]), unit="", group=group, scale=place.scale.told())
