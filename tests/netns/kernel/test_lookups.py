"""Questions about one address, connection or route, against the real kernel."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from connbal.errors import KernelError
from connbal.kernel.conntrack import Connection, SystemConntrack
from connbal.kernel.ipset import SystemSets
from connbal.kernel.routing import SystemRouting
from connbal.model.config import Family
from connbal.plan.explain_route import Way
from tests.netns.kernel.isolation import isolated, run
from tests.netns.kernel.test_conntrack import connect, track

pytestmark = pytest.mark.netns

IN, OUT = ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("192.0.2.9")
IN6, OUT6 = ipaddress.ip_address("2001:db8::7"), ipaddress.ip_address("2001:db8:1::7")


@isolated
def test_an_address_is_in_a_set_or_not() -> None:
    for line in ("create a hash:ip", "add a 192.0.2.7", "create n hash:net", "add n 192.0.2.0/28",
                 "add n 192.0.2.9 nomatch", "create s hash:ip family inet6", "add s 2001:db8::7",
                 "create m hash:net family inet6", "add m 2001:db8::/48", "create b bitmap:ip range 192.0.2.0/29",
                 "add b 192.0.2.7"):  # fmt: skip
        run(f"ipset {line}")
    sets = SystemSets()
    for name, kind in (("a", "hash:ip"), ("n", "hash:net"), ("b", "bitmap:ip")):
        assert sets.contains(name, kind, IN) is True
        assert sets.contains(name, kind, OUT) is False
    for name, kind in (("s", "hash:ip"), ("m", "hash:net")):
        assert sets.contains(name, kind, IN6) is True
        assert sets.contains(name, kind, OUT6) is False
    with pytest.raises(KernelError, match="ipset test nobody"):
        sets.contains("nobody", "hash:ip", IN)


@isolated
def test_ports_count_where_the_set_has_them() -> None:
    run("ipset create p hash:ip,port")
    run("ipset add p 192.0.2.7,tcp:443")
    sets = SystemSets()
    assert sets.contains("p", "hash:ip,port", IN, socket.IPPROTO_TCP, 443) is True
    assert sets.contains("p", "hash:ip,port", IN, socket.IPPROTO_TCP, 80) is False
    assert sets.contains("p", "hash:ip,port", IN, socket.IPPROTO_UDP, 443) is False
    assert sets.contains("p", "hash:ip,port", IN) is None
    assert sets.contains("p", "hash:net,iface", IN) is None


@isolated
def test_a_connection_is_found_by_its_packet_in_either_direction() -> None:
    track()
    conntrack = SystemConntrack()
    for family in Family:
        made = connect(family, 0x300, port=9)
        assert conntrack.find(made) == made
        answer = Connection(family, made.protocol, made.destination, made.source, made.destination_port,
                            made.source_port, 0)  # fmt: skip
        assert conntrack.find(answer) == made
        other = Connection(family, made.protocol, made.source, made.destination, made.source_port, 10, 0)
        assert conntrack.find(other) is None
    echo = Connection(Family.IPV4, socket.IPPROTO_ICMP, IN, OUT, 77, 0, 0)
    assert conntrack.find(echo) is None
    assert conntrack.find(Connection(Family.IPV4, 47, IN, OUT, 0, 0, 0)) is None


@isolated
def test_where_a_packet_would_go() -> None:
    for line in (
        "link add one type veth peer name two", "link set two up", "link set one up",
        "address add 192.0.2.2/24 dev one", "address add 198.51.100.2/24 dev one", "route add default via 192.0.2.1",
        "route add default via 192.0.2.1 dev one src 198.51.100.2 table 5", "rule add fwmark 5 lookup 5",
        "rule add fwmark 6 unreachable", "rule add fwmark 7 blackhole",
    ):  # fmt: skip
        run(f"ip {line}")
    routing = SystemRouting()
    there, gateway = ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("192.0.2.1")
    assert routing.way(there) == Way("one", gateway, ipaddress.ip_address("192.0.2.2"))
    assert routing.way(there, mark=5) == Way("one", gateway, ipaddress.ip_address("198.51.100.2"))
    for mark in (6, 7):
        way = routing.way(there, mark=mark)
        assert way is not None
        assert way.refused
    own = routing.way(ipaddress.ip_address("192.0.2.2"))
    assert own is not None
    assert own.local
    nowhere = routing.way(IN6)
    assert nowhere is not None
    assert nowhere.refused
