"""The page: the table and the plots, in one file that loads nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tests.bench import plots, svg
from tests.bench.results import HEADER, Figure, cells

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 0 0 1.5em; font-size: 14px; }
td, th { padding: .15em .7em; border-bottom: 1px solid #e3e3e3; text-align: right; white-space: nowrap; }
td:first-child, th:first-child, td:nth-last-child(-n+2), th:nth-last-child(-n+2) { text-align: left; }
.missed { background: #fde4dc; } .ok td:last-child { color: #2b7a3b; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1.2em; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { font-size: 12px; fill: #444; } .grid { stroke: #e3e3e3; }
.keys { list-style: none; margin: 0; padding: 0; font-size: 13px; }
.keys li { display: inline-block; margin-right: 1em; }
.keys i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
"""


def render(result: Mapping[str, Any], figures: Sequence[Figure], remarks: Sequence[str]) -> str:
    """The whole page. ``result``: ``machine`` and ``seconds``, see ``python -m tests.bench``."""
    missed = sum(figure.missed for figure in figures)
    kept = sum(figure.has_target for figure in figures) - missed
    facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
                    for name, value in result["machine"].items())  # fmt: skip
    groups = list(dict.fromkeys(figure.group for figure in figures))
    parts = [
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8"><title>connbal: benchmark</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">', f"<style>{_STYLE}</style></head><body>",
        "<h1>connbal: benchmark</h1>",
        f"<p>Targets kept: {kept}, missed: {missed}. It took {result['seconds']:.0f} seconds.</p>",
        f"<table>{facts}</table>",
        *_targets(figures), *(_group(name, [figure for figure in figures if figure.group == name]) for name in groups),
        *(f"<p>{escape(remark)}</p>" for remark in remarks), "</body></html>", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _targets(figures: Sequence[Figure]) -> list[str]:
    """What has a target, by itself: the rest explains it."""
    found = [figure for figure in figures if figure.has_target]
    return [f"<h2>targets</h2>\n{_table(found)}"] if found else []


def _table(figures: Sequence[Figure]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in HEADER)
    rows = "\n".join(map(_row, figures))
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"


def _group(name: str, figures: Sequence[Figure]) -> str:
    drawn = [*map(svg.render_lines, plots.lines(figures)), *map(svg.render_columns, plots.columns(figures))]
    pictures = "\n".join(drawn)
    return f'<h2>{escape(name)}</h2>\n{_table(figures)}\n<div class="plots">\n{pictures}\n</div>'


def _row(figure: Figure) -> str:
    kind = "missed" if figure.missed else "ok" if figure.has_target else "known"
    return f'<tr class="{kind}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells(figure))}</tr>'
