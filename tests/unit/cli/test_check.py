"""``connbal check`` as one calls it: what is chosen, what it ends with, what it reads, what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connbal.cli.context import Session
from connbal.cli.main import cli

CONFIG = """
config interface 'wan'
	option enabled '1'
	list track_ip '192.0.2.1'

config member 'm'
	option interface 'wan'

config policy 'p'
	list use_member 'm'

config policy 'q'
	list use_member 'm'

config rule 'all'
	option family 'ipv4'
	option use_policy 'p'

config rule 'tv'
	option src_ip '192.168.1.178'
	option use_policy 'q'

config rule 'site'
	option ipset 'youtube'
	option family 'ipv6'
	option use_policy 'default'
"""


def check(directory: Path, *arguments: str, config: str = CONFIG) -> Result:
    (directory / "mwan3").write_text(config)
    return CliRunner().invoke(cli, ["--config-dir", str(directory), "check", *arguments])


def codes(directory: Path, *arguments: str, config: str = CONFIG) -> list[str]:
    document = json.loads(check(directory, "--json", *arguments, config=config).stdout)
    return [finding["code"] for finding in document["findings"]]


def test_the_worst_first_and_remarks_counted(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert done.exit_code == 0
    assert "connbal rule move tv --before all [shadowed]" in done.output
    assert "undeclared-set" not in done.output
    assert done.output.endswith("--all prints them\n")
    bad = check(tmp_path, "--all", config=CONFIG.replace("'ipv6'", "'ipv7'"))
    assert bad.exit_code == 1
    severities = [line.split(":")[0] for line in bad.output.splitlines() if "[" in line]
    assert severities == sorted(severities, key=("error", "warning", "info").index)
    assert {"error", "warning", "info"} == set(severities)


def test_select_and_ignore(tmp_path: Path) -> None:
    everything = codes(tmp_path)
    assert {"shadowed", "unused-policy", "undeclared-set"} - set(everything) == {"unused-policy", "undeclared-set"}
    (tmp_path / "dhcp").write_text("config dnsmasq\n")
    assert "undeclared-set" in codes(tmp_path)
    assert codes(tmp_path, "--select", "shadowed") == ["shadowed"]
    assert codes(tmp_path, "--select", "shadowed,undeclared-set", "--ignore", "shadowed") == ["undeclared-set"]
    assert "undeclared-set" in check(tmp_path, "--select", "undeclared-set").output
    assert codes(tmp_path, "--no-lint") == []


def test_a_code_that_does_not_exist(tmp_path: Path) -> None:
    done = check(tmp_path, "--ignore", "shadowd")
    assert done.exit_code != 0
    assert "did you mean shadowed?" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 0), (["--strict"], 1), (["--strict", "--ignore", "shadowed"], 0), (["--strict", "--no-lint"], 0)],
)
def test_strict(arguments: Sequence[str], code: int, tmp_path: Path) -> None:
    assert check(tmp_path, *arguments).exit_code == code


def test_errors_count_whatever_is_chosen(tmp_path: Path) -> None:
    assert check(tmp_path, "--select", "shadowed", config=CONFIG.replace("'ipv6'", "'ipv7'")).exit_code == 1


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("dhcp", "config ipset\n\tlist name 'youtube'\n\tlist domain 'youtube.com'\n"),
        ("dhcp", "config dnsmasq\n\tlist ipset '/youtube.com/googlevideo.com/other,youtube'\n"),
        ("firewall", "config ipset\n\toption name 'youtube'\n"),
    ],
)
def test_declared_sets(package: str, text: str, tmp_path: Path) -> None:
    (tmp_path / package).write_text(text)
    assert "undeclared-set" not in codes(tmp_path)


def test_a_set_that_the_firewall_has_switched_off(tmp_path: Path) -> None:
    (tmp_path / "firewall").write_text("config ipset\n\toption name 'youtube'\n\toption enabled '0'\n")
    assert "undeclared-set" in codes(tmp_path)


def test_other_files_that_cannot_be_read_do_no_harm(tmp_path: Path) -> None:
    for package in ("dhcp", "network", "firewall"):
        (tmp_path / package).write_text("config 'broken\n")
    assert "shadowed" in codes(tmp_path)


def test_networks_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "network").write_text(
        "config interface 'wan'\n\toption proto 'dhcp'\n\toption ifname 'eth1'\n"
        "config interface 'dsl'\n\toption proto 'dhcp'\n\toption device 'eth1'\n"
    )
    config = CONFIG + "\nconfig interface 'dsl'\n\toption enabled '1'\n"
    assert "same-network" in codes(tmp_path, config=config)


def test_it_loads_nothing_slow(tmp_path: Path) -> None:
    (tmp_path / "mwan3").write_text(CONFIG)
    program = (
        "import sys; from connbal.cli.main import main\n"
        f"sys.argv = ['connbal', '--config-dir', {str(tmp_path)!r}, 'check']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"pyroute2", "icmplib", "asyncio", "subprocess"}


def test_a_session_is_all_that_linting_needs(tmp_path: Path) -> None:
    """For other commands that want to know."""
    from connbal.cli.linting import lint
    from connbal.uci.decode import decode

    (tmp_path / "mwan3").write_text(CONFIG)
    session: Any = Session(tmp_path, tmp_path)
    package = session.store().load("mwan3")
    assert "shadowed" in {one.code for one in lint(session, package, decode(package).config)}
