"""``connbal import``: make the configuration what a document says."""

from __future__ import annotations

import sys

import click

from connbal.cli import editing
from connbal.cli.context import Session
from connbal.errors import UsageError
from connbal.model.names import PACKAGE


@click.command("import")
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--merge", is_flag=True, help="Change and add the sections in FILE only; all others stay.")
@click.option("--diff", is_flag=True,
              help="Only print what would change; exit code 1 if anything would.")  # fmt: skip
@click.option("--force", is_flag=True, help="Take it also where something in it would have no effect.")
@editing.options
@click.pass_obj
def import_(session: Session, file: str, merge: bool, diff: bool, force: bool, flags: editing.Flags) -> None:
    """Make the configuration what FILE says, which connbal export has printed or a program has made; - is standard
    input.

    All of it is changed at once or, where anything in FILE makes no sense, nothing. Only what differs is written, so
    a second import does nothing. Sections that are not in FILE go, those of other tools too, unless there is --merge.
    With --merge a section in FILE takes the place of the one of the same name, with all its options; one without a name
    is added, unless there is one that says the same.

    \b
    Examples:
      connbal import backup.json
      connbal import --diff backup.json
      connbal import --merge --no-apply rules.json
    """
    from connbal.uci import exchange

    given = exchange.parse(_read(file, exchange.MAX_BYTES + 1), PACKAGE)
    flags.verify = not force
    if diff and flags.confirm is not None:
        raise UsageError("--confirm and --diff exclude each other: with --diff, nothing is in force that could go back")
    if diff:
        flags.dry_run, flags.apply = True, False
    with editing.change(session, flags) as editor:
        exchange.transform(editor, exchange.merged(editor.package, given) if merge else given)
        differs = bool(editor.changes)
        flags.done = f"imported {file if file != '-' else 'standard input'}"
    if diff and differs:
        click.get_current_context().exit(1)


def _read(file: str, limit: int) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read(limit)
        with open(file, "rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from error
