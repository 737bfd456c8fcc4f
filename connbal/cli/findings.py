"""How findings are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from connbal.cli.output import emit
from connbal.errors import Finding, Severity, printable

if TYPE_CHECKING:
    from connbal.reconcile import Report
    from connbal.uci.decode import Decoded

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def show(findings: Iterable[Finding]) -> None:
    """Each finding on standard error, worst first."""
    order = list(Severity)
    for finding in sorted(findings, key=lambda one: order.index(one.severity)):
        name = click.style(f"{finding.severity.value}:", fg=_COLOURS[finding.severity])
        click.echo(f"{name} {printable(str(finding))} [{finding.code}]", err=True)


def show_report(form: str, report: Report, decoded: Decoded, as_json_: bool, **more: Any) -> bool:
    """What was found, and as JSON (a document of ``form``) also what was changed, and ``more``.

    True where the changes remain to be shown in words.
    """
    found = [*decoded.findings, *report.findings]
    if as_json_:
        emit(form, {"changes": report.changes, "findings": [as_json(one) for one in found], **more})
        return False
    show(found)
    return True


def as_json(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "code": finding.code,
        "place": finding.place,
        "message": finding.message,
        "remedy": finding.remedy,
    }
