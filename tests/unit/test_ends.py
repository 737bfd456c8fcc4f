"""The oldest versions of packages: what setup.cfg allows is what the tests are run with."""

from __future__ import annotations

import configparser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def said(path: str) -> list[str]:
    """The lines of a file of .ci without its comments."""
    lines = (ROOT / ".ci" / path).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_oldest_versions_are_those_that_setup_allows() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    allowed = setup["options"]["install_requires"].split()
    assert sorted(allowed) == [line.replace("==", ">=") for line in said("oldest.txt")]
    assert setup["options"]["python_requires"] == ">=3.10"
    assert setup["mypy"]["python_version"] == "3.10"


def test_what_is_run_at_the_oldest_end_is_there() -> None:
    part = said("oldest-part")
    assert len(part) > 5
    assert all((ROOT / path).exists() for path in part)
