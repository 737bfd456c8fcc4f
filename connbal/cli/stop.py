"""``connbal stop``: leave the kernel as it was before."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import click

from connbal.cli.context import Session
from connbal.cli.output import progress
from connbal.errors import KernelError

if TYPE_CHECKING:
    from connbal.kernel.rundir import RunDir

#: Seconds that the daemon has to end: it may be in the middle of a change.
PATIENCE = 30.0


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Print every change.")
@click.pass_obj
def stop(session: Session, verbose: bool) -> None:
    """End the daemon, and take everything connbal made out of the kernel, and nothing else.

    It stays so until connbal daemon or connbal apply. Connections that are open go on as the main routing table says.
    What interface force said is kept. Where a service manager would start the daemon again, have that stop it first.

    \b
    Examples:
      connbal stop
      connbal stop --verbose
    """
    run = session.run()
    with progress("waiting for the daemon to end"):
        ended = end_daemon(run)
    with session.reconciler() as reconciler:
        done = reconciler.stop()
        run.forget_health()
        run.stopped(True)
        run.steer(False)
    if verbose:
        for line in done:
            click.echo(line)
    click.echo("stopped" if done or ended else "nothing to stop")


def end_daemon(run: RunDir) -> bool:
    """End the daemon, if one runs, and wait for its end. KernelError where it does not end, or may not be ended."""
    pid = run.daemon()
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except OSError as error:
        raise KernelError(f"kill {pid}", None, f"the daemon cannot be ended: {error.strerror}") from error
    end = time.monotonic() + PATIENCE
    while run.daemon() == pid:
        if time.monotonic() > end:
            raise KernelError(f"kill {pid}", None, f"the daemon has not ended within {PATIENCE:g} s")
        time.sleep(0.02)
    return True
