"""``connbal stop``: leave the kernel as it was before."""

from __future__ import annotations

import click

from connbal.cli.context import Session


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Print every change.")
@click.pass_obj
def stop(session: Session, verbose: bool) -> None:
    """Take everything connbal made out of the kernel, and nothing else.

    Connections that are open go on as the main routing table says. What interface force said is kept.

    \b
    Examples:
      connbal stop
      connbal stop --verbose
    """
    with session.reconciler() as reconciler:
        done = reconciler.stop()
    if verbose:
        for line in done:
            click.echo(line)
    click.echo("stopped" if done else "nothing to stop")
