"""The user's three scenarios, by real connections.

Source for a device, failover, and splits by weight, as the user's document describes them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.demo.config import TV, TV6, examples
from tests.lab import Answers, Lab
from tests.netns.main_job.bench import Bench, interfaces, member, only, policy, section, shares

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Benches = Callable[..., Bench]
SOURCES = ("wan", "wan1", "wan2", "wwan")
FAMILIES = (4, 6)


def one_device(lab: Lab) -> list[str]:
    """The document's first example: the TV by wan2, everything else by wan1."""
    return [
        *interfaces(lab),
        member("TV_Internet", "wan2"), policy("TV_Policy", "TV_Internet"),
        member("All_Internet", "wan1"), policy("All_Policy", "All_Internet"),
        section("rule", "SmartTV", ("src_ip", TV), ("src_ip", TV6), ("use_policy", "TV_Policy")),
        section("rule", "All_Traffic", ("dest_ip", "0.0.0.0/0"), ("dest_ip", "::/0"), ("proto", "all"),
                ("use_policy", "All_Policy")),
    ]  # fmt: skip


def failover(lab: Lab) -> list[str]:
    """The second: everything by wwan, by wan1 while wwan is down."""
    return [
        *interfaces(lab),
        member("Primary", "wwan", metric=1), member("Secondary", "wan1", metric=2),
        policy("All_Policy", "Primary", "Secondary"),
        section("rule", "All_Traffic", ("use_policy", "All_Policy")),
    ]  # fmt: skip


def split(lab: Lab, affinity: str, mode: str, **weights: int) -> list[str]:
    """The third: everything divided by weight."""
    return [
        section("globals", "globals", ("weight_mode", mode), ("affinity", affinity)),
        *interfaces(lab),
        *(member(f"m_{name}", name, weight=weight) for name, weight in weights.items()),
        policy("All_Policy", *(f"m_{name}" for name in weights)),
        section("rule", "All_Traffic", ("use_policy", "All_Policy")),
    ]


def by_all_protocols(lab: Lab, client: str, count: int = 50) -> list[Answers]:
    """TCP to two ports and UDP, in both families."""
    return [
        answers
        for family in FAMILIES
        for answers in (
            lab.tcp(client, port=80, count=count, family=family),
            lab.tcp(client, port=443, count=count, family=family),
            lab.udp(client, count=count, family=family),
        )
    ]


def test_one_device_on_one_source(bench: Benches) -> None:
    """The document's "specific Internet source for a specific device"."""
    one = bench(SOURCES)
    one.apply(one_device(one.lab))
    for answers in by_all_protocols(one.lab, "tv"):
        only(answers, "wan2")
    for answers in by_all_protocols(one.lab, "pc"):
        only(answers, "wan1")


def test_rules_are_checked_from_top_to_bottom(bench: Benches) -> None:
    """With the rule for all traffic first, the TV's is never reached, as the document warns."""
    one = bench(SOURCES)
    *others, tv, everything = one_device(one.lab)
    one.apply(*others, everything, tv)
    for answers in by_all_protocols(one.lab, "tv", 10):
        only(answers, "wan1")


def test_failover_by_carrier_and_back(bench: Benches) -> None:
    """The document's "failover between Internet sources", there and back, with the real command."""
    one = bench(SOURCES)
    one.configure(failover(one.lab))
    one.cli("apply")
    for wanted, carrier in (("wwan", True), ("wan1", False), ("wwan", True)):
        one.lab.carrier("wwan", carrier)
        one.cli("apply")
        for answers in by_all_protocols(one.lab, "pc"):
            only(answers, wanted)


def test_failover_by_force_and_back(bench: Benches) -> None:
    """The same where the user says which source is down, for each family by itself."""
    one = bench(SOURCES)
    one.apply(failover(one.lab))
    for command, four, six in (
        (("wwan", "down"), "wan1", "wwan"),
        (("wwan6", "down"), "wan1", "wan1"),
        (("wwan", "auto"), "wwan", "wan1"),
        (("wwan6", "auto"), "wwan", "wwan"),
    ):
        one.connbal("interface", "force", *command)
        only(one.lab.tcp("pc", count=50, family=4), four)
        only(one.lab.tcp("pc", count=50, family=6), six)


