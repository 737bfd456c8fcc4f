"""What probes report and the state machine reads, as values."""

from __future__ import annotations

from connbal.frozen import dataclass


@dataclass(frozen=True)
class HostResult:
    """What one round found out about one host of an interface."""

    host: str  #: as ``track_ip`` names it
    answered: bool
    latency: float | None = None  #: ms, mean over the answers; None: no answer, or a method that has none
    loss: float = 100.0  #: per cent of the probes of this round that got no answer
    reason: str = ""  #: in words, why there was no answer: ``timeout``, ``refused``, ``no address``
    skipped: bool = False  #: not waited for: enough others had answered; or told of in another report of the round


@dataclass(frozen=True)
class Round:
    """One round of probes of one interface, all hosts asked at once."""

    results: tuple[HostResult, ...]
    at: float  #: seconds of the monotonic clock, at the end of the round
