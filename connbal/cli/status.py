"""``connbal status``: interfaces, policies and rules as they are now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from connbal.cli import findings
from connbal.cli.context import Session
from connbal.model.config import Family
from connbal.plan.shares import percents
from connbal.plan.status import RuleCounters
from connbal.plan.values import InterfaceView, Plan, RuleView, Tier


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def status(session: Session, as_json: bool) -> None:
    """Show interfaces with state and reason, policies with tier and per cents, rules with counters.

    It is worked out from the configuration and the network as they are now; what apply has not done yet, plan tells.
    A rule counts the packets that began a connection.

    \b
    Examples:
      connbal status
      connbal status --json
    """
    decoded = session.decoded()
    with session.reconciler() as reconciler:
        plan, counters = reconciler.status(decoded.config)
        applied = reconciler.applied()
    if as_json:
        data = {
            "applied": applied,
            "interfaces": [_interface_json(view) for view in plan.interfaces],
            "policies": [_tier_json(tier) for tier in plan.tiers],
            "rules": [_rule_json(view, counters) for view in plan.rules],
            "findings": [findings.as_json(one) for one in (*decoded.findings, *plan.findings)],
        }
        click.echo(json.dumps(data, indent=2))
        return
    findings.show((*decoded.findings, *plan.findings))
    if not applied:
        click.echo("Not applied: this is how it would be after connbal apply.\n")
    _print_interfaces(plan)
    _print_policies(plan)
    _print_rules(plan, counters)


def _interface_json(view: InterfaceView) -> dict[str, Any]:
    return {
        "name": view.name, "id": view.id, "family": view.family.value, "enabled": view.enabled,
        "device": view.device, "up": view.usable, "present": view.present, "reason": view.reason,
    }  # fmt: skip


def _tier_json(tier: Tier) -> dict[str, Any]:
    return {
        "policy": tier.policy, "family": tier.family.value, "metric": tier.metric, "affinity": tier.affinity.value,
        "last_resort": tier.verdict.value, "reason": tier.reason,
        "members": [
            {"member": share.member, "interface": share.interface, "weight": share.weight,
             "percent": round(float(share.share) * 100, 3)}
            for share in tier.shares
        ],
    }  # fmt: skip


def _rule_json(view: RuleView, counters: Mapping[str, RuleCounters]) -> dict[str, Any]:
    seen = counters.get(view.name, RuleCounters())
    return {
        "name": view.name, "policy": view.policy, "families": [family.value for family in view.families],
        "reason": view.reason, "packets": seen.packets, "bytes": seen.bytes,
    }  # fmt: skip


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they need; the last takes what is left and is never padded."""
    everything = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    click.echo(click.style(title, bold=True))
    for row in everything:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo(("  " + "  ".join(cells)).rstrip())
    click.echo()


def _print_interfaces(plan: Plan) -> None:
    rows = []
    for view in plan.interfaces:
        state = "disabled" if not view.enabled else "up" if view.usable else "down"
        rows.append((view.name, str(view.id), view.family.value, view.device or "-", state, view.reason))
    _table("Interfaces", ("NAME", "ID", "FAMILY", "DEVICE", "STATE", "REASON"), rows)


def _print_policies(plan: Plan) -> None:
    rows = []
    for tier in plan.tiers:
        values = percents([share.share for share in tier.shares])
        shares = ", ".join(f"{share.interface} {value} %" for share, value in zip(tier.shares, values, strict=True))
        metric = "-" if tier.metric is None else str(tier.metric)
        affinity = tier.affinity.value if len(tier.shares) > 1 else "-"
        rows.append((tier.policy, tier.family.value, metric, affinity, shares or tier.reason))
    _table("Policies", ("NAME", "FAMILY", "METRIC", "AFFINITY", "SHARES"), rows)


def _print_rules(plan: Plan, counters: Mapping[str, RuleCounters]) -> None:
    rows = []
    for position, view in enumerate(plan.rules, start=1):
        seen = counters.get(view.name, RuleCounters())
        where = _families(view.families) if view.families else f"not in use: {view.reason}"
        rows.append((str(position), view.name, view.policy, str(seen.packets), str(seen.bytes), where))
    _table("Rules", ("#", "NAME", "POLICY", "PACKETS", "BYTES", "FAMILIES"), rows)


def _families(families: Sequence[Family]) -> str:
    return " ".join(family.value for family in families)
