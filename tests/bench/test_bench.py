"""Each part of the benchmark, once and short: it still works. What it measures on a busy machine means nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bench.parts import PARTS

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

#: All but those whose functions these use too.
_PARTS = (*PARTS, "recovery", "lost", "storm")
#: Parts that run at once: they wait most of the time.
_AT_ONCE = 4


@pytest.mark.usefixtures("lab_available")
def test_each_part_measures_something(tmp_path: Path) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ended = dict(zip(_PARTS, pool.map(lambda part: _short(part, tmp_path), _PARTS), strict=True))
    names: list[str] = []
    for part, done in ended.items():
        assert done.returncode in (0, 1), done.stderr  # 1: a target was missed, which here says nothing
        written = json.loads((tmp_path / part / "figures.json").read_text())
        assert written["complete"], done.stderr
        assert written["figures"], done.stderr
        for figure in written["figures"]:
            assert figure["samples"]
            assert figure["unit"] != "s" or min(figure["samples"]) >= 0, figure
            assert figure["name"] in done.stdout
            names.append(figure["name"])
        assert (tmp_path / part / "index.html").stat().st_size > 1000
    assert len(set(names)) == len(names), "a name of a line is that of another one"


def _short(part: str, directory: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.bench", "--short", "--only", part, "--output", str(directory / part)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
