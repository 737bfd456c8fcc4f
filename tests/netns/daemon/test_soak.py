"""A short soak; CONNBAL_SOAK has the seconds of a longer one, CONNBAL_SEED the seed of another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.netns.daemon.soak.flushes import IN_FLIGHT, Flush, read
from tests.netns.daemon.soak.run import soak

pytestmark = [pytest.mark.netns, pytest.mark.traffic]


def test_random_faults_end_as_the_model_says(lab_available: None) -> None:
    """What failed is in the output, with the seed: ``python -m tests.netns.daemon.soak --seed N`` repeats it."""
    soak(float(os.environ.get("CONNBAL_SOAK", "25")), int(os.environ.get("CONNBAL_SEED", "1")))


def test_edits_close_after_each_other_end_as_the_model_says(lab_available: None) -> None:
    """Nothing but edits, of which most give marks another meaning."""
    soak(float(os.environ.get("CONNBAL_SOAK", "10")), int(os.environ.get("CONNBAL_SEED", "73")), edits=True)


def test_only_who_was_open_is_forgiven(tmp_path: Path) -> None:
    flush = Flush(10.0, 10.1, 0x100, 0x3F00)
    assert flush.met(9.9, 3.0)
    assert flush.met(10.05, 0.0)
    assert not flush.met(9.9, 0.05)  # over before
    assert not flush.met(10.2, 3.0)  # begun after it
    assert not flush.met(9.9 - IN_FLIGHT, 3.0)  # lost already
    file = tmp_path / "flushes"
    assert read(file, 0.0) == []
    file.write_text("1.0 2.0 256 16128\n10.0 10.1 256 16128\n11.0 11.")
    assert read(file, 5.0) == [flush]
