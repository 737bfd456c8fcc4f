"""SystemRouting against the real kernel."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel.api import RoutingState
from connbal.kernel.routing import SystemRouting
from connbal.model.config import Family
from connbal.model.facts import DefaultRoute
from connbal.plan.values import IpRoute, IpRule
from tests.netns.kernel.isolation import isolated, run, unshare_network, veth

pytestmark = pytest.mark.netns

IPV4, IPV6 = Family.IPV4, Family.IPV6
GATEWAY = {IPV4: ipaddress.ip_address("10.0.1.1"), IPV6: ipaddress.ip_address("fd00:1::1")}
OTHER = {IPV4: ipaddress.ip_address("10.0.1.9"), IPV6: ipaddress.ip_address("fd00:1::9")}
FAR = {IPV4: ipaddress.ip_address("192.0.2.1"), IPV6: ipaddress.ip_address("2001:db8:ffff::1")}
ANY = {IPV4: ipaddress.ip_network("0.0.0.0/0"), IPV6: ipaddress.ip_network("::/0")}
NET = {IPV4: ipaddress.ip_network("10.9.0.0/16"), IPV6: ipaddress.ip_network("fd09::/32")}
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
METRIC = {IPV4: 0, IPV6: 1024}


def two_sources() -> None:
    veth("wan1", "10.0.1.2/24", "10.0.1.3/24", "fd00:1::2/64", "fd00:1::3/64")
    veth("wan2", "10.0.2.2/24", "fd00:2::2/64")


def default(family: Family, **more: Any) -> IpRoute:
    route = IpRoute(family, 1, ANY[family], "wan1", gateway=GATEWAY[family], metric=METRIC[family])
    return replace(route, **more)


RULES = [
    IpRule("ipv4", 1000, "lookup", table=254, suppress_prefixlen=0),
    IpRule("ipv4", 1001, "lookup", table=1, iif="wan1"),
    IpRule("ipv4", 2001, "lookup", table=1, mark=0x100, mask=0x3F00),
    IpRule("ipv4", 2002, "lookup", table=1234, mark=0x200, mask=0x3F00),
    IpRule("ipv4", 2061, "blackhole", mark=0x3D00, mask=0x3F00),
    IpRule("ipv4", 3001, "unreachable", mark=0x100, mask=0x3F00),
    IpRule("ipv4", 3002, "unreachable", mark=0, mask=0x3F00),
]


@isolated
def test_rules_read_back_equal_and_go_again(family: Family) -> None:
    two_sources()
    routing = SystemRouting()
    rules = frozenset(replace(rule, family=family.value) for rule in RULES)
    for rule in rules:
        routing.add_rule(rule)
        routing.add_rule(rule)
    assert routing.read().ip_rules == rules
    assert len(run(f"ip {'-6' if family is IPV6 else '-4'} rule show").splitlines()) == len(rules) + (
        3 if family is IPV4 else 2
    )
    for rule in rules:
        routing.delete_rule(rule)
        routing.delete_rule(rule)
    assert routing.read().ip_rules == frozenset()


@isolated
def test_an_identical_rule_of_somebody_else_is_neither_taken_for_ours_nor_removed(family: Family) -> None:
    routing = SystemRouting()
    ip = "ip -6" if family is IPV6 else "ip"
    rule = IpRule(family.value, 2001, "lookup", table=1, mark=0x100, mask=0x3F00)
    run(f"{ip} rule add priority 2001 fwmark 0x100/0x3f00 lookup 1")
    assert routing.read().ip_rules == frozenset()
    routing.add_rule(rule)
    routing.add_rule(rule)
    assert routing.read().ip_rules == {rule}
    routing.delete_rule(rule)
    assert run(f"{ip} rule show priority 2001").count("2001:") == 1
    routing.delete_rule(rule)
    assert run(f"{ip} rule show priority 2001").count("2001:") == 1


@isolated
def test_rules_that_select_by_more_are_not_ours(family: Family) -> None:
    ip = "ip -6" if family is IPV6 else "ip"
    run(f"{ip} rule add from {NET[family]} lookup 1 priority 5 protocol 131")
    run(f"{ip} rule add not fwmark 1 lookup 1 priority 6 protocol 131")
    run(f"{ip} rule add ipproto tcp lookup 1 priority 7 protocol 131")
    assert SystemRouting().read().ip_rules == frozenset()


def routes(family: Family) -> list[IpRoute]:
    prefsrc = ipaddress.ip_address("10.0.1.3" if family is IPV4 else "fd00:1::3")
    varied = [
        default(family),
        default(family, table=2, gateway=FAR[family], onlink=True),
        default(family, table=3, gateway=None),
        default(family, table=1000, metric=7),
        default(family, metric=9, device="wan2", gateway=FAR[family], onlink=True),
        default(family, destination=NET[family], gateway=None, metric=5),
        default(family, table=4, prefsrc=prefsrc),
    ]
    if family is IPV6:
        link_local = ipaddress.ip_address("fe80::1")
        varied += [
            default(family, table=5, source=ipaddress.ip_network("2001:db8:1::/48")),
            default(family, table=6, gateway=link_local),
        ]
    else:
        varied.append(default(family, table=7, gateway=ipaddress.ip_address("fe80::1")))
    return varied


@isolated
def test_routes_read_back_equal_and_go_again(family: Family) -> None:
    two_sources()
    routing = SystemRouting()
    wanted = routes(family)
    for route in wanted * 2:
        routing.replace_route(route)
    assert routing.read().routes == frozenset(wanted)
    for route in wanted * 2:
        routing.delete_route(route)
    assert routing.read().routes == frozenset()


@isolated
def test_replacing_leaves_one_route(family: Family) -> None:
    """By gateway, by device, from a gateway to none and back: never two, and never the other table's."""
    two_sources()
    routing = SystemRouting()
    steps = [
        default(family),
        default(family, gateway=OTHER[family]),
        default(family, device="wan2", gateway=FAR[family], onlink=True),
        default(family, gateway=None),
        default(family),
        default(family, device="wan2", gateway=None),
    ]
    if family is IPV6:
        source = ipaddress.ip_network("2001:db8:1::/48")
        steps += [default(family, source=source), default(family, source=source, gateway=OTHER[family])]
        plain = steps[-3]
    bystander = default(family, table=2)
    routing.replace_route(bystander)
    for step in steps:
        routing.replace_route(step)
        expected = {bystander, step}
        if step.source is not None:
            expected.add(plain)
        assert routing.read().routes == expected


