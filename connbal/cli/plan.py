"""``connbal plan``: what apply would change, without changing it."""

from __future__ import annotations

import click

from connbal.cli import findings
from connbal.cli.context import Session


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print changes and findings as JSON.")
@click.pass_obj
def plan(session: Session, as_json: bool) -> None:
    """Show what apply would change. Nothing is changed.

    A line that begins with + is made, with ~ changed, with - taken away. What the kernel would refuse does not show.

    \b
    Examples:
      connbal plan
      connbal plan --json
    """
    decoded = session.decoded()
    with session.reconciler(needed=False) as reconciler:
        report = reconciler.preview(decoded.config)
    if findings.show_report("plan", report, decoded, as_json):
        for line in report.changes or ["nothing to change"]:
            click.echo(line)
