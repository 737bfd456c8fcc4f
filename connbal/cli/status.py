"""``connbal status``: interfaces, policies and rules as they are now, and what the daemon knows of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from connbal.cli import findings
from connbal.cli.context import Session
from connbal.cli.output import document, emit, failure, table, visible
from connbal.errors import ConnbalError, Finding
from connbal.frozen import dataclass
from connbal.model.config import Family
from connbal.plan.shares import percents
from connbal.plan.status import RuleCounters
from connbal.plan.values import InterfaceView, Plan, RuleView
from connbal.plan.view import interface_data, rule_data, tier_data


def _number(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """``nan`` is in every range."""
    if math.isnan(value):
        raise click.BadParameter("nan is no number of seconds")
    return value


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; with --watch, one document a line.")
@click.option("--watch", is_flag=True, help="Show it again and again until interrupted (Ctrl-C).")
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, metavar="SECONDS",
              callback=_number, help="With --watch: time between two looks.")  # fmt: skip
@click.option("--count", type=click.IntRange(1), metavar="N", help="With --watch: end after so many looks.")
@click.pass_obj
def status(session: Session, as_json: bool, watch: bool, interval: float, count: int | None) -> None:
    """Show interfaces with state and reason, policies with tier and per cents, rules with counters.

    It is worked out from the configuration and the network as they are now; what apply has not done yet, plan tells.
    Where the daemon runs, it adds what it knows of each interface and of the hosts it probes. SCORE counts from 0 to
    its top; SINCE is how long an interface has been online or offline. A rule counts the packets that began a
    connection.

    \b
    Examples:
      connbal status
      connbal status --json
      connbal status --watch --interval 5
    """
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(session, as_json, interval, count)
        return
    seen = look(session)
    if as_json:
        emit("status", as_data(seen))
        return
    findings.show(seen.findings)
    click.echo(as_text(seen), nl=False)


@dataclass(frozen=True)
class Look:
    """What one look found. ``daemon``: its answer, see :func:`connbal.track.report.is_answer`; None: none answers."""

    plan: Plan
    counters: Mapping[str, RuleCounters]
    applied: bool
    findings: tuple[Finding, ...] = ()
    daemon: Mapping[str, Any] | None = None
    waiting: Mapping[str, Any] | None = None  #: the change that waits for its confirmation
    reminder: str = ""  #: the same as a sentence
    strange: bool = False  #: a daemon answers, but what it says makes no sense here
    silent: bool = False  #: a daemon runs, but is too busy to answer, or does not

    def tracker(self, interface: str) -> Mapping[str, Any] | None:
        """What the daemon knows of an interface; None: nothing."""
        found: Mapping[str, Any] | None = self.daemon["interfaces"].get(interface) if self.daemon else None
        return found


def look(session: Session) -> Look:
    """Look once. Raises ConnbalError."""
    from connbal.kernel import scripts
    from connbal.track import client, report

    decoded = session.decoded()
    with session.observer() as reconciler:
        plan, counters = reconciler.status(decoded.config)
        applied = reconciler.applied()
    daemon = client.status(session.run_dir)
    silent = session.run().daemon() is not None if daemon is None else "busy" in daemon
    strange = daemon is not None and not silent and not report.is_answer(daemon)
    found = (*decoded.findings, *plan.findings, *scripts.findings())
    waiting: tuple[Mapping[str, Any] | None, str] = None, ""
    if session.may_wait:
        from connbal.cli import confirming

        waiting = session.pending().as_data(), confirming.reminder(session)
    return Look(plan, counters, applied, found, None if strange or silent else daemon, *waiting, strange, silent)


# --- again and again ----------------------------------------------------------------------------------------------


def _watch(session: Session, as_json: bool, interval: float, count: int | None) -> None:
    """What goes wrong is shown in place: it may be right at the next look."""
    for drawn in itertools.count(1):
        try:
            seen = look(session)
            shown, text = document("status", as_data(seen)), _findings_text(seen) + as_text(seen)
        except ConnbalError as error:
            shown, text = document("error", failure(error)), f"connbal: {error}\n\n"
        if as_json:
            text = json.dumps(shown) + "\n"
        if sys.stdout.isatty() and not as_json:
            size = shutil.get_terminal_size()
            text = frame(text, size.columns, size.lines)
        click.echo(text, nl=False)
        if drawn == count:
            return
        time.sleep(interval)


def frame(text: str, columns: int, rows: int) -> str:
    """What draws a text over the one before without a flicker: cut to the screen, and written from its corner on."""
    lines = text.splitlines()
    if len(lines) >= rows:
        lines = [*lines[: max(rows - 2, 0)], "..."]
    # The last column stays free: many terminals would erase what stands in it.
    cut = (line if len(click.unstyle(line)) < columns else click.unstyle(line)[: columns - 1] for line in lines)
    return "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in cut) + "\x1b[J"


def _findings_text(seen: Look) -> str:
    lines = [f"{one.severity.value}: {visible(str(one))} [{one.code}]\n" for one in seen.findings]
    return "".join([*lines, "\n"] if lines else [])


# --- for programs -------------------------------------------------------------------------------------------------


def as_data(seen: Look) -> dict[str, Any]:
    """A look as a value for JSON."""
    daemon = seen.daemon
    return {
        "applied": seen.applied,
        "daemon": None if daemon is None else {key: daemon[key] for key in ("pid", "since", "reconciles")},
        "waiting": seen.waiting,
        "interfaces": [{**interface_data(view), "tracker": seen.tracker(view.name)} for view in seen.plan.interfaces],
        "policies": [tier_data(tier) for tier in seen.plan.tiers],
        "rules": [_rule_data(view, seen.counters) for view in seen.plan.rules],
        "findings": [findings.as_json(one) for one in seen.findings],
    }


def _rule_data(view: RuleView, counters: Mapping[str, RuleCounters]) -> dict[str, Any]:
    seen = counters.get(view.name, RuleCounters())
    return {**rule_data(view), "packets": seen.packets, "bytes": seen.bytes}


# --- for people ---------------------------------------------------------------------------------------------------


def as_text(seen: Look) -> str:
    """A look as tables, with an empty line after each."""
    strange = "daemon: of another version: its answer makes no sense here, restart it"
    silent = "daemon: running, but it does not answer now: what it knows is missing here"
    head = [strange if seen.strange else silent if seen.silent else _daemon_line(seen.daemon)]
    if undone := _undone(seen.daemon):
        head.append(undone)
    if not seen.applied:
        head.append("Not applied: this is how it would be after connbal apply.")
    if seen.reminder:
        head.append(click.style(visible(seen.reminder), fg="yellow"))
    tables = (_interfaces(seen), _hosts(seen), _policies(seen.plan), _rules(seen.plan, seen.counters))
    return "".join(f"{line}\n" for lines in (head, *filter(None, tables)) for line in (*lines, ""))


def _daemon_line(daemon: Mapping[str, Any] | None) -> str:
    if daemon is None:
        return "daemon: not running: nothing is probed, a source is up while its network is"
    count, last = daemon["reconciles"]["count"], daemon["reconciles"]["last"]
    line = f"daemon: process {daemon['pid']}, running for {duration(daemon['since'])}, "
    line += f"{count} reconcile{'' if count == 1 else 's'}"
    failed = (last or {}).get("error")
    return visible(f"{line}; the last failed: {failed}" if failed else line)


def _undone(daemon: Mapping[str, Any] | None) -> str:
    """Who undoes what the daemon does, again and again; empty: nobody, or it is of a version that does not say."""
    repairs = daemon["reconciles"].get("repairs") if daemon is not None else None
    text = repairs.get("text") if isinstance(repairs, Mapping) else None
    return f"warning: {visible(text)}" if isinstance(text, str) and text else ""


def duration(seconds: float | None) -> str:
    """``45s``, ``5m12s``, ``2h05m``, ``3d04h``: the two largest units; ``-`` for None."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def _interfaces(seen: Look) -> list[str]:
    if seen.daemon is None:
        header: Sequence[str] = ("NAME", "ID", "FAMILY", "DEVICE", "STATE", "REASON")
        rows = [(*_place(view, view.family.value), _state(view), view.reason) for view in seen.plan.interfaces]
    else:
        header = ("NAME", "ID", "IP", "DEVICE", "STATE", "SCORE", "SINCE", "REASON")
        rows = [
            (*_place(view, str(view.family.version)), *_tracked(view, seen.tracker(view.name)))
            for view in seen.plan.interfaces
        ]
    return table("Interfaces", header, rows)