def routes_deleted(listener: socket.socket) -> tuple[int, int]:
    """How many routes of table 1 the kernel has said it made (or replaced) and deleted since the listener was bound.

    Other tables do not count: the kernel may still be making link-local routes of its own.
    """
    counts = {RTM_NEWROUTE: 0, RTM_DELROUTE: 0}
    while True:
        try:
            message = listener.recv(1 << 16)
        except BlockingIOError:
            return counts[RTM_NEWROUTE], counts[RTM_DELROUTE]
        table = message[20]  # nlmsghdr, then the fifth byte of rtmsg
        if table == 1:
            counts[struct.unpack_from("=IH", message)[1]] += 1


@isolated
def test_a_route_is_replaced_in_one_step(family: Family) -> None:
    """The kernel itself announces replacements and never a deletion."""
    two_sources()
    routing = SystemRouting()
    routing.replace_route(default(family))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listener.setblocking(False)
        listener.bind((0, 0x40 if family is IPV4 else 0x400))  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
        for turn in range(50):
            other = default(family, device="wan2", gateway=FAR[family], onlink=True)
            routing.replace_route((other, default(family, gateway=None), default(family))[turn % 3])
        assert routes_deleted(listener) == (50, 0)


@isolated
def test_no_packet_goes_astray_while_a_route_is_replaced() -> None:
    """IPv4 only: an IPv6 lookup that has just found the old route may fail in any kernel when that goes away."""
    two_sources()
    routing = SystemRouting()
    routing.replace_route(default(IPV4))
    routing.add_rule(IpRule("ipv4", 2001, "lookup", table=1, mark=0x100, mask=0x3F00))
    done = threading.Event()
    failures: list[str] = []

    def watch() -> None:
        while not done.is_set():
            try:
                run(f"ip route get {FAR[IPV4]} mark 0x100")
            except AssertionError as error:
                failures.append(str(error))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(400):
        routing.replace_route(default(IPV4, gateway=(GATEWAY, OTHER)[turn % 2][IPV4]))
    done.set()
    watcher.join()
    assert failures == []


