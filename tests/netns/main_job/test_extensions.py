"""A router whose iptables lacks an extension: what needs it is left out, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.netns.main_job.bench import Bench, Done, Driver, interfaces, member, only, policy, section

pytestmark = pytest.mark.netns

Make = Callable[..., Bench]


@pytest.fixture
def lacking(lab: Callable[..., Lab], driver: Driver, xtables: str, tmp_path: Path) -> Iterator[Make]:
    """`lacking(NAME, …)`: a bench whose iptables has no extension of these file names."""
    made: list[Bench] = []

    def make(*names: str) -> Bench:
        one = lab(["wan", "wan1"], xtables=xtables)
        there = subprocess.run(
            ["pkg-config", "--variable=xtlibdir", "xtables"], capture_output=True, text=True, check=False
        ).stdout.strip()
        origin = Path(there or next(Path("/usr/lib").glob("**/xtables")))
        assert {*names} <= {path.name for path in origin.iterdir()}
        for path in origin.iterdir():
            if path.name not in names:
                os.symlink(path, tmp_path / path.name)
        one.router.env["XTABLES_LIBDIR"] = str(tmp_path)
        made.append(Bench(one, driver))
        return made[-1]

    yield make
    for one in made:
        one.close()


def configured(one: Bench) -> Done:
    one.configure(
        interfaces(one.lab), member("a", "wan"), member("b", "wan1"), policy("first", "a"), policy("second", "b"),
        section("rule", "Tv", ("src_ip", "192.168.1.178"), ("src_ip", "fd01::178"), ("use_policy", "second")),
        section("rule", "All", ("use_policy", "first")),
    )  # fmt: skip
    return one.connbal("apply")


def works(lab: Lab) -> None:
    for family in (4, 6):
        only(lab.tcp("tv", count=5, family=family), "wan1")
        only(lab.tcp("pc", count=5, family=family), "wan")


def test_without_comments_all_works(lacking: Make) -> None:
    one = lacking("libxt_comment.so")
    done = configured(one)
    assert "no-comment" in done.stderr or "does not take comments" in done.stdout + done.stderr
    assert "left out" not in done.stdout + done.stderr
    works(one.lab)
    for tool in ("iptables-save", "ip6tables-save"):
        text = one.lab.router.sh(f"{tool} -t mangle")
        assert "comment" not in text
        assert "mwan3_probe" not in text
        assert text.count("-A mwan3_rules ") == 2
    again = one.connbal("apply", "--verbose")
    assert again.stdout == "nothing to change\n"
    assert not again.writes
    assert "Tv" in one.connbal("status").stdout


def test_without_hop_limits_nothing_more_gets_out(lacking: Make) -> None:
    one = lacking("libip6t_hl.so")
    done = configured(one)
    assert "cannot match hop limits" in done.stdout + done.stderr
    assert "left out" not in done.stdout + done.stderr
    works(one.lab)
    assert "-m hl" not in one.lab.router.sh("ip6tables-save -t mangle")
    assert one.connbal("apply", "--verbose").stdout == "nothing to change\n"


def test_without_either(lacking: Make) -> None:
    one = lacking("libip6t_hl.so", "libxt_comment.so")
    configured(one)
    works(one.lab)
    assert one.connbal("apply", "--verbose").stdout == "nothing to change\n"
    one.lab.router.env.pop("XTABLES_LIBDIR")
    one.connbal("stop")
