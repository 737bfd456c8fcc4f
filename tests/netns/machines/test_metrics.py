"""Metrics of real traffic: connections, bytes and shares are those that the kernel and the clients tell of."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.exposition import Family, read
from tests.lab import Lab
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service

pytestmark = [pytest.mark.netns]

Labs = Callable[..., Lab]

#: ``tv`` uses wan1 alone, everybody else both, 3 to 1.
CONFIG = """
config interface 'wan'
	option enabled '1'
	option interval '0.5'
	option timeout '0.5'
	list track_ip '203.0.113.1'

config interface 'wan1'
	option enabled '1'
	option interval '0.5'
	option timeout '0.5'
	list track_ip '203.0.113.2'
	list track_ip '198.51.100.2'

config member 'm'
	option interface 'wan'
	option weight '3'

config member 'm1'
	option interface 'wan1'
	option weight '1'

config policy 'one'
	list use_member 'm1'

config policy 'both'
	list use_member 'm'
	list use_member 'm1'

config rule 'tv'
	option src_ip '192.168.1.178'
	option use_policy 'one'

config rule 'rest'
	option use_policy 'both'
"""
MARKS = {0x100: "wan", 0x200: "wan1"}


def scrape(one: Service, *arguments: str) -> dict[str, Family]:
    return read(one.connbal("metrics", *arguments).stdout)


def by(family: Family, label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for labels, value in family.samples.items()}


def conntrack(lab: Lab) -> list[tuple[str, int, int]]:
    """What the tool ``conntrack`` tells of each connection: interface, bytes one way and the other."""
    found = []
    for family in ("ipv4", "ipv6"):
        for line in lab.router.run(["conntrack", "-L", "-f", family, "-o", "extended"]).stdout.splitlines():
            mark = int(re.findall(r" mark=(\d+)", line)[0]) & 0x3F00
            original, reply = map(int, re.findall(r" bytes=(\d+)", line))
            found.append((MARKS.get(mark, "none"), original, reply))
    return found


def test_connections_and_bytes_are_those_of_the_traffic(lab: Labs) -> None:
    one = lab(["wan", "wan1"])
    router = Service(one)  # only for its commands: no daemon and so no probes, whose connections come and go
    one.router.run(["sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1"])
    one.router.run(["conntrack", "-F"])  # what was open before has no counters
    router.configure(CONFIG)
    router.connbal("apply")
    before = scrape(router)
    assert set(by(before["connbal_interface_connections"], "interface").values()) == {0}
    seen = one.tcp("tv", count=30).names + one.tcp("pc", count=200).names + one.udp("pc", count=40).names
    assert sum(seen.values()) == 270
    assert seen["wan"] > 100
    found = scrape(router)
    assert by(found["connbal_interface_connections"], "interface") == dict(seen)
    told = conntrack(one)
    assert Counter(name for name, _, _ in told if name != "none") == seen
    carried = found["connbal_interface_connections_bytes"]
    for place, direction in ((1, "original"), (2, "reply")):
        for interface in seen:
            wanted = sum(line[place] for line in told if line[0] == interface)
            assert carried.value(interface=interface, direction=direction) == wanted > 0
    assert by(found["connbal_rule_packets_total"], "rule") == {"tv": 30, "rest": 240}
    assert found["connbal_policy_share_ratio"].value(policy="both", family="ipv4", interface="wan") == 0.75
    assert found["connbal_applied"].value() == 1
    assert found["connbal_daemon_up"].value() == 0


def test_devices_count_what_they_carry(lab: Labs) -> None:
    one = lab(["wan", "wan1"])
    router = Service(one)
    router.configure(CONFIG)
    router.connbal("apply")
    before = scrape(router)
    one.tcp("tv", count=100)
    found = scrape(router)
    for way in ("receive", "transmit"):
        name = f"connbal_device_{way}_bytes_total"
        grown = by(found[name], "interface")["wan1"] - by(before[name], "interface")["wan1"]
        assert 100 * 200 < grown < 100 * 4000
    (link,) = json.loads(one.router.run(["ip", "-j", "-s", "link", "show", "dev", "e-wan1"]).stdout)
    # Neighbour discovery may have come between the two looks.
    assert (
        0
        <= link["stats64"]["tx"]["bytes"] - by(found["connbal_device_transmit_bytes_total"], "interface")["wan1"]
        < 2000
    )


def test_without_accounting_no_bytes_are_told(lab: Labs) -> None:
    one = lab(["wan", "wan1"])
    router = Service(one)
    one.router.run(["sysctl", "-qw", "net.netfilter.nf_conntrack_acct=0"])
    router.configure(CONFIG)
    router.connbal("apply")
    one.tcp("tv", count=5)
    found = scrape(router)
    assert by(found["connbal_interface_connections"], "interface")["wan1"] == 5
    assert "connbal_interface_connections_bytes" not in found


def test_what_the_daemon_knows(lab: Labs, service: MakeService, tmp_path: Path) -> None:
    one = lab(["wan", "wan1"])
    router = service(one)
    router.configure(CONFIG)
    router.start()
    router.wait_for(["wan", "wan1"], "online")
    router.wait(lambda status: status["interfaces"]["wan1"]["hosts"][0]["state"] == "up", "an answer")
    found = scrape(router)
    assert found["connbal_daemon_up"].value() == 1
    assert found["connbal_reconciles_total"].value() >= 1
    assert found["connbal_reconcile_errors_total"].value() == 0
    assert found["connbal_interface_state"].value(interface="wan", state="online") == 1
    assert found["connbal_host_up"].value(interface="wan1", host="203.0.113.2") == 1
    # 0 on a quick machine: it is told in tenths of a millisecond.
    assert 0 <= found["connbal_host_latency_seconds"].value(interface="wan1", host="203.0.113.2") < 0.5
    one.cut("wan")
    router.wait_for("wan", "offline")
    router.wait(lambda status: not status["interfaces"]["wan"]["online"], "wan to be offline")
    target = tmp_path / "connbal.prom"

    def moved() -> bool:
        router.connbal("metrics", "--textfile", str(target))
        return read(target.read_text())["connbal_interface_up"].value(interface="wan") == 0

    router.wait(lambda _: moved(), "the metrics to follow")
    found = read(target.read_text())
    assert found["connbal_interface_state"].value(interface="wan", state="offline") == 1
    assert found["connbal_host_loss_ratio"].value(interface="wan", host="203.0.113.1") > 0
    shares = found["connbal_policy_share_ratio"]
    assert shares.value(policy="both", family="ipv4", interface="wan") == 0
    assert shares.value(policy="both", family="ipv4", interface="wan1") == 1
