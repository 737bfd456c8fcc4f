"""How often the kernel is looked at when events come in storms. Pure.

A token bucket: a single event is answered at once, a storm of them with a few runs and then one now and then. What is
urgent (a source that is lost or back) may use the last tokens, which ordinary events leave alone.
"""

from __future__ import annotations

from dataclasses import replace

from connbal.frozen import dataclass

BURST = 8.0  #: runs in quick succession
RESERVE = 3.0  #: of them for what is urgent
#: Seconds between runs in a storm, at least; and how many times the length of a run, so that a slow router has time
#: left for its packets.
PERIOD, SHARE = 0.25, 4.0


@dataclass(frozen=True)
class Pace:
    """The tokens left at a time. Times are seconds of the monotonic clock."""

    tokens: float = BURST
    at: float = 0.0
    period: float = PERIOD  #: seconds that a new token takes

    def wait(self, urgent: bool, now: float) -> float:
        """Seconds until the next run may begin; 0.0: now."""
        needed = 1.0 if urgent else 1.0 + RESERVE
        missing = needed - self._left(now)
        return missing * self.period if missing > 1e-6 else 0.0

    def spent(self, now: float, took: float, *, awaited: bool = False) -> Pace:
        """After a run that took so many seconds and ended now.

        ``awaited``: somebody waited for it, and would have run it himself. It leaves the last tokens to what is urgent.
        """
        before = self._left(now)
        left = max(before - 1.0, min(before, RESERVE) if awaited else 0.0)
        return replace(self, tokens=left, at=now, period=max(PERIOD, took * SHARE))

    def _left(self, now: float) -> float:
        return min(self.tokens + max(now - self.at, 0.0) / self.period, BURST)