@isolated
def test_what_others_put_there_is_left_alone(family: Family) -> None:
    two_sources()
    routing = SystemRouting()
    ip = "ip -6" if family is IPV6 else "ip"
    run(f"{ip} route add default via {GATEWAY[family]} table 1 metric 77")
    routing.delete_route(default(family, metric=77))
    assert "metric 77" in run(f"{ip} route show table 1")
    assert routing.read().routes == frozenset()


@isolated
def test_refusals_name_the_command(family: Family) -> None:
    two_sources()
    routing = SystemRouting()
    ip = "ip -6" if family is IPV6 else "ip"
    with pytest.raises(KernelError) as caught:
        routing.replace_route(default(family, gateway=FAR[family], metric=7))
    assert caught.value.command == f"{ip} route replace default via {FAR[family]} dev wan1 table 1 metric 7"
    assert caught.value.output
    with pytest.raises(KernelError, match="no such device: wan9"):
        routing.replace_route(default(family, device="wan9"))
    routing.delete_route(default(family, device="wan9"))
    with pytest.raises(KernelError) as caught:
        routing.add_rule(IpRule(family.value, 1, "lookup", table=1, iif="a-name-that-is-too-long"))
    assert caught.value.command == f"{ip} rule add priority 1 iif a-name-that-is-too-long lookup 1"
    assert routing.read().routes == frozenset()


@isolated
def test_links() -> None:
    two_sources()
    run(
        "ip link set wan1p down",
        "ip tuntap add dev tun1 mode tun",
        "ip link set tun1 up",
        "ip link add br0 type bridge",
        "ip link add noarp type veth peer name peer1",
        "ip link set noarp arp off",
        "ip link set peer1 name +++",
    )
    for name in ("eth+", "-x", "!x", 'q"x', "b\\x", "'x"):
        veth("good")
        run(f"ip link set goodp name {name!r}" if "'" not in name else f'ip link set goodp name "{name}"')
        run(f'ip link set good name "{name.encode().hex()[:15]}"')
    links = SystemRouting().read().links
    assert {"eth+", "-x", "!x", 'q"x', "b\\x", "'x", "+++"}.isdisjoint(links)
    told = {name: (links[name].up, links[name].carrier, links[name].point_to_point) for name in links}
    assert told["lo"] == (True, True, False)
    assert told["wan1"] == (True, False, False)
    assert told["wan2"] == (True, True, False)
    assert told["tun1"] == (True, False, True)  # nobody has opened it
    assert told["br0"] == (False, False, False)
    assert told["noarp"] == (False, False, True)


