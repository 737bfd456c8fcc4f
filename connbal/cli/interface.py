"""``connbal interface force``: the other verbs are made in :mod:`connbal.cli.verbs` and ``listing``."""

from __future__ import annotations

import click

from connbal.cli import complete
from connbal.cli.applying import apply_now
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
    applied = None if no_apply else apply_now(session, done="remembered")
    if applied is None or applied.by == "nobody":
        click.echo(f"{name}: {state} from the next apply on")
        return
    view = applied.interfaces.get(name)
    now = f"{'up' if view[0] else 'down'}: {view[1]}" if view else "left out"
    click.echo(f"{name} is {now}")
