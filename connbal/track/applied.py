"""What came of a run that a command waited for: as a value, and as JSON on its way from the daemon. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from connbal.errors import Finding, Severity
from connbal.frozen import dataclass

#: Of the answer; one of another version is of another form.
VERSION = 1


@dataclass(frozen=True)
class Result:
    """What came of a run of the daemon."""

    file: str = ""  #: the configuration that the daemon goes by
    changes: tuple[str, ...] = ()  #: in words, in order
    findings: tuple[Finding, ...] = ()  #: that are not of the configuration alone
    #: Whether policies may use each interface now, and why, in words.
    interfaces: Mapping[str, tuple[bool, str]] = field(default_factory=dict)
    error: str = ""  #: why the kernel is not as the configuration says; "": it is


def as_data(result: Result) -> dict[str, Any]:
    """For JSON."""
    return {
        "version": VERSION,
        "file": result.file,
        "changes": list(result.changes),
        "findings": [finding_data(one) for one in result.findings],
        "interfaces": {name: {"usable": up, "reason": why} for name, (up, why) in result.interfaces.items()},
        "error": result.error or None,
    }


def parse(value: Mapping[str, Any]) -> Result | None:
    """The result that a daemon tells; None where it is none, or one of another version."""
    if value.get("version") != VERSION or isinstance(value["version"], bool):
        return None
    try:
        interfaces = {name: (one["usable"] is True, str(one["reason"])) for name, one in value["interfaces"].items()}
        findings = tuple(map(_finding, value["findings"]))
        return Result(str(value["file"]), tuple(map(str, value["changes"])), findings, interfaces,
                      str(value["error"] or ""))  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def finding_data(one: Finding) -> dict[str, str]:
    """A finding for JSON."""
    return {"severity": one.severity.value, "code": one.code, "place": one.place, "message": one.message,
            "remedy": one.remedy}  # fmt: skip


def _finding(value: Mapping[str, Any]) -> Finding:
    texts = [str(value[name]) for name in ("code", "place", "message", "remedy")]
    return Finding(Severity(value["severity"]), *texts)