@isolated
def test_networks_of_devices(family: Family) -> None:
    two_sources()
    ip = "ip -6" if family is IPV6 else "ip"
    other_gateway = "10.0.2.1" if family is IPV4 else "fd00:2::1"
    run(
        f"{ip} route add default via {GATEWAY[family]} metric 20",
        f"{ip} route add default via {OTHER[family]} metric 10 proto ra",
        f"{ip} route add default via {FAR[family]} dev wan2 onlink metric 5 table 77",
        f"{ip} route add default metric 30 nexthop via {GATEWAY[family]} dev wan1 nexthop via {other_gateway} dev wan2",
        "ip link add bare type veth peer name barep",
    )
    networks = SystemRouting().read().networks
    wan1, wan2, bare = (networks[name, family] for name in ("wan1", "wan2", "bare"))
    assert wan1.up
    assert wan1.defaults == (DefaultRoute(OTHER[family], 10), DefaultRoute(GATEWAY[family], 20))
    assert wan2.defaults == (
        DefaultRoute(ipaddress.ip_address(other_gateway), 30),
        DefaultRoute(FAR[family], 5, onlink=True),
    )
    own = {"10.0.1.2/24", "10.0.1.3/24"} if family is IPV4 else {"fd00:1::2/64", "fd00:1::3/64"}
    assert {str(address) for address in wan1.addresses} == own
    assert (bare.up, bare.reason) == (False, "bare is down")


@isolated
def test_ipv6_addresses_that_nobody_can_use_do_not_count() -> None:
    veth("wan1")
    run("ip address add fd00:1::2/64 dev wan1")
    network = SystemRouting().read().networks["wan1", IPV6]
    assert (network.up, network.addresses, network.reason) == (False, (), "no IPv6 address")
    run("ip address add fd00:2::2/64 dev wan1 nodad", "ip address add fd00:3::2/64 dev wan1 nodad preferred_lft 0")
    network = SystemRouting().read().networks["wan1", IPV6]
    assert [str(address) for address in network.addresses] == ["fd00:2::2/64", "fd00:3::2/64"]


@isolated
def test_source_specific_default_route() -> None:
    two_sources()
    run("ip -6 route add default from 2001:db8:1::/48 via fe80::1 dev wan1 metric 5")
    assert SystemRouting().read().networks["wan1", IPV6].defaults == (
        DefaultRoute(ipaddress.ip_address("fe80::1"), 5, ipaddress.ip_network("2001:db8:1::/48")),
    )


@isolated
def test_own_addresses_the_main_table_and_others(family: Family) -> None:
    two_sources()
    ip = "ip -6" if family is IPV6 else "ip"
    run(
        f"{ip} route add {NET[family]} via {GATEWAY[family]}",
        f"{ip} route add {NET[family]} via {GATEWAY[family]} table 50",
        f"{ip} route add default via {GATEWAY[family]} table 50",
        f"{ip} route add blackhole {FAR[family]} table 51",
    )
    routing = SystemRouting()
    routing.replace_route(default(family, destination=NET[family], table=52))
    state = routing.read()
    connected = {str(network) for network in state.connected[family]}
    if family is IPV4:
        assert connected == {
            "10.0.1.2/32", "10.0.1.3/32", "10.0.2.2/32", "127.0.0.0/8", "127.0.0.1/32",
        }  # fmt: skip
    else:
        assert {"fd00:1::2/128", "fd00:1::3/128", "::1/128"} <= connected
        assert not any(text.startswith("ff00") for text in connected)
    assert state.tables == {(family, 50): (NET[family],)}
    assert list(state.connected[family]) == sorted(set(state.connected[family]))
    main = {(str(route.destination), *(hop.device for hop in route.hops)) for route in state.main[family]}
    wanted = {
        IPV4: {("10.0.1.0/24", "wan1"), ("10.0.2.0/24", "wan2"), ("10.9.0.0/16", "wan1")},
        IPV6: {("fd00:1::/64", "wan1"), ("fd00:2::/64", "wan2"), ("fd09::/32", "wan1"), ("fe80::/64", "wan1"),
               ("fe80::/64", "wan2")},
    }  # fmt: skip
    assert {one for one in main if one[1] in ("wan1", "wan2")} == wanted[family]
    assert not state.copies


