"""The results in the documentation: a table between two markers, with the machine named; and what README claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.results import HEADER, Figure, cells

BEGIN, END = "<!-- results: ./bench --docs -->", "<!-- end of the results -->"
CLAIMS = "<!-- lines of docs/benchmark.md: ./bench --docs -->"


def update(path: Path, result: Mapping[str, Any], figures: Sequence[Figure]) -> None:
    """Write the table into a page. Raises ValueError where the page has no markers."""
    path.write_text(replaced(path.read_text(encoding="utf-8"), render(result, figures)), encoding="utf-8")


def claim(path: Path, figures: Sequence[Figure]) -> None:
    """Write the figures of the lines that a page quotes. Raises ValueError where it quotes one that there is not."""
    path.write_text(claimed(path.read_text(encoding="utf-8"), figures), encoding="utf-8")


def claimed(page: str, figures: Sequence[Figure]) -> str:
    """The page with what was measured in each line of the table below CLAIMS; its first cell is its name. Pure."""
    before, mark, rest = page.partition(CLAIMS)
    table, blank, after = rest.lstrip("\n").partition("\n\n")
    if not mark:
        raise ValueError(f"the page has no line {CLAIMS}")
    known = {_escaped(figure.name): figure for figure in figures}
    head, ruler, *rows = table.splitlines()
    lines = [head, ruler]
    for row in rows:
        name = row.strip("| ").split(" | ")[0]
        if name not in known:
            raise ValueError(f"nothing was measured that is named {name!r}")
        _, _, measured, worst, _, ratio, to, _ = cells(known[name])
        lines.append(_line((known[name].name, measured, worst, ratio, to)))
    return f"{before}{CLAIMS}\n\n" + "\n".join(lines) + blank + after


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
