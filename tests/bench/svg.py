"""Plots as SVG, drawn by hand: no library, nothing that a page would have to load. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from tests.bench.plots import Columns, Lines, Point
from tests.bench.results import text

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 300, 78, 30, 14, 44
_PALETTE = ("#1f6fb4", "#d9541e", "#2b9348", "#8a4fbf", "#b58900", "#c2185b", "#008b8b", "#555555")
_FLOOR = "#999999"


def render_lines(plot: Lines) -> str:
    """Medians, with bars from the least to the most; floors are dashed."""
    every = [point for points in (*plot.lines.values(), *plot.floors.values()) for point in points]
    xs = sorted({point.x for point in every})
    top = _round_up(max(point.high for point in every))
    parts = [*_axis_y(top, plot.unit), *_axis_x([(_across(x, xs), f"{x:,.0f}") for x in xs], plot.across)]
    named: list[tuple[str, str]] = []
    for number, (name, points) in enumerate(plot.floors.items()):
        colour = _FLOOR
        parts += _line(points, xs, top, colour, f"{4 + 3 * number} 4")
        named.append((f"{name} (floor)", colour))
    for number, (name, points) in enumerate(plot.lines.items()):
        colour = _PALETTE[number % len(_PALETTE)]
        parts += _line(points, xs, top, colour, "")
        named.append((name, colour))
    return _drawing(plot.title, parts, named)


def render_columns(plot: Columns) -> str:
    """A column for each interval; the target is a line where it is within reach."""
    top = _round_up(max(plot.counts))
    high = plot.low + plot.width * len(plot.counts)
    if plot.limit is not None and plot.limit > high:
        high = min(plot.limit, high + 0.5 * (high - plot.low)) if high > plot.low else high
    span = high - plot.low or 1.0
    inside = _WIDTH - _LEFT - _RIGHT
    parts = list(_axis_y(top, ""))
    for number, count in enumerate(plot.counts):
        left = _LEFT + inside * number * plot.width / span
        y = _up(count, top)
        parts.append(f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(inside * plot.width / span - 1, 1):.1f}" '
                     f'height="{_HEIGHT - _BOTTOM - y:.1f}" fill="{_PALETTE[0]}"/>')  # fmt: skip
    marks = [(_LEFT + inside * part / 4, text(plot.low + span * part / 4, plot.unit)) for part in range(5)]
    parts += _axis_x(marks, "")
    named = []
    if plot.limit is not None and plot.low <= plot.limit <= high:
        x = _LEFT + inside * (plot.limit - plot.low) / span
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="{_PALETTE[1]}" '
                     'stroke-dasharray="5 4"/>')  # fmt: skip
        named.append((f"target: {text(plot.limit, plot.unit)}", _PALETTE[1]))
    return _drawing(plot.title, parts, named)


def _line(points: Sequence[Point], xs: Sequence[float], top: float, colour: str, dashes: str) -> Iterator[str]:
    places = [(_across(point.x, xs), point) for point in points]
    path = " ".join(f"{x:.1f},{_up(point.median, top):.1f}" for x, point in places)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'
    for x, point in places:
        yield (f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_up(point.low, top):.1f}" y2="{_up(point.high, top):.1f}" '
               f'stroke="{colour}"/>')  # fmt: skip
        yield f'<circle cx="{x:.1f}" cy="{_up(point.median, top):.1f}" r="3" fill="{colour}"/>'


def _across(x: float, xs: Sequence[float]) -> float:
    """Where a number is on an axis of logarithms; 0 has a place beside 1."""
    low, high = math.log(max(xs[0], 0.5)), math.log(max(xs[-1], 0.5))
    part = (math.log(max(x, 0.5)) - low) / (high - low) if high > low else 0.5
    return _LEFT + 12 + (_WIDTH - _LEFT - _RIGHT - 24) * part


def _up(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / top


def _round_up(value: float) -> float:
    """The end of an axis: 1, 2, 4 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 4.0, 5.0, 10.0) if step * power >= value * (1 - 1e-9))


def _axis_y(top: float, unit: str) -> Iterator[str]:
    for part in range(5):
        y = _up(top * part / 4, top)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text(top * part / 4, unit))}</text>'


def _axis_x(marks: Sequence[tuple[float, str]], name: str) -> Iterator[str]:
    for x, said in marks:
        yield f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{escape(said)}</text>'
    yield f'<text x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(name)}</text>'


def _drawing(title: str, parts: Sequence[str], named: Sequence[tuple[str, str]]) -> str:
    keys = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in named)
    drawn = "\n".join(parts)
    return (f'<figure><figcaption>{escape(title)}</figcaption>\n<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-label="{escape(title)}">\n{drawn}\n</svg>\n<ul class="keys">{keys}</ul></figure>')  # fmt: skip
