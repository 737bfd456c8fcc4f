"""What a benchmark measured: figures with their targets, and a table of them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_DECIMALS = {"s": 3, "%": 2, "MB": 1}
#: Of the columns of :func:`cells`.
HEADER = ("what", "target", "measured", "worst", "runs", "ratio", "to", "")
#: What a ratio is to, where a figure has a limit and no floor.
LIMIT = "its target"


@dataclass(frozen=True)
class Floor:
    """Something bare that was measured in the same run, taking turns with the figure, in the figure's unit."""

    name: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Figure:
    """Something that was measured, once or several times.

    ``what``: plain and stable, as the README quotes it. ``unit``: s, %, MB, any word (``packets/s``), or empty for a
    number of things. ``of``: out of how many, where that says something.

    The target is one of: ``limit``, in the unit, which the worst sample has to keep, or the median where ``by`` says
    so; ``times``, by which the median is at most (``better`` more: at least) so many times that of ``floor``; none,
    where the figure is only for information.

    ``group``: the part that it belongs to. ``scale``: what was there, in the order in which it is told, such as
    ``{"interfaces": 20, "rules": 100, "affinity": "pair"}``. Figures that differ in one number of it alone are one
    line in a plot.
    """

    what: str
    samples: tuple[float, ...]
    limit: float | None = None
    unit: str = "s"
    of: int | None = None
    group: str = ""
    scale: Mapping[str, int | str] = field(default_factory=dict)
    floor: Floor | None = None
    times: float | None = None
    better: Literal["less", "more"] = "less"
    by: Literal["worst", "median"] = "worst"

    @property
    def name(self) -> str:
        """The name of its line: what, and at which scale."""
        return ", ".join((self.what, *(_scale(*item) for item in self.scale.items())))

    @property
    def worst(self) -> float:
        return max(self.samples) if self.better == "less" else min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def judged(self) -> float:
        """What the limit is for."""
        return self.worst if self.by == "worst" else self.median

    @property
    def ratio(self) -> float | None:
        """The median by the floor's, or what is judged by the limit; None where there is neither, or it is 0."""
        if self.floor is not None:
            return self.median / self.floor.median if self.floor.median else None
        return self.judged / self.limit if self.limit else None

    @property
    def has_target(self) -> bool:
        return self.limit is not None or self.times is not None

    @property
    def missed(self) -> bool:
        ratio = self.ratio if self.floor is not None else None
        return _beyond(self.judged, self.limit, self.better) or _beyond(ratio, self.times, self.better)

    def as_json(self) -> dict[str, Any]:
        floor = self.floor and {"name": self.floor.name, "median": self.floor.median,
                                "samples": list(self.floor.samples)}  # fmt: skip
        return {
            "name": self.name, "group": self.group, "what": self.what, "scale": dict(self.scale), "unit": self.unit,
            "better": self.better, "by": self.by, "limit": self.limit, "times": self.times, "median": self.median,
            "worst": self.worst, "ratio": self.ratio, "missed": self.missed, "of": self.of,
            "samples": list(self.samples), "floor": floor,
        }  # fmt: skip


def _beyond(value: float | None, target: float | None, better: str) -> bool:
    if value is None or target is None:
        return False
    return value > target if better == "less" else value < target


def _scale(key: str, value: int | str) -> str:
    """``20 interfaces``, ``1 rule``, ``affinity pair``."""
    if isinstance(value, str):
        return f"{key} {value}"
    return f"{value:,} {key.removesuffix('s') if value == 1 else key}"


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines for people."""
    rows = [HEADER, *map(cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *numbers, floor, verdict = row
    middle = (cell.rjust(width) for cell, width in zip(numbers, widths[1:-2], strict=True))
    return f"  {first.ljust(widths[0])}  {'  '.join(middle)}  {floor.ljust(widths[-2])}  {verdict}".rstrip()


def cells(figure: Figure) -> tuple[str, ...]:
    """A figure's line of the table, in words."""
    ratio = figure.ratio
    return (
        figure.name,
        _target(figure),
        text(figure.median, figure.unit),
        text(figure.worst, figure.unit) + ("" if figure.of is None else f" of {figure.of:,}"),
        str(len(figure.samples)),
        "-" if ratio is None else f"{ratio:.2f}",
        "" if ratio is None else LIMIT if figure.floor is None else figure.floor.name,
        "" if not figure.has_target else "MISSED" if figure.missed else "ok",
    )


def _target(figure: Figure) -> str:
    sign = "<=" if figure.better == "less" else ">="
    parts = [] if figure.limit is None else [text(figure.limit, figure.unit)]
    parts += [] if figure.times is None else [f"{figure.times:g} x"]
    return f"{sign} {', '.join(parts)}" if parts else "-"


def text(value: float, unit: str) -> str:
    """A value for people; what is shorter than 0.1 s in milliseconds."""
    if unit == "s" and 0 < abs(value) < 0.1:
        return f"{value * 1000:.{1 if abs(value) >= 0.001 else 3}f} ms"
    decimals = _DECIMALS.get(unit, 0 if value == int(value) or abs(value) >= 100 else 1)
    return f"{value:,.{decimals}f}{f' {unit}' if unit else ''}"


def distribution(samples: Iterable[float], width: float = 0.01) -> str:
    """How many samples fall into each interval of ``width`` seconds, in one line."""
    counts: dict[int, int] = {}
    for sample in samples:
        counts[int(sample / width)] = counts.get(int(sample / width), 0) + 1
    parts = (f"{n * width * 1000:.0f}-{(n + 1) * width * 1000:.0f} ms: {counts[n]}" for n in sorted(counts))
    return ", ".join(parts)
