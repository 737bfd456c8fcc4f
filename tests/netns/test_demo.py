"""The demo shows what it says it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import Lab

pytestmark = [pytest.mark.netns, pytest.mark.traffic]
ROOT = Path(__file__).parents[2]


def demo(*arguments: str) -> str:
    """What the demo prints. It ends with 1 where anything is not as expected."""
    argv = [sys.executable, "-m", "tests.demo", *arguments]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_everything_is_as_expected(lab_available: None, xtables: str) -> None:
    text = demo("--xtables", xtables)
    assert text.rstrip().endswith("all as expected")
    assert "BAD" not in text
    assert {"SmartTV", "Https", "All_Traffic"} <= set(re.findall(r"\w+", text))


def test_a_kept_lab_can_be_entered_and_taken_away(lab_available: None) -> None:
    prefix = re.search(r"ip netns exec (\w+)-router", demo("--keep"))
    assert prefix is not None
    kept = Lab.attach(prefix[1])
    try:
        assert "suppress_prefixlength" in kept.router.run(["ip", "rule"]).stdout
    finally:
        kept.close()
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10, check=True)
    assert prefix[1] not in listed.stdout
