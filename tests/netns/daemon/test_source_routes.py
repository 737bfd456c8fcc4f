"""Routes come and go beside the daemon: those of a tunnel are followed within moments, a source's take nothing."""

from __future__ import annotations

import time

import pytest

from tests.lab import Lab
from tests.netns.daemon.checks import Labs, wait_until
from tests.netns.daemon.conftest import AsPlanned, MakeService
from tests.netns.daemon.service import tracked
from tests.netns.main_job.bench import only

pytestmark = [pytest.mark.netns]


def copies(lab: Lab) -> str:
    """The table of local routes."""
    return lab.router.run(["ip", "route", "show", "table", "131000"], check=False).stdout


def test_routes_of_others_are_followed_and_a_sources_are_not(
    lab: Labs, service: MakeService, as_planned: AsPlanned
) -> None:
    one = lab(("wan", "wan1"))
    daemon = service(one)
    daemon.configure(tracked(one, timeout="1"))
    daemon.start()
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "online")
    router = one.router
    router.ip("link add tun9 type veth peer name far9", "address add 172.31.0.1/24 dev tun9", "link set far9 up",
              "link set tun9 up", "route add 192.0.2.0/24 dev tun9 mtu 1300")  # fmt: skip
    wait_until(lambda: "192.0.2.0/24 dev tun9 proto 131 scope link mtu 1300" in copies(one), "the copies")
    before = daemon.settled()["reconciles"]["count"]
    router.ip("route add 0.0.0.0/1 via 10.2.0.1 dev e-wan1", "route add 128.0.0.0/1 via 10.2.0.1 dev e-wan1")
    for _ in range(5):
        only(one.tcp("tv", count=20), "wan")
    told = daemon.settled()
    assert told["reconciles"]["count"] - before <= 5  # it saw them, and is quiet
    assert daemon.said().count("2 routes by e-wan1 (0.0.0.0/1, 128.0.0.0/1)") == 1
    assert "0.0.0.0/1 via 10.2.0.1" in router.run(["ip", "route", "show", "table", "3"]).stdout
    assert "0.0.0.0/1" not in copies(one)
    as_planned(one)
    router.ip("link set br-lan down", "link set br-lan up")
    begin = time.monotonic()
    wait_until(lambda: "192.168.1.0/24 dev br-lan" in copies(one), "the copies")
    assert time.monotonic() - begin < 5
    router.ip("link del tun9")
    wait_until(lambda: "192.0.2.0/24" not in copies(one), "the copies")
    daemon.settled()
    as_planned(one)
