"""Checks of policies and members: what nobody uses, what can never be used, and what weights mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from connbal.errors import Severity
from connbal.model.checks import Hit, joined, listed
from connbal.model.config import FAMILIES, Affinity, Member, Policy, Verdict, WeightMode
from connbal.plan.lint_subject import FATE, Subject, check


@check("empty-policy", Severity.WARNING, "a policy without a member")
def empty_policy(subject: Subject) -> Iterator[Hit]:
    for policy in subject.config.policies:
        if not subject.members(policy):
            message = f"it has no member: connections that use it {FATE[policy.last_resort]}"
            yield Hit(policy.name, "use_member", message, f"connbal policy set {policy.name} --add use_member=MEMBER")


@check("dead-policy", Severity.WARNING, "a policy in use whose members' interfaces are all disabled")
def dead_policy(subject: Subject) -> Iterator[Hit]:
    if not subject.enabled:
        return  # nothing-enabled says it once
    for policy in subject.config.policies:
        members = subject.members(policy)
        if members and policy.name in subject.used_policies and not subject.live_members(policy):
            names = list(dict.fromkeys(member.interface for member in members))
            message = (
                f"none of its interfaces ({listed(names)}) is enabled: connections that use it "
                f"{FATE[policy.last_resort]}"
            )
            yield Hit(policy.name, "use_member", message, f"connbal interface enable {names[0]}")


@check("disabled-members", Severity.INFO, "members of a policy in use whose interfaces are disabled")
def disabled_members(subject: Subject) -> Iterator[Hit]:
    for policy in subject.config.policies:
        live = subject.live_members(policy)
        names = list(dict.fromkeys(one.interface for one in subject.members(policy) if one not in live))
        if names and live and policy.name in subject.used_policies:
            message = f"{len(names)} of its interfaces {'is' if len(names) == 1 else 'are'} disabled: {listed(names)}"
            remedy = f"where one is to be used: connbal interface enable {names[0]}"
            yield Hit(policy.name, "use_member", message, remedy)


@check("unused-policy", Severity.INFO, "a policy that no enabled rule uses")
def unused_policy(subject: Subject) -> Iterator[Hit]:
    asleep = {rule.use_policy: rule.name for rule in subject.config.rules if not rule.enabled}
    for policy in subject.config.policies:
        if policy.name not in subject.used_policies:
            remedy = f"use it in a rule, or connbal policy delete {policy.name}"
            if policy.name in asleep:
                remedy = f"connbal rule enable {asleep[policy.name]}, or connbal policy delete {policy.name} --cascade"
            yield Hit(policy.name, "", "no enabled rule uses it", remedy)


@check("unused-member", Severity.INFO, "a member that no policy has")
def unused_member(subject: Subject) -> Iterator[Hit]:
    used = {name for policy in subject.config.policies for name in policy.members}
    for member in subject.config.members:
        if member.name not in used:
            remedy = f"connbal policy set POLICY --add use_member={member.name}, or connbal member delete {member.name}"
            yield Hit(member.name, "", "no policy has it", remedy)


@check("same-interface", Severity.WARNING, "an interface that is in one policy twice")
def same_interface(subject: Subject) -> Iterator[Hit]:
    for policy in subject.config.policies:
        found: dict[str, list[Member]] = defaultdict(list)
        for member in subject.members(policy):
            found[member.interface].append(member)
        for name, members in found.items():
            if len(members) > 1:
                yield _same_interface(policy, name, sorted(members, key=lambda one: one.metric))


def _same_interface(policy: Policy, name: str, members: Sequence[Member]) -> Hit:
    first, second = members[:2]
    if first.metric == second.metric:
        message = f"members {first.name} and {second.name} are both interface {name}, in one metric: it gets two shares"
    else:
        message = (
            f"member {second.name} (metric {second.metric}) is never used: where interface {name} is up, "
            f"{first.name} (metric {first.metric}) comes first"
        )
    remedy = f"connbal policy set {policy.name} --remove use_member={second.name}"
    return Hit(policy.name, "use_member", message, remedy)


@check("weight-mode-unstated", Severity.WARNING, "different weights in one metric, and no weight_mode stated")
def weight_mode_unstated(subject: Subject) -> Iterator[Hit]:
    if "weight_mode" in subject.stated:
        return
    for policy in subject.config.policies:
        tier = next(_uneven(subject, policy), None) if policy.weight_mode is None else None
        if tier is not None:
            names = joined([one.interface for one in tier])
            weights = joined([str(one.weight) for one in tier])
            message = (
                f"{names} have weights {weights} in metric {tier[0].metric}, and weight_mode is not stated, so it is "
                f"mwan3's (proportional): {_split(tier, WeightMode.PROPORTIONAL)}; inverse would be: "
                f"{_split(tier, WeightMode.INVERSE)}"
            )
            remedy = "connbal globals set --weight-mode inverse, or proportional to keep it"
            yield Hit(policy.name, "weight_mode", message, remedy)


def _split(tier: Sequence[Member], mode: WeightMode) -> str:
    from connbal.plan.shares import percents, shares  # fractions are slow to import, and seldom needed here

    values = percents(shares([member.weight for member in tier], mode))
    return joined([f"{member.interface} {value} %" for member, value in zip(tier, values, strict=True)])


def _tiers(subject: Subject, policy: Policy) -> Iterator[list[Member]]:
    """The enabled members that share a metric and a family, lowest metric first."""
    for family in FAMILIES:
        found: dict[int, list[Member]] = defaultdict(list)
        for member in subject.live_members(policy, family):
            found[member.metric].append(member)
        yield from (found[metric] for metric in sorted(found) if len(found[metric]) > 1)


def _uneven(subject: Subject, policy: Policy) -> Iterator[list[Member]]:
    return (tier for tier in _tiers(subject, policy) if len({member.weight for member in tier}) > 1)


@check("affinity-unstated", Severity.INFO, "connections are shared out, and no affinity is stated")
def affinity_unstated(subject: Subject) -> Iterator[Hit]:
    if "affinity" in subject.stated:
        return
    names = [
        policy.name
        for policy in subject.config.policies
        if policy.affinity is None and policy.name in subject.used_policies and any(_tiers(subject, policy))
    ]
    if names:
        message = (
            f"policy {listed(names)} shares out each connection by itself, as in mwan3 (affinity connection): one "
            "device's connections to one site may use several sources"
        )
        yield Hit("globals", "affinity", message, "connbal globals set --affinity pair keeps them on one")


@check("one-source-a-device", Severity.INFO, "affinity source, with which one device alone uses one source alone")
def one_source_a_device(subject: Subject) -> Iterator[Hit]:
    default = subject.config.globals.affinity
    names = [
        policy.name
        for policy in subject.config.policies
        if (policy.affinity or default) is Affinity.SOURCE
        and policy.name in subject.used_policies and any(_tiers(subject, policy))
    ]  # fmt: skip
    if names:
        message = f"with affinity source, as {listed(names)} has it, a device alone never uses more than one source"
        yield Hit(names[0], "affinity", message, f"connbal policy set {names[0]} --affinity pair spreads it over sites")


@check("default-last-resort", Severity.INFO, "a policy in use that leaves connections to the main routing table")
def default_last_resort(subject: Subject) -> Iterator[Hit]:
    names = [
        policy.name
        for policy in subject.config.policies
        if policy.last_resort is Verdict.DEFAULT and policy.name in subject.used_policies
    ]
    if names:
        message = (
            f"while no member of {listed(names)} works, connections take the main routing table's default route, "
            "perhaps by a source that counts as down, or that this policy does not have"
        )
        remedy = f"to have them refused: connbal policy set {names[0]} --last-resort unreachable"
        yield Hit(names[0], "last_resort", message, remedy)
