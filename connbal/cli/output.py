"""How commands print: tables for people, documents for programs. Imports click, and json when needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

#: Version of each form that is not 1 any more. It grows when something is taken away or changes its meaning, not when
#: something is added.
VERSIONS: Mapping[str, int] = {}


def document(form: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What ``--json`` prints: an object that begins with its form and the form's version (``status/1``)."""
    return {"schema": f"{form}/{VERSIONS.get(form, 1)}", **data}


def emit(form: str, data: Mapping[str, Any], *, line: bool = False) -> None:
    """Print a document; as one ``line`` where more follow."""
    import json

    click.echo(json.dumps(document(form, data), indent=None if line else 2))


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as they need; the last takes what is left and is never padded."""
    everything = [list(header), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    lines = [click.style(title, bold=True)] if title else []
    for row in everything:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def visible(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text)
