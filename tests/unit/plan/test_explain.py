"""What becomes of a packet, worked out from the planned values."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import AddressMatch, Affinity, Config, Policy, PortRange, Rule, Verdict
from connbal.model.facts import Health
from connbal.model.marks import MarkSpace
from connbal.plan.build import plan
from connbal.plan.explain import Packet, World, planned_sets, walk
from connbal.plan.explain_route import Way, leave
from connbal.plan.explain_story import Story, explain
from tests.fakes.build import V6, config, machine, network
from tests.fakes.quick import quick

TCP, UDP, ICMPV6 = 6, 17, 58
TV, PC, FAR = "192.168.1.178", "192.168.1.20", "203.0.113.7"


def packet(source: str = PC, destination: str = FAR, **options: Any) -> Packet:
    options.setdefault("protocol", TCP)
    if not options.get("local"):
        options.setdefault("device", "br-lan")
    return Packet(ipaddress.ip_address(source), ipaddress.ip_address(destination), **options)


def addresses(*texts: str, negated: bool = False) -> AddressMatch:
    return AddressMatch(tuple(network(text) for text in texts), negated)


def tell(made: Config, one: Packet, *, down: str = "", **world: Any) -> Story:
    """Explain a packet on a machine that has what the configuration names."""
    built = machine(" ".join(f"{one.name}:6" if one.family is V6 else one.name for one in made.interfaces))
    for name in down.split():
        built.uplinks[name].health = Health(False, "told so")
    facts = built.facts()
    planned = plan(made, facts)
    world.setdefault("connected", facts.reached(one.family))
    return explain(made, planned, one, World(**world))


# --- who decides ----------------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_decides() -> None:
    made = config(policies={"first": "wan", "second": "wan1"}, rules=[
        Rule("tv", "second", src=addresses(f"{TV}/32")), Rule("rest", "first"), Rule("never", "second"),
    ])  # fmt: skip
    story = tell(made, packet())
    assert (story.decided, story.by) == ("rule", "rest")
    assert [(rule.verdict, rule.reasons) for rule in story.rules] == [
        ("no", (f"src_ip {PC} is not {TV}",)), ("matched", ()), ("not reached", ()),
    ]  # fmt: skip
    (ending,) = story.endings
    assert (ending.interface, ending.meaning, ending.probability) == ("wan", "interface", 1)
    assert ending.hop.rule is not None
    assert (ending.hop.rule.priority, ending.hop.rule.table) == (2001, 1)
    assert ending.hop.route is not None
    assert (ending.hop.route.device, str(ending.hop.route.gateway)) == ("eth1", "10.1.0.1")
    assert tell(made, packet(TV)).endings[0].interface == "wan1"


def test_an_open_connection_keeps_its_mark() -> None:
    story = tell(config(), packet(), connection=0x80000200)
    assert (story.decided, story.endings[0].interface) == ("connection", "wan1")
    assert story.endings[0].connection == 0x80000200
    assert {rule.verdict for rule in story.rules} == {"not reached"}


def test_what_comes_in_by_a_source_goes_back_there() -> None:
    story = tell(config(), packet(FAR, PC, device="eth2"))
    assert (story.decided, story.by) == ("interface", "wan1")
    # On its way to a local network it needs no source, but its connection remembers.
    assert (story.endings[0].meaning, story.endings[0].connection) == ("default", 0x200)


def test_a_local_destination_needs_no_source() -> None:
    story = tell(config(), packet(PC, "192.168.1.50"))
    assert (story.decided, story.by, story.exempt_source) == ("exempt", "mwan3_connected_ipv4", False)
    assert story.endings[0].meaning == "default"
    assert tell(config(), packet(PC, "239.1.2.3")).decided == "exempt"
    assert tell(config(), packet("10.2.0.9", PC, device="eth2")).exempt_source


def test_the_dynamic_set_is_asked() -> None:
    built = machine("wan wan1")
    planned = plan(config(), built.facts())
    assert "mwan3_connected_ipv4" in planned_sets(planned)
    inside = explain(config(), planned, packet(), World(sets={("mwan3_dynamic_ipv4", "dst"): True}))
    assert (inside.decided, inside.by) == ("exempt", "mwan3_dynamic_ipv4")


def test_the_routers_own_neighbour_discovery_is_left_alone() -> None:
    def asked(**more: Any) -> Story:
        return tell(config(), packet("fd00:1::1", "2001:db8::9", protocol=ICMPV6, icmp_type=135, **more))

    found = asked(local=True, hop_limit=255, device=None)
    assert (found.decided, found.endings[0].mark) == ("discovery", 0)
    assert asked(local=True, hop_limit=64, device=None).decided == "rule"
    assert asked(hop_limit=255).decided == "rule"  # a device of the LAN sends it: it would be forwarded


def test_no_rule_matches() -> None:
    story = tell(config(rules=[Rule("udp", "all", protocols=(UDP,))]), packet())
    assert (story.decided, story.endings[0].meaning) == ("nothing", "none")
    assert story.rules[0].reasons == ("proto tcp is not udp",)


# --- policies -------------------------------------------------------------------------------------------------------


def test_a_drawn_member_has_its_share() -> None:
    made = config(members={"a": ("wan", 1, 1), "b": ("wan1", 1, 2)})
    endings = tell(made, packet()).endings
    assert [(one.member, one.probability) for one in endings] == [("b", Fraction(2, 3)), ("a", Fraction(1, 3))]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.data())
@quick(60)
def test_probabilities_are_the_shares(weights: list[int], data: st.DataObject) -> None:
    names = " ".join(f"w{number}" for number in range(len(weights)))
    members = {f"m{number}": (f"w{number}", 1, weight) for number, weight in enumerate(weights)}
    made = config(names, members=members)
    down = data.draw(st.sets(st.sampled_from(names.split()), max_size=len(weights) - 1))
    story = tell(made, packet(), down=" ".join(down))
    assert story.tier is not None
    assert {one.interface: one.probability for one in story.endings} == {
        share.interface: share.share for share in story.tier.shares
    }


@given(st.sampled_from([Affinity.PAIR, Affinity.SOURCE]), st.integers(1, 254), st.integers(1, 254))
@quick(60)
def test_affinity_decides_exactly(affinity: Affinity, client: int, site: int) -> None:
    made = config("wan wan1 wan2", affinity=affinity)
    one = packet(f"192.168.1.{client}", f"203.0.113.{site}")
    whole, reduced = tell(made, one), tell(made, one, down="wan1")
    assert len(whole.endings) == len(reduced.endings) == 1
    if whole.endings[0].interface != "wan1":
        assert whole.endings[0].interface == reduced.endings[0].interface
    assert reduced.endings[0].interface in ("wan", "wan2")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_last_resort(verdict: Verdict) -> None:
    made = config(policies=[Policy("all", ("wan", "wan1"), last_resort=verdict)])
    story = tell(made, packet(), down="wan wan1")
    assert (story.decided, story.endings[0].meaning) == ("rule", verdict.value)
    assert story.tier is not None
    assert story.tier.metric is None
    refused = story.endings[0].hop.way.refused if story.endings[0].hop.way else ""
    assert refused == ("" if verdict is Verdict.DEFAULT else verdict.value)


def test_the_router_may_ask_whether_a_source_is_back() -> None:
    one = packet("10.1.0.2", local=True, leaving="eth1")
    assert tell(config(), one, down="wan wan1").endings[0].meaning == "default"
    assert tell(config(), replace(one, leaving="eth9"), down="wan wan1").endings[0].meaning == "unreachable"


def test_a_rule_may_name_a_verdict() -> None:
    story = tell(config(rules=[Rule("no", "blackhole")]), packet())
    assert (story.tier, story.endings[0].meaning) == (None, "blackhole")


def test_a_sticky_source_is_remembered() -> None:
    made = config(rules=[Rule("stays", "all", sticky=True)])
    fresh = tell(made, packet())
    assert (fresh.remembered, len(fresh.endings)) == (None, 2)
    built = machine("wan wan1")
    planned = plan(made, built.facts())
    known = explain(made, planned, packet(), World(sets={("mwan3_sticky_v4_stays.wan1", "src"): True}))
    assert (known.remembered, [one.interface for one in known.endings]) == ("wan1", ["wan1"])


# --- why not --------------------------------------------------------------------------------------------------------

WHY = {
    "src_ip": (Rule("r", "all", src=addresses("10.0.0.0/8")), f"src_ip {PC} is not in 10.0.0.0/8"),
    "several": (Rule("r", "all", dest=addresses("10.0.0.0/8", "8.8.8.8/32")),
                f"dest_ip {FAR} is not in 10.0.0.0/8 or 8.8.8.8"),
    "negated": (Rule("r", "all", dest=addresses("203.0.113.0/24", negated=True)),
                f"dest_ip {FAR} is one of those left out: !203.0.113.0/24"),
    "ports": (Rule("r", "all", protocols=(TCP, UDP), dest_ports=(PortRange(80, 80), PortRange(8000, 8080))),
              "dest_port 443 is not 80 or 8000-8080"),
    "not given": (Rule("r", "all", protocols=(TCP,), src_ports=(PortRange(1, 9),)),
                  "src_port is not given: not taken for 1-9"),
    "device": (Rule("r", "all", src_iface=("wan1",)), "src_iface br-lan is not wan1 (eth2)"),
    "mac": (Rule("r", "all", src_mac=("02:00:00:00:00:01",)), "src_mac is not given: not taken for 02:00:00:00:00:01"),
    "protocols": (Rule("r", "all", protocols=(UDP, 47)), "proto tcp is not udp or gre"),
    "off": (Rule("r", "all", enabled=False), "disabled"),
    "family": (Rule("r", "all", family=V6), "it is for ipv6"),
    "unknown set": (Rule("r", "all", ipset="names"), f"ipset {FAR} is not known to be in set names"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHY)
def test_reasons_are_in_the_words_of_the_section(name: str) -> None:
    rule, why = WHY[name]
    story = tell(config(rules=[rule, Rule("rest", "all")]), packet(destination_port=443))
    assert story.rules[0].reasons == (why,)
    assert story.by == "rest"


def test_what_is_not_known_is_told_apart() -> None:
    rules = [Rule("port", "all", protocols=(TCP,), src_ports=(PortRange(1, 9),)),
             Rule("both", "all", protocols=(UDP,), src_ports=(PortRange(1, 9),)), Rule("rest", "all")]  # fmt: skip
    assert tell(config(rules=rules), packet()).unknown == ("port",)


def test_rules_with_a_mac_are_not_for_the_router_itself() -> None:
    rules = [Rule("mac", "all", src_mac=("02:00:00:00:00:01",)), Rule("rest", "all")]
    story = tell(config(rules=rules), packet("10.1.0.2", local=True))
    assert (story.rules[0].verdict, story.by) == ("no", "rest")


def test_logging() -> None:
    rules = [Rule("loud", "all", logging=True)]
    assert tell(config(rules=rules, logging=True), packet()).logged
    assert not tell(config(rules=rules), packet()).logged


# --- all of it ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from([None, TCP, UDP, 1, 47]), st.booleans())
@quick(100)
def test_probabilities_sum_to_one(source: int, destination: int, protocol: int | None, local: bool) -> None:
    made = config("wan wan1 wan2", members={"a": ("wan", 1, 3), "b": ("wan1", 1, 2), "c": ("wan2", 2, 1)}, rules=[
        Rule("sticky", "all", sticky=True, protocols=(TCP,)), Rule("udp", "unreachable", protocols=(UDP,)),
        Rule("high", "all", dest=addresses("128.0.0.0/1")),
    ])  # fmt: skip
    one = Packet(ipaddress.IPv4Address(source), ipaddress.IPv4Address(destination), protocol, local=local)
    walked = walk(plan(made, machine("wan wan1 wan2").facts()), one, World())
    assert sum(end.probability for end in walked.ends) == 1
    space = MarkSpace(0x3F00)
    marks = {0, *(space.mark(number) for number in (1, 2, 3)), *(space.verdict_mark(verdict) for verdict in Verdict)}
    assert {end.mark for end in walked.ends} <= marks


def test_the_main_table_is_asked_where_no_rule_of_ours_decides() -> None:
    planned = plan(config(), machine("wan wan1").facts())
    main = Way("eth9", ipaddress.ip_address("192.0.2.1"))
    there = ipaddress.ip_address(FAR)
    hop = leave(planned, "ipv4", there, 0x3F00, device="br-lan", main=main)
    assert (hop.rule, hop.way) == (None, main)
    local = leave(planned, "ipv4", there, 0x100, device="br-lan", main=Way(local=True))
    assert local.rule is None
    reached = [network("203.0.113.0/24")]
    suppressed = leave(planned, "ipv4", there, 0x3F00, device="br-lan", connected=reached, main=main)
    assert suppressed.rule is not None
    assert suppressed.rule.priority == 1000
    chosen = leave(planned, "ipv4", there, 0x100, device="br-lan", connected=reached, main=main)
    assert chosen.route is not None
    assert chosen.route.device == "eth1"
    in_lan = leave(planned, "ipv4", ipaddress.ip_address("192.168.1.9"), 0x100, device="eth1", main=main)
    assert in_lan.rule is not None
    assert (in_lan.rule.priority, in_lan.way) == (999, Way("br-lan"))
