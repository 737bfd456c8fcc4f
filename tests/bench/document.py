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
    """The machine, and a table for each group, in Markdown. Pure."""
    parts = ["\n".join(f"- {name}: {_escaped(str(value))}" for name, value in result["machine"].items())]
    for group in dict.fromkeys(figure.group for figure in figures):
        rows = [cells(figure) for figure in figures if figure.group == group]
        ruler = ["---", *("---:" for _ in HEADER[1:-2]), "---", "---"]
        parts.append(f"### {group[:1].upper()}{group[1:]}\n\n" + "\n".join(map(_line, ([*HEADER], ruler, *rows))))
    return "\n\n".join(parts)


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<=", "≤").replace(">=", "≥").replace("<", "&lt;")
