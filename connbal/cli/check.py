"""``connbal check``: what is wrong with the configuration."""

from __future__ import annotations

import click

from connbal.cli import findings
from connbal.cli.context import Session
from connbal.cli.output import emit


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def check(session: Session, as_json: bool) -> None:
    """Check the configuration. Exit code 1 if a section or option has no effect because it is wrong.

    Looks at the file only. Whether sets exist, and whether the kernel takes everything, plan and apply say.

    \b
    Examples:
      connbal check
      connbal check --json
    """
    decoded = session.decoded()
    config = decoded.config
    if as_json:
        emit("check", {"findings": [findings.as_json(one) for one in decoded.findings]})
    else:
        findings.show(decoded.findings)
        counts = [f"{kind}: {len(getattr(config, kind))}" for kind in ("interfaces", "members", "policies", "rules")]
        click.echo(f"{session.config_file}: {', '.join([*counts, f'errors: {len(decoded.errors)}'])}")
    if decoded.errors:
        click.get_current_context().exit(1)
