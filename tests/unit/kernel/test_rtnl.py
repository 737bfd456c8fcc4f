"""Decoded rtnetlink messages as values; what the kernel itself sends is in tests/netns/kernel/test_routing.py."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.kernel import rtnl
from connbal.model.config import Family
from connbal.model.facts import DefaultRoute


def link(name: str, index: int = 5, flags: int = 0x10001) -> dict[str, Any]:
    return {"family": 0, "index": index, "flags": flags, "attrs": [("IFLA_IFNAME", name), ("IFLA_MTU", 1500)]}


def route(**more: Any) -> dict[str, Any]:
    attributes = more.pop("attrs", [])
    fields = {"family": socket.AF_INET, "dst_len": 0, "src_len": 0, "table": 254, "proto": 4, "type": 1, "flags": 0}
    return {**fields, **more, "attrs": attributes}


@pytest.mark.parametrize(
    "name", ["eth0", "wan1", "br-lan", "eth0.2", "pppoe-wan", "wg_home", "a+b", "x!", "x-", "@nfs", "eth0:1", "a" * 15]
)
def test_names_fit_for_a_rule(name: str) -> None:
    assert rtnl.fit_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 16,
        "-x",
        "!x",
        "x+",
        "+",
        "a b",
        "w;x",
        "a$b",
        "a|b",
        "<a>",
        "{a}",
        "a&b",
        "a*",
        "a\tb",
        "a\nb",
        "a\n",
        'a"',
        "a'",
        "a\\",
        "a`b",
        "é",
        "a\x7f",
        "a\udcff",
    ],
)
def test_names_unfit_for_a_rule(name: str) -> None:
    assert not rtnl.fit_name(name)
    assert rtnl.link_of(link(name)) is None


@given(st.text(max_size=20))
def test_a_fit_name_is_one_visible_word(name: str) -> None:
    if rtnl.fit_name(name):
        assert name.isascii()
        assert name.isprintable()
        assert name.split() == [name]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(0x1, (True, False, False)), (0x10001, (True, True, False)), (0x11, (True, False, True)),
     (0x81, (True, False, True)), (0x89, (True, False, False)), (0x10000, (False, True, False))],
)  # fmt: skip
def test_flags(flags: int, expected: tuple[bool, bool, bool]) -> None:
    found = rtnl.link_of(link("x", flags=flags))
    assert found is not None
    assert (found.up, found.carrier, found.point_to_point) == expected


def test_other_families_are_passed_over() -> None:
    assert rtnl.route_of(route(family=128)) is None
    assert rtnl.rule_of({"family": 129, "action": 1, "flags": 0, "table": 0, "attrs": []}) is None
    assert rtnl.address_of({"family": 17, "flags": 0, "prefixlen": 0, "index": 1, "attrs": []}) is None


def test_the_gateway_may_be_of_the_other_family() -> None:
    via = {"family": socket.AF_INET6, "addr": "fe80::1"}
    found = rtnl.route_of(route(attrs=[("RTA_OIF", 5), ("RTA_VIA", via)]))
    assert found is not None
    assert found.hops == (rtnl.Hop(5, ipaddress.ip_address("fe80::1"), False),)


def test_best_default_first_main_before_others_and_each_gateway_once() -> None:
    def default(gateway: str, metric: int, table: int = 254) -> dict[str, Any]:
        attributes = [("RTA_OIF", 5), ("RTA_GATEWAY", gateway), ("RTA_PRIORITY", metric), ("RTA_TABLE", table)]
        return route(attrs=attributes)

    messages = [
        default("10.0.0.3", 0, table=1000),
        default("10.0.0.1", 9),
        default("10.0.0.1", 2),
        default("10.0.0.2", 5),
        default("10.0.0.2", 1, table=7),
        route(type=7, attrs=[("RTA_OIF", 5)]),
        route(proto=131, attrs=[("RTA_OIF", 5), ("RTA_GATEWAY", "10.0.0.9")]),
    ]
    state = rtnl.assemble([link("wan")], [], messages, [])
    assert state.networks["wan", Family.IPV4].defaults == (
        DefaultRoute(ipaddress.ip_address("10.0.0.1"), 2),
        DefaultRoute(ipaddress.ip_address("10.0.0.2"), 5),
        DefaultRoute(ipaddress.ip_address("10.0.0.3"), 0),
    )
    assert [route.gateway for route in state.routes] == [ipaddress.ip_address("10.0.0.9")]


def test_own_routes_on_unfit_links_do_not_come_back() -> None:
    messages = [route(proto=131, attrs=[("RTA_OIF", 5)])]
    assert rtnl.assemble([link("a b")], [], messages, []).routes == frozenset()
