"""Weights, metrics and names that stop mwan3 half way, cost a source its share, or mean another than they say."""

from __future__ import annotations

import math
import re
from collections import Counter

import pytest

from tests.lab import Lab
from tests.netns.rivals.router import Router, section

pytestmark = pytest.mark.netns


def balanced(router: Router, first: dict[str, str], second: dict[str, str], *more: str) -> str:
    """All IPv4 traffic by two members with these options."""
    return "\n".join([
        router.sources(),
        section("member", "a", interface="wan", **first),
        section("member", "b", interface="wan1", **second),
        section("policy", "both", use_member=["a", "b"]),
        section("rule", "rest", use_policy="both"), *more,
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "share"),
    [(("0", "0"), 0.5), (("-5", "5"), 1 / 6), (("08", "2"), 0.8), (("010", "10"), 0.5), (("3.5", "1"), 0.5),
     (("lots", "3"), 0.25), (("1001", "1"), 0.5)],
)  # fmt: skip
def test_odd_weights_never_stop_the_start(router: Router, weights: tuple[str, str], share: float) -> None:
    """What is no weight counts as 1, and is named; 08 is eight."""
    router.apply(balanced(router, {"weight": weights[0]}, {"weight": weights[1]}))
    bad = [weight for weight in weights if not (weight.isdigit() and 1 <= int(weight) <= 1000)]
    assert len([one for one in router.found() if one["code"] == "bad-value"]) == len(bad)
    assert router.percents("both")["wan"] == pytest.approx(100 * share, abs=0.001)
    answers = router.lab.tcp("pc", count=400)
    assert not answers.failures
    # Five standard deviations.
    assert abs(answers.share("wan") - share) <= 5 * math.sqrt(share * (1 - share) / 400)


def test_a_weight_of_1_beside_1000_is_not_nothing(router: Router) -> None:
    router.apply(balanced(router, {"weight": "1"}, {"weight": "1000"}))
    rules = router.mangle()["mwan3_policy_both"]
    chances = [float(found[1]) for rule in rules if (found := re.search(r"--probability ([\d.]+)", rule))]
    assert chances == [pytest.approx(1 / 1001, abs=1e-9)]
    assert "0x100" in rules[0]
    assert router.percents("both") == {"wan": pytest.approx(0.1), "wan1": pytest.approx(99.9)}


def test_metric_256_comes_before_last_resort(router: Router) -> None:
    router.apply(balanced(router, {"metric": "256"}, {"metric": "256"}))
    assert set(router.lab.tcp("pc", count=40).names) == {"wan", "wan1"}
    router.apply(balanced(router, {"metric": "255"}, {"metric": "256"}))
    assert router.lab.tcp("pc", count=20).names == Counter({"wan": 20})
    router.connbal("interface", "force", "wan", "down")
    assert router.lab.tcp("pc", count=20).names == Counter({"wan1": 20})
    router.connbal("interface", "force", "wan", "auto")


def test_sections_of_one_name(router: Router) -> None:
    """libuci itself makes one section of two that have type and name in common; of two types it makes an error."""
    router.apply(balanced(router, {"weight": "3"}, {}, section("member", "a", metric=2)))
    assert router.lab.tcp("pc", count=20).names == Counter({"wan1": 20})
    router.configure(balanced(router, {}, {}, section("rule", "both", use_policy="both")))
    done = router.connbal("apply", check=False)
    assert done.returncode == 1
    assert re.search(r"mwan3\.both, line \d+", done.stderr)
    assert router.lab.tcp("pc", count=20).names == Counter({"wan1": 20})  # as before


LONG = ("a_source_with_a_name_beyond_thirteen", "a_source_with_a_name_beyond_fourteen")


def test_long_interface_names_get_their_share(lab_available: None) -> None:
    with Lab(LONG) as lab:
        router = Router(lab)
        router.apply(
            router.sources(),
            section("policy", "both", use_member=[f"m_{name}" for name in LONG]),
            section("rule", "rest", use_policy="both"),
        )
        names = lab.tcp("pc", count=400).names
        assert set(names) == set(LONG)
        assert abs(names[LONG[0]] / 400 - 0.5) <= 5 * 0.025
        assert all(len(chain) <= 28 for chain in router.mangle())


PREFIXES = ("wan1", "wan10", "zz", "zz_b")


def test_names_that_begin_alike_do_not_disturb_each_other(lab_available: None) -> None:
    with Lab(PREFIXES) as lab:
        lab.ubus_stub()
        router = Router(lab)
        rules = [
            section("rule", f"r{port}", proto="tcp", dest_port=port, use_policy=f"only_{name}")
            for name, port in zip(PREFIXES, (80, 443, 853, 5000), strict=True)
        ]
        router.apply(router.sources(), *rules)
        for gone in ("wan1", "zz"):
            lab.ifdown(gone)
        router.apply()
        chains = router.mangle()
        for name, port in zip(PREFIXES, (80, 443, 853, 5000), strict=True):
            away = name in ("wan1", "zz")
            assert (f"mwan3_iface_in_{name}" in chains) != away
            answers = lab.tcp("pc", port=port, count=5, timeout=1.0)
            assert answers.names == (Counter() if away else Counter({name: 5}))
        for back in ("wan1", "zz"):
            lab.ifup(back)
        router.apply()
        for name, port in zip(PREFIXES, (80, 443, 853, 5000), strict=True):
            assert lab.tcp("pc", port=port, count=5).names == Counter({name: 5})
