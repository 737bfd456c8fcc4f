"""A plan as values for JSON: what ``connbal status`` prints of it, and what mwan3's status says. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from connbal.model.config import FAMILIES
from connbal.model.facts import Facts
from connbal.plan.chains import exempt_sets
from connbal.plan.shares import percents
from connbal.plan.status import rule_lines
from connbal.plan.values import InterfaceView, Plan, RuleView, Tier


def as_data(plan: Plan, facts: Facts) -> dict[str, Any]:
    """All that a status needs of a run of the reconciler.

    ``interfaces``, ``policies`` and ``rules`` are those of ``status/1``, without what the daemon knows of interfaces
    and without counters; ``lines``: see :func:`connbal.plan.status.rule_lines`; ``networks``: of each interface, see
    :func:`networks`; ``mwan3``: see :func:`shares` and :func:`connected`.
    """
    return {
        "interfaces": [interface_data(view) for view in plan.interfaces],
        "policies": [tier_data(tier) for tier in plan.tiers],
        "rules": [rule_data(view) for view in plan.rules],
        "lines": rule_lines(plan),
        "networks": networks(plan, facts),
        "mwan3": {"policies": shares(plan), "connected": connected(plan)},
    }


def interface_data(view: InterfaceView) -> dict[str, Any]:
    """An interface of ``status/1``, as far as the plan knows it."""
    return {
        "name": view.name, "id": view.id, "family": view.family.value, "enabled": view.enabled,
        "device": view.device, "up": view.usable, "present": view.present, "reason": view.reason,
    }  # fmt: skip


def tier_data(tier: Tier) -> dict[str, Any]:
    """A policy of ``status/1`` in one family."""
    return {
        "policy": tier.policy, "family": tier.family.value, "metric": tier.metric, "affinity": tier.affinity.value,
        "last_resort": tier.verdict.value, "reason": tier.reason, "members": members_data(tier),
    }  # fmt: skip


def members_data(tier: Tier) -> list[dict[str, Any]]:
    """The members of a policy that take part, with the per cent that each has."""
    return [
        {"member": share.member, "interface": share.interface, "weight": share.weight,
         "percent": round(float(share.share) * 100, 3)}
        for share in tier.shares
    ]  # fmt: skip


def rule_data(view: RuleView) -> dict[str, Any]:
    """A rule of ``status/1``, without its counters."""
    return {
        "name": view.name, "policy": view.policy, "families": [family.value for family in view.families],
        "reason": view.reason,
    }  # fmt: skip


def networks(plan: Plan, facts: Facts) -> dict[str, dict[str, Any]]:
    """Of each interface's network in its family: ``up``, and ``uptime`` in seconds (None: nobody says)."""
    found = {}
    for view in plan.interfaces:
        network = facts.network(view.name, view.family)
        up = network is not None and network.up
        found[view.name] = {"up": up, "uptime": network.uptime if network is not None and up else None}
    return found


def shares(plan: Plan) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Family -> policy -> the interfaces in use with whole per cents that sum up to 100, as mwan3 tells them."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {family.value: {} for family in FAMILIES}
    for tier in plan.tiers:
        whole = percents([share.share for share in tier.shares])
        found[tier.family.value][tier.policy] = [
            {"interface": share.interface, "percent": value} for share, value in zip(tier.shares, whole, strict=True)
        ]
    return found


def connected(plan: Plan) -> dict[str, list[str]]:
    """Family -> the destinations that no rule is asked about because the router reaches them without a source."""
    entries: Mapping[str, frozenset[str]] = {spec.name: spec.entries or frozenset() for spec in plan.sets}
    return {family.value: _sorted(entries.get(exempt_sets(family)[1], frozenset())) for family in FAMILIES}


def _sorted(entries: frozenset[str]) -> list[str]:
    return [str(text) for _, text in sorted((_place(text), text) for text in entries)]


def _place(text: str) -> tuple[int, int]:
    network = ipaddress.ip_network(text, strict=False)
    return int(network.network_address), network.prefixlen
