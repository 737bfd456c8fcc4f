"""The lab does what the tests built on it rely on: real namespaces, real packets."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import CommandFailed, ConstantTraffic, Lab, LabError, snapshot

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
Factory = Callable[..., Lab]
FAMILIES = (4, 6)


def steer(lab: Lab, source: str, client: str | None = None) -> None:
    """Policy routing by hand: traffic of the LAN, or of one client, goes to one source."""
    link = lab.source(source)
    table = str(100 + link.index)
    wanted = {4: link.gateway4, 6: link.gateway6}
    for family, gateway in wanted.items():
        ip = ["ip", f"-{family}"]
        lab.router.run([*ip, "route", "replace", "default", "via", gateway, "dev", link.device, "table", table])
        if client is None:
            lab.router.run([*ip, "rule", "add", "iif", "br-lan", "lookup", table])
        else:
            device = lab.spec.clients[client]
            address = device.ipv4 if family == 4 else device.ipv6
            lab.router.run([*ip, "rule", "add", "from", address, "lookup", table])


@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_every_internet_answers_with_its_name(lab: Factory, xtables: str) -> None:
    one = lab(xtables=xtables)
    for name in one.spec.sources:
        steer(one, name)
        for family in FAMILIES:
            assert one.tcp("tv", family=family, count=3).names == Counter({name: 3})
            assert one.udp("pc", family=family, count=3).names == Counter({name: 3})
        one.router.run(["ip", "-4", "rule", "del", "iif", "br-lan"])
        one.router.run(["ip", "-6", "rule", "del", "iif", "br-lan"])


def test_every_port_and_test_network_answers(lab: Factory) -> None:
    one = lab(["wan"])
    for dst in ("203.0.113.254", "198.51.100.3", "100.127.255.1", "2001:db8:ffff:abcd::7"):
        for port in (80, 443, 853, 5000, 8080):
            assert one.tcp("pc", dst, port).names == Counter({"wan": 1})
        for port in (53, 123, 443, 5000):
            assert one.udp("pc", dst, port).names == Counter({"wan": 1})


def test_clients_go_their_own_ways(lab: Factory) -> None:
    one = lab(guest=True)
    steer(one, "wan2", "tv")
    steer(one, "wwan", "pc")
    for family in FAMILIES:
        assert one.tcp("tv", family=family).names == Counter({"wan2": 1})
        assert one.tcp("pc", family=family).names == Counter({"wwan": 1})
        assert one.tcp("visitor", family=family).names == Counter({"wan": 1})


def test_the_server_sees_the_router_or_without_nat_the_client(lab: Factory) -> None:
    for nat, seen in ((True, ("10.1.0.2", "fd00:1::2")), (False, ("192.168.1.20", "fd01::20"))):
        one = lab(["wan"], nat=nat)
        for family, address in zip(FAMILIES, seen, strict=True):
            for send, port in ((one.tcp, 443), (one.tcp, 80), (one.udp, 5000)):
                row = send("pc", family=family, port=port, peer=True).rows[0]
                assert row.peer is not None
                assert row.peer.split()[0] == address


def test_router_can_send_by_device_and_mark(lab: Factory) -> None:
    one = lab()
    assert one.tcp("router", device=one.source("wan1").device).names == Counter({"wan1": 1})
    steer(one, "wan2")
    one.router.run(["ip", "rule", "add", "fwmark", "0x300/0x3f00", "lookup", "103"])
    assert one.udp("router", mark=0x300).names == Counter({"wan2": 1})


def test_cut_is_silent_and_restore_ends_it(lab: Factory) -> None:
    one = lab()
    one.cut("wan")
    for family in FAMILIES:
        assert one.tcp("tv", family=family, count=2, timeout=0.3).errors == Counter({"timeout": 2})
        assert one.udp("tv", family=family, count=2, timeout=0.3).errors == Counter({"timeout": 2})
    link = json.loads(one.router.run(["ip", "-j", "link", "show", one.source("wan").device]).stdout)[0]
    assert "LOWER_UP" in link["flags"]
    one.restore("wan")
    for family in FAMILIES:
        assert one.tcp("tv", family=family).names == Counter({"wan": 1})


def test_cut_of_one_family_and_behind_the_gateway(lab: Factory) -> None:
    one = lab(["wan"])
    one.cut("wan", families=[6], gateway_answers=True)
    assert one.tcp("tv").names == Counter({"wan": 1})
    assert one.tcp("tv", family=6, timeout=0.3).errors == Counter({"timeout": 1})
    assert one.tcp("router", one.source("wan").gateway6).names == Counter({"wan": 1})


def test_cut_stays_silent_though_neighbours_are_forgotten(lab: Factory) -> None:
    one = lab(["wan"])
    one.cut("wan")
    one.router.sh("ip -4 neigh flush dev e-wan; ip -6 neigh flush dev e-wan")
    for family in FAMILIES:
        assert one.udp("router", family=family, timeout=0.3).errors == Counter({"timeout": 1})


def test_loss_is_a_part_of_the_round_trips(lab: Factory) -> None:
    one = lab(["wan"])
    one.loss("wan", 0.4)
    found = one.udp("tv", count=1000, parallel=500, timeout=0.3)
    assert 0.3 < len(found.failures) / 1000 < 0.5


def test_carrier(lab: Factory) -> None:
    one = lab()
    device = one.source("wan").device
    for _ in range(2):
        one.carrier("wan", False)
        assert "NO-CARRIER" in one.router.sh(f"ip link show {device}")
        one.carrier("wan", True)
        assert "NO-CARRIER" not in one.router.sh(f"ip link show {device}")
        for family in FAMILIES:
            assert one.tcp("tv", family=family).names == Counter({"wan": 1})


def test_ifdown_and_lost_addresses_move_traffic_to_the_next_default_route(lab: Factory) -> None:
    one = lab()
    before = snapshot(one.router)
    one.ifdown("wan")
    one.remove_address("wan1", 4)
    assert one.tcp("tv").names == Counter({"wan2": 1})
    assert one.tcp("tv", family=6).names == Counter({"wan1": 1})
    one.ifup("wan")
    one.add_address("wan1", 4)
    assert snapshot(one.router) == before


def test_a_stream_lives_through_a_short_cut_and_reports_silence(lab: Factory) -> None:
    one = lab()
    for dst in ("203.0.113.9", "2001:db8:ffff::9"):
        with one.stream("tv", dst) as stream:
            assert stream.ask() == "wan"
            steer(one, "wan1")  # masqueraded once, so it cannot move; new ones do
            assert one.tcp("tv", dst).names == Counter({"wan1": 1})
            one.router.sh("ip -4 rule del iif br-lan; ip -6 rule del iif br-lan")
            assert stream.ask() == "wan"
            one.cut("wan")
            assert stream.ask(0.2) is None
            one.restore("wan")
            assert stream.ask(3.0) == "wan"


def test_constant_traffic_sees_a_change_of_route(lab: Factory) -> None:
    one = lab()
    # UDP: a TCP connection that is being made while the route changes would change source half way.
    with one.constant("pc", rate=200, proto="udp", port=5000, pairs=one.pairs("pc", 20)) as traffic:
        traffic.wait_for(40)
        moment = time.monotonic()
        steer(one, "wwan")
        after = time.monotonic()
        traffic.wait_for(len(traffic.so_far) + 40)
        found = traffic.stop()
    assert not found.failures
    assert set(found.names) == {"wan", "wwan"}
    assert all(row.source == "wan" for row in found if row.at + row.took < moment)
    assert found.since(after).share("wwan") == 1.0
    assert max(row.at for row in found) - min(row.at for row in found) > 0.3


def test_constant_traffic_is_bounded(lab: Factory) -> None:
    one = lab(["wan"])
    traffic = one.constant("pc", rate=500, count=50, proto="udp")
    deadline = time.monotonic() + 5
    while traffic.running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not traffic.running
    assert len(traffic.stop()) == 50
    with pytest.raises(LabError, match="100000"):
        one.tcp("pc", count=100_001)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sources", [1, 40, 2000])
def test_two_thousand_pairs(lab: Factory, family: int, sources: int, record_property: Callable[..., None]) -> None:
    one = lab(["wan"])
    pairs = one.pairs("tv", 2000, family, sources=sources)
    assert len(set(pairs)) == 2000
    assert len({src for src, _ in pairs}) == sources
    for proto, send in (("tcp", one.tcp), ("udp", one.udp)):
        found = send("tv", pairs=pairs)
        assert not found.failures
        assert set(found.by_pair) == set(pairs)
        assert found.elapsed < 10
        record_property(f"{proto}_per_second", round(2000 / found.elapsed))


def test_inbound_connections_reach_a_node_that_serves(lab: Factory) -> None:
    one = lab(["wan", "wan1"])
    one.serve("router")
    assert one.tcp("inet-wan", one.source("wan").address4, 5000).names == Counter({"router": 1})
    assert one.udp("inet-wan", one.source("wan").address6, 5000).names == Counter({"router": 1})


def test_http_and_dns(lab: Factory) -> None:
    one = lab(["wan"])
    script = (
        "import urllib.request as r, socket, struct, sys\n"
        "print(r.urlopen('http://203.0.113.1:8080/', timeout=3).read().decode().strip())\n"
        "q = b'\\x12\\x34\\x01\\x00\\x00\\x01' + bytes(6) + b'\\x03www\\x07example\\x03com\\x00\\x00\\x01\\x00\\x01'\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); s.sendto(q, ('203.0.113.1', 53))\n"
        "a = s.recv(512); print(a[:2] == q[:2], socket.inet_ntoa(a[-4:]))\n"
    )
    out = one.exec_in("tv", [sys.executable, "-c", script]).stdout.split()
    assert out == ["wan", "True", "203.0.113.10"]


def test_config_directory_and_ubus(lab: Factory) -> None:
    one = lab(["wan", "a_name_longer_than_15_letters"], guest=True)
    text = (one.config_dir / "network").read_text()
    assert "config interface 'wan'\n\toption device 'e-wan'" in text
    devices = {link["ifname"] for link in json.loads(one.router.run(["ip", "-j", "link"]).stdout)}
    one.ubus_stub()

    def dump() -> dict[str, dict[str, object]]:
        listing = json.loads(one.router.run(["ubus", "call", "network.interface", "dump"]).stdout)
        return {entry["interface"]: entry for entry in listing["interface"]}

    long = "a_name_longer_than_15_letters"
    assert list(dump()) == ["loopback", "lan", "guest", "wan", "wan6", long, f"{long}6"]
    assert {str(entry["l3_device"]) for entry in dump().values()} <= devices
    one.ifdown("wan")
    assert dump()["wan"]["up"] is False
    assert "l3_device" not in dump()["wan"]
    status = one.router.run(["ubus", "-t", "5", "call", "network.interface.wan", "status"]).stdout
    assert json.loads(status)["up"] is False
    with pytest.raises(CommandFailed, match="Not found"):
        one.router.run(["ubus", "call", "luci", "nothing"])


@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_router_programs_use_the_labs_iptables(lab: Factory, xtables: str) -> None:
    one = lab(["wan"], xtables=xtables)
    for tool in ("iptables", "ip6tables"):
        assert ("nf_tables" if xtables == "nft" else "legacy") in one.router.run([tool, "-V"]).stdout
        assert "others_postrouting" in one.router.run([f"{tool}-save", "-t", "nat"]).stdout


@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_snapshot_shows_changes_and_only_those(lab: Factory, xtables: str) -> None:
    one = lab(xtables=xtables)
    before = snapshot(one.router)
    one.tcp("tv", count=50)
    one.router.run(["iptables", "-t", "raw", "-L"])  # may create the table, for good
    assert snapshot(one.router) == before
    changes = [
        ("ip rule add fwmark 1 lookup 7", "ip rule del fwmark 1 lookup 7"),
        ("ip -6 route add ::/0 dev e-wan table 7", "ip -6 route del ::/0 dev e-wan table 7"),
        ("iptables -t mangle -N mine", "iptables -t mangle -X mine"),
        ("ip6tables -t raw -A OUTPUT -j ACCEPT", "ip6tables -t raw -D OUTPUT -j ACCEPT"),
        ("ipset create mine hash:net", "ipset destroy mine"),
    ]
    for do, undo in changes:
        one.router.sh(do)
        assert snapshot(one.router) != before, do
        one.router.sh(undo)
        assert snapshot(one.router) == before, undo


def test_twenty_sources(lab: Factory, record_property: Callable[..., None]) -> None:
    begin = time.monotonic()
    one = lab([f"wan{number}" for number in range(1, 21)])
    record_property("up_seconds", round(time.monotonic() - begin, 3))
    assert time.monotonic() - begin < 5
    steer(one, "wan20")
    for family in FAMILIES:
        assert one.tcp("tv", family=family).names == Counter({"wan20": 1})


def test_no_question_is_lost_while_the_route_changes_200_times(lab: Factory) -> None:
    """One datagram each way: a TCP connection would, without connection marks, change source half way."""
    one = lab(["wan", "wan1"])
    steer(one, "wan")
    with one.constant("pc", rate=300, proto="udp", port=5000) as traffic:
        assert isinstance(traffic, ConstantTraffic)
        for number in range(200):
            link = one.source(("wan", "wan1")[number % 2])
            one.router.ip(f"route replace default via {link.gateway4} dev {link.device} table 101")
        found = traffic.stop()
    assert not found.failures
    assert set(found.names) <= {"wan", "wan1"}
