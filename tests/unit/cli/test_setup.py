"""``connbal setup``: what is printed, and that --dry-run and refusals write nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connbal.cli.main import cli
from connbal.errors import UsageError

CONFIG = """
config globals 'globals'
	option weight_mode 'inverse'

config interface 'wan1'
	list track_ip '1.1.1.1'

config interface 'wan2'
	list track_ip '1.1.1.1'
"""


@pytest.fixture
def where(tmp_path: Path) -> Path:
    (tmp_path / "mwan3").write_text(CONFIG)
    return tmp_path


def run(where: Path, *words: str) -> Result:
    argv = ["--config-dir", str(where), "--run-dir", str(where / "run"), "setup", *words]
    return CliRunner().invoke(cli, argv)


def lines(where: Path, *words: str) -> list[str]:
    done = run(where, *words)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


SPLIT = ("split", "wan1=2", "wan2=1")


def test_the_per_cents_are_said(where: Path) -> None:
    assert lines(where, *SPLIT) == [
        "rule All_Traffic: policy All_Policy: wan1 67 %, wan2 33 %",
        "note: All_Traffic: IPv6 is not covered: there is no IPv6 interface for wan1, wan2",
        "committed; not applied: nothing has been applied yet; connbal apply does it",
    ]
    assert lines(where, *SPLIT)[-1] == "nothing to change"


def test_the_rule_that_it_goes_before_is_said(where: Path) -> None:
    lines(where, *SPLIT)
    words = ("device", "--ip", "192.168.1.178", "--use", "wan2", "--use", "wan1", "--name", "SmartTV")
    wanted = "rule SmartTV, before All_Traffic: policy TV_Policy: wan2, while it is down wan1"
    before = (where / "mwan3").read_text()
    assert lines(where, *words, "--dry-run")[0] == wanted
    assert (where / "mwan3").read_text() == before
    assert lines(where, *words)[0] == wanted


def test_shares_that_weights_cannot_have(where: Path) -> None:
    assert "note: All_Traffic: weights from 1 to 1000 come no nearer: wan1 99.900 %, wan2 0.100 %" in lines(
        where, "split", "wan1=5000", "wan2=1"
    )


def test_as_json(where: Path) -> None:
    found = json.loads(run(where, *SPLIT, "--affinity", "pair", "--json").stdout)
    assert next(iter(found)) == "schema"
    assert found["rules"] == [{
        "rule": "All_Traffic", "policy": "All_Policy", "members": [
            {"interface": "wan1", "metric": 1, "weight": 1, "percent": 66.667},
            {"interface": "wan2", "metric": 1, "weight": 2, "percent": 33.333},
        ],
    }]  # fmt: skip
    assert json.loads(run(where, *SPLIT, "--dry-run", "--json").stdout)["changed"] is False


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("split", "wan1", "wan2=1"), "is not INTERFACE=SHARE"),
        (("split", "wan1=x", "wan2=1"), "is not INTERFACE=SHARE"),
        (("split", "wan1=1", "wan1=2"), "given twice"),
        (("split", "wan1=0", "wan2=2"), "whole number from 1"),
        (("failover", "wan1", "wan"), "did you mean wan"),
        (("failover", "wan1"), "at least two"),
        (("device", "--use", "wan1"), "--ip or --mac"),
        (("device", "--ip", "192.168.1.300", "--use", "wan1"), "is not an address"),
        (("device", "--ip", "192.168.1.3", "--use", "wan1", "--name", "x\n"), "letters, digits and _"),
    ],
)
def test_refusals_write_nothing(where: Path, words: tuple[str, ...], why: str) -> None:
    done = run(where, *words)
    assert isinstance(done.exception, UsageError)
    assert why in str(done.exception)
    assert (where / "mwan3").read_text() == CONFIG


def test_a_file_that_is_begun_says_what_weights_mean(tmp_path: Path) -> None:
    (tmp_path / "network").write_text("config interface 'wan'\n\nconfig interface 'wan6'\n\nconfig interface 'wwan'\n")
    assert lines(tmp_path, "failover", "wan", "wwan")[0].endswith("wan, while it is down wwan")
    text = (tmp_path / "mwan3").read_text()
    assert "option weight_mode 'inverse'\n\toption affinity 'pair'" in text
