"""Weights for wanted shares."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import WeightMode
from connbal.model.weights import MAX_WEIGHT, weights_for
from connbal.plan.shares import shares

MODES = st.sampled_from(WeightMode)


@pytest.mark.parametrize(
    ("mode", "parts", "weights"),
    [
        (WeightMode.INVERSE, [2, 1], (1, 2)),  # the user's document: 66 % and 33 %
        (WeightMode.INVERSE, [3, 1], (1, 3)),  # 75 % and 25 %
        (WeightMode.INVERSE, [75, 25], (1, 3)),
        (WeightMode.PROPORTIONAL, [2, 1], (2, 1)),
        (WeightMode.PROPORTIONAL, [75, 25], (3, 1)),
        (WeightMode.INVERSE, [1, 1, 1], (1, 1, 1)),
        (WeightMode.INVERSE, [50, 30, 20], (6, 10, 15)),
    ],
)
def test_the_smallest_that_are_exact(mode: WeightMode, parts: list[int], weights: tuple[int, ...]) -> None:
    assert weights_for(parts, mode) == weights


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), MODES)
def test_shares_are_reached(parts: list[int], mode: WeightMode) -> None:
    """Exactly, or to a point: of 30 to 1 and less, whole numbers up to 1000 miss little."""
    weights = weights_for(parts, mode)
    assert all(1 <= weight <= MAX_WEIGHT for weight in weights)
    for part, share in zip(parts, shares(weights, mode), strict=True):
        assert abs(share - Fraction(part, sum(parts))) < Fraction(1, 100)


@given(st.lists(st.integers(1, MAX_WEIGHT), min_size=1, max_size=5), MODES)
def test_shares_that_weights_can_have_are_had(weights: list[int], mode: WeightMode) -> None:
    """Whatever some weights divide into, the weights found for it divide into the same."""
    wanted = shares(weights, mode)
    common = 1
    for share in wanted:
        common *= share.denominator
    assert shares(weights_for([int(share * common) for share in wanted], mode), mode) == wanted


@given(st.lists(st.integers(1, 1_000_000), min_size=2, max_size=4), MODES)
def test_weights_are_in_range_whatever_is_wanted(parts: list[int], mode: WeightMode) -> None:
    assert all(1 <= weight <= MAX_WEIGHT for weight in weights_for(parts, mode))
