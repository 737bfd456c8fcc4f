"""Weights for wanted shares: the way back from per cents to what a member's ``weight`` takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from connbal.model.config import WeightMode

#: The largest weight of a member; the least is 1.
MAX_WEIGHT = 1000


def weights_for(parts: Sequence[int], mode: WeightMode) -> tuple[int, ...]:
    """Weights, 1 to 1000, that divide connections as ``parts`` (each 1 or more) do, or as nearly as weights can.

    The smallest that are exact, where some are: 2 to 1 is 2 and 1 in ``proportional``, 1 and 2 in ``inverse``. Else
    those whose largest error, in points of a share, is least.

    >>> weights_for([3, 1], WeightMode.INVERSE), weights_for([50, 30, 20], WeightMode.INVERSE)
    ((1, 3), (6, 10, 15))
    """
    divisor = math.gcd(*parts)
    wanted = [part // divisor for part in parts]
    exact = wanted if mode is WeightMode.PROPORTIONAL else [math.lcm(*wanted) // part for part in wanted]
    if max(exact) <= MAX_WEIGHT:
        return tuple(exact)
    tried = (_scaled(wanted, mode, top) for top in range(1, MAX_WEIGHT + 1))
    return min(tried, key=lambda weights: _error(wanted, mode, weights))


def _scaled(wanted: Sequence[int], mode: WeightMode, top: int) -> tuple[int, ...]:
    """Whole numbers in the wanted proportions, rounded, with ``top`` as the largest."""
    if mode is WeightMode.PROPORTIONAL:
        largest = max(wanted)
        return tuple(max(1, round(part * top / largest)) for part in wanted)
    least = min(wanted)
    return tuple(max(1, round(least * top / part)) for part in wanted)


def _error(wanted: Sequence[int], mode: WeightMode, weights: Sequence[int]) -> float:
    raw = [weight if mode is WeightMode.PROPORTIONAL else 1 / weight for weight in weights]
    return max(abs(part / sum(wanted) - got / sum(raw)) for part, got in zip(wanted, raw, strict=True))
