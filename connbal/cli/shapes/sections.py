"""What listing, showing and editing sections prints."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from connbal.cli.shapes.common import FORM, Finding, Waiting

Options = dict[str, str | list[str]]


class _Listed(TypedDict):
    name: Annotated[str | None, "null: the section has none"]
    reference: Annotated[str, "what commands take: the name, or the place as `@rule[0]`"]


class ListedInterface(_Listed):
    """A section of type `interface`."""

    id: Annotated[int, "number, from 1: routing table, and mark once spread over the mask"]
    enabled: Annotated[bool, "as configured"]
    family: Annotated[str, "as configured, or the default"]
    track_method: Annotated[str, "as configured, or the default"]
    track_ip: Annotated[list[str], "hosts as configured"]


class ListedMember(_Listed):
    """A section of type `member`."""

    interface: Annotated[str, "as configured; empty: missing"]
    metric: Annotated[str, "as configured, or the default"]
    weight: Annotated[str, "as configured, or the default"]


class Share(TypedDict):
    """A member's part of a tier."""

    member: Annotated[str, "name of the section"]
    interface: Annotated[str, "name of the section"]
    weight: Annotated[int, "as configured"]
    percent: Annotated[int, "whole per cents; those of a tier sum up to 100"]


class Tier(TypedDict):
    """The members of one metric and family."""

    family: Annotated[Literal["ipv4", "ipv6"], "address family"]
    metric: Annotated[int, "lower ones are used first"]
    shares: Annotated[list[Share], "when every interface works"]


class ListedPolicy(_Listed):
    """A section of type `policy`."""

    members: Annotated[list[str], "`use_member` as configured"]
    last_resort: Annotated[str, "as configured, or the default"]
    weight_mode: Annotated[Literal["proportional", "inverse"] | None, "in force; null: the section is left out"]
    affinity: Annotated[Literal["connection", "pair", "source"] | None, "in force; null: the section is left out"]
    tiers: Annotated[list[Tier], "by family and metric; only members of enabled interfaces"]


class ListedRule(_Listed):
    """A section of type `rule`."""

    number: Annotated[int, "place, from 1, in which it is tried"]
    enabled: Annotated[bool, "as configured"]
    policy: Annotated[str, "`use_policy` as configured; empty: missing"]
    options: Annotated[Options, "all of the section: a string, or an array where the file says `list`"]


class InterfaceList(TypedDict):
    """The interfaces, as the file has them."""

    schema: Annotated[Literal["interface-list/1"], FORM]
    interfaces: Annotated[list[ListedInterface], "in the order of the file"]


class MemberList(TypedDict):
    """The members, as the file has them."""

    schema: Annotated[Literal["member-list/1"], FORM]
    members: Annotated[list[ListedMember], "in the order of the file"]


class PolicyList(TypedDict):
    """The policies, as the file has them, and what they give when every interface works."""

    schema: Annotated[Literal["policy-list/1"], FORM]
    policies: Annotated[list[ListedPolicy], "in the order of the file"]


class RuleList(TypedDict):
    """The rules, as the file has them."""

    schema: Annotated[Literal["rule-list/1"], FORM]
    rules: Annotated[list[ListedRule], "in the order of the file, as they are tried"]


class Shown(_Listed):
    """One section, every option of it."""

    schema: Annotated[Literal["interface/1", "member/1", "policy/1", "rule/1", "globals/1"], FORM]
    options: Annotated[Options, "those that connbal knows and the file has"]
    defaults: Annotated[dict[str, str | None], "what holds for those the file has not; null: nothing"]
    unknown: Annotated[Options, "those that connbal does not know, and keeps"]


class AppliedBy(TypedDict):
    """What became of an edit in the kernel."""

    by: Annotated[
        Literal["daemon", "command", "nobody"],
        "`nobody`: connbal has not been applied, or was stopped, so the kernel stays as it is",
    ]
    changes: Annotated[list[str], "in words, in order"]
    reason: Annotated[str, "`nobody`: why, and what to do, in words; else empty"]


class SetUpMember(TypedDict):
    """A member that a scenario uses."""

    interface: Annotated[str, "name of the section"]
    metric: Annotated[int, "lower ones are used first"]
    weight: Annotated[int, "that gives the share"]
    percent: Annotated[float, "of the connections while every interface works; 0: it waits"]


class SetUp(TypedDict):
    """A rule that a scenario made, changed or found right."""

    rule: Annotated[str, "name of the section"]
    policy: Annotated[str, "name of the section"]
    members: Annotated[list[SetUpMember], "in order of preference"]


class _EditAlways(TypedDict):
    schema: Annotated[Literal["edit/1"], FORM]
    mode: Annotated[Literal["commit", "stage", "dry-run"], "`dry-run`: nothing was written"]
    changed: Annotated[bool, "something differs from before"]
    changes: Annotated[list[str], "what differs, as lines of `uci show` after `- ` or `+ `"]
    notes: Annotated[list[str], "what else happened or did not, in words"]
    findings: Annotated[list[Finding], "new ones, about the configuration and the machine"]
    applied: Annotated[AppliedBy | None, "null: not asked for, or nothing differs, or it failed"]
    waiting: Annotated[Waiting | None, "with `--confirm`: the change goes back by itself; null: it stays"]
    error: Annotated[str | None, "the change is written, but could not be applied: why, in words; an `error/1` follows"]


class Edit(_EditAlways, total=False):
    """What an edit of the configuration has changed, or would change."""

    name: Annotated[str, "`add`: of the new section; `cfg...` for one without a name"]
    reference: Annotated[str, "`add`: what commands take for it"]
    number: Annotated[int, "`rule move`: its place now, from 1"]
    rules: Annotated[list[SetUp], "`setup`: what it takes"]
