"""What a benchmark measured: one figure with its limit, and a table of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_DECIMALS = {"s": 3, "%": 2, "MB": 1}
_HEADER = ("what", "limit", "median", "worst", "times", "worst/limit", "")


@dataclass(frozen=True)
class Figure:
    """Something that was measured, once or several times. More is worse.

    ``limit`` is in the same unit, None where the figure is only for information. ``unit``: s, %, MB, or empty for a
    number of things. ``of``: out of how many, where that says something.
    """

    what: str
    samples: tuple[float, ...]
    limit: float | None = None
    unit: str = "s"
    of: int | None = None

    @property
    def worst(self) -> float:
        return max(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """The worst by the limit; None where there is none, or it is 0."""
        return self.worst / self.limit if self.limit else None

    @property
    def missed(self) -> bool:
        return self.limit is not None and self.worst > self.limit

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what, "unit": self.unit, "limit": self.limit, "median": self.median, "worst": self.worst,
            "ratio": self.ratio, "missed": self.missed, "of": self.of, "samples": list(self.samples),
        }  # fmt: skip


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines for people."""
    rows = [_HEADER, *map(_row, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = row
    cells = (cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True))
    return f"  {first.ljust(widths[0])}  {'  '.join(cells)}  {last}".rstrip()


def _row(figure: Figure) -> tuple[str, ...]:
    limit, ratio = figure.limit, figure.ratio
    return (
        figure.what,
        "-" if limit is None else _text(limit, figure.unit),
        _text(figure.median, figure.unit),
        _text(figure.worst, figure.unit) + ("" if figure.of is None else f" of {figure.of:,}"),
        str(len(figure.samples)),
        "-" if ratio is None else f"{ratio:.2f}",
        "" if limit is None else "MISSED" if figure.missed else "ok",
    )


def _text(value: float, unit: str) -> str:
    return f"{value:,.{_DECIMALS.get(unit, 0)}f}{f' {unit}' if unit else ''}"


def distribution(samples: Iterable[float], width: float = 0.01) -> str:
    """How many samples fall into each interval of ``width`` seconds, in one line."""
    counts: dict[int, int] = {}
    for sample in samples:
        counts[int(sample / width)] = counts.get(int(sample / width), 0) + 1
    parts = (f"{n * width * 1000:.0f}-{(n + 1) * width * 1000:.0f} ms: {counts[n]}" for n in sorted(counts))
    return ", ".join(parts)
