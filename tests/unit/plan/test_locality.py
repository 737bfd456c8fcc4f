"""Which routes are followed whatever source was chosen."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.model.config import Config, Family, IPAddress, IPNetwork, SourceRoutes
from connbal.model.facts import Facts, MainRoute, RouteHop
from connbal.plan.build import plan
from connbal.plan.diff import diff
from connbal.plan.ledger import Ledger
from connbal.plan.locality import PRIVATE, SANE, WIDE, Judged, Why, judge, source_devices
from connbal.plan.state import KernelState
from tests.fakes.build import V4, V6, config, machine

SOURCES = {"e-wan": "wan", "e-wwan": "wwan"}
PRIVATE_MODE = SourceRoutes.PRIVATE


def net(text: str) -> IPNetwork:
    return ipaddress.ip_network(text)


def route(text: str, device: str = "e-wwan", gateway: str = "", **more: object) -> MainRoute:
    network = net(text)
    hop = RouteHop(device, ipaddress.ip_address(gateway) if gateway else None)
    return replace(MainRoute(Family.of(network), network, (hop,)), **more)


LAN = route("192.168.1.0/24", "br-lan")


def judged(*routes: MainRoute, own: str = "", mode: SourceRoutes = PRIVATE_MODE, written: Sequence[str] = ()) -> Judged:
    """``own``: networks of e-wwan's addresses."""
    mine = {"e-wwan": frozenset(map(net, own.split())), "e-wan": frozenset({net("10.1.0.0/24")})}
    told = frozenset(("e-wwan", net(text)) for text in written)
    return judge(routes[0].family, routes, SOURCES, mine, told, mode)


def why(told: MainRoute, *others: MainRoute, **more: object) -> Why | None:
    found = judged(told, *others, **more)  # type: ignore[arg-type]
    return next((one.why for one in found.kept if one.route == told), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.0.0.0/1", Why.PUBLIC), ("128.0.0.0/1", Why.PUBLIC), ("8.8.8.0/24", Why.PUBLIC), ("8.8.8.8/32", Why.PUBLIC),
        ("10.0.0.0/7", Why.PUBLIC), ("172.0.0.0/11", Why.PUBLIC), ("10.7.0.0/16", None), ("100.64.3.0/24", None),
        ("169.254.8.0/24", None), ("172.20.0.0/14", None), ("192.168.1.128/25", Why.OVERLAPS),
        ("192.168.0.0/16", Why.OVERLAPS), ("192.168.2.0/24", None), ("10.1.0.9/32", Why.OVERLAPS),
        ("10.0.0.0/8", Why.OVERLAPS), ("2000::/3", Why.PUBLIC), ("2606:4700::/32", Why.PUBLIC), ("fd77::/48", None),
        ("64:ff9b::/96", Why.PUBLIC),
    ],
)  # fmt: skip
@pytest.mark.parametrize("gateway", [True, False])
def test_what_a_source_was_told(text: str, reason: Why | None, gateway: bool) -> None:
    told = route(text, gateway="" if not gateway else "10.2.0.1" if "." in text else "fe80::1")
    others = (LAN, route("10.1.0.0/24", "e-wan")) if told.family is V4 else (route("fd01::/64", "br-lan"),)
    assert why(told, *others) is reason
    assert why(told, *others, mode=SourceRoutes.NONE) in (reason, Why.NOTHING)
    assert why(told, *others, mode=SourceRoutes.NONE) is not None
    assert why(told, *others, mode=SourceRoutes.ALL) is None
    assert why(told, *others, written=[text]) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.2.0.0/24", None), ("203.0.113.0/24", None), ("203.0.112.0/20", None), ("203.0.0.0/16", Why.TOO_LARGE),
        ("203.0.0.0/8", Why.TOO_LARGE), ("128.0.0.0/1", Why.TOO_LARGE), ("192.168.1.128/25", Why.OVERLAPS),
        ("192.168.1.0/24", Why.OVERLAPS), ("192.168.0.0/16", None), ("10.1.0.128/25", Why.OVERLAPS),
        ("10.0.0.0/8", Why.OVERLAPS), ("10.1.0.0/24", Why.OVERLAPS), ("2001:db8:1::/64", None),
        ("2001:db8::/56", Why.TOO_LARGE), ("2000::/3", Why.TOO_LARGE), ("fd05::/48", None),
        ("fd05::/16", Why.TOO_LARGE), ("fe80::/64", None),
    ],
)  # fmt: skip
def test_the_network_of_a_sources_address(text: str, reason: Why | None) -> None:
    own = route(text)
    others = (LAN, route("10.1.0.0/24", "e-wan")) if own.family is V4 else (route("fe80::/64", "br-lan"),)
    assert why(own, *others, own=text) is reason
    if reason is None and not own.destination.is_private:
        assert why(own, *others, own=text, mode=SourceRoutes.NONE) is Why.NOTHING


