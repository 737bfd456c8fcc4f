"""``connbal init``: write the configuration that connbal ships."""

from __future__ import annotations

import importlib.resources

import click

from connbal.cli.context import Session
from connbal.errors import ConfigError
from connbal.model.config import PACKAGE


@click.command()
@click.option("--force", is_flag=True, help="Replace a configuration that is there. The old one is kept as mwan3.old.")
@click.pass_obj
def init(session: Session, force: bool) -> None:
    """Write the default configuration, to start from.

    It names the interfaces of a ROOter router. Its rules use policy failover: hotspot, then WAN, then the modems, one
    at a time. Policy balanced is there too, for all at once. Where sources share traffic, a lower weight gets more,
    and what one device does with one site stays on one source. Modems are disabled until somebody enables them.

    Nobody but root may open the file, as with those that uci makes: who may read it could lock it.

    \b
    Examples:
      connbal init
      connbal --config-dir ./config init --force
    """
    from connbal.kernel import files

    target = session.config_file
    text = importlib.resources.files("connbal").joinpath("default-config").read_text("utf-8")
    if target.exists():
        if session.may_wait:
            from connbal.cli.confirming import reminder, settle
            from connbal.pending.record import Waiting

            settle(session)
            if waits := reminder(session):
                raise Waiting(waits)
        if not force:
            raise ConfigError(PACKAGE, None, None, f"{target} exists; --force replaces it and keeps the old one")
        files.write(target.with_name(f"{PACKAGE}.old"), files.read(target) or "")
    files.write(target, text)
    click.echo(f"wrote {target}")
