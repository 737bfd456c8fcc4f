"""``connbal stop``: leave the kernel as it was before."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import click

from connbal.cli.context import Session
from connbal.cli.output import progress
from connbal.errors import KernelError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from connbal.kernel.rundir import RunDir
    from connbal.plan.ledger import Ledger

#: Seconds that the daemon has to end: it may be in the middle of a change.
PATIENCE = 30.0


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Print every change.")
@click.pass_obj
def stop(session: Session, verbose: bool) -> None:
    """End the daemon, and take everything connbal made out of the kernel, and nothing else.

    It stays so until connbal daemon or connbal apply. Connections that are open go on as the main routing table says.
    What interface force said is kept. A change that waits for its confirmation goes back in the file all the same.
    Where a service manager would start the daemon again, have that stop it first.

    \b
    Examples:
      connbal stop
      connbal stop --verbose
    """
    from connbal.pending import inforce

    run = session.run()
    with progress("waiting for the daemon to end"):
        ended = end_daemon(run)
    memory = Parting(run)
    with session.reconciler(memory, needed=False) as reconciler:
        done = reconciler.stop()
        memory.leave()
        inforce.forget(session.run_dir)
    if verbose:
        for line in done:
            click.echo(line)
    click.echo("stopped" if done or ended else "nothing to stop")
    if memory.trouble:
        what = "the kernel has nothing of connbal's any more, but that could not be remembered"
        then = "before there is room again, stop the service, or it may come back"
        click.echo(printable(f"connbal: {what}: {memory.trouble}; {then}"), err=True)
    if session.may_wait:
        from connbal.cli.confirming import remind

        remind(session)


class Parting:
    """Implements :class:`connbal.reconcile.Memory` for who takes everything away.

    It must not fail because there is nowhere to write that down; ``trouble`` says why it could not be.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self.trouble = ""

    def load(self) -> Ledger:
        return self._run.load()

    def save(self, ledger: Ledger) -> None:
        self._attempt(lambda: self._run.save(ledger))

    def leave(self) -> None:
        """Remember that the user has stopped connbal."""
        self._run.forget_health()
        self._attempt(lambda: self._run.stopped(True))
        self._run.steer(False)

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except KernelError as error:
            self.trouble = self.trouble or str(error)


def end_daemon(run: RunDir) -> bool:
    """End the daemon, if one runs, and wait for its end. KernelError where it does not end, or may not be ended."""
    pid = run.daemon()
    if pid is None:
        return False
    if not pid:
        why = "it runs where it cannot be seen from here, in another container perhaps; end it there"
        raise KernelError("end the daemon", None, why)
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