#: Routes of every kind that the kernel has, after ``ip route add``.
ODD = {
    IPV4: [
        "10.9.1.0/24 via 10.0.1.1 mtu 1400 advmss 1300 metric 7", "10.9.2.0/24 dev wan1", "10.9.2.0/24 dev wan2",
        "10.9.3.0/24 nexthop via 10.0.1.1 dev wan1 weight 3 nexthop via 10.0.2.1 dev wan2", "blackhole 10.9.4.0/24",
        "unreachable 10.9.5.0/24 metric 44", "prohibit 10.9.6.0/24", "throw 10.9.7.0/24",
        "10.9.8.0/24 via 192.0.2.1 dev wan2 onlink src 10.0.1.3", "10.9.9.0/24 tos 0x10 via 10.0.1.1",
        "10.9.10.0/24 via inet6 fe80::1 dev wan1", "10.9.11.0/24 via 10.0.2.1 proto bird realm 5",
    ],
    IPV6: [
        "fd09:1::/64 via fd00:1::1 mtu 1400 metric 7", "fd09:2::/64 dev wan1", "fd09:2::/64 dev wan2",
        "fd09:3::/64 nexthop via fd00:1::1 dev wan1 weight 3 nexthop via fd00:2::1 dev wan2", "blackhole fd09:4::/64",
        "unreachable fd09:5::/64 metric 4294967295", "prohibit fd09:6::/64", "throw fd09:7::/64",
        "fd09:8::/64 via fe80::1 dev wan1 pref high src fd00:1::3", "fd09:9::/64 from fd01::/64 via fd00:1::1",
    ],
}  # fmt: skip


@isolated
def test_copies_are_faithful_and_go_again(family: Family) -> None:
    two_sources()
    ip = "ip -6" if family is IPV6 else "ip"
    for words in ODD[family]:
        run(f"{ip} route append {words}")
    run(f"{ip} nexthop add id 7 via {GATEWAY[family]} dev wan1")
    run(f"{ip} route add {NET[family].network_address + (255 << 8)}/{NET[family].max_prefixlen} nhid 7")
    routing = SystemRouting()
    main = routing.read().main[family]
    assert len(main) >= len(ODD[family])
    for route in main * 2:
        routing.copy_route(route)
    state = routing.read()
    assert state.copies == frozenset(main)
    assert state.main[family] == main
    assert not state.routes
    shown = [run(f"{ip} route show table {table}").splitlines() for table in ("main", "131000")]
    told = [sorted(re.sub(r" proto \S+| nhid \d+| linkdown|\s+$", "", line) for line in lines) for lines in shown]
    assert told[0] == told[1]
    for route in main * 2:
        routing.delete_copy(route)
    assert not routing.read().copies
    assert routing.read().main[family] == main
    assert not run(f"{ip} route show table 131000").strip()


@isolated
def test_each_thread_sees_its_own_namespace() -> None:
    two_sources()
    found: list[set[str]] = []

    def elsewhere() -> None:
        unshare_network()
        found.append(set(SystemRouting().read().links))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "wan1" not in found[0]
    assert "wan1" in SystemRouting().read().links


def settled(routing: SystemRouting) -> RoutingState:
    """The state once it no longer changes: the kernel adds an IPv6 address's own route a moment after the address."""
    before = routing.read()
    for _ in range(100):
        time.sleep(0.1)
        after = routing.read()
        if after == before:
            return after
        before = after
    raise AssertionError("the routes never settle")


@isolated
def test_nothing_is_started_and_the_socket_outlives_a_storm() -> None:
    two_sources()
    routing = SystemRouting()
    started = programs.executions
    before = settled(routing)
    lines = (f"route {verb} 10.200.{number}.0/24 dev lo" for number in range(256) for verb in ("add", "del"))
    run("ip -batch -", stdin="\n".join(lines))
    assert routing.read() == before
    routing.close()
    assert routing.read() == before
    assert programs.executions == started
