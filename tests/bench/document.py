"""The results in the documentation: a table between two markers, with the machine named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.results import HEADER, Figure, cells

BEGIN, END = "<!-- results: ./bench --docs -->", "<!-- end of the results -->"


def update(path: Path, result: Mapping[str, Any], figures: Sequence[Figure]) -> None:
    """Write the table into a page. Raises ValueError where the page has no markers."""
    path.write_text(replaced(path.read_text(encoding="utf-8"), render(result, figures)), encoding="utf-8")


def replaced(page: str, made: str) -> str:
    """The page with what stands between its markers replaced. Pure."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def render(result: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """The machine, a table of what has a target, and one of the rest of each group, in Markdown. Pure."""
    parts = ["\n".join(f"- {name}: {_escaped(str(value))}" for name, value in result["machine"].items())]
    parts += _section("targets", [figure for figure in figures if figure.has_target])
    for group in dict.fromkeys(figure.group for figure in figures):
        parts += _section(group, [figure for figure in figures if figure.group == group and not figure.has_target])
    return "\n\n".join(parts)


def _section(title: str, figures: Sequence[Figure]) -> list[str]:
    if not figures:
        return []
    ruler = ["---", *("---:" for _ in HEADER[1:-2]), "---", "---"]
    lines = map(_line, ([*HEADER], ruler, *map(cells, figures)))
    return [f"### {title[:1].upper()}{title[1:]}\n\n" + "\n".join(lines)]


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<=", "≤").replace(">=", "≥").replace("<", "&lt;")
