"""Rules of the configuration as matches."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import AddressMatch, Family, IPNetwork, PortRange, Rule
from connbal.model.facts import SetFacts
from connbal.plan import matching
from connbal.plan.build import plan
from connbal.plan.diff import rendered
from connbal.plan.values import Address, InDevice, InSet, Match, Plan, Ports, Protocol
from tests.fakes.build import V4, V6, config, facts
from tests.fakes.quick import quick

Lines = list[tuple[Match, ...]]


def networks(*texts: str, negated: bool = False) -> AddressMatch:
    return AddressMatch(tuple(ipaddress.ip_network(text) for text in texts), negated)


def lines(within: Family = V4, /, *, sets: matching.Sets | None = None, **rule: Any) -> Lines:
    return matching.lines(Rule("r", "all", **rule), within, facts(), sets or matching.Sets({}))


def why_not(within: Family = V4, /, **more: Any) -> str:
    with pytest.raises(matching.NoMatch) as caught:
        lines(within, **more)
    return str(caught.value)


def planned(*rules: Rule, sets: dict[str, SetFacts] | None = None, **more: Any) -> Plan:
    return plan(config(rules=rules, **more), replace(facts(), sets=sets or {}))


def rules_text(found: Plan, family: Family = V4) -> list[str]:
    return [line.text for line in rendered(found.rulesets[family], family)["mwan3_rules"]]


# --- addresses -----------------------------------------------------------------------------------------------------


def test_one_network_is_a_match_of_its_own() -> None:
    net = ipaddress.ip_network("192.168.1.178")
    assert lines(src=networks("192.168.1.178")) == [(Address("src", net),)]
    assert lines(dest=networks("192.168.1.178", negated=True)) == [(Address("dst", net, True),)]


def test_many_networks_are_one_set_and_not_many_lines() -> None:
    sets = matching.Sets({})
    src = networks(*(f"192.168.{n}.0/24" for n in range(10)))
    dest = networks(*(f"203.0.113.{n}" for n in range(20)))
    found = lines(sets=sets, src=src, dest=dest)
    assert len(found) == 1
    assert [type(match) for match in found[0]] == [InSet, InSet]
    assert sorted(len(spec.entries or ()) for spec in sets.planned.values()) == [10, 20]


def test_the_same_networks_share_a_set_and_others_do_not() -> None:
    listed = ("10.0.0.0/8", "192.0.2.1")
    found = planned(
        Rule("a", "all", src=networks(*listed)), Rule("b", "all", dest=networks(*reversed(listed))),
        Rule("c", "all", dest=networks("10.0.0.0/8", "192.0.2.2")),
    )  # fmt: skip
    assert len([spec for spec in found.sets if spec.name.startswith("mwan3_addr_")]) == 2


def test_what_is_within_another_network_is_left_out() -> None:
    assert lines(dest=networks("10.1.0.0/16", "10.0.0.0/8", "10.1.2.3")) == [
        (Address("dst", ipaddress.ip_network("10.0.0.0/8")),)
    ]


def test_every_address_is_no_match_at_all() -> None:
    assert lines(dest=networks("0.0.0.0/0")) == [()]
    assert lines(dest=networks("0.0.0.0/0", "10.0.0.1")) == [()]
    assert why_not(dest=networks("0.0.0.0/0", negated=True)) == "it excludes every address"


def test_mixed_families_are_told_apart() -> None:
    mixed = networks("192.0.2.1", "2001:db8::1")
    assert lines(V4, dest=mixed) == [(Address("dst", ipaddress.ip_network("192.0.2.1")),)]
    assert lines(V6, dest=mixed) == [(Address("dst", ipaddress.ip_network("2001:db8::1")),)]
    assert why_not(V6, dest=networks("192.0.2.1")) == "its addresses are not ipv6"
    assert why_not(V6, src=networks("192.0.2.1"), dest=networks("2001:db8::1")) == "its addresses are not ipv6"


def test_negation_of_several_is_one_negated_set() -> None:
    [(match,)] = lines(dest=networks("192.0.2.1", "10.0.0.0/8", negated=True))
    assert isinstance(match, InSet)
    assert match.negated


def test_a_family_leaves_out_the_other() -> None:
    assert why_not(V6, family=V4) == "it is for ipv4"


NETS = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda pair: ipaddress.ip_network((pair[0], pair[1]), strict=False)
    ),
    max_size=12,
)


@quick(200)
@given(NETS, st.lists(st.integers(0, 2**32 - 1), max_size=8))
def test_minimal_holds_the_same_addresses(nets: list[IPNetwork], probes: list[int]) -> None:
    found = matching.minimal(nets)
    edges = [int(edge) for net in nets for edge in (net.network_address, net.broadcast_address)]
    for probe in (*probes, *edges):
        address = ipaddress.ip_address(probe)
        assert any(address in net for net in nets) == any(address in net for net in found)
    assert not any(first != second and first.overlaps(second) for first in found for second in found)


# --- ports and protocols ---------------------------------------------------------------------------------------------


def ports(*texts: str) -> tuple[PortRange, ...]:
    bounds = [text.split(":") for text in texts]
    return tuple(PortRange(int(bound[0]), int(bound[-1])) for bound in bounds)


def test_sixteen_ports_are_two_lines() -> None:
    found = lines(protocols=(6,), dest_ports=ports(*map(str, range(1, 17))))
    assert [len(match.ranges) for line in found for match in line if isinstance(match, Ports)] == [15, 1]


def test_a_range_takes_two_slots() -> None:
    groups = list(matching.port_groups(ports(*["1:2"] * 8)))
    assert [len(group) for group in groups] == [7, 1]


@quick(200)
@given(st.lists(st.booleans(), max_size=80))
def test_groups_hold_all_ports_in_order_and_none_is_too_long(shape: list[bool]) -> None:
    wanted = tuple(PortRange(at, at + ranged) for at, ranged in enumerate(shape, 1))
    groups = list(matching.port_groups(wanted))
    assert tuple(item for group in groups for item in group) == wanted
    for group in groups:
        assert 0 < sum(2 if item.first != item.last else 1 for item in group) <= matching.PORT_SLOTS


def test_source_and_destination_ports_in_groups() -> None:
    sixteen, many = (ports(*map(str, range(1, last))) for last in (17, 32))
    found = lines(protocols=(6, 17), src_ports=sixteen, dest_ports=many)
    assert len(found) == 2 * 2 * 3


def test_icmp_means_that_of_the_family() -> None:
    assert lines(V4, protocols=(1,)) == [(Protocol(1),)]
    assert lines(V6, protocols=(1,)) == [(Protocol(58),)]
    assert lines(V6, protocols=(1, 58)) == [(Protocol(58),)]
    assert lines(V4, protocols=(1, 58)) == [(Protocol(1),)]
    assert why_not(V4, protocols=(58,)) == "its protocol does not exist in ipv4"


def test_icmp_in_ipv6_is_written_so() -> None:
    """mwan3 writes ``-p icmp`` into ip6tables."""
    found = planned(Rule("ping", "all", protocols=(1,)), words="wan wan6:6")
    assert "-p icmp " in rules_text(found, V4)[0]
    assert "-p ipv6-icmp " in rules_text(found, V6)[0]


def test_a_protocol_stands_before_the_ports_that_need_it() -> None:
    found = planned(Rule("web", "all", protocols=(6,), dest_ports=ports("80", "8000:8080"), src=networks("10.0.0.1")))
    [text] = rules_text(found)
    assert text.startswith("-A mwan3_rules -s 10.0.0.1/32 -p tcp -m multiport --dports 80,8000:8080 -m comment")


# --- devices -------------------------------------------------------------------------------------------------------


def test_src_iface_is_a_network_or_a_device() -> None:
    assert lines(src_iface=("lan",)) == [(InDevice("br-lan"),)]
    assert lines(src_iface=("eth1",)) == [(InDevice("eth1"),)]
    assert lines(src_iface=("lan", "br-lan", "wan")) == [(InDevice("br-lan"),), (InDevice("eth1"),)]


def test_an_unknown_src_iface_matches_nothing_rather_than_everything() -> None:
    assert why_not(src_iface=("nosuch",)) == "src_iface nosuch has no device now"
    found = planned(Rule("guest", "all", src_iface=("nosuch",)), Rule("rest", "all"))
    assert [view.families for view in found.rules] == [(), (V4, V6)]
    assert len(rules_text(found)) == 1


def test_an_unknown_src_iface_beside_a_known_one() -> None:
    assert lines(src_iface=("nosuch", "lan")) == [(InDevice("br-lan"),)]


# --- sets of others -------------------------------------------------------------------------------------------------

STREAMING = SetFacts("streaming", "hash:net", V4)


def test_a_set_of_the_family() -> None:
    sets = matching.Sets({"streaming": STREAMING})
    assert lines(sets=sets, ipset="streaming", ipset_src="streaming") == [
        (InSet("streaming", "dst"), InSet("streaming", "src"))
    ]
    assert not sets.planned
    assert not sets.findings
    assert why_not(V6, sets=sets, ipset="streaming") == "set streaming holds ipv4 addresses"


@pytest.mark.parametrize(
    ("kind", "dimensions"), [("hash:net", 1), ("hash:ip,port", 2), ("hash:ip,port,net", 3), ("list:set", 1)]
)
def test_as_many_directions_as_the_set_has_parts(kind: str, dimensions: int) -> None:
    sets = matching.Sets({"s": SetFacts("s", kind, V4)})
    assert lines(sets=sets, ipset="s") == [(InSet("s", "dst", dimensions),)]


def test_a_missing_set_is_made_empty_and_said() -> None:
    found = planned(Rule("listed", "all", ipset="nosuch"), Rule("rest", "all"))
    [spec] = [spec for spec in found.sets if spec.name == "nosuch"]
    assert (spec.type, spec.family, spec.entries, spec.foreign) == ("hash:net", V4, None, True)
    [finding] = found.findings
    assert (finding.code, finding.place) == ("missing-set", "mwan3.listed.ipset")
    assert len(rules_text(found)) == 2
    assert len(rules_text(found, V6)) == 1


def test_a_missing_set_is_of_the_family_of_its_rule() -> None:
    found = planned(Rule("listed", "all", family=V6, ipset="nosuch"))
    assert [spec.family for spec in found.sets if spec.foreign] == [V6]
    assert not rules_text(found)


def test_a_set_of_the_wrong_family_is_said_and_costs_one_rule() -> None:
    six = Rule("six", "all", family=V6, ipset="streaming")
    found = planned(six, Rule("rest", "all"), sets={"streaming": STREAMING})
    assert [(finding.code, finding.place) for finding in found.findings] == [("set-family", "mwan3.six.ipset")]
    assert found.rules[0].families == ()
    assert len(rules_text(found, V6)) == 1


def test_two_rules_may_want_one_missing_set() -> None:
    found = planned(Rule("a", "all", ipset="nosuch"), Rule("b", "all", ipset="nosuch"))
    assert len([spec for spec in found.sets if spec.foreign]) == 1
    assert len(rules_text(found)) == 2


def test_a_rule_may_name_a_set_of_connbals() -> None:
    found = planned(Rule("local", "all", ipset="mwan3_connected_ipv4"))
    assert not found.findings
    assert len(rules_text(found)) == 1
    assert not rules_text(found, V6)


# --- everything at once ----------------------------------------------------------------------------------------------


def test_a_disabled_rule_has_no_lines() -> None:
    found = planned(Rule("off", "all", enabled=False), Rule("rest", "all"))
    assert found.rules[0].reason == "disabled"
    assert len(rules_text(found)) == 1


def test_reasons_are_given_where_a_rule_is_in_no_family() -> None:
    found = planned(Rule("six", "all", dest=networks("2001:db8::1"), ipset="streaming"), sets={"streaming": STREAMING})
    assert found.rules[0].reason == "its addresses are not ipv4; set streaming holds ipv4 addresses"


def test_all_combinations_stand_as_lines() -> None:
    found = lines(protocols=(6, 17), src_mac=("02:00:00:00:00:01", "02:00:00:00:00:02"), src_iface=("lan", "wan"),
                  src=networks("10.0.0.1", "10.0.0.3"), dest=networks("192.0.2.1"))  # fmt: skip
    assert len(found) == len(set(found)) == 8


def test_the_default_route_in_the_facts_exempts_nothing() -> None:
    """Facts hold no default routes; if one slipped in, everything else must still be exempt."""
    base = facts()
    odd = replace(base, connected={V4: (ipaddress.ip_network("0.0.0.0/0"),)})
    entries = {spec.name: spec.entries for spec in plan(config(), odd).sets}["mwan3_connected_ipv4"]
    assert entries == frozenset({"192.168.1.0/24", "10.1.0.0/24", "10.2.0.0/24", "224.0.0.0/3"})
