"""A thousand rules are explained at little more than the cost of ten."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest

from tests.lab import Lab
from tests.netns.rivals.router import Router, section

pytestmark = pytest.mark.netns

ASKED = ("explain", "--src", "192.168.1.20", "--dst", "203.0.113.7", "--proto", "tcp", "--dport", "443")


def seconds(router: Router, rules: int) -> float:
    """Processor time of the whole program with so many rules, the last of which matches; the best of three."""
    parts = [
        section("rule", f"r{number}", src_ip=f"10.9.{number // 250}.{number % 250}", proto="tcp", dest_port=number,
                use_policy="only_wan")
        for number in range(1, rules)
    ]  # fmt: skip
    router.apply(router.sources(), *parts, section("rule", "rest", use_policy="only_wan1"))
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = router.program(*ASKED, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "It takes wan1: rule rest matches." in done.stdout
        assert len(done.stdout.splitlines()) < 25
    return min(costs)


def test_a_thousand_rules_cost_less_than_three_times_ten(lab: Callable[..., Lab]) -> None:
    router = Router(lab(("wan", "wan1")))
    few, many = seconds(router, 10), seconds(router, 1000)
    assert many < 3 * few, f"{few:.3f} s and {many:.3f} s"
