"""Paths other than from the LAN to the Internet: the router's own traffic, what comes in, and local networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.demo.config import TV, examples
from tests.lab import Lab
from tests.netns.main_job.bench import Bench, interfaces, member, only, policy, section, shares

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Benches = Callable[..., Bench]
SOURCES = ("wan", "wan1", "wan2", "wwan")
FAMILIES = (4, 6)


def test_the_routers_own_traffic_follows_policies(bench: Benches) -> None:
    """Rule by port, failover and split, for connections the router itself opens."""
    one = bench(SOURCES)
    lab = one.lab
    one.apply(examples(lab, affinity="connection"))
    for family in FAMILIES:
        only(lab.tcp("router", port=443, count=20, family=family), "wwan")
        shares(lab.udp("router", count=2000, family=family), wan1=2 / 3, wan2=1 / 3, tolerance=0.055)
    lab.carrier("wwan", False)
    one.apply()
    for family in FAMILIES:
        only(lab.tcp("router", port=443, count=20, family=family), "wan1")


def test_the_router_can_choose_a_source_itself(bench: Benches) -> None:
    """Connections of the router with a source's mark and device, as probes have, leave by it whatever rules say."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    ids = {view["name"]: view["id"] for view in one.status()["interfaces"]}
    for name in SOURCES:
        source = one.lab.source(name)
        for family, interface in ((4, name), (6, source.name6)):
            mark = ids[interface] << 8
            only(one.lab.udp("router", count=5, family=family, mark=mark, device=source.device), name)
            only(one.lab.tcp("router", count=5, family=family, mark=mark), name)


def test_a_source_out_of_use_can_still_be_tried(bench: Benches) -> None:
    """While every member is forced down, the router's own probes bound to their devices still get out."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    for name in ("wwan", "wwan6", "wan1", "wan1_6"):
        one.connbal("interface", "force", name, "down")
    for family in FAMILIES:
        for name in ("wwan", "wan1"):
            only(one.lab.tcp("router", count=5, family=family, device=one.lab.source(name).device), name)
        assert one.lab.tcp("pc", count=2, family=family, timeout=1).failures


def address(lab: Lab, name: str, family: int) -> str:
    source = lab.source(name)
    return source.address4 if family == 4 else source.address6


def test_replies_to_the_router_leave_where_they_came_in(bench: Benches) -> None:
    """A server on the router, asked from each Internet at the address of that source, answers there."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    one.lab.serve("router", tcp=(5000,), udp=(5000,))
    for name in SOURCES:
        for family in FAMILIES:
            # From far behind the gateway: an address that the router's main table sends out by another source.
            far = "203.0.113.99" if family == 4 else "2001:db8:ffff::99"
            pairs = [(far, address(one.lab, name, family))] * 10
            only(one.lab.tcp(f"inet-{name}", port=5000, pairs=pairs), "router")
            only(one.lab.udp(f"inet-{name}", port=5000, pairs=pairs), "router")


def test_replies_of_a_lan_server_leave_where_they_came_in(bench: Benches) -> None:
    """Port forwarding to the TV, whose own connections go by wan2: replies take the source that was asked."""
    one = bench(SOURCES)
    lab = one.lab
    one.apply(examples(lab))
    lab.serve("tv", tcp=(5000,), udp=(5000,))
    for proto in ("tcp", "udp"):
        lab.router.sh(f"iptables -t nat -A PREROUTING -i e-+ -p {proto} --dport 5000 -j DNAT --to-destination {TV}")
    for name in SOURCES:
        pairs = [("203.0.113.99", address(lab, name, 4))] * 10
        only(lab.tcp(f"inet-{name}", port=5000, pairs=pairs), "tv")
        only(lab.udp(f"inet-{name}", port=5000, pairs=pairs), "tv")
    only(lab.tcp("tv", count=5), "wan2")


def test_inbound_connections_survive_changes(bench: Benches) -> None:
    """An open inbound connection goes on while weights change and another source leaves."""
    one = bench(SOURCES)
    lab = one.lab
    one.apply(examples(lab))
    lab.serve("router", tcp=(5000,), udp=(5000,))
    with lab.stream("inet-wan1", address(lab, "wan1", 4), 5000, src="203.0.113.99") as stream:
        assert stream.ask() == "router"
        one.apply(examples(lab, weights=(5, 1)))
        assert stream.ask() == "router"
        lab.carrier("wwan", False)
        one.apply()
        assert stream.ask() == "router"


def test_local_networks_remain_reachable(bench: Benches) -> None:
    """LAN to router, LAN to guests, router to both, and a routed network behind a LAN host: rules do not apply."""
    one = bench(SOURCES, guest=True)
    lab = one.lab
    lab.serve("router")
    lab.serve("visitor")
    lab.serve("pc")
    behind = lab.add_addresses("pc", 60)[0]  # a network that the router sends to the PC
    one.apply(
        interfaces(lab), member("m_wan2", "wan2"), policy("by_wan2", "m_wan2"),
        section("rule", "All_Traffic", ("use_policy", "by_wan2")),
    )  # fmt: skip
    for family in FAMILIES:
        visitor = "192.168.2.50" if family == 4 else "fd02::50"
        gateway = "192.168.1.1" if family == 4 else "fd01::1"
        only(lab.tcp("tv", gateway, 5000, count=5), "router")
        only(lab.udp("tv", visitor, 5000, count=5), "visitor")
        only(lab.tcp("router", visitor, 5000, count=5), "visitor")
        only(lab.tcp("tv", address(lab, "wan1", family), 5000, count=5), "router")
        gate = lab.source("wan1").gateway4 if family == 4 else lab.source("wan1").gateway6
        only(lab.tcp("tv", gate, 80, count=5), "wan1")  # a modem's own pages
    only(lab.tcp("visitor", behind, 5000, count=5), "pc")


def test_a_network_that_appears_later_is_reachable_after_the_next_run(bench: Benches) -> None:
    """Until then a route that has just appeared takes nothing that has a source: nobody has looked whose it is.

    ``tests/netns/daemon/test_source_routes.py`` has the daemon, which runs by itself when a route comes.
    """
    one = bench(SOURCES)
    lab = one.lab
    one.apply(examples(lab))
    lab.serve("pc")
    lab.node("pc").ip("addr add 172.20.0.1/24 dev eth0")
    lab.router.ip("route add 172.20.0.0/24 via 192.168.1.20 dev br-lan")
    assert not lab.tcp("router", "172.20.0.1", 5000, count=3, timeout=0.5).names
    one.apply(examples(lab))
    only(lab.tcp("router", "172.20.0.1", 5000, count=5), "pc")
    only(lab.tcp("inet-wan", pairs=[("203.0.113.99", "172.20.0.1")] * 5, port=5000), "pc")