def test_failover_takes_open_connections_along_only_if_told(bench: Benches) -> None:
    """A source that leaves takes its own connections with it, no others; on return open ones stay where they are."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    with one.lab.stream("pc", port=443) as failing, one.lab.stream("tv", port=443) as other:
        assert (failing.ask(), other.ask()) == ("wwan", "wan2")
        one.lab.carrier("wwan", False)
        one.apply()
        assert failing.ask(0.5) is None
        assert other.ask() == "wan2"
        with one.lab.stream("pc", port=443) as later:
            one.lab.carrier("wwan", True)
            one.apply()
            assert (later.ask(), other.ask()) == ("wan1", "wan2")


SPLITS = [
    ("inverse", (1, 2), 2 / 3),
    ("inverse", (1, 3), 3 / 4),
    ("proportional", (1, 2), 1 / 3),
    ("proportional", (1, 3), 1 / 4),
    ("inverse", (1, 1), 1 / 2),
]


@pytest.mark.parametrize("affinity", ["connection", "pair", "source"])
def test_traffic_is_split_by_weight(bench: Benches, xtables: str, affinity: str) -> None:
    """The document's "splitting traffic": 66/33 and 75/25, and the other way round as mwan3 reads weights.

    Each connection is drawn by itself, so 6,000 of them: 3 points are then about five standard deviations. Address
    pairs and devices are hashed: nothing is random there.
    """
    one = bench(SOURCES)
    for number, (mode, weights, share) in enumerate(SPLITS if xtables == "nft" else SPLITS[:2]):
        one.apply(split(one.lab, affinity, mode, wan1=weights[0], wan2=weights[1]))
        for family in FAMILIES:
            if affinity == "connection":
                # A site for each: ports come round, and what is known as a connection keeps its source.
                site = one.lab.destinations(number + 1, family)[-1]
                answers = one.lab.udp("pc", site, count=6000, parallel=128)
            else:
                pairs = one.lab.pairs("pc", 2000, family, sources=50 if affinity == "pair" else 2000)
                assert len({src for src, _ in pairs}) == (50 if affinity == "pair" else 2000)
                answers = one.lab.tcp("pc", port=80, pairs=pairs)
            shares(answers, wan1=share, wan2=1 - share)


def test_one_device_to_one_site_uses_one_source(bench: Benches) -> None:
    """"All traffic from a single device going to a web site is sent there using a single Internet source"."""
    one = bench(SOURCES)
    one.apply(split(one.lab, "pair", "inverse", wan1=1, wan2=2))
    for family in FAMILIES:
        met = set()
        for site in one.lab.destinations(12, family):
            tcp = one.lab.tcp("pc", site, count=50)
            udp = one.lab.udp("pc", site, count=50)
            assert len(set(tcp.names) | set(udp.names)) == 1, (site, tcp.names, udp.names)
            assert len(tcp.failures) == len(udp.failures) == 0
            met |= set(tcp.names)
        assert met == {"wan1", "wan2"}  # "traffic to another web site will be sent over a different source"


def test_one_device_uses_one_source_for_all_sites(bench: Benches) -> None:
    """Affinity `source`: a device keeps its source whatever it talks to."""
    one = bench(SOURCES)
    one.apply(split(one.lab, "source", "inverse", wan1=1, wan2=2))
    for family in FAMILIES:
        pairs = one.lab.pairs("pc", 1000, family, sources=20)
        answers = one.lab.tcp("pc", pairs=pairs)
        met: dict[str, set[str]] = {}
        for row in answers:
            met.setdefault(row.src, set()).add(row.source or "nobody")
        assert all(len(sources) == 1 for sources in met.values()), met
        assert set().union(*met.values()) == {"wan1", "wan2"}


@pytest.mark.parametrize("affinity", ["pair", "source"])
def test_a_member_that_leaves_moves_only_its_own(bench: Benches, affinity: str) -> None:
    """Pairs (or devices) on the two other sources stay; those of the third come back to it exactly."""
    one = bench(SOURCES)
    one.apply(split(one.lab, affinity, "inverse", wan1=1, wan2=2, wwan=3))
    lab = one.lab
    for family in FAMILIES:
        pairs = lab.pairs("pc", 1000, family, sources=50 if affinity == "pair" else 1000)
        before = lab.udp("pc", pairs=pairs).by_pair
        assert len(before) == 1000
        for name in ("wan1", "wan2", "wwan"):
            lab.carrier(name, False)
            one.apply()
            without = lab.udp("pc", pairs=pairs).by_pair
            stayed = {pair: met for pair, met in before.items() if met != {name}}
            assert {pair: without[pair] for pair in stayed} == stayed
            moved = [without[pair] for pair, met in before.items() if met == {name}]
            assert moved
            assert {source for met in moved for source in met} == {"wan1", "wan2", "wwan"} - {name}
            lab.carrier(name, True)
            one.apply()
            assert lab.udp("pc", pairs=pairs).by_pair == before
