"""``connbal events``: what the daemon did, and what it does."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from connbal.cli import complete
from connbal.cli.context import Session
from connbal.cli.output import document
from connbal.errors import KernelError
from connbal.track import client, journal

#: Seconds between two looks for a daemon that has gone: the first, and the longest.
_PAUSE, _PAUSE_MAX = 0.1, 2.0


@click.command()
@click.option("--follow", is_flag=True, help="Go on with each new event as it comes, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print each as a line of JSON.")
@click.option("--interface", metavar="NAME", shell_complete=complete.sections("interface"),
              help="Only what happened to this interface.")  # fmt: skip
@click.pass_obj
def events(session: Session, follow: bool, as_json: bool, interface: str | None) -> None:
    """Show what the daemon remembers, oldest first: what happened to interfaces and why, and what was done about it.

    The daemon remembers its last 1,000 events. With --follow, a daemon that restarts is waited for.

    \b
    Examples:
      connbal events
      connbal events --follow
      connbal events --follow --interface wan1
      connbal events --json
    """
    try:
        for record in _followed(session.run_dir) if follow else client.events(session.run_dir):
            if interface is None or record.get("interface") == interface:
                click.echo(json.dumps(document("event", record)) if as_json else journal.line(record))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end


def _followed(run_dir: Path) -> Iterator[journal.Record]:
    """Records without end, from one daemon after the other. KernelError where there is none to begin with."""
    last, pause, lost = (0.0, 0), _PAUSE, False
    while True:
        try:
            for record in client.events(run_dir, follow=True):
                # Another daemon numbers anew, but the clock goes on; the same one would tell all it knows once more.
                place = (record["uptime"], record["number"])
                if place > last:
                    last, pause, lost = place, _PAUSE, False
                    yield record
        except client.Gone:
            if not lost:
                click.echo("connbal: the daemon has gone; waiting for it", err=True)
        except KernelError:
            if not lost:
                raise
        lost = True
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE_MAX)
