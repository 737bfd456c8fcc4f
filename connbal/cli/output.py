"""How commands print: tables for people, documents for programs. Imports click, and the rest when needed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from connbal.errors import ConfigError, ConnbalError, KernelError, printable

#: Version of each form that is not 1 any more. It grows when something is taken away or changes its meaning, not when
#: something is added.
VERSIONS: Mapping[str, int] = {}

#: Columns where the output is no terminal.
WIDTH = 80
#: Columns that a table has at least, however small the terminal is.
LEAST_WIDTH = 40
#: A column of a table as wide as this or less is never shortened: the longest state is so long.
WHOLE = 13
#: Where a table is too wide: what the last column keeps and what the others are shortened to, gently and if need be.
LAST, SHORT = (32, 16), (16, 8)

#: Columns whose words are coloured, and how.
STATE_COLUMNS = ("STATE", "STATUS", "ENABLED")
COLOURS = {
    "up": "green", "online": "green", "yes": "green",
    "down": "red", "offline": "red",
    "connecting": "yellow", "disconnecting": "yellow", "disabled": "yellow", "skipped": "yellow", "no": "yellow",
}  # fmt: skip

#: Seconds after which something that goes on says so.
PATIENCE = 1.0


def document(form: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What ``--json`` prints: an object that begins with its form and the form's version (``status/1``)."""
    return {"schema": f"{form}/{VERSIONS.get(form, 1)}", **data}


def emit(form: str, data: Mapping[str, Any], *, line: bool = False) -> None:
    """Print a document; as one ``line`` where more follow."""
    import json

    click.echo(json.dumps(document(form, data), indent=None if line else 2))


def failure(error: ConnbalError) -> dict[str, Any]:
    """What a document ``error/1`` says: why a command failed, and as far as it is known where."""
    about: dict[str, Any] = {"error": printable(str(error)), "code": error.kind}
    if isinstance(error, ConfigError):
        about |= {"package": error.package, "section": error.section, "option": error.option, "line": error.line}
    elif isinstance(error, KernelError):
        about |= {"command": error.command}
    return about


# --- tables -----------------------------------------------------------------------------------------------------------


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> list[str]:
    """A table as lines of at most ``width`` columns; None: as many as there are.

    The last column's text goes on below where it is too long; names in the others are shortened, but never two of a
    column to the same. Only where even that is not enough are lines longer.
    """
    cells = [list(header), *([visible(cell) for cell in row] for row in rows)]
    limit = max(LEAST_WIDTH, columns() if width is None else width)
    widths = _widths(cells, limit)
    for column, most in enumerate(widths[:-1]):
        if all(len(row[column]) <= most for row in cells):
            continue
        short = _shortened([row[column] for row in cells], most)
        for row, text in zip(cells, short, strict=True):
            row[column] = text
        widths[column] = max(map(len, short))
    lines = [click.style(title, bold=True)] if title else []
    for number, row in enumerate(cells):
        lines += _line(row, widths, header if number else ())
    return lines


def columns() -> int:
    """How wide a table may be: the terminal less its last column, where many would break the line; else WIDTH."""
    if not sys.stdout.isatty():
        return WIDTH
    import shutil

    return shutil.get_terminal_size().columns - 1


def _widths(cells: Sequence[Sequence[str]], limit: int) -> list[int]:
    """The width of each column: what it needs, or less where that is too much."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    over = sum(widths) + 2 * len(widths) - limit
    if over <= 0:
        return widths
    names = [column for column, natural in enumerate(widths[:-1]) if natural > WHOLE and _is_text(cells, column)]
    for last, short in zip(LAST, SHORT, strict=True):
        for columns_, floor in (([len(widths) - 1], last), (names, short)):
            over = _shrink(widths, columns_, {column: max(floor, len(cells[0][column])) for column in columns_}, over)
    return widths


def _shrink(widths: list[int], which: Sequence[int], floors: Mapping[int, int], over: int) -> int:
    """Take ``over`` off the widest of some columns in turn, as far as they may be shortened; what is left of it."""
    while over > 0:
        wide = [column for column in which if widths[column] > floors[column]]
        if not wide:
            break
        widths[max(wide, key=lambda column: widths[column])] -= 1
        over -= 1
    return over


def _is_text(cells: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column has anything but numbers, which have to be whole."""
    return not all(row[column].isdigit() for row in cells[1:])


