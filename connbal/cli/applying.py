"""After an edit: bring the kernel to what the configuration says now, where connbal is at work."""

from __future__ import annotations

from dataclasses import dataclass

from connbal.cli.context import Session
from connbal.errors import Finding


@dataclass(frozen=True)
class Applied:
    """Who applied it: ``daemon``, ``command`` or ``nobody`` (not applied before, or stopped), and what came of it."""

    by: str
    changes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def apply_now(session: Session) -> Applied:
    """Apply the committed configuration, where one has been applied and not stopped since."""
    if not session.run().load().mask:
        return Applied("nobody")  # found out without what the kernel commands need
    with session.reconciler() as reconciler:
        if not reconciler.applied():
            return Applied("nobody")
        report = reconciler.apply(session.decoded().config)
    session.run().poke("config")
    return Applied("command", tuple(report.changes), tuple(report.findings))
