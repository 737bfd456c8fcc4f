"""Applying what a command has committed: by the daemon where one runs, else here."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from connbal.cli.context import Session
from connbal.cli.output import progress
from connbal.errors import ConnbalError, Finding, KernelError
from connbal.frozen import dataclass

if TYPE_CHECKING:
    from connbal.reconcile import Report
    from connbal.track.applied import Result
    from connbal.uci.decode import Decoded

#: Seconds that the daemon has to answer; and, where it is about to start or to end, to do that.
WAIT, MOMENT = 60.0, 5.0
#: Seconds to ask a daemon again that is busy, before this process does it itself.
PATIENCE = 10.0
_POLL = 0.05


class NotApplied(ConnbalError):
    """What was asked for is written, but the kernel is not as it says, or it is not known whether it is."""


@dataclass(frozen=True)
class Applied:
    """What came of applying."""

    #: ``daemon``, ``command`` (this process), or ``nobody``: what is committed waits for the next apply.
    by: Literal["daemon", "command", "nobody"]
    changes: tuple[str, ...] = ()  #: what changed in the kernel, in words, in order
    #: What the run found that is not of the configuration alone, such as what the kernel refuses.
    findings: tuple[Finding, ...] = ()
    reason: str = ""  #: with ``nobody``: why, as a sentence with what to do
    #: Whether policies may use each interface now, and why, in words.
    interfaces: Mapping[str, tuple[bool, str]] = field(default_factory=dict)


def apply_now(session: Session, wait: float = WAIT, done: str = "committed") -> Applied:
    """Bring the kernel to what has just been committed, where connbal is applied at all.

    Where a daemon runs it does that, and this waits for it, ``wait`` seconds at most; several commands at once share
    a run. Else the reconciler runs here, as in ``connbal apply``. After ``connbal stop``, and before the first apply,
    nothing is done: whoever edits a configuration does not start connbal.

    Raises NotApplied: it could not be applied, or nobody has said that it was; the text begins with what is ``done``
    all the same.
    """
    try:
        return _by_daemon(session, wait) or apply_again(session)
    except KernelError as error:
        from connbal.kernel.api import TransientError
        from connbal.track.client import Unanswered

        # A daemon that does not answer, or whoever has the lock, may be about to do it, and notices the file by itself.
        if isinstance(error, TransientError | Unanswered):
            why = f"{done}, but whether it is applied is not known: {error}; connbal plan says what is left to do"
            raise NotApplied(why) from error
        raise NotApplied(f"{done}, but not applied: {error}; connbal apply tries again") from error
    except ConnbalError as error:
        raise NotApplied(f"{done}, but not applied: {error}; connbal apply tries again") from error


def apply_here(session: Session) -> tuple[Decoded, Report]:
    """Bring the kernel to what the configuration says, in this process, whatever was before. Raises ConnbalError."""
    from connbal.pending import inforce

    with session.reconciler() as reconciler:
        # Read under the lock: who comes last must not apply what it read first.
        seen = inforce.look(session.config_file)
        decoded = session.decoded()
        report = reconciler.apply(decoded.config)
        inforce.remember(session.run_dir, session.config_file, seen)
    run = session.run()
    run.stopped(False)
    run.poke("config")
    return decoded, report


def _by_daemon(session: Session, wait: float) -> Applied | None:
    """None where there is no daemon to do it."""
    from connbal.track import client

    moment = time.monotonic() + min(wait, MOMENT)
    while True:
        try:
            with progress("waiting for the daemon to apply it"):
                result = client.apply(session.run_dir, wait, min(wait, PATIENCE))
        except (client.Deaf, client.Busy):  # it may look when it is told to, but cannot be waited for
            return None
        if result is not None:
            return _told(session, result)
        # Before its socket is there, or just after, the daemon already or still holds its lock.
        if session.run().daemon() is None or time.monotonic() > moment:
            return None
        time.sleep(_POLL)


def _told(session: Session, result: Result) -> Applied:
    if os.path.realpath(result.file) != os.path.realpath(session.config_file):
        why = f"not applied: the daemon goes by {result.file}; end it, then connbal apply does it"
        return Applied("nobody", reason=why)
    if result.error:
        raise KernelError("connbal daemon", None, result.error)
    return Applied("daemon", result.changes, result.findings, interfaces=result.interfaces)


def apply_again(session: Session) -> Applied:
    """Bring the kernel to what the configuration says, in this process, unless connbal is stopped by then."""
    from connbal.pending import inforce

    run = session.run()
    if not run.load().mask:  # look before waiting for the lock, and before loading what is slow to load
        return _by_nobody(session)
    with session.reconciler() as reconciler:
        if not reconciler.applied():
            return _by_nobody(session)
        seen = inforce.look(session.config_file)
        report = reconciler.apply(session.decoded().config)
        inforce.remember(session.run_dir, session.config_file, seen)
    run.poke("config")
    interfaces = {view.name: (view.usable, view.reason) for view in report.plan.interfaces}
    return Applied("command", tuple(report.changes), tuple(report.findings), interfaces=interfaces)


def _by_nobody(session: Session) -> Applied:
    why = "connbal is stopped" if session.run().was_stopped() else "nothing has been applied yet"
    return Applied("nobody", reason=f"not applied: {why}; connbal apply does it")
