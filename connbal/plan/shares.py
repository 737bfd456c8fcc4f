"""Tiers and shares: which members of a policy take part right now, and with how much."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from connbal.kept import Ask, afresh
from connbal.model.config import Affinity, Config, Family, Member, Policy, WeightMode
from connbal.plan.values import Share, Tier


def shares(weights: Sequence[int], mode: WeightMode) -> list[Fraction]:
    """Weights (each 1 or more) as shares of 1, exactly.

    >>> [round(float(share), 2) for share in shares([1, 2], WeightMode.INVERSE)]
    [0.67, 0.33]
    """
    raw = [Fraction(weight) if mode is WeightMode.PROPORTIONAL else Fraction(1, weight) for weight in weights]
    total = sum(raw, Fraction(0))
    return [value / total for value in raw]


def percents(values: Sequence[Fraction]) -> list[int]:
    """Shares as whole per cents that sum to 100 (largest remainders are rounded up)."""
    if not values:
        return []
    floors = [int(value * 100) for value in values]
    by_remainder = sorted(range(len(values)), key=lambda index: floors[index] - values[index] * 100)
    for index in by_remainder[: 100 - sum(floors)]:
        floors[index] += 1
    return floors


def tier(
    config: Config,
    policy: Policy,
    family: Family,
    ids: Mapping[str, int],
    usable: Collection[str],
    bpf: bool = True,
    ask: Ask = afresh,
) -> Tier:
    """What ``policy`` does in ``family``: the members of the lowest metric that has a usable one, and their shares.

    ``ids``: of the interfaces that could ever be used in this family; ``usable``: those that can be used now; ``bpf``:
    the kernel can do the affinities that need hashing, without which every connection is drawn by itself.
    """
    found = (config.members_by_name.get(name) for name in policy.members)
    members = tuple(member for member in found if member is not None and member.interface in ids)
    numbers = {member.interface: ids[member.interface] for member in members}
    mode = policy.weight_mode or config.globals.weight_mode
    affinity = policy.affinity or config.globals.affinity
    return ask(
        (family, policy.name), _tier, policy, family, members, numbers, numbers.keys() & usable, mode,
        affinity if bpf else Affinity.CONNECTION,
    )  # fmt: skip


def _tier(
    policy: Policy,
    family: Family,
    members: Sequence[Member],
    ids: Mapping[str, int],
    usable: Collection[str],
    mode: WeightMode,
    affinity: Affinity,
) -> Tier:
    by_metric: dict[int, list[Member]] = {}
    for member in members:
        by_metric.setdefault(member.metric, []).append(member)
    for metric in sorted(by_metric):
        layout = _layout(by_metric[metric], mode, ids, usable)
        live = _live(layout)
        if live:
            reason = f"metric {metric}: {len(live)} of {len(layout)} members usable"
            return Tier(policy.name, family, metric, live, layout, affinity, policy.last_resort, reason)
    reason = _nothing_usable(policy, family, by_metric)
    return Tier(policy.name, family, None, (), (), affinity, policy.last_resort, reason)


def _layout(
    members: Sequence[Member], mode: WeightMode, ids: Mapping[str, int], usable: Collection[str]
) -> tuple[Share, ...]:
    values = shares([member.weight for member in members], mode)
    return tuple(
        Share(member.name, member.interface, ids[member.interface], member.weight, share,
              member.interface in usable)
        for member, share in zip(members, values, strict=True)
    )  # fmt: skip


def _live(layout: Sequence[Share]) -> tuple[Share, ...]:
    live = [share for share in layout if share.usable]
    total = sum((share.share for share in live), Fraction(0))
    return tuple(replace(share, share=share.share / total) for share in live)


def _nothing_usable(policy: Policy, family: Family, by_metric: Mapping[int, Sequence[Member]]) -> str:
    if not policy.members:
        why = "it has no members"
    elif not by_metric:
        why = f"none of its members is an enabled {family.value} interface"
    else:
        why = "none of its members is usable"
    return f"{why}: {policy.last_resort.value}"
