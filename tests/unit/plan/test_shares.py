"""Shares of weights, and tiers of policies."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Affinity, Config, Family, Policy, Verdict, WeightMode
from connbal.plan.build import plan
from connbal.plan.shares import percents, shares
from connbal.plan.values import Tier
from tests.fakes.build import V4, V6, config, facts
from tests.fakes.quick import quick

WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=60)
MODES = st.sampled_from(WeightMode)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 2], ["66.67", "33.33"]),  # the user's words: 66 % and 33 %
        ([1, 3], ["75.00", "25.00"]),
        ([1, 1], ["50.00", "50.00"]),
        ([2, 2, 1], ["25.00", "25.00", "50.00"]),
    ],
)
def test_inverse_gives_the_lower_weight_more(weights: list[int], expected: list[str]) -> None:
    assert [f"{float(share) * 100:.2f}" for share in shares(weights, WeightMode.INVERSE)] == expected


def test_proportional_is_what_mwan3_does() -> None:
    assert shares([3, 2], WeightMode.PROPORTIONAL) == [Fraction(3, 5), Fraction(2, 5)]


@quick(300)
@given(WEIGHTS, MODES)
def test_shares_sum_to_one_and_keep_the_order_of_weights(weights: list[int], mode: WeightMode) -> None:
    found = shares(weights, mode)
    assert sum(found) == 1
    assert all(share > 0 for share in found)
    for weight, share in zip(weights, found, strict=True):
        for other, its in zip(weights, found, strict=True):
            assert share * other == its * weight if mode is WeightMode.PROPORTIONAL else share * weight == its * other


@quick(300)
@given(WEIGHTS, MODES)
def test_percents_sum_to_a_hundred(weights: list[int], mode: WeightMode) -> None:
    found = shares(weights, mode)
    whole = percents(found)
    assert sum(whole) == 100
    assert all(abs(number - share * 100) < 1 for number, share in zip(whole, found, strict=True))


def test_percents_of_nothing_and_of_thirds() -> None:
    assert percents([]) == []
    assert percents([Fraction(1, 3)] * 3) == [34, 33, 33]
    assert percents(shares([1, 2], WeightMode.INVERSE)) == [67, 33]


# --- tiers ---------------------------------------------------------------------------------------------------------

MEMBERS = {"a": ("wan", 1, 1), "b": ("wan1", 1, 2), "c": ("wan2", 256, 5), "d": ("wan6", 10, 1)}
WORDS = "wan wan1 wan2 wan6:6"


def tier(family: Family = V4, *, wanted: Config | None = None, **facts_: str) -> Tier:
    wanted = wanted or config(WORDS, members=MEMBERS)
    return next(one for one in plan(wanted, facts(WORDS, **facts_)).tiers if one.family is family)


def _parts(found: Tier) -> dict[str, str]:
    return {share.interface: str(share.share) for share in found.shares}


def test_the_lowest_metric_with_a_usable_member_is_used() -> None:
    assert _parts(tier()) == {"wan": "1/3", "wan1": "2/3"}
    assert _parts(tier(offline="wan1")) == {"wan": "1"}
    assert _parts(tier(offline="wan", down="wan1")) == {"wan2": "1"}
    assert tier(offline="wan", down="wan1").metric == 256


def test_metric_256_does_not_end_behind_last_resort() -> None:
    """In mwan3 it does."""
    found = plan(config(WORDS, members=MEMBERS), facts(WORDS, offline="wan wan1"))
    chain = next(chain for chain in found.rulesets[V4].chains if chain.name == "mwan3_policy_all")
    assert [rule.comment for rule in chain.rules] == ["wan2 1 1"]


def test_each_family_has_its_own_members() -> None:
    assert _parts(tier(V6)) == {"wan6": "1"}
    found = tier(V6, offline="wan6")
    assert found.shares == ()
    assert (found.metric, found.verdict) == (None, Verdict.UNREACHABLE)
    assert found.reason == "none of its members is usable: unreachable"


def test_the_layout_holds_those_that_may_come_back() -> None:
    found = tier(offline="wan1")
    assert [(share.interface, str(share.share), share.usable) for share in found.layout] == [
        ("wan", "1/3", True), ("wan1", "2/3", False),
    ]  # fmt: skip


def test_a_disabled_interface_takes_no_part() -> None:
    wanted = config("wan -wan1 wan2 wan6:6", members=MEMBERS)
    assert _parts(tier(wanted=wanted)) == {"wan": "1"}
    assert len(tier(wanted=wanted).layout) == 1


def test_reasons_of_policies_without_members() -> None:
    wanted = config(WORDS, members=MEMBERS, policies=[Policy("all", (), Verdict.BLACKHOLE)])
    assert tier(wanted=wanted).reason == "it has no members: blackhole"
    wanted = config("-wan wan1", members={"a": ("wan", 1, 1)})
    assert tier(wanted=wanted).reason == "none of its members is an enabled ipv4 interface: unreachable"


def test_a_policy_may_differ_from_the_globals() -> None:
    members = {"a": ("wan", 1, 1), "b": ("wan1", 1, 3)}
    policy = Policy("all", ("a", "b"), weight_mode=WeightMode.INVERSE, affinity=Affinity.SOURCE)
    found = tier(wanted=config(members=members, policies=[policy]))
    assert (_parts(found), found.affinity) == ({"wan": "3/4", "wan1": "1/4"}, Affinity.SOURCE)


@quick(200)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 1000), st.booleans()), min_size=1, max_size=20), MODES)
def test_any_tier_sums_to_one(members: list[tuple[int, int, bool]], mode: WeightMode) -> None:
    words = " ".join(f"w{number}" for number in range(len(members)))
    wanted = config(
        words, {f"m{n}": (f"w{n}", metric, weight) for n, (metric, weight, _) in enumerate(members)}, weight_mode=mode
    )
    away = " ".join(f"w{number}" for number, (_, _, usable) in enumerate(members) if not usable)
    found = plan(wanted, facts(words, offline=away)).tiers[0]
    usable = sorted(metric for metric, _, up in members if up)
    assert found.metric == (usable[0] if usable else None)
    if usable:
        assert sum(share.share for share in found.shares) == 1
        assert sum(share.share for share in found.layout) == 1
        assert {share.interface for share in found.shares} == {
            f"w{number}" for number, (metric, _, up) in enumerate(members) if up and metric == usable[0]
        }
