"""What whole commands cost, against the import of click in the same run. Processor time: others use the disk, too.

``python -m tests.bench.cli`` measures what passes on the clock.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import connbal
from tests.unit.cli.run import CONFIG, router

#: Rounds in which all take turns, at most; it ends when the least times keep the limit.
ROUNDS = 40
CONNBAL = [sys.executable, "-c", "from connbal.cli.main import main; main()"]


def cost(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds of processor time of a process that succeeds."""
    # Elsewhere than in the checkout, which Python would look into first.
    process = subprocess.Popen(argv, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, cwd="/")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment that leads to a copy of connbal that is compiled, as an installed one is."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(Path(connbal.__file__).parent, folder / "connbal", ignore=shutil.ignore_patterns("__pycache__"))
    assert compileall.compile_dir(folder, quiet=1)
    return {"PYTHONPATH": str(folder)}


def within(limit: float, one: list[float], other: list[float]) -> bool:
    return bool(one) and min(one) <= limit * min(other)


def test_listing_and_adding_cost_little_more_than_importing_click(
    tmp_path: Path, installed: Mapping[str, str]
) -> None:
    here = router(tmp_path)
    environment = {**here.environment, **installed}
    click, listing, adding = [], [], []
    for number in range(ROUNDS):
        click.append(cost([sys.executable, "-c", "import click"], environment))
        listing.append(cost([*CONNBAL, "rule", "list"], environment))
        added = ["rule", "add", f"r{number}", "--src-ip", "192.0.2.1", "--use-policy", "both", "--no-apply"]
        adding.append(cost([*CONNBAL, *added], environment))
        if number >= 4 and within(1.5, listing, click) and within(2, adding, click):
            return
    assert (min(listing) / min(click), min(adding) / min(click)) == (1.5, 2)


def test_a_thousand_rules_cost_less_than_three_times_ten(tmp_path: Path, installed: Mapping[str, str]) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    few, many = router(tmp_path / "few", ""), router(tmp_path / "many", "")
    for here, count in ((few, 10), (many, 1000)):
        rules = "".join(
            f"\nconfig rule 'r{number}'\n\toption src_ip '10.0.{number // 250}.{number % 250}'\n\toption proto 'tcp'\n"
            f"\toption dest_port '443'\n\toption use_policy 'both'\n" for number in range(count)
        )  # fmt: skip
        here.file.write_text(CONFIG + rules)
    verbs = (["list"], ["move", "r3", "--first", "--no-apply"], ["move", "r3", "--last", "--no-apply"])
    times: dict[tuple[str, int], list[float]] = {}
    for number in range(ROUNDS):
        for index, verb in enumerate(verbs):
            for name, here in (("few", few), ("many", many)):
                used = cost([*CONNBAL, "rule", *verb], {**here.environment, **installed})
                times.setdefault((name, index), []).append(used)
        if number >= 2 and all(within(3, times["many", index], times["few", index]) for index in range(len(verbs))):
            return
    assert {index: min(times["many", index]) / min(times["few", index]) for index in range(len(verbs))} == 3
