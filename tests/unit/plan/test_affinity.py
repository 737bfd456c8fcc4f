"""Which member an address pair goes to: by the arithmetic, and by the program the kernel runs."""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Affinity, Config, Family, IPAddress, WeightMode
from connbal.plan import affinity, bpf
from connbal.plan.affinity import SPACE, hash_addresses, intervals, matches, picks, seed
from connbal.plan.build import plan
from connbal.plan.shares import shares
from connbal.plan.values import HashShare, SetMark, Share
from tests.fakes.bpf import packet, run
from tests.fakes.build import V4, V6, config, facts
from tests.fakes.quick import quick

HASHED = st.sampled_from([Affinity.PAIR, Affinity.SOURCE])
WORD = st.integers(0, SPACE - 1)
V4_ADDRESS = st.ip_addresses(v=4)
V6_ADDRESS = st.ip_addresses(v=6)
HASH_SHARES = st.builds(HashShare, HASHED, WORD, WORD, st.integers(1, SPACE - 1))
Pair = tuple[IPAddress, IPAddress]


# --- the program does the arithmetic --------------------------------------------------------------------------------


@quick(300)
@given(HASH_SHARES, V4_ADDRESS, V4_ADDRESS, st.binary(max_size=40))
def test_the_program_agrees_in_ipv4(share: HashShare, source: IPAddress, dest: IPAddress, rest: bytes) -> None:
    assert run(bpf.program(share, V4), packet(source, dest, rest)) == matches(share, source, dest)


@quick(300)
@given(HASH_SHARES, V6_ADDRESS, V6_ADDRESS, st.binary(max_size=40))
def test_the_program_agrees_in_ipv6(share: HashShare, source: IPAddress, dest: IPAddress, rest: bytes) -> None:
    assert run(bpf.program(share, V6), packet(source, dest, rest)) == matches(share, source, dest)


@quick(200)
@given(HASHED, V4_ADDRESS, V4_ADDRESS, st.integers(-2, 2), st.integers(1, 4))
def test_the_ends_of_an_interval_are_exact(
    kind: Affinity, source: IPAddress, dest: IPAddress, offset: int, size: int
) -> None:
    low = (hash_addresses(kind, 7, source, dest) + offset) % SPACE
    share = HashShare(kind, 7, low, size)
    expected = 0 <= -offset < size
    assert matches(share, source, dest) == expected
    assert run(bpf.program(share, V4), packet(source, dest)) == expected


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.parametrize("kind", [Affinity.PAIR, Affinity.SOURCE])
def test_the_program_is_short_enough(kind: Affinity, family: Family) -> None:
    share = HashShare(kind, SPACE - 1, SPACE - 1, SPACE - 1)
    code = bpf.program(share, family)
    assert len(code) <= 64
    text = bpf.bytecode(share, family)
    assert text.split(",")[0] == str(len(code))
    assert [tuple(map(int, part.split())) for part in text.split(",")[1:]] == code


@quick(100)
@given(V4_ADDRESS, V4_ADDRESS, V4_ADDRESS)
def test_source_looks_at_the_source_alone(source: IPAddress, dest: IPAddress, other: IPAddress) -> None:
    assert hash_addresses(Affinity.SOURCE, 1, source, dest) == hash_addresses(Affinity.SOURCE, 1, source, other)


def test_a_pair_is_not_its_reverse() -> None:
    one, two = ipaddress.ip_address("192.168.1.2"), ipaddress.ip_address("203.0.113.5")
    assert hash_addresses(Affinity.PAIR, 1, one, two) != hash_addresses(Affinity.PAIR, 1, two, one)


# --- the shares come out --------------------------------------------------------------------------------------------


def addresses(base: str, count: int, step: int = 1) -> list[IPAddress]:
    start = ipaddress.ip_address(base)
    return [start + at * step for at in range(count)]


