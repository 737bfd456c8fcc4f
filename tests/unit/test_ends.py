"""The oldest versions of packages: what setup.cfg allows is what the tests are run with."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("body", "required", "code"),
    [
        ("import pytest\ndef test_it(): pytest.skip('no iptables')", True, 1),
        ("import pytest\ndef test_it(): pytest.skip('no iptables')", False, 0),
        ("import pytest\ndef test_it(): pytest.skip('libuci is not here: import uci (pyuci) fails')", True, 0),
        ("import pytest\ndef test_it(): pytest.xfail('on purpose')", True, 0),
        ("import pytest\n@pytest.mark.parametrize('case', [])\ndef test_it(case): pass", False, 2),
    ],
)
def test_nothing_is_left_out_in_silence(body: str, required: bool, code: int, tmp_path: Path) -> None:
    """A skip where all was installed, and a test that has no cases."""
    (tmp_path / "test_it.py").write_text(body)
    argv = [sys.executable, "-m", "pytest", "-c", str(ROOT / "setup.cfg"), "-p", "tests.skips", str(tmp_path)]
    environment = {**os.environ, "CONNBAL_REQUIRE_LAB": "1" if required else ""}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
