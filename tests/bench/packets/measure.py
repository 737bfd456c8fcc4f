"""All roads take turns, burst by burst; what came of it as figures with their targets."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tests.bench.packets.road import Road, Shape
from tests.bench.results import Figure, Floor

GROUP = "packets"
NEW, SENT, RECEIVED = "new connections", "packets of open connections, sent", "packets of open connections, received"
PER_RULE, PER_PACKET = "time for a rule that does not match", "time that connbal adds to a packet of an open connection"
FAMILIES = (4, 6)

# Targets: at least so many times the floor.
#: A packet of an open connection must not be the slower for more rules ...
OPEN_RULES = 0.95
#: ... and little for more interfaces: each is two routing rules.
OPEN_INTERFACES = 0.85
#: What connbal may take of the router's speed, however many rules there are.
OPEN_FLOOR = 0.6
#: New connections by the number of rules, beside one rule: they are asked about each until one takes them.
NEW_RULES = {10: 0.9, 100: 0.6, 1000: 0.15}
#: The same with one rule, beside none; with many interfaces beside none and as many.
NEW_FLOOR, NEW_FLOOR_MANY = 0.55, 0.4


@dataclass(frozen=True)
class Effort:
    """What is built, and how often each burst of how many frames (``slots``) is sent."""

    rounds: int = 30
    slots: int = 256
    few: int = 2  #: sources
    many: int | None = 30  #: sources
    rules: tuple[int, ...] = (1, 10, 100, 1000)  #: what is beside the first is compared with it
    xtables: tuple[str, ...] = ("nft", "legacy")

    def shapes(self) -> Iterator[Shape]:
        """Not every combination says something new: neither affinity nor many sources between the ends of ``rules``,
        nor many sources with the second build of iptables, whose routing is the same.
        """
        for xtables in self.xtables:
            yield Shape(xtables, self.few, 0)
            yield from (Shape(xtables, self.few, rules) for rules in self.rules)
            yield from (Shape(xtables, self.few, rules, "pair") for rules in self.ends)
        if self.many is not None:
            yield Shape(self.xtables[0], self.many, 0)
            yield from (Shape(self.xtables[0], self.many, rules) for rules in self.ends)
            yield Shape(self.xtables[0], self.many, self.rules[0], "pair")

    @property
    def ends(self) -> tuple[int, int]:
        return self.rules[0], self.rules[-1]


FULL = Effort()
SHORT = Effort(1, 256, 1, None, (1, 2), ("nft",))

#: Rates by shape, family and what was measured.
Rates = Mapping[tuple[Shape, int, str], Sequence[float]]


def figures(effort: Effort = FULL) -> list[Figure]:
    """Build everything, measure, take it away. LabError where packets did not come through."""
    with ExitStack() as stack:
        roads = [stack.enter_context(Road(shape, effort.slots)) for shape in effort.shapes()]
        rates = _measure(roads, effort.rounds)
    return list(_figures(effort, rates))


def _measure(roads: Sequence[Road], rounds: int) -> Rates:
    """In each round every burst once, in an order drawn anew: a busy moment of the machine meets all alike."""
    rng = random.Random(1)
    bursts: list[tuple[tuple[Shape, int, str], Callable[[int], float]]] = []
    for road, family in itertools.product(roads, FAMILIES):
        bursts += [((road.shape, family, NEW), road.new), ((road.shape, family, SENT), road.sent)]
        if road.answers:
            bursts.append(((road.shape, family, RECEIVED), road.received))
    rates: dict[tuple[Shape, int, str], list[float]] = {key: [] for key, _ in bursts}
    for _ in range(rounds):
        for key, burst in rng.sample(bursts, len(bursts)):
            rates[key].append(burst(key[1]))
    return rates


def _figures(effort: Effort, rates: Rates) -> Iterator[Figure]:
    for xtables, family in itertools.product(effort.xtables, FAMILIES):
        yield from _Lines(effort, rates, xtables, family)


class _Lines:
    """The figures of one build of iptables and one family."""

    def __init__(self, effort: Effort, rates: Rates, xtables: str, family: int) -> None:
        self._rates, self._xtables, self._family, self._few = rates, xtables, family, effort.few
        self._many = effort.many if xtables == effort.xtables[0] else None
        self._one, *self._more = effort.rules

    def __iter__(self) -> Iterator[Figure]:
        yield from self._open(SENT, "connection", self._more)
        yield from self._open(RECEIVED, "pair", self._more[-1:])
        yield from self._new("connection", self._more)
        yield from self._new("pair", self._more[-1:])
        yield from self._times()

    def _open(self, what: str, affinity: str, more: Sequence[int]) -> Iterator[Figure]:
        one = self._shape(self._few, self._one, affinity)
        yield self._figure(what, one, self._bare(self._few), OPEN_FLOOR)
        yield from (self._figure(what, replace(one, rules=rules), one, OPEN_RULES) for rules in more)
        if self._many is not None:
            yield self._figure(what, replace(one, sources=self._many), one, OPEN_INTERFACES)

    def _new(self, affinity: str, more: Sequence[int]) -> Iterator[Figure]:
        one = self._shape(self._few, self._one, affinity)
        yield self._figure(NEW, one, self._bare(self._few), NEW_FLOOR)
        yield from (self._figure(NEW, replace(one, rules=rules), one, NEW_RULES.get(rules)) for rules in more)
        if self._many is not None:
            yield self._figure(NEW, replace(one, sources=self._many), self._bare(self._many), NEW_FLOOR_MANY)

    def _times(self) -> Iterator[Figure]:
        """What the differences come to, in time; for information."""
        one, most = (self._shape(self._few, rules, "connection") for rules in (self._one, self._more[-1]))
        yield self._time(PER_RULE, NEW, one, most, most.rules - one.rules)
        yield self._time(PER_PACKET, SENT, self._bare(self._few), one, 1)

    def _time(self, what: str, of: str, less: Shape, more: Shape, parts: int) -> Figure:
        pairs = zip(self._of(less, of), self._of(more, of), strict=True)
        samples = tuple((1 / slow - 1 / fast) / parts * 1e9 for fast, slow in pairs)
        scale = {"iptables": self._xtables, "family": f"IPv{self._family}"}
        return Figure(what, samples, unit="ns", group=GROUP, scale=scale, by="median")

    def _figure(self, what: str, shape: Shape, beside: Shape, times: float | None) -> Figure:
        floor = Floor(_difference(shape, beside), self._of(beside, what))
        scale = self._scale(shape) | {"rules": shape.rules, "affinity": shape.affinity}
        unit = "connections/s" if what == NEW else "packets/s"
        return Figure(what, self._of(shape, what), unit=unit, group=GROUP, scale=scale, floor=floor, times=times,
                      better="more", by="median")  # fmt: skip

    def _scale(self, shape: Shape) -> dict[str, int | str]:
        return {"iptables": shape.xtables, "family": f"IPv{self._family}", "interfaces": shape.interfaces}

    def _shape(self, sources: int, rules: int, affinity: str) -> Shape:
        return Shape(self._xtables, sources, rules, affinity)

    def _bare(self, sources: int) -> Shape:
        return Shape(self._xtables, sources, 0)

    def _of(self, shape: Shape, what: str) -> tuple[float, ...]:
        return tuple(self._rates[shape, self._family, what])


def _difference(shape: Shape, beside: Shape) -> str:
    """What is otherwise in the shape that another is compared with."""
    if not beside.rules:
        return "no connbal"
    if beside.interfaces != shape.interfaces:
        return f"{beside.interfaces} interfaces"
    return f"{beside.rules} rule{'' if beside.rules == 1 else 's'}"