def sites(count: int) -> list[IPAddress]:
    chance = random.Random(1)
    return [ipaddress.IPv4Address(chance.randrange(0x01000000, 0xDF000000)) for _ in range(count)]


#: 20,000 pairs each, as households have them.
CROWDS: dict[str, list[Pair]] = {
    "few clients, many sites": [(c, s) for c in addresses("192.168.1.100", 5) for s in sites(4000)],
    "one client": [(c, s) for c in addresses("192.168.1.178", 1) for s in sites(20000)],
    "sequential sites": [(c, s) for c in addresses("10.0.0.2", 10) for s in addresses("151.101.0.0", 2000)],
    "sites 256 apart": [(c, s) for c in addresses("10.0.0.2", 10) for s in addresses("23.0.0.1", 2000, 256)],
    "sequential both": [(c, s) for c in addresses("192.168.0.0", 200) for s in addresses("104.16.0.0", 100)],
    "ipv6 interface ids": [(c, s) for c in addresses("fd00::1", 10) for s in addresses("2606:4700::1", 2000)],
    "ipv6 networks": [(c, s) for c in addresses("2001:db8::1", 10) for s in addresses("2a00:1450::", 2000, 1 << 64)],
}


def layout(weights: Sequence[int], away: Sequence[int] = (), mode: WeightMode = WeightMode.PROPORTIONAL) -> list[Share]:
    parts = shares(weights, mode)
    return [
        Share(f"m{n}", f"w{n}", n + 1, weight, part, n not in away)
        for n, (weight, part) in enumerate(zip(weights, parts, strict=True))
    ]


def usable(tier: Sequence[Share]) -> list[Share]:
    live = [share for share in tier if share.usable]
    total = sum((share.share for share in live), Fraction(0))
    return [Share(one.member, one.interface, one.id, one.weight, one.share / total) for one in live]


class Chooser:
    """The chain of a policy, walked for a pair."""

    def __init__(self, tier: Sequence[Share], kind: Affinity = Affinity.PAIR) -> None:
        self.rules = list(picks(kind, tier, usable(tier)))

    def __call__(self, pair: Pair) -> int:
        return next(share.id for choice, share in self.rules if choice is None or matches(choice, *pair))

    def by_round(self, pair: Pair) -> tuple[int, int]:
        """The id, and the seed of the round that decided; -1 where it is the rule that takes what is left."""
        for choice, share in self.rules:
            if choice is None or matches(choice, *pair):
                return share.id, choice.seed if choice else -1
        raise AssertionError("nobody takes this pair")


@pytest.mark.parametrize("crowd", CROWDS)
def test_two_thirds_and_one_third(crowd: str) -> None:
    pairs = CROWDS[crowd]
    assert len(pairs) == 20000
    choose = Chooser(layout([1, 2], mode=WeightMode.INVERSE))
    found = Counter(choose(pair) for pair in pairs)
    assert abs(found[1] / len(pairs) - 2 / 3) < 0.015, found


@pytest.mark.parametrize("crowd", ["few clients, many sites", "sequential both", "ipv6 networks"])
def test_five_members_of_which_two_are_away(crowd: str) -> None:
    pairs = CROWDS[crowd][::4]
    tier = layout([1, 2, 3, 4, 5], away=(1, 4))
    choose = Chooser(tier)
    found = Counter(choose(pair) for pair in pairs)
    for share in usable(tier):
        assert abs(found[share.id] / len(pairs) - float(share.share)) < 0.02, found


@quick(200)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.sampled_from(WeightMode))
def test_intervals_fill_the_space(weights: list[int], mode: WeightMode) -> None:
    at = 0
    for low, size in intervals(layout(weights, mode=mode)):
        assert low == at
        assert size >= 0
        at += size
    assert at == SPACE


# --- a member that leaves moves its own pairs only ------------------------------------------------------------------

PAIRS = CROWDS["few clients, many sites"][::5]


