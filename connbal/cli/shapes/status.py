"""What ``connbal status`` prints."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from connbal.cli.shapes.common import FORM, Finding, Waiting
from connbal.cli.shapes.events import Reconcile

Family = Literal["ipv4", "ipv6"]


class Host(TypedDict):
    """A host that an interface is probed by."""

    host: Annotated[str, "as `track_ip` has it"]
    state: Annotated[Literal["up", "down", "skipped", "unknown"], "what the last round found"]
    latency: Annotated[float | None, "milliseconds; null: not known"]
    loss: Annotated[float | None, "per cent of the probes; null: not known"]
    fault: Annotated[str, "why it did not answer, in words; empty where it did"]


class _TrackerAlways(TypedDict):
    status: Annotated[
        Literal["online", "offline", "connecting", "disconnecting", "disabled"], "as in mwan3's file `STATUS`"
    ]
    online: Annotated[bool, "its health lets policies use it"]
    reason: Annotated[str, "why, in words"]
    enabled: Annotated[bool, "the configuration says `enabled '1'`"]
    tracked: Annotated[bool, "it has hosts to probe"]
    running: Annotated[bool, "they are probed now"]
    forced: Annotated[Literal["up", "down"] | None, "by the user; null: not forced"]
    device: Annotated[str | None, "network device; null: there is none"]
    score: Annotated[int, "from 0 to `top`"]
    top: Annotated[int, "the highest score: `up` + `down`"]
    lost: Annotated[int, "answers missing since the last good round, over all hosts"]
    turn: Annotated[int, "rounds since it last connected"]
    since: Annotated[float | None, "seconds it has been online or offline; null: neither yet"]
    round: Annotated[float | None, "seconds since the last round ended; null: none has"]
    hosts: Annotated[list[Host], "those of `track_ip`"]


class Tracker(_TrackerAlways, total=False):
    """What the daemon knows of an interface."""

    unmade: Annotated[int, "rounds of probes that the router itself could not make; absent: none"]


class Interface(TypedDict):
    """An interface."""

    name: Annotated[str, "name of the section"]
    id: Annotated[int, "number, from 1: routing table, and mark once spread over the mask"]
    family: Annotated[Family, "address family it serves"]
    enabled: Annotated[bool, "the configuration says `enabled '1'`"]
    device: Annotated[str | None, "network device; null: there is none"]
    up: Annotated[bool, "policies use it"]
    present: Annotated[bool, "it has a device and an address, so there are rules and routes for it"]
    reason: Annotated[str, "why, in words"]
    tracker: Annotated[Tracker | None, "null: no daemon runs, or it does not know the interface"]


class PolicyMember(TypedDict):
    """A member that takes part in what a policy does now."""

    member: Annotated[str, "name of the section"]
    interface: Annotated[str, "name of the section"]
    weight: Annotated[int, "as configured"]
    percent: Annotated[float, "per cent of the policy's new connections"]


class Policy(TypedDict):
    """What a policy does in one family now."""

    policy: Annotated[str, "name of the section"]
    family: Annotated[Family, "address family"]
    metric: Annotated[int | None, "of the members in use; null: none can be used"]
    affinity: Annotated[Literal["connection", "pair", "source"], "what stays on one interface"]
    last_resort: Annotated[Literal["unreachable", "blackhole", "default"], "what holds while no member can be used"]
    reason: Annotated[str, "in words, why it is so"]
    members: Annotated[list[PolicyMember], "those in use; their per cents sum up to 100"]


class Rule(TypedDict):
    """A rule, and what it has matched."""

    name: Annotated[str, "name of the section; `@rule[N]` or `cfg...` for an anonymous one"]
    policy: Annotated[str, "that it uses"]
    families: Annotated[list[Family], "in which it is in use; empty: in none"]
    reason: Annotated[str, "why it is not in use, in words"]
    packets: Annotated[int, "first packets of connections that it has matched"]
    bytes: Annotated[int, "bytes of these packets"]


class _ReconcilesAlways(TypedDict):
    count: Annotated[int, "runs since its start"]
    last: Annotated[Reconcile | None, "the last run that did or said something; null: none yet"]


class Repairs(TypedDict):
    """What the daemon has put back because somebody else had undone it: rules and sets, not routes, which the kernel
    takes away itself with a link that goes for a moment.
    """

    count: Annotated[int, "runs that did so since its start"]
    recent: Annotated[int, "those of the last 10 minutes"]
    by: Annotated[str | None, "the last process that is known to have, and the program behind it; null: none is known"]
    last: Annotated[list[str], "the first changes of the last repair, in words"]
    text: Annotated[str, "what to say of it and what to do, once it happens again and again; empty: nothing"]


class Reconciles(_ReconcilesAlways, total=False):
    """What the daemon has done to the kernel."""

    errors: Annotated[int, "runs that failed; a daemon of an earlier version does not say"]
    repairs: Annotated[Repairs, "what others have undone; a daemon of an earlier version does not say"]


class Daemon(TypedDict):
    """The daemon."""

    pid: Annotated[int, "process id"]
    since: Annotated[float, "seconds it has run"]
    reconciles: Annotated[Reconciles, "its runs"]


class Status(TypedDict):
    """Interfaces, policies and rules as they are now. With `--watch` one document a line, without end; where a look
    fails, an `error/1` in its place.
    """

    schema: Annotated[Literal["status/1"], FORM]
    applied: Annotated[bool, "the configuration is in the kernel; false: this is how it would be"]
    daemon: Annotated[Daemon | None, "null: none runs"]
    waiting: Annotated[Waiting | None, "null: no change waits for its confirmation"]
    interfaces: Annotated[list[Interface], "in the order of the file, disabled ones too"]
    policies: Annotated[list[Policy], "each in both families"]
    rules: Annotated[list[Rule], "in the order of the file, as they are tried"]
    findings: Annotated[list[Finding], "about the configuration and the machine"]
