"""A short soak; CONNBAL_SOAK has the seconds of a longer one, CONNBAL_SEED the seed of another."""

from __future__ import annotations

import os

import pytest

from tests.netns.daemon.soak.run import soak

pytestmark = [pytest.mark.netns, pytest.mark.traffic]


def test_random_faults_end_as_the_model_says(lab_available: None) -> None:
    """What failed is in the output, with the seed: ``python -m tests.netns.daemon.soak --seed N`` repeats it."""
    soak(float(os.environ.get("CONNBAL_SOAK", "25")), int(os.environ.get("CONNBAL_SEED", "1")))
