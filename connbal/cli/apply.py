"""``connbal apply``: bring the kernel to what the configuration says."""

from __future__ import annotations

from typing import Any

import click

from connbal.cli import findings
from connbal.cli.applying import apply_again, apply_here
from connbal.cli.context import Session
from connbal.cli.editing import CONFIRM, LEAST, MOST
from connbal.kernel.api import TransientError

#: Exit code of ``--if-applied`` where another had the run lock for too long, or the moment was wrong otherwise:
#: EX_TEMPFAIL of sysexits.h. ``connbal-later`` tries again then.
LATER = 75


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Print every change.")
@click.option("--confirm", "seconds", type=click.IntRange(LEAST, MOST), metavar="SECONDS", help=CONFIRM)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@click.option("--if-applied", is_flag=True, hidden=True, help="For the hotplug hook: nothing after connbal stop.")
@click.pass_obj
def apply(session: Session, verbose: bool, seconds: int | None, as_json: bool, if_applied: bool) -> None:
    """Bring the kernel to what the configuration says.

    Only what differs is changed, so a second apply does nothing. Sections that cannot work are left out and named;
    the rest is applied. With --confirm, what was applied before comes back, file and kernel, unless connbal confirm
    comes in time.

    \b
    Examples:
      connbal apply
      connbal apply --verbose
      connbal apply --confirm 60
    """
    if if_applied:
        try:
            apply_again(session)
        except TransientError:
            click.get_current_context().exit(LATER)
        return
    begun = None
    if seconds is not None:
        from connbal.cli.confirming import begin_apply

        begun = begin_apply(session, seconds)
    decoded, report = apply_here(session)
    waiting: tuple[Any, str] = None, ""
    if session.may_wait:
        from connbal.cli.confirming import as_data, reminder

        waiting = as_data(session), reminder(session)
    if not findings.show_report("apply", report, decoded, as_json, waiting=waiting[0]):
        return
    if verbose:
        for line in report.changes:
            click.echo(line)
    click.echo(f"changes: {len(report.changes)}" if report.changes else "nothing to change")
    if waiting[1]:
        click.echo(waiting[1])
    elif begun is False:
        click.echo("nothing goes back: it was in force already")
