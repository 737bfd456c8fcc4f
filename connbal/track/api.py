"""What probes report and the state machine reads, as values."""

from __future__ import annotations

import enum

from connbal.frozen import dataclass


class Miss(enum.Enum):
    """What it means that a host has not answered."""

    LOST = "lost"  #: it was asked, or cannot be reached: that counts against the source
    LEFT_OUT = "left out"  #: whatever answers there is this router, or no host: neither an answer nor a loss
    UNASKED = "unasked"  #: this machine was short of something: nothing is known of the host


@dataclass(frozen=True)
class HostResult:
    """What one round found out about one host of an interface."""

    host: str  #: as ``track_ip`` names it
    answered: bool
    latency: float | None = None  #: ms, mean over the answers; None: no answer, or a method that has none
    loss: float = 100.0  #: per cent of the probes of this round that got no answer
    reason: str = ""  #: in words, why there was no answer: ``timeout``, ``refused``, ``no address``
    skipped: bool = False  #: not waited for: enough others had answered; or told of in another report of the round
    miss: Miss = Miss.LOST  #: where it did not answer: what that means


@dataclass(frozen=True)
class Round:
    """One round of probes of one interface, all hosts asked at once."""

    results: tuple[HostResult, ...]
    at: float  #: seconds of the monotonic clock, at the end of the round
