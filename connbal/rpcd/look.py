"""How things are, for those who ask again and again: from the daemon, or else by a look at the kernel.

What the daemon tells needs neither pyroute2 nor click.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from connbal.rpcd.mwan3 import Seen

if TYPE_CHECKING:
    from connbal.cli.context import Session


def warm(session: Session) -> Seen | None:
    """What the daemon knows; None where none answers, or what it knows is not how things are."""
    from connbal.track import client, report

    answer = client.view(session.run_dir)
    if answer is None or not report.has_view(answer):
        return None
    if os.path.realpath(answer["view"]["file"]) != os.path.realpath(session.config_file):
        return None
    return Seen(answer["view"], answer, True, {})


def cold(session: Session) -> Seen:
    """A look at the kernel. Raises ConnbalError."""
    from connbal.plan.view import as_data
    from connbal.track import client, report
    from connbal.track.health import tracked

    decoded = session.decoded()
    with session.observer() as reconciler:
        found = reconciler.look(decoded.config)
        applied = reconciler.applied()
    daemon = client.status(session.run_dir)
    if daemon is not None and not report.is_answer(daemon):
        daemon = None
    hosts = {one.name: tuple(one.track_ip) for one in decoded.config.interfaces if tracked(one)}
    return Seen(as_data(found.plan, found.facts), daemon, applied, hosts)


def document(session: Session, seen: Seen) -> dict[str, Any]:
    """``status/1`` of what the daemon knows, and the counters of rules from the kernel. Raises KernelError."""
    assert seen.daemon is not None
    view, daemon, counters = seen.view, seen.daemon, _counters(seen.view["lines"])
    return {
        "schema": "status/1",
        "applied": seen.applied,
        "daemon": {key: daemon[key] for key in ("pid", "since", "reconciles")},
        "waiting": session.pending().as_data() if session.may_wait else None,
        "interfaces": [{**one, "tracker": daemon["interfaces"].get(one["name"])} for one in view["interfaces"]],
        "policies": view["policies"],
        "rules": [{**one, **_counted(counters, one["name"])} for one in view["rules"]],
        "findings": view["findings"],
    }


def _counters(lines: Any) -> Any:
    from connbal.kernel.xtables import SystemXtables
    from connbal.model.config import Family
    from connbal.plan.status import counted

    xtables = SystemXtables()
    seen = {
        family: {
            chain: [(one.packets, one.bytes) for one in found]
            for chain, found in xtables.counters(Family(family)).items()
        }
        for family in lines
        if xtables.available(Family(family))
    }
    return counted(lines, seen)


def _counted(counters: Any, name: str) -> dict[str, int]:
    found = counters.get(name)
    return {"packets": found.packets if found else 0, "bytes": found.bytes if found else 0}
