"""What the sets of a site hold now."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connbal.cli.ipset_change import period, specs
from connbal.cli.output import table, visible
from connbal.errors import Finding, Severity
from connbal.uci import sites

if TYPE_CHECKING:
    from connbal.cli.context import Session
    from connbal.model.config import Family
    from connbal.plan.state import SetState
    from connbal.uci.sites import Site


@dataclass(frozen=True)
class LiveSet:
    """One set of a site in the kernel. ``entries``: address or network -> seconds it stays, None: for good."""

    name: str
    family: Family
    state: SetState | None  #: None: there is no such set
    entries: Mapping[str, int | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "family": self.family.value,
            "exists": self.state is not None,
            "type": self.state.type if self.state is not None else None,
            "timeout": self.state.timeout if self.state is not None else None,
            "entries": [{"address": entry, "remaining": left} for entry, left in self.entries.items()],
        }


def live(session: Session, site: Site) -> tuple[list[LiveSet], list[Finding]]:
    """The sets of a site as they are in the kernel, and what is wrong with them. KernelError where it does not say."""
    from connbal.kernel.ipset import SystemSets

    found, said = [], []
    with contextlib.closing(SystemSets()) as sets:
        headers = sets.headers()
        for spec in specs(session, site):
            assert spec.family is not None
            state = headers.get(spec.name)
            plain = state is not None and state.type in ("hash:ip", "hash:net")
            entries = sets.remaining(spec.name) if plain else {}
            ordered = sorted(entries.items(), key=lambda item: int(ipaddress.ip_network(item[0]).network_address))
            found.append(LiveSet(spec.name, spec.family, state, dict(ordered)))
            said += _differences(site, spec.name, spec.family, spec.timeout, state)
    return found, said


def _differences(
    site: Site, name: str, family: Family, timeout: int | None, state: SetState | None
) -> list[Finding]:  # fmt: skip
    place = f"{sites.PACKAGE}.{site.section}"
    if state is None:
        why, remedy = f"there is no set {name} yet", "connbal apply makes it where a rule names it"
        return [Finding(Severity.WARNING, "missing-set", place, why, remedy)]
    if state.family is not family:
        held = "none" if state.family is None else state.family.value
        why = f"set {name} is for {family.value}, but the one in the kernel holds {held}"
        return [Finding(Severity.ERROR, "set-family", place, why, "remove it, then connbal apply")]
    if state.timeout != timeout:
        why = f"set {name} should have timeout {period(timeout)}, and has {period(state.timeout)}"
        remedy = f"connbal ipset set {site.name} --timeout {timeout or 0}"
        return [Finding(Severity.WARNING, "set-timeout", place, why, remedy)]
    return []


def as_lines(site: Site, held: Sequence[LiveSet], rules: Sequence[str]) -> list[str]:
    """For people."""
    from connbal.cli.status import duration

    lines = [
        f"section: {sites.PACKAGE}.{site.section}",
        f"domains: {', '.join(site.domains) or '-'}",
        f"timeout: {period(site.timeout)}",
        f"rules: {', '.join(rules) or '-'}",
    ]
    lines = [visible(line) for line in lines]
    for one in held:
        rows = [(entry, duration(left)) for entry, left in one.entries.items()]
        kind = f"{one.state.type}, " if one.state is not None else ""
        lines += ["", *table(f"{one.name} ({kind}{one.family.value}, entries: {len(rows)})", ("ADDRESS", "LEFT"), rows)]
    return lines
