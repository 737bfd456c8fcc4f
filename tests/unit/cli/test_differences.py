"""What mwan3 would do otherwise: each kind is found where it is, and only there; and remedies remedy it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from connbal.cli.differences import Difference, differences
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.netns.mwan3.vector import NAMES, Vector

ROOT = Path(__file__).resolve().parents[3]

PLAIN = """
config interface 'wan'
	option enabled '1'
config interface 'wan1'
	option enabled '1'
config member 'a'
	option interface 'wan'
	option weight '1'
config member 'b'
	option interface 'wan1'
	option weight '3'
config policy 'both'
	list use_member 'a'
	list use_member 'b'
config rule 'all'
	option dest_ip '0.0.0.0/0'
	option use_policy 'both'
"""


def found(text: str) -> list[Difference]:
    package = parse(text.encode(), "mwan3")
    return differences(decode(package).config, package)


def test_what_mwan3_knows_is_no_difference() -> None:
    assert found(PLAIN) == []


CASES = {
    "mask-room": "config globals 'globals'\n\toption mmx_mask '0x7'\n"
    + "".join(f"config interface 'i{number}'\n" for number in range(5)),
    "fraction": "config interface 'x'\n\toption interval '0.2'\n",
    "quality-window": "config interface 'x'\n\toption check_quality '1'\n",
    "track-gateway": "config interface 'x'\n\toption track_gateway '1'\n",
    "dampening": "config interface 'x'\n\toption dampening '60'\n",
    "flush-conntrack": "config interface 'x'\n\toption enabled '1'\n\tlist flush_conntrack 'ifdown'\n",
    "metric-256": "config member 'm'\n\toption interface 'wan'\n\toption metric '256'\n",
    "weight-mode": "config policy 'p'\n\toption weight_mode 'inverse'\n\tlist use_member 'a'\n\tlist use_member 'b'\n",
    "small-share": "config member 'm'\n\toption interface 'wan'\n\toption weight '1000'\n"
    "config policy 'p'\n\tlist use_member 'a'\n\tlist use_member 'm'\n",
    "affinity": "config policy 'p'\n\toption affinity 'pair'\n\tlist use_member 'a'\n\tlist use_member 'b'\n",
    "disabled-rule": "config rule 'r'\n\toption enabled '0'\n\toption use_policy 'both'\n",
    "long-name": "config rule 'a_name_of_16_chr'\n\toption use_policy 'both'\n",
    "unknown-match": "config rule 'r'\n\toption src_mac '02:00:00:00:00:01'\n\toption use_policy 'both'\n",
    "addresses": "config rule 'r'\n\tlist src_ip '192.0.2.1'\n\toption use_policy 'both'\n",
    "ports": "config rule 'r'\n\toption proto 'tcp'\n\toption dest_port '80-90'\n\toption use_policy 'both'\n",
    "ports-without-protocol": "config rule 'r'\n\toption dest_port '80'\n\toption use_policy 'both'\n",
    "several-values": "config rule 'r'\n\toption proto 'tcp udp'\n\toption use_policy 'both'\n",
    "icmp": "config rule 'r'\n\toption proto 'icmp'\n\toption use_policy 'both'\n",
    "ipset": "config rule 'r'\n\toption ipset 'youtube'\n\toption use_policy 'both'\n",
}


@pytest.mark.parametrize("code", CASES)
def test_each_kind_is_found(code: str) -> None:
    assert {one.code for one in found(PLAIN + CASES[code])} == {code}


@pytest.mark.parametrize("section", [
    "config interface 'name_of_14_chr'\n\toption enabled '1'\n", "config policy 'a_name_of_16_chr'\n",
])  # fmt: skip
def test_long_names_of_other_kinds(section: str) -> None:
    assert {one.code for one in found(PLAIN + section)} == {"long-name"}


def test_the_page_lists_every_kind() -> None:
    source = (ROOT / "connbal/cli/differences.py").read_text("utf-8")
    made = set(re.findall(r'Difference\(\s*"([a-z0-9-]+)"', source))
    page = (ROOT / "docs/moving.md").read_text("utf-8")
    assert made == set(CASES) == set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_what_mwan3_was_captured_with(name: str) -> None:
    """Those in which mwan3 lost all rules are told of, and in those it understood nothing is lost."""
    losing = [one for one in found(Vector.load(name).config) if "loses every rule" in one.mwan3 and one.code != "ipset"]
    assert bool(losing) == (name == "08-rules-lists")


@pytest.mark.parametrize("weights", [(1, 2), (1, 3), (2, 3), (7, 1000)])
def test_the_remedy_for_weights_keeps_the_shares(weights: tuple[int, int], tmp_path: Path) -> None:
    text = PLAIN.replace("weight '1'", f"weight '{weights[0]}'").replace("weight '3'", f"weight '{weights[1]}'")
    (tmp_path / "mwan3").write_text(f"{text}config globals 'globals'\n\toption weight_mode 'inverse'\n")

    def connbal(command: str) -> str:
        argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", str(tmp_path), "--run-dir", str(tmp_path)]
        return subprocess.run(
            [*argv, *shlex.split(command)], cwd=ROOT, text=True, capture_output=True, check=True, timeout=60
        ).stdout

    (one,) = found((tmp_path / "mwan3").read_text())
    before = connbal("policy list").split("inverse")[1]
    for command in one.remedy.split("; "):
        connbal(command.removeprefix("connbal "))
    assert connbal("policy list").split("proportional")[1] == before
    assert found((tmp_path / "mwan3").read_text()) == []