def _place(view: InterfaceView, family: str) -> tuple[str, ...]:
    return view.name, str(view.id), family, view.device or "-"


def _state(view: InterfaceView) -> str:
    return "disabled" if not view.enabled else "up" if view.usable else "down"


def _tracked(view: InterfaceView, tracker: Mapping[str, Any] | None) -> tuple[str, ...]:
    """State, score, since, reason; what the plan knows where the daemon knows nothing of it."""
    if tracker is None:
        return _state(view), "-", "-", view.reason
    score = f"{tracker['score']}/{tracker['top']}" if tracker["tracked"] else "-"
    reason = str(tracker["reason"])
    if tracker["online"] and not view.usable:
        reason = f"not used, {view.reason}; {reason}"
    return str(tracker["status"]), score, duration(tracker["since"]), reason


def _hosts(seen: Look) -> list[str]:
    rows = []
    for view in seen.plan.interfaces:
        tracker = seen.tracker(view.name)
        for host in tracker["hosts"] if tracker and tracker["tracked"] else ():
            latency, loss = _measured(host["latency"], "ms"), _measured(host["loss"], "%")
            rows.append((view.name, host["host"], host["state"], latency, loss, host["fault"] or "-"))
    return table("Hosts", ("INTERFACE", "HOST", "STATE", "LATENCY", "LOSS", "FAULT"), rows) if rows else []


def _measured(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.{1 if 0 < value < 10 else 0}f} {unit}"


def _policies(plan: Plan) -> list[str]:
    rows = []
    for tier in plan.tiers:
        values = percents([share.share for share in tier.shares])
        shares = ", ".join(f"{share.interface} {value} %" for share, value in zip(tier.shares, values, strict=True))
        metric = "-" if tier.metric is None else str(tier.metric)
        affinity = tier.affinity.value if len(tier.shares) > 1 else "-"
        rows.append((tier.policy, tier.family.value, metric, affinity, shares or tier.reason))
    return table("Policies", ("NAME", "FAMILY", "METRIC", "AFFINITY", "SHARES"), rows)


def _rules(plan: Plan, counters: Mapping[str, RuleCounters]) -> list[str]:
    rows = []
    for position, view in enumerate(plan.rules, start=1):
        seen = counters.get(view.name, RuleCounters())
        where = _families(view.families) if view.families else f"not in use: {view.reason}"
        rows.append((str(position), view.name, view.policy, str(seen.packets), str(seen.bytes), where))
    return table("Rules", ("#", "NAME", "POLICY", "PACKETS", "BYTES", "FAMILIES"), rows)


def _families(families: Sequence[Family]) -> str:
    return " ".join(family.value for family in families)