def test_two_sources_in_one_network_have_it_each_for_itself() -> None:
    found = judged(LAN, route("10.1.0.0/24", "e-wan"), route("10.1.0.0/24"), own="10.1.0.0/24")
    assert found.local == (LAN,)
    assert {one.device for one in found.kept} == {"e-wan", "e-wwan"}


def test_no_source_stands_in_for_anothers_name_server() -> None:
    """Nor for its gateway: be that in public space, and the network one that the source's own address is in."""
    asked = {"e-wan": frozenset({net("203.0.113.53/32"), net("192.168.100.1/32"), net("fe80::1/128")})}
    mine = {"e-wwan": frozenset({net("203.0.113.0/24")}), "e-wan": frozenset[IPNetwork]()}
    told = [route("203.0.113.0/24"), route("192.168.100.0/24", gateway="203.0.113.1"), route("192.168.101.0/24")]
    found = judge(V4, told, SOURCES, mine, frozenset(), PRIVATE_MODE, asked)
    assert found.local == (told[2],)
    assert {one.why for one in found.kept} == {Why.OVERLAPS}


def test_refusals_are_no_networks() -> None:
    """What is left of a delegated prefix is refused by the router; a source may be in a part of it."""
    refused = replace(route("2001:db8:1::/56", "lo"), kind="unreachable")
    own = route("2001:db8:1::/64")
    assert why(own, refused, own="2001:db8:1::/64") is None


def test_a_device_is_a_sources_if_a_section_says_so_be_it_disabled() -> None:
    made = machine("wan wan1 wan2:6")
    assert source_devices(config("wan -wan1 wan2:6"), made.facts()) == {"eth1": "wan", "eth2": "wan1", "eth3": "wan2"}


def test_a_source_has_in_its_table_what_is_for_it_alone() -> None:
    made = machine("wan wan1")
    base = made.facts()
    learned = route("203.0.113.0/24", "eth1", "10.1.0.9")
    facts = replace(base, main={**base.main, V4: (*base.main[V4], learned, route("0.0.0.0/1", "eth2", "10.2.0.1"))})
    found = plan(config(), facts)
    assert learned not in found.local
    assert [(one.table, str(one.gateway)) for one in found.routes if one.destination == learned.destination] == [
        (1, "10.1.0.9")
    ]
    assert [one.table for one in found.routes if one.destination == net("0.0.0.0/1")] == [2]
    assert [one.code for one in found.findings] == ["source-routes"] * 2
    sets = {one.name: one.entries for one in found.sets}
    assert "203.0.113.0/24" not in (sets["mwan3_connected_ipv4"] or ())
    changes = diff(found, KernelState({V4: {}, V6: {}}), Ledger())
    assert set(changes.copy_routes) == set(found.local)


def test_most_of_the_internet() -> None:
    halves = [route(text, "tun0") for text in ("0.0.0.0/1", "128.0.0.0/1")]
    assert [device for device, _ in judged(LAN, *halves).covering] == ["tun0"]
    quarters = [route(f"{first}.0.0.0/2", "tun0") for first in (0, 64, 128)]
    assert [device for device, _ in judged(LAN, *quarters).covering] == ["tun0"]
    assert not judged(LAN, route("0.0.0.0/2", "tun0"), route("10.0.0.0/8", "tun0")).covering
    assert not judged(LAN, route("0.0.0.0/1"), route("128.0.0.0/1")).covering  # a source's own
    assert judged(LAN, route("0.0.0.0/1"), mode=SourceRoutes.ALL).covering
    assert [one for one, _ in judge(V6, [route("2000::/3", "tun0")], SOURCES, {}, frozenset(), PRIVATE_MODE).covering]


