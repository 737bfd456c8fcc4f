"""Which rules are never reached, because rules above them take all they are for. Pure.

A rule is reached if one of its packets gets past all rules above. So take one packet of it, and look for a rule above
that takes it: where there is none, the rule is reached, and that is proven. Where there is one, go on with what it
leaves. Nearly always the first packet decides, and an index finds the few rules that could take it, so a thousand
rules are compared with a handful each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from connbal.model.boxes import WIDTHS, Box, Intervals, Point, box_of, corner, covers, holds, remainder, whole
from connbal.model.config import FAMILIES, Family, Rule

#: Pieces into which one rule may be cut before it is taken to be reached.
MAX_STEPS = 64
#: Looks of one rule at another, for each rule on an average, after which all further ones are taken to be reached.
MAX_LOOKS = 1000
#: Intervals of one dimension up to which the index files a box under each of them.
MAX_KEYS = 8


@dataclass(frozen=True)
class Cover:
    """What stands above a rule, by family in which the rule takes anything at all.

    ``above``: the rules that together take all of it, in matching order; None: it is reached.
    """

    boxes: Mapping[Family, Box]
    above: Mapping[Family, tuple[Rule, ...] | None]

    @property
    def is_shadowed(self) -> bool:
        """It takes something, and is reached in no family."""
        return bool(self.above) and None not in self.above.values()

    @property
    def rules_above(self) -> tuple[Rule, ...]:
        """The rules that take it, each once."""
        return tuple({rule.name: rule for rules in self.above.values() for rule in rules or ()}.values())


@dataclass(frozen=True)
class Coverage:
    """Every enabled rule's cover, by name, and for each family whether some traffic meets no rule."""

    covers: Mapping[str, Cover]
    unmatched: Mapping[Family, bool]


def coverage(rules: Sequence[Rule]) -> Coverage:
    """Look at all rules, in matching order. Those that are disabled neither take anything nor are looked at."""
    enabled = [rule for rule in rules if rule.enabled]
    indexes = {family: _Index(family, MAX_LOOKS * len(enabled)) for family in FAMILIES}
    found = {}
    for number, rule in enumerate(enabled):
        boxes = {family: box for family in FAMILIES if (box := box_of(rule, family)) is not None}
        above: dict[Family, tuple[Rule, ...] | None] = {}
        for family, box in boxes.items():
            numbers = indexes[family].above(box)
            if numbers is None:
                indexes[family].add(number, box)  # one that is never reached takes nothing from those below either
            above[family] = None if numbers is None else tuple(enabled[one] for one in sorted(numbers))
        found[rule.name] = Cover(boxes, above)
    return Coverage(found, {family: indexes[family].leaves_some() for family in FAMILIES})


Key = tuple[int, int, int] | tuple[str, str]


class _TooLong(Exception):
    """It is not worth finding out."""


class _Index:
    """Boxes of one family, found by a packet they may hold.

    A box is filed once for each interval of one dimension, under the prefix that encloses it; which dimension is the
    one where fewest others are filed already.
    """

    def __init__(self, family: Family, looks: int) -> None:
        self._family, self._looks = family, looks
        self._widths = WIDTHS[family]
        self._full = whole(family).numbers
        self._boxes: dict[int, Box] = {}
        self._filed: dict[Key, list[int]] = {}
        self._lengths: list[set[int]] = [set() for _ in self._widths]
        self._names = False
        self._rest: list[int] = []

    def add(self, number: int, box: Box) -> None:
        self._boxes[number] = box
        best: list[Key] = []
        least = len(self._rest)
        for keys in self._choices(box):
            crowd = max(len(self._filed.get(key, ())) for key in keys)
            if crowd < least or not best:
                best, least = keys, crowd
        for key in best:
            self._filed.setdefault(key, []).append(number)
            if len(key) == 3:
                self._lengths[key[0]].add(key[1])
            else:
                self._names = True
        if not best:
            self._rest.append(number)

    def above(self, box: Box) -> set[int] | None:
        """The boxes that together hold all of ``box``; None: they do not, or it would take too long to find out."""
        try:
            return self._together(box)
        except _TooLong:
            return None

    def leaves_some(self) -> bool:
        """Whether some packet is certainly in no box."""
        try:
            return self._together(whole(self._family)) is None
        except _TooLong:
            return False

    def _together(self, box: Box) -> set[int] | None:
        """As :meth:`above`, with the second kind of None as _TooLong."""
        used: set[int] = set()
        pieces = [box]
        for _ in range(MAX_STEPS):
            if not pieces:
                return used
            piece = pieces.pop()
            number, is_all = self._taking(piece)
            if number is None:
                return None
            used.add(number)
            if not is_all:
                pieces += remainder(piece, self._boxes[number])
        raise _TooLong

    def _taking(self, piece: Box) -> tuple[int | None, bool]:
        """A box that holds the corner of ``piece``, and whether it holds all of it, which is best; else the last one:
        neighbours tend to be alike.
        """
        point = corner(piece)
        found = None
        for number in self._near(point):
            self._looks -= 1
            other = self._boxes[number]
            if holds(other, point):
                if covers(other, piece):
                    return number, True
                found = number if found is None else max(found, number)
        if self._looks < 0:
            raise _TooLong
        return found, False

    def _choices(self, box: Box) -> Iterator[list[Key]]:
        for dimension, intervals in enumerate(box.numbers):
            if intervals != self._full[dimension] and len(intervals) <= MAX_KEYS:
                yield self._prefixes(dimension, intervals)
        for kind, names in (("device", box.devices), ("mac", box.macs)):
            if names:
                yield [(kind, name) for name in names]
        for kind, name in (("destination", box.destination_set), ("source", box.source_set)):
            if name is not None:
                yield [(kind, name)]

    def _prefixes(self, dimension: int, intervals: Intervals) -> list[Key]:
        width = self._widths[dimension]
        keys: dict[Key, None] = {}
        for first, last in intervals:
            free = (first ^ last).bit_length()
            keys[dimension, width - free, first >> free] = None
        return list(keys)

    def _near(self, point: Point) -> Iterator[int]:
        """Every box that may hold a packet; some may come twice."""
        yield from self._rest
        filed = self._filed
        for dimension, number in enumerate(point.numbers):
            width = self._widths[dimension]
            for length in self._lengths[dimension]:
                yield from filed.get((dimension, length, number >> (width - length)), ())
        if self._names:
            for kind, name in (
                ("device", point.device), ("mac", point.mac),
                ("destination", point.destination_set), ("source", point.source_set),
            ):  # fmt: skip
                if name is not None:
                    yield from filed.get((kind, name), ())
