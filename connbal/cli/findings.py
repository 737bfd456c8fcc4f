"""How findings are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from connbal.errors import Finding, Severity

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def show(findings: Iterable[Finding]) -> None:
    """Each finding on standard error, worst first."""
    order = list(Severity)
    for finding in sorted(findings, key=lambda one: order.index(one.severity)):
        name = click.style(f"{finding.severity.value}:", fg=_COLOURS[finding.severity])
        click.echo(f"{name} {finding} [{finding.code}]", err=True)


def as_json(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "code": finding.code,
        "place": finding.place,
        "message": finding.message,
        "remedy": finding.remedy,
    }
