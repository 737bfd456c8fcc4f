"""What the daemon's runs came to, for whoever asks: counted, told to log and journal, and kept as the last one was."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from connbal.errors import Finding, Severity
from connbal.plan import view
from connbal.plan.values import Plan
from connbal.track import applied
from connbal.track.journal import Journal
from connbal.track.repairs import Repairs, repaired
from connbal.track.report import VIEW
from connbal.track.worker import Outcome

_LEVELS = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING, Severity.INFO: logging.INFO}

log = logging.getLogger(__name__)


class Account:
    """``file``: the configuration that runs go by. ``quiet``: causes of runs that nobody has asked for."""

    def __init__(self, journal: Journal, file: Path, quiet: Collection[str]) -> None:
        self._journal, self._file, self._quiet = journal, os.fspath(file), frozenset(quiet)
        self.errors = 0  #: runs that failed, or were not taken over
        self._count = 0
        self._last: dict[str, Any] | None = None
        self._made: tuple[Outcome, float] | None = None  #: by the last run, where it did not fail, and when
        self._findings: frozenset[Finding] = frozenset()
        self._changes: list[str] = []
        self.repairs = Repairs()

    # --- what comes in -----------------------------------------------------------------------------------------------

    def configured(self, outcome: Outcome) -> None:
        """A run has read the configuration, where it had to."""
        if outcome.trouble:
            kept = "the last configuration stays in force" if outcome.decoded else "the kernel stays as it is"
            log.error("%s; %s", outcome.trouble, kept)
            self._journal.daemon(f"configuration not read: {outcome.trouble}; {kept}")
        elif outcome.fresh and outcome.decoded is not None:
            errors = len(outcome.decoded.errors)
            self._journal.daemon(f"configuration read, errors: {errors}")
            _log_findings(outcome.decoded.findings)

    def record(self, causes: tuple[str, ...], outcome: Outcome, by: str) -> None:
        """A run is over. ``by``: who has changed rules since the one before; empty: nobody is known to have."""
        self._count += 1
        self.errors += bool(outcome.error)
        undone = self._undone(outcome)
        report = outcome.report
        self._made = (outcome, time.monotonic()) if report is not None and outcome.decoded is not None else None
        changes = report.changes if report is not None else []
        # What is tried again and again because the kernel refuses it is told once.
        again = outcome.refused and changes == self._changes
        self._changes = changes
        if set(causes) <= self._quiet and not outcome.error and (again or not changes):
            return
        findings = [str(finding) for finding in report.findings] if report is not None else []
        findings += [report.facts.stale] if report is not None and report.facts.stale else []
        flushed = report.flushed if report is not None else 0
        error = outcome.error or None
        self._last = self._journal.reconcile(causes, changes, findings, flushed, outcome.seconds, error)
        log.debug("reconciled in %.0f ms, %d changes: %s", outcome.seconds * 1000, len(changes), ", ".join(causes))
        if report is not None:
            _log_findings([finding for finding in report.findings if finding not in self._findings])
            self._findings = frozenset(report.findings)
        if undone and (said := self.repairs.made(undone, by, time.monotonic())):
            log.warning("%s", said)
            self._journal.daemon(said)

    def _undone(self, outcome: Outcome) -> list[str]:
        """What a run had to do once more: all should have been there since the last one."""
        if self._made is None or outcome.report is None or outcome.refused:
            return []
        before = self._made[0]
        assert before.report is not None
        if before.refused or _in_the_kernel(before.report.plan) != _in_the_kernel(outcome.report.plan):
            return []
        return repaired(outcome.report.changes)

    # --- what goes out -----------------------------------------------------------------------------------------------

    def result(self, outcome: Outcome) -> applied.Result:
        """For those who waited for a run. A configuration that cannot be read is not in force."""
        error = outcome.error or outcome.trouble
        if outcome.report is None:
            return applied.Result(self._file, error=error or "nothing was done; the daemon's log says why")
        report = outcome.report
        interfaces = {view.name: (view.usable, view.reason) for view in report.plan.interfaces}
        return applied.Result(self._file, tuple(report.changes), tuple(report.findings), interfaces, error)

    def reconciles(self) -> dict[str, Any]:
        """``count``, ``errors``, ``last``: a record of the journal, and ``repairs``."""
        repairs = self.repairs.as_data(time.monotonic())
        return {"count": self._count, "errors": self.errors, "last": self._last, "repairs": repairs}

    def view(self, print_: object, more: Iterable[Finding] = ()) -> dict[str, Any] | None:
        """What the last run made of the configuration; None where that is not how things are.

        ``print_``: the fingerprint of the files as they are now. The run may have been made from others. ``more``:
        findings beside those of the run.
        """
        if self._made is None or self._made[0].print != print_:
            return None
        outcome, at = self._made
        assert outcome.report is not None
        assert outcome.decoded is not None
        plan = outcome.report.plan
        made = view.as_data(plan, outcome.report.facts)
        for network in made["networks"].values():
            if network["uptime"] is not None:
                network["uptime"] += int(time.monotonic() - at)
        made["version"] = VIEW
        made["findings"] = [applied.finding_data(one) for one in (*outcome.decoded.findings, *plan.findings, *more)]
        made["file"] = self._file
        return made


def _in_the_kernel(plan: Plan) -> tuple[object, ...]:
    """Of a plan, what can be undone; the rest is for people, and may be put in other words each time."""
    return plan.rulesets, plan.sets, plan.ip_rules


def _log_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        log.log(_LEVELS[finding.severity], str(finding))
