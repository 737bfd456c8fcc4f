"""``connbal export``: the whole configuration, for programs and for keeping."""

from __future__ import annotations

import click

from connbal.cli.context import Session
from connbal.errors import UsageError
from connbal.model.config import PACKAGE


@click.command()
@click.option("--uci", "as_uci", is_flag=True, help="As text that uci import reads, in place of JSON.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, which is the default; errors as JSON, too.")
@click.pass_obj
def export(session: Session, as_uci: bool, as_json: bool) -> None:
    """Print the whole configuration, as committed: every section and option, also those of other tools.

    An import takes it, here or on another router. docs/json.md describes the form. As UCI, what a terminal would obey
    is shown as ? there; a file or pipe gets every byte.

    \b
    Examples:
      connbal export
      connbal export --uci
    """
    if as_uci and as_json:
        raise UsageError("--uci and --json exclude each other; choose one")
    package = session.store().load(PACKAGE)
    if as_uci:
        from connbal.cli.output import exact
        from connbal.uci import text

        exact(text.export(package))
    else:
        from connbal.cli.output import emit
        from connbal.uci import exchange

        emit("export", exchange.as_data(package))
