"""What ``connbal events`` prints: the records of the daemon's journal."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from connbal.cli.shapes.common import FORM

_Status = Literal["online", "offline", "connecting", "disconnecting", "disabled"]


class _Record(TypedDict):
    number: Annotated[int, "1, 2, ... since the daemon's start"]
    time: Annotated[str, "local time, ISO 8601 with milliseconds and offset; for people, because clocks are set"]
    uptime: Annotated[float, "seconds of the monotonic clock, which every daemon of this boot shares"]


class _Transition(_Record):
    kind: Annotated[
        Literal["ifup", "ifdown", "connected", "disconnected", "connecting", "disconnecting"], "what happened"
    ]
    interface: Annotated[str, "name of the section"]
    device: Annotated[str | None, "network device; null: there is none"]
    cause: Annotated[str, "why, in words"]
    old: Annotated[_Status, "state before"]
    new: Annotated[_Status, "state after"]
    first: Annotated[bool, "tracking begins here; no round has said so"]


class Reconcile(_Record):
    """A run of the reconciler."""

    kind: Annotated[Literal["reconcile"], "the kernel was looked at, and changed where need was"]
    causes: Annotated[list[str], "why there was a run, in words"]
    changes: Annotated[list[str], "what was changed, in words; the end of long lists is left out"]
    findings: Annotated[list[str], "in words; the end of long lists is left out"]
    changed: Annotated[int, "number of changes"]
    flushed: Annotated[int, "number of marks whose connections were forgotten"]
    seconds: Annotated[float, "that it took"]
    error: Annotated[str | None, "why it failed, in words; null: it did not"]


class _Said(_Record):
    kind: Annotated[Literal["daemon"], "about the daemon itself"]
    text: Annotated[str, "in words"]


class EventTransition(_Transition):
    """An interface changed its state."""

    schema: Annotated[Literal["event/1"], FORM]


class EventReconcile(Reconcile):
    """A run of the reconciler."""

    schema: Annotated[Literal["event/1"], FORM]


class EventDaemon(_Said):
    """The daemon started, ends, or read the configuration."""

    schema: Annotated[Literal["event/1"], FORM]


Event = EventTransition | EventReconcile | EventDaemon
