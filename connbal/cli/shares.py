"""The shares of each policy when every enabled interface works, as ``policy list`` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connbal.frozen import dataclass
from connbal.model.config import FAMILIES, Config, Family, Member, Policy
from connbal.plan.shares import percents, shares


@dataclass(frozen=True)
class PolicyShares:
    """What a policy does. ``tiers``: for each family and metric the members' shares in whole per cents."""

    weight_mode: str
    affinity: str
    tiers: list[dict[str, Any]]


def tiers(config: Config) -> Mapping[str, PolicyShares]:
    """By policy."""
    return {policy.name: _of(config, policy) for policy in config.policies}


def _of(config: Config, policy: Policy) -> PolicyShares:
    mode = policy.weight_mode or config.globals.weight_mode
    found = []
    for family in FAMILIES:
        by_metric = _by_metric(config, policy, family)
        for metric in sorted(by_metric):
            members = by_metric[metric]
            parts = percents(shares([member.weight for member in members], mode))
            found.append({"family": family.value, "metric": metric, "shares": [
                {"member": member.name, "interface": member.interface, "weight": member.weight, "percent": part}
                for member, part in zip(members, parts, strict=True)
            ]})  # fmt: skip
    return PolicyShares(mode.value, (policy.affinity or config.globals.affinity).value, found)


def _by_metric(config: Config, policy: Policy, family: Family) -> Mapping[int, list[Member]]:
    enabled = {one.name for one in config.interfaces if one.enabled and one.family is family}
    found: dict[int, list[Member]] = {}
    for name in policy.members:
        member = config.members_by_name[name]
        if member.interface in enabled:
            found.setdefault(member.metric, []).append(member)
    return found
