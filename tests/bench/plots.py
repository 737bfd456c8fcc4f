"""What is drawn of the figures: which lines go into which plot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.results import Figure

#: Samples from which on their distribution is drawn.
MANY_SAMPLES = 20
#: Columns of a distribution, about.
COLUMNS = 24


@dataclass(frozen=True)
class Point:
    """At a number ``x`` of something: the median, and between what all samples were."""

    x: float
    median: float
    low: float
    high: float


@dataclass
class Lines:
    """How figures grow with one number of their scale."""

    title: str
    across: str  #: what that is a number of
    unit: str
    lines: dict[str, list[Point]] = field(default_factory=dict)
    floors: dict[str, list[Point]] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """How often a figure was how large. ``limit``: its target, in its unit."""

    title: str
    unit: str
    low: float
    width: float
    counts: tuple[int, ...]
    limit: float | None


def lines(figures: Sequence[Figure]) -> list[Lines]:
    """One plot for each group, unit and number that varies while the rest of the scale is the same."""
    found: dict[tuple[str, str, str, tuple[tuple[str, object], ...]], Lines] = {}
    for figure in figures:
        for across, x in figure.scale.items():
            if isinstance(x, int):
                rest = tuple((name, value) for name, value in figure.scale.items() if name != across)
                key = (figure.group, figure.unit, across, rest)
                _add(found.setdefault(key, Lines(_title(figure, across, rest), across, figure.unit)), figure, x)
    kept = []
    for plot in found.values():
        for known in (plot.lines, plot.floors):
            for name in [name for name, points in known.items() if len(points) < 2]:
                del known[name]
            for points in known.values():
                points.sort(key=lambda point: point.x)
        if plot.lines:
            kept.append(plot)
    return kept


def _add(plot: Lines, figure: Figure, x: int) -> None:
    plot.lines.setdefault(figure.what, []).append(_point(x, figure.samples, figure.median))
    if figure.floor is not None:
        floor = plot.floors.setdefault(figure.floor.name, [])
        if all(point.x != x for point in floor):
            floor.append(_point(x, figure.floor.samples, figure.floor.median))


def _point(x: int, samples: Sequence[float], median: float) -> Point:
    return Point(x, median, min(samples), max(samples))


def _title(figure: Figure, across: str, rest: Sequence[tuple[str, int | str]]) -> str:
    told = Figure(f"{figure.group}, by {across}", figure.samples, scale=dict(rest)).name
    return f"{told} ({figure.unit})" if figure.unit else told


def columns(figures: Sequence[Figure]) -> list[Columns]:
    """The distributions of what was measured often, and at one scale."""
    return [_columns(figure) for figure in figures
            if len(figure.samples) >= MANY_SAMPLES and not figure.scale]  # fmt: skip


def _columns(figure: Figure) -> Columns:
    low, high = min(figure.samples), max(figure.samples)
    width = (high - low) / COLUMNS or 1.0
    counts = [0] * COLUMNS
    for sample in figure.samples:
        counts[min(int((sample - low) / width), COLUMNS - 1)] += 1
    return Columns(f"{figure.what}, {len(figure.samples)} times", figure.unit, low, width, tuple(counts), figure.limit)
