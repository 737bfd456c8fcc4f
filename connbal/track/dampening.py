"""Flap dampening: a source that keeps failing stays out for longer. Pure.

The terms are those of RFC 2439: each loss adds a penalty, which halves every half-life; above the cut-off threshold
the source is suppressed, below the reuse threshold it may be used again. The figures are the ones that routers
commonly ship (1000 a loss, cut-off 2000, reuse 750, at most four half-lives): the third loss in quick succession
suppresses. Only the half-life can be set (option ``dampening``, seconds); 0, the default, turns it off.
"""

from __future__ import annotations

import math
from dataclasses import replace

from connbal.frozen import dataclass

PENALTY = 1000.0  #: of one loss
CUT_OFF = 2000.0  #: above it the source is suppressed
REUSE = 750.0  #: at or below it the source is free again
#: Never more, so that nothing is suppressed for longer than four half-lives after its last loss.
CEILING = REUSE * 16


@dataclass(frozen=True)
class Flaps:
    """What losses have added up to."""

    penalty: float = 0.0  #: 0..CEILING, as it was at ``at``
    at: float = 0.0  #: seconds of the monotonic clock
    suppressed: bool = False


#: Nothing was ever lost.
NO_FLAPS = Flaps()


def struck(flaps: Flaps, half_life: float, now: float) -> Flaps:
    """One more loss, at ``now``."""
    penalty = min(_decayed(flaps, half_life, now) + PENALTY, CEILING)
    return Flaps(penalty, now, flaps.suppressed or penalty > CUT_OFF)


def eased(flaps: Flaps, half_life: float, now: float) -> Flaps:
    """What is left at ``now``: free again once the penalty is low enough."""
    free_at = reuse_at(flaps, half_life)
    return replace(flaps, suppressed=False) if free_at is not None and now >= free_at else flaps


def reuse_at(flaps: Flaps, half_life: float) -> float | None:
    """When a suppressed source is free again (monotonic clock); None: it is not suppressed."""
    if not flaps.suppressed:
        return None
    return flaps.at + half_life * max(math.log2(flaps.penalty / REUSE), 0.0)


def _decayed(flaps: Flaps, half_life: float, now: float) -> float:
    return flaps.penalty * math.pow(0.5, max(now - flaps.at, 0.0) / half_life)
