"""What ``connbal explain`` prints."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from connbal.cli.shapes.common import FORM
from connbal.cli.shapes.status import PolicyMember

_Decided = Literal["rule", "exempt", "interface", "connection", "discovery", "nothing"]


class Packet(TypedDict):
    """The packet that was asked about."""

    family: Annotated[Literal["ipv4", "ipv6"], "address family"]
    source: Annotated[str, "address"]
    destination: Annotated[str, "address"]
    protocol: Annotated[int | None, "IP protocol number; null: not given"]
    source_port: Annotated[int | None, "null: not given, or the protocol has none"]
    destination_port: Annotated[int | None, "null: not given, or the protocol has none"]
    local: Annotated[bool, "the router itself sends it"]
    device: Annotated[str | None, "by which it comes in or, `local`, would leave without a mark; null: not known"]
    mac: Annotated[str | None, "Ethernet address of the sender; null: not known"]


class ExplainedRule(TypedDict):
    """A rule on the way."""

    number: Annotated[int, "place, from 1, in which it is tried"]
    name: Annotated[str, "name of the section"]
    policy: Annotated[str, "that it uses"]
    verdict: Annotated[
        Literal["matched", "no", "unused", "not reached"], "`unused`: it is not in use in the packet's family"
    ]
    reasons: Annotated[list[str], "of `no` and `unused`, in words"]


class ExplainedPolicy(TypedDict):
    """What the policy of the rule that matched does."""

    name: Annotated[str, "name of the section, or `unreachable`, `blackhole`, `default`"]
    metric: Annotated[int | None, "of the members in use; null: none can be used, or it is no section"]
    affinity: Annotated[Literal["connection", "pair", "source"] | None, "null: it is no section"]
    reason: Annotated[str, "in words, why it is so"]
    members: Annotated[list[PolicyMember], "those in use"]


class IpRule(TypedDict):
    """The routing rule that the packet meets."""

    priority: Annotated[int, "as `ip rule` shows it"]
    text: Annotated[str, "as `ip rule` shows it"]


class ExplainedWay(TypedDict):
    """One of the ways that the packet may go."""

    percent: Annotated[float, "how likely it is; 100 where nothing is drawn by chance"]
    mark: Annotated[int, "of the packet as it is routed"]
    connection_mark: Annotated[int, "that its connection keeps"]
    meaning: Annotated[
        Literal["interface", "default", "unreachable", "blackhole", "none", "unknown"],
        "of the mark; `unknown`: it was given when something else was applied",
    ]
    interface: Annotated[str | None, "whose mark it is; null: no interface's"]
    member: Annotated[str | None, "that was chosen; null: none was"]
    ip_rule: Annotated[IpRule | None, "null: none of connbal's, the main table decides"]
    table: Annotated[int | None, "routing table, 254 is main; null: the routing rule refuses it"]
    device: Annotated[str | None, "by which it leaves; null: it does not, or that was not looked at"]
    gateway: Annotated[str | None, "address; null: there is none, or that was not looked at"]
    refused: Annotated[str | None, "why it is not sent, in words; null: it is, or that was not looked at"]


class NewConnection(TypedDict):
    """What would become of a new connection, where the packet belongs to an open one."""

    decided: Annotated[_Decided, "who would give the mark"]
    by: Annotated[str | None, "name of the rule, set or interface; null: there is none"]
    because: Annotated[str, "in words"]
    outcomes: Annotated[list[ExplainedWay], "likeliest first"]


class Explain(TypedDict):
    """Which way a packet would go, and why. `rules`, `policy` and `sticky` are those of a new connection."""

    schema: Annotated[Literal["explain/1"], FORM]
    packet: Annotated[Packet, "what was asked about"]
    decided: Annotated[_Decided, "who gives the mark; [explain.md](explain.md) says what each word means"]
    by: Annotated[str | None, "name of the rule, set or interface; null: there is none"]
    because: Annotated[str, "in words"]
    rules: Annotated[list[ExplainedRule], "in the order in which they are tried; without `--all` the interesting ones"]
    rules_left_out: Annotated[int, "how many are not in `rules`"]
    policy: Annotated[ExplainedPolicy | None, "null: no rule matches"]
    sticky: Annotated[str | None, "interface that the source is remembered on; null: it is not"]
    logged: Annotated[bool, "the rule that matches has it logged"]
    mask: Annotated[int, "bits of a mark that are connbal's"]
    outcomes: Annotated[list[ExplainedWay], "likeliest first"]
    new_connection: Annotated[NewConnection | None, "null: the packet belongs to no open connection"]
    might_match: Annotated[
        list[str], "rules ahead of the one that matches that look at what was not given or not looked at"
    ]
    applied: Annotated[bool | None, "the configuration has been applied; null: that was not looked at"]
    pending: Annotated[int, "changes that `apply` would make first"]
    notes: Annotated[list[str], "what else is worth knowing, in words"]