# --- any routes at all ----------------------------------------------------------------------------------------------

_BITS = {V4: 32, V6: 128}
_STARTS = {
    V4: ("0.0.0.0", "10.0.0.0", "10.1.0.0", "10.1.0.128", "100.64.0.0", "192.168.1.0", "192.168.1.128", "203.0.113.0"),
    V6: ("::", "2000::", "2001:db8::", "fd00::", "fd01::", "fe80::"),
}
_LENGTHS = {V4: (1, 2, 7, 8, 12, 16, 20, 24, 25, 32), V6: (1, 3, 7, 8, 16, 32, 48, 56, 64, 127, 128)}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Family, list[MainRoute], dict[str, frozenset[IPNetwork]], SourceRoutes]:
    family = draw(st.sampled_from([V4, V6]))
    found, own = {}, {device: set[IPNetwork]() for device in SOURCES}
    for _ in range(draw(st.integers(1, 10))):
        start, length = draw(st.sampled_from(_STARTS[family])), draw(st.sampled_from(_LENGTHS[family]))
        network = ipaddress.ip_network(f"{start}/{length}", strict=False)
        device = draw(st.sampled_from(["br-lan", "tun0", *SOURCES]))
        gateway = draw(st.sampled_from(["", "10.2.0.1" if family is V4 else "fe80::1"]))
        one = route(str(network), device, gateway)
        found[network, device, gateway] = one
        if device in own and not gateway and draw(st.booleans()):
            own[device].add(network)
    mode = draw(st.sampled_from([SourceRoutes.PRIVATE, SourceRoutes.NONE]))
    return family, list(found.values()), {device: frozenset(networks) for device, networks in own.items()}, mode


def taken(routes: Sequence[MainRoute], address: IPAddress) -> set[str]:
    """The devices by which it may leave: of the routes with the longest prefix."""
    fitting = [one for one in routes if address in one.destination]
    longest = max((one.destination.prefixlen for one in fitting), default=0)
    return {one.hops[0].device for one in fitting if one.destination.prefixlen == longest}


@settings(max_examples=400, deadline=None)
@given(tables())
def test_no_source_takes_what_is_not_its_own(
    table: tuple[Family, list[MainRoute], dict[str, frozenset[IPNetwork]], SourceRoutes],
) -> None:
    family, routes, own, mode = table
    found = judge(family, routes, SOURCES, own, frozenset(), mode)
    kept = [one.route for one in found.kept]
    assert [one for one in routes if one not in kept] == list(found.local)
    assert all(one.device in SOURCES for one in found.kept)
    inner = [one for one in routes if one.hops[0].device not in SOURCES]
    assert set(inner) <= set(found.local)
    ends = {end for one in routes for end in (one.destination.network_address, one.destination.broadcast_address)}
    for address in ends:
        link_local = family is V6 and address.is_link_local
        devices = taken(found.local, address)
        private = any(address in network for network in PRIVATE[family])
        if devices & SOURCES.keys() and not link_local:
            (device,) = devices  # never two: neither of two sources, nor a source and the LAN
            near = [n for n in own[device] if address in n and n.prefixlen >= SANE[family][not private]]
            assert private or (near and mode is not SourceRoutes.NONE)
            if mode is SourceRoutes.NONE:
                assert near
        before = [one for one in inner if address in one.destination and one.destination.prefixlen >= WIDE[family]]
        if before and not link_local:
            assert devices == taken(inner, address)


def test_thousands_of_routes_are_judged_in_no_time() -> None:
    import time

    many = [route(f"{20 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24", "e-wan" if n % 2 else "br-lan", "10.1.0.1")
            for n in range(10_000)]  # fmt: skip
    begin = time.process_time()
    found = judge(V4, many, SOURCES, {}, frozenset(), PRIVATE_MODE)
    assert len(found.kept) == len(found.local) == 5_000
    assert time.process_time() - begin < 2


def test_facts_without_routes_say_nothing() -> None:
    assert plan(Config(), Facts()).findings == ()
