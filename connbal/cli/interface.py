"""``connbal interface force``: the other verbs are made in :mod:`connbal.cli.verbs` and ``listing``."""

from __future__ import annotations

import click

from connbal.cli import complete
from connbal.cli.context import Session
from connbal.errors import UsageError


@click.command()
@click.argument("name", shell_complete=complete.sections("interface"))
@click.argument("state", type=click.Choice(["up", "down", "auto"]))
@click.option("--no-apply", is_flag=True, help="Remember it, but leave the kernel as it is until the next apply.")
@click.pass_obj
def force(session: Session, name: str, state: str, no_apply: bool) -> None:
    """Treat interface NAME as up or down, whatever is known of its health; auto ends that.

    Takes effect at once where connbal is applied, else with the next apply. An interface without a device or address
    cannot be used, forced or not. Lasts until the next boot. An interface serves one family: for both, force its IPv6
    half (wan1_6) as well.

    \b
    Examples:
      connbal interface force wan1 down
      connbal interface force wan1 auto
    """
    known = [one.name for one in session.decoded().config.interfaces]
    if name not in known:
        import difflib

        near = "".join(f"; did you mean {one}?" for one in difflib.get_close_matches(name, known, 1))
        raise UsageError(f"no interface {name!r} in {session.config_file}{near}")
    session.run().force(name, None if state == "auto" else state)
    report = None
    if not no_apply:
        with session.reconciler() as reconciler:
            if reconciler.applied():
                report = reconciler.apply(session.decoded().config)
    if report is None:
        click.echo(f"{name}: {state} from the next apply on")
        return
    view = next((view for view in report.plan.interfaces if view.name == name), None)
    now = f"{'up' if view.usable else 'down'}: {view.reason}" if view else "left out"
    click.echo(f"{name} is {now}")
