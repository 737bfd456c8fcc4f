"""The shape of every document that ``--json`` prints: the contract with programs. Types only; no command imports it.

docs/json.md is made of these classes, and tests hold real output of every command against them. Each key is annotated
with its meaning and unit. A key that may be absent stands in a class with ``total=False``; a value that may be unknown
is ``| None``.

To add a form: write its class in one of the modules here (``schema`` first), name it in :data:`DOCUMENTS`, and have the
documentation's test write the page (docs/testing.md). When a key goes, or changes its type or meaning, raise the form's
number here and in ``connbal.cli.output.VERSIONS``; a key that is added leaves it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from connbal.cli.shapes import common, diagnose, doctor, events, exchange, explain, sections, sites, status


@dataclass(frozen=True)
class Document:
    """A form of document. ``shape``: a TypedDict, or several joined with ``|``."""

    shape: Any
    commands: tuple[str, ...]  #: that print it with ``--json``, without ``connbal``; none: any command may
    stream: bool = False  #: one document a line, without end or with many of them


_VERBS = {
    "interface": ("add", "set", "delete", "rename", "enable", "disable"),
    "member": ("add", "set", "delete", "rename"),
    "policy": ("add", "set", "delete", "rename"),
    "rule": ("add", "set", "delete", "rename", "move", "enable", "disable"),
    "globals": ("set",),
}
_EDITS = (
    *(f"{noun} {verb}" for noun, verbs in _VERBS.items() for verb in verbs),
    "import", "setup device", "setup failover", "setup split",
)  # fmt: skip

#: Every form, in the order of the page.
DOCUMENTS: dict[str, Document] = {
    "error/1": Document(common.Failure, ()),
    "check/1": Document(common.Check, ("check",)),
    "plan/1": Document(common.Changes, ("plan",)),
    "apply/1": Document(common.Applied, ("apply",)),
    "confirm/1": Document(common.Confirmed, ("confirm",)),
    "status/1": Document(status.Status, ("status",)),
    "explain/1": Document(explain.Explain, ("explain",)),
    "diagnose/1": Document(diagnose.Diagnose, ("diagnose",)),
    "doctor/1": Document(doctor.Doctor, ("doctor",)),
    "way-back/1": Document(doctor.WayBack, ("doctor",)),
    "event/1": Document(events.Event, ("events",), stream=True),
    "edit/1": Document(sections.Edit, _EDITS),
    "interface-list/1": Document(sections.InterfaceList, ("interface list",)),
    "member-list/1": Document(sections.MemberList, ("member list",)),
    "policy-list/1": Document(sections.PolicyList, ("policy list",)),
    "rule-list/1": Document(sections.RuleList, ("rule list",)),
    "interface/1": Document(sections.Shown, ("interface show",)),
    "member/1": Document(sections.Shown, ("member show",)),
    "policy/1": Document(sections.Shown, ("policy show",)),
    "rule/1": Document(sections.Shown, ("rule show",)),
    "ipset-list/1": Document(sites.SiteList, ("ipset list",)),
    "ipset/1": Document(sites.SiteShown, ("ipset show",)),
    "ipset-edit/1": Document(sites.SiteEdit, ("ipset add", "ipset set", "ipset delete")),
    "globals/1": Document(sections.Shown, ("globals show",)),
    "export/1": Document(exchange.Export, ("export",)),
}
