"""Interfaces: which are present, which usable, and the rules and routes each gets."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from connbal.model.config import Config, IPNetwork, SourceRoutes
from connbal.model.facts import DefaultRoute, Facts, Health, Network
from connbal.plan.build import plan
from connbal.plan.describe import route_text, rule_text
from connbal.plan.values import InterfaceView, Origin, Plan
from tests.fakes.build import V4, V6, config, facts, machine

ULA: IPNetwork = ipaddress.ip_network("2001:db8:1::/56")


def with_network(network: Network, base: Facts | None = None) -> Facts:
    base = base or facts()
    return replace(base, networks={**base.networks, (network.name, network.family): network})


def wan(*defaults: DefaultRoute, **more: object) -> Network:
    """The first interface, up, with these default routes."""
    address = ipaddress.ip_interface("10.1.0.2/24")
    return replace(Network("wan", V4, True, "eth1", (address,), defaults), **more)  # type: ignore[arg-type]


def wan6(*defaults: DefaultRoute, **more: object) -> Network:
    address = ipaddress.ip_interface("2001:db8:1::2/64")
    return replace(Network("wan", V6, True, "eth1", (address,), defaults), **more)  # type: ignore[arg-type]


def view(found: Plan, name: str = "wan") -> InterfaceView:
    return next(one for one in found.interfaces if one.name == name)


def state(wanted: Config, facts_: Facts) -> tuple[bool, bool, str]:
    one = view(plan(wanted, facts_))
    return one.present, one.usable, one.reason


def rules(found: Plan, family: str = "ipv4") -> list[str]:
    return [rule_text(rule).removeprefix(f"{family} ") for rule in found.ip_rules if rule.family == family]


def routes(found: Plan, table: int = 1) -> list[str]:
    return [route_text(route) for route in found.routes if route.table == table]


# --- present and usable ---------------------------------------------------------------------------------------------


def test_what_it_takes_to_be_usable() -> None:
    gateway = DefaultRoute(ipaddress.ip_address("10.1.0.1"))
    assert state(config(), with_network(wan(gateway, reason="has an address"))) == (True, True, "has an address")
    assert state(config(), with_network(wan())) == (True, False, "no default route or gateway known")
    assert state(config(), with_network(wan(gateway, up=False))) == (False, False, "down")
    assert state(config(), with_network(wan(gateway, device=None))) == (False, False, "down")
    nosuch = view(plan(config("nosuch wan1"), facts()), "nosuch")
    assert (nosuch.present, nosuch.usable, nosuch.reason) == (False, False, "no network or device nosuch")
    assert state(config("-wan wan1"), facts()) == (False, False, "disabled")


def test_what_the_tracker_says_counts_only_of_what_is_up() -> None:
    base = machine()
    base.uplinks["wan"].health = Health(False, "3 rounds lost")
    assert state(config(), base.facts()) == (True, False, "3 rounds lost")
    base.uplinks["wan"].health = Health(True, "answers in 12 ms")
    assert state(config(), base.facts()) == (True, True, "answers in 12 ms")
    base.uplinks["wan"].up = False
    assert state(config(), base.facts()) == (False, False, "no carrier")


def test_a_network_of_the_other_family_is_no_help() -> None:
    assert state(config("wan:6"), facts())[2] == "no network or device wan"


def test_interfaces_beyond_the_mask_are_said_to_be_so() -> None:
    words = " ".join(f"w{number}" for number in range(6))
    found = plan(config(words, mmx_mask=0x7), facts(words))
    assert [one.usable for one in found.interfaces] == [True] * 4 + [False] * 2
    assert view(found, "w4").reason == "the mask has room for 4 interfaces only"
    assert found.ids == {f"w{number}": number + 1 for number in range(4)}
    assert {route.table for route in found.routes} == {1, 2, 3, 4}


def test_disabled_interfaces_are_counted() -> None:
    assert plan(config("-wan wan1"), facts()).ids == {"wan1": 2}


# --- rules ----------------------------------------------------------------------------------------------------------


def test_rules_are_mwan3s_and_two_more() -> None:
    found = rules(plan(config(), facts()))
    assert found == [
        "999: from all lookup 131000",
        "1000: from all fwmark 0x3f00/0x3f00 lookup 254 suppress_prefixlength 0",
        "1001: from all iif eth1 lookup 1",
        "1002: from all iif eth2 lookup 2",
        "2001: from all fwmark 0x100/0x3f00 lookup 1",
        "2002: from all fwmark 0x200/0x3f00 lookup 2",
        "2061: from all fwmark 0x3d00/0x3f00 blackhole",
        "2062: from all fwmark 0x3e00/0x3f00 unreachable",
        "3001: from all fwmark 0x100/0x3f00 unreachable",
        "3002: from all fwmark 0x200/0x3f00 unreachable",
    ]
    followed = plan(config(source_routes=SourceRoutes.ALL), facts())
    assert rules(followed) == ["1000: from all lookup 254 suppress_prefixlength 0", *found[2:]]
    assert not followed.local


def test_a_family_without_interfaces_has_the_general_rules_only() -> None:
    assert [rule.split(":")[0] for rule in rules(plan(config(), facts()), "ipv6")] == ["999", "1000", "2061", "2062"]


def test_what_is_left_of_an_absent_interfaces_connections_is_refused() -> None:
    found = rules(plan(config(), facts(down="wan")))
    assert [rule.split(":")[0] for rule in found if "0x100/" in rule or "eth1" in rule] == ["3001"]
    found = rules(plan(config(), facts(offline="wan")))
    assert [rule.split(":")[0] for rule in found if "0x100/" in rule or "eth1" in rule] == ["1001", "2001", "3001"]


def test_a_disabled_interface_has_no_rules() -> None:
    assert not any("0x100/" in rule for rule in rules(plan(config("-wan wan1"), facts())))


# --- routes ---------------------------------------------------------------------------------------------------------


def test_a_table_has_a_default_route_and_the_networks() -> None:
    assert routes(plan(config(), facts())) == [
        "default via 10.1.0.1 dev eth1 table 1", "10.1.0.0/24 dev eth1 table 1 src 10.1.0.2",
    ]  # fmt: skip


def test_metrics_of_ipv6_are_what_the_kernel_makes_of_them() -> None:
    assert routes(plan(config("wan:6"), facts("wan:6"))) == [
        "default via fe80::1 dev eth1 table 1 metric 1024", "2001:db8:1::/64 dev eth1 table 1 metric 256",
    ]  # fmt: skip


def test_point_to_point_needs_no_gateway() -> None:
    network = wan(DefaultRoute(None), addresses=(ipaddress.ip_interface("10.64.64.64/32"),))
    found = plan(config(), with_network(network))
    assert view(found).usable
    assert routes(found) == ["default dev eth1 table 1"]


def test_a_gateway_outside_every_network() -> None:
    network = wan(DefaultRoute(ipaddress.ip_address("100.64.0.1"), onlink=True))
    assert routes(plan(config(), with_network(network)))[0] == "default via 100.64.0.1 dev eth1 table 1 onlink"


def test_several_gateways_differ_in_their_metric() -> None:
    gateways = ((1, 0), (2, 5), (3, 5))
    network = wan(*(DefaultRoute(ipaddress.ip_address(f"10.1.0.{n}"), metric) for n, metric in gateways))
    assert routes(plan(config(), with_network(network)))[:2] == [
        "default via 10.1.0.1 dev eth1 table 1", "default via 10.1.0.2 dev eth1 table 1 metric 5",
    ]  # fmt: skip


@pytest.mark.parametrize("source_routing", [False, True])
def test_source_routing(source_routing: bool) -> None:
    gateway = ipaddress.ip_address("fe80::1")
    network = wan6(DefaultRoute(gateway, 512, ULA), DefaultRoute(gateway, 512, ipaddress.ip_network("2001:db8:2::/56")))
    found = plan(config("wan:6", source_routing=source_routing), with_network(network))
    kept = [route.source for route in found.routes if not route.destination.prefixlen]
    assert kept == ([default.source for default in network.defaults] if source_routing else [None])


def test_addresses_of_one_network_make_one_route() -> None:
    network = wan(DefaultRoute(None), addresses=tuple(
        ipaddress.ip_interface(text) for text in ("10.1.0.2/24", "10.1.0.3/24", "10.9.0.1/16")
    ))  # fmt: skip
    assert routes(plan(config(), with_network(network)))[1:] == [
        "10.1.0.0/24 dev eth1 table 1 src 10.1.0.2", "10.9.0.0/16 dev eth1 table 1 src 10.9.0.1",
    ]  # fmt: skip


# --- a step in between, and refusals --------------------------------------------------------------------------------


def test_with_other_ids_everything_moves_along() -> None:
    found = plan(config(), facts(), ids={"wan": 60})
    assert {route.table for route in found.routes if route.device == "eth1"} == {60}
    assert "2060: from all fwmark 0x3c00/0x3f00 lookup 60" in rules(found)
    assert not any("0x100/" in rule for rule in rules(found))
    assert found.ids == {"wan1": 2, "wan": 60}
    marks = [
        rule.action for chain in found.rulesets[V4].chains for rule in chain.rules if rule.comment.startswith("wan ")
    ]
    assert "SetMark(value=15360, mask=16128)" in map(str, marks)
    assert {share.id for tier in found.tiers for share in (*tier.shares, *tier.layout)} == {60, 2}


def test_a_refused_interface_is_as_good_as_absent() -> None:
    found = plan(config(), facts(), refused={Origin("interface", "wan"): "no such device"})
    assert (view(found).present, view(found).reason) == (False, "no such device")
    assert not routes(found)
    assert [share.interface for share in found.tiers[0].shares] == ["wan1"]


def test_a_section_of_another_type_may_have_the_same_name() -> None:
    found = plan(config(), facts(), refused={Origin("rule", "wan"): "no"})
    assert view(found).present