@pytest.mark.parametrize("weights", [[1, 1], [1, 2], [1, 2, 3], [5, 1, 1, 1], [1] * 8, [1] * 40])
def test_only_its_own_pairs_move_and_they_return(weights: list[int]) -> None:
    all_there = Chooser(layout(weights))
    before = {pair: all_there(pair) for pair in PAIRS}
    for leaver in sorted({0, 1, len(weights) - 1}):
        choose = Chooser(layout(weights, away=[leaver]))
        found = Counter[int]()
        for pair, old in before.items():
            new = choose(pair)
            assert new != leaver + 1
            assert old == leaver + 1 or new == old
            found[new] += old == leaver + 1
        for share in usable(layout(weights, away=[leaver])):
            assert abs(found[share.id] - share.share * found.total()) < 4 * (found.total() * share.share) ** 0.5 + 1
    assert list(Chooser(layout(weights)).rules) == all_there.rules


@pytest.mark.parametrize(("weights", "first"), [([1, 2, 3, 4], 1), ([1] * 6, 0), ([3, 1, 1, 2, 9], 4)])
def test_of_a_second_loss_too_but_for_the_residue(weights: list[int], first: int) -> None:
    """Pairs that no round decided are dealt among whoever is there, so they may move: fewer than 1 in 100."""
    one_away = Chooser(layout(weights, away=[first]))
    for second in range(len(weights)):
        if second == first:
            continue
        two_away = Chooser(layout(weights, away=[first, second]))
        last_round = {choice.seed for choice, _ in one_away.rules[-len(weights) + 1 :] if choice} | {-1}
        moved = 0
        for pair in PAIRS:
            old, decided_by = one_away.by_round(pair)
            if old != second + 1 and two_away(pair) != old:
                assert decided_by in last_round
                moved += 1
        assert moved < len(PAIRS) * affinity.RESIDUE


# --- how long a chain gets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [2, 3, 8, 21, 40, 60])
def test_a_chain_stays_short(members: int) -> None:
    for present in {1, 2, 3, members // 2, members - 1, members} & set(range(1, members + 1)):
        tier = layout([1] * members, away=range(present, members))
        rules = list(picks(Affinity.PAIR, tier, usable(tier)))
        assert len(rules) <= max(affinity.MAX_RULES, 2 * present), (members, present)
        assert rules[-1][0] is None
        assert all(choice is not None for choice, _ in rules[:-1])
        assert {share.id for _, share in rules} == {share.id for share in usable(tier)}


def test_rounds_are_independent() -> None:
    """What the first round left over is spread evenly by the second."""
    left = [pair for pair in PAIRS if hash_addresses(Affinity.PAIR, seed(0), *pair) < SPACE // 3]
    found = sum(hash_addresses(Affinity.PAIR, seed(1), *pair) < SPACE // 3 for pair in left)
    assert abs(found / len(left) - 1 / 3) < 0.04
    assert len({seed(level) for level in range(64)}) == 64


# --- in a plan ------------------------------------------------------------------------------------------------------


def _policy(wanted: Config, **away: str) -> list[tuple[HashShare | None, int]]:
    ruleset = plan(wanted, facts("wan wan1 wan2", **away)).rulesets[V4]
    chain = next(chain for chain in ruleset.chains if chain.name == "mwan3_policy_all")
    found = []
    for rule in chain.rules:
        assert isinstance(rule.action, SetMark)
        choice = next((match for match in rule.matches if isinstance(match, HashShare)), None)
        found.append((choice, rule.action.value >> 8))
    return found


def test_the_chain_of_a_policy_is_the_choice() -> None:
    wanted = config("wan wan1 wan2", affinity=Affinity.SOURCE)
    tier = layout([1, 1, 1], away=[1])
    assert _policy(wanted, offline="wan1") == [
        (choice, share.id) for choice, share in picks(Affinity.SOURCE, tier, usable(tier))
    ]
    assert _policy(wanted, offline="wan wan1") == [(None, 3)]