def _shortened(texts: Sequence[str], most: int) -> list[str]:
    """Texts of at most ``most`` characters: the beginning and the end around a ``~``, which no name of UCI has.

    Where two would look alike, a checksum stands in place of the end; and where even that is the same, they stay long.
    """
    made: dict[str, str] = {text: _elided(text, most) for text in texts}
    if len(set(made.values())) < len(made):
        made = {text: _checked(text, most) for text in texts}
    if len(set(made.values())) < len(made):
        return list(texts)
    return [made[text] for text in texts]


def _elided(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return f"{text[: most - 1 - tail]}~{text[len(text) - tail :]}"


def _checked(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    import zlib

    return f"{text[: most - 6]}~{zlib.crc32(text.encode('utf-8', 'surrogateescape')) & 0xFFFFF:05x}"


def _line(row: Sequence[str], widths: Sequence[int], header: Sequence[str]) -> Iterator[str]:
    """One row as lines. ``header``: of the table; none: this is the header."""
    first, *more = wrap(row[-1], widths[-1])
    cells = [*row[:-1], first]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    padded = [*(cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False)), cells[-1]]
    yield "".join(f"  {_coloured(cell, header[column : column + 1])}" for column, cell in enumerate(padded))
    indent = " " * (sum(widths[:-1]) + 2 * len(widths))
    yield from (f"{indent}{text}" for text in more)


def _coloured(cell: str, header: Sequence[str]) -> str:
    """A padded cell, coloured where its column has states. click leaves colours out where there is no terminal."""
    colour = COLOURS.get(cell.strip()) if header and header[0] in STATE_COLUMNS else None
    return click.style(cell, fg=colour) if colour else cell


def wrap(text: str, width: int) -> list[str]:
    """A text in lines of at most ``width``: broken after commas if that is enough, else between words, else anywhere.

    A number and its unit stay together.
    """
    if len(text) <= width:
        return [text]
    parts = [f"{part}," for part in text.split(", ")]
    parts[-1] = parts[-1][:-1]
    if len(parts) == 1 or max(map(len, parts)) > width:
        parts = [part.replace("\0", " ") for part in text.replace(" %", "\0%").replace(" ms", "\0ms").split()]
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + 1 + len(part) <= width:
            lines[-1] += f" {part}"
            continue
        while len(part) > width:
            joint = max(part.rfind(char, 0, width) for char in ",;._-/:") + 1
            cut = joint if joint > width // 2 else width
            lines.append(part[:cut])
            part = part[cut:]
        lines.append(part)
    return [line for line in lines if line] or [""]


def visible(text: str) -> str:
    """Nothing that a terminal would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def exact(text: str) -> None:
    """Print a text of several lines, byte for byte; on a terminal, without what that would obey."""
    if sys.stdout.isatty():
        text = "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))
    click.echo(text.encode("utf-8", "surrogateescape"), nl=False)


# --- waiting ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def progress(text: str) -> Iterator[None]:
    """Say ``text`` on standard error, if that is a terminal, while the block goes on for longer than PATIENCE."""
    if not sys.stderr.isatty():
        yield
        return
    import threading

    lock, said = threading.Lock(), [False, False]  # said it; is over

    def say() -> None:
        with lock:
            if not said[1]:
                said[0] = True
                click.echo(f"{text} ...", err=True, nl=False)

    timer = threading.Timer(PATIENCE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            said[1] = True
        if said[0]:
            click.echo("\r\x1b[K", err=True, nl=False, color=True)
