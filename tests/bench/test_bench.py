"""Each part of the benchmark, once and short: it still works. What it measures on a busy machine means nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bench import cli
from tests.bench.health import PARTS
from tests.bench.packets import measure as packets

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

#: Parts that run at once: they wait most of the time.
_AT_ONCE = 3


@pytest.mark.usefixtures("lab_available")
def test_each_part_measures_something(tmp_path: Path) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ended = dict(zip(PARTS, pool.map(lambda part: _short(part, tmp_path), PARTS), strict=True))
    for part, done in ended.items():
        assert done.returncode in (0, 1), done.stderr  # 1: a limit was missed, which here says nothing
        figures = json.loads((tmp_path / part).read_text())["parts"].get(part)
        assert figures, done.stderr
        for figure in figures:
            assert figure["samples"]
            assert min(figure["samples"]) >= 0, figure
            assert figure["what"] in done.stdout


def _short(part: str, directory: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.bench.health", "--short", "--json", str(directory / part), part]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.usefixtures("lab_available")
def test_every_command_is_timed(tmp_path: Path) -> None:
    file = tmp_path / "figures"
    argv = [sys.executable, "-m", "tests.bench.cli", "--repetitions", "2", "--json", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: a target was missed, which here says nothing
    written = json.loads(file.read_text())
    timed = {figure["what"]: figure for figure in written["figures"]}
    skipped = " ".join(written["skipped"])
    for command in cli.COMMANDS:
        names = [f"{command.name}, {rules:,} rules" for rules in (cli.FEW, cli.MANY)]
        assert all(name in timed for name in names) or command.name in skipped
    for figure in timed.values():
        assert len(figure["samples"]) == 2
        assert min(figure["samples"]) > 0
        assert figure["what"] in done.stdout


@pytest.mark.usefixtures("lab_available")
def test_packets_come_through_and_are_timed() -> None:
    """Each burst is counted behind the router, so what is missing fails."""
    found = packets.figures(packets.SHORT)
    assert {figure.what for figure in found} == {
        packets.NEW, packets.SENT, packets.RECEIVED, packets.PER_RULE, packets.PER_PACKET,
    }  # fmt: skip
    for figure in found:
        assert len(figure.samples) == 1
        assert figure.what in (packets.PER_RULE, packets.PER_PACKET) or min(figure.samples) > 0
