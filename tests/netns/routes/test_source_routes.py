"""Routes that a source announces take nothing that another source was chosen for: by real packets, leases and
advertisements, from the moment they are in the main table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pytest

from tests.netns.main_job.bench import Bench, interfaces, member, section
from tests.netns.routes.hostile import (
    DEVICE,
    OWN,
    PINNED,
    TARGET,
    Attack,
    address,
    advertisement,
    lease,
    prefix_information,
    route_information,
    routes,
)

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

FLOWS = 100
#: A device that is no source's, with an address.
TUNNEL = (
    "link add tun9 type veth peer name tun9-far", "address add 172.31.0.1/24 dev tun9", "link set tun9-far up",
    "link set tun9 up",
)  # fmt: skip
#: What a source can have put into the main table, by family.
ATTACKS: Mapping[str, tuple[int, Attack]] = {
    "halves": (4, routes("0.0.0.0/1", "128.0.0.0/1")),
    "halves, by hand": (4, routes("0.0.0.0/1", "128.0.0.0/1", protocol="boot")),
    "quarters": (4, routes(*(f"{first}.0.0.0/2" for first in (0, 64, 128, 192)), protocol="dhcp")),
    "one network": (4, routes("203.0.113.0/24")),
    "one host": (4, routes("203.0.113.7/32", protocol="16")),
    "short mask": (4, address("203.0.113.250/1")),
    "mask of 8 bits": (4, address("203.0.113.250/8")),
    "mask of 16 bits": (4, address("203.0.113.250/16")),
    "lease with option 121": (4, lease("0.0.0.0/1", "128.0.0.0/1")),
    "lease with one network": (4, lease("203.0.113.0/24")),
    "halves 6": (6, routes("::/1", "8000::/1")),
    "one network 6": (6, routes("2001:db8:ffff::/48")),
    "short prefix 6": (6, address("2001:db8:ffff::fa/16")),
    "advertised prefix": (6, advertisement(prefix_information("2000::", 3))),
    "advertised network": (6, advertisement(prefix_information("2001:db8:ffff::", 64))),
    "advertised route": (6, advertisement(route_information("2001:db8:ffff::", 48))),
}


def pinned(lab: Bench, *globals_: tuple[str, str]) -> tuple[str, ...]:
    """All by wan, or nothing; but one device by wwan, or nothing."""
    return (
        section("globals", "globals", *globals_), *interfaces(lab.lab),
        member("m_wan", "wan"), member("m_wwan", "wwan"),
        *(section("policy", f"p_{name}", ("use_member", f"m_{name}"), ("use_member", f"m_{name}_6"),
                  ("last_resort", "blackhole")) for name in ("wan", "wwan")),
        section("rule", "own4", ("src_ip", "192.168.1.20"), ("use_policy", "p_wwan"), ("family", "ipv4")),
        section("rule", "own6", ("src_ip", "fd01::20"), ("use_policy", "p_wwan"), ("family", "ipv6")),
        section("rule", "all", ("use_policy", "p_wan")),
    )  # fmt: skip


def ways(one: Bench, client: str, family: int, target: str = "") -> dict[str, int]:
    """Which sources carried how many of many connections; those that failed are None's."""
    found = one.lab.tcp(client, target or TARGET[family], count=FLOWS, family=family)
    return dict(found.names) | ({"failed": len(found.failures)} if found.failures else {})


@pytest.mark.parametrize("name", ATTACKS)
def test_pinned_traffic_never_leaves_by_a_hostile_source(bench: Callable[..., Bench], name: str) -> None:
    family, attack = ATTACKS[name]
    one = bench(["wan", "wwan"])
    one.apply(*pinned(one))
    assert ways(one, PINNED, family) == {"wan": FLOWS}
    with one.lab.constant(PINNED, TARGET[family], family=family, rate=200) as traffic:
        time.sleep(0.2)
        attack(one.lab)
        meanwhile = ways(one, PINNED, family)  # before connbal has had a look
        done = one.connbal("apply")
        found = traffic.stop()
    assert meanwhile == {"wan": FLOWS}
    assert set(found.names) == {"wan"}
    assert not found.errors
    assert "[source-routes]" in done.stderr
    assert "by e-wwan" in done.stderr
    assert ways(one, PINNED, family) == {"wan": FLOWS}
    assert one.cli("plan").stdout == "nothing to change\n"
    by_router = one.lab.tcp("router", TARGET[family], count=20, family=family)
    assert dict(by_router.names) == {"wan": 20}
    told = one.cli("explain", "--src", "192.168.1.178" if family == 4 else "fd01::178", "--dst", TARGET[family])
    assert "It takes wan" in told.stdout
    assert "counts for what wwan carries" in told.stdout


@pytest.mark.parametrize("family", [4, 6])
def test_a_source_reaches_its_own_networks(bench: Callable[..., Bench], family: int) -> None:
    """What takes a source takes the routes that it was told of, too, and its network is everybody's."""
    one = bench(["wan", "wwan"])
    network, gateway, neighbour = {
        4: ("203.0.113.0/24", "10.2.0.1", "10.2.0.1"), 6: ("2001:db8:ffff::/48", "fd00:2::1", "fd00:2::1")
    }[family]  # fmt: skip
    one.apply(*pinned(one))
    routes(network)(one.lab)
    one.connbal("apply")
    assert ways(one, OWN, family) == {"wwan": FLOWS}
    table = one.lab.router.run(["ip", f"-{family}", "route", "show", "table", "3" if family == 4 else "4"]).stdout
    assert f"{network} via {gateway} dev {DEVICE}" in table
    assert ways(one, OWN, family, neighbour) == {"wwan": FLOWS}
    assert ways(one, PINNED, family, neighbour) == {"wwan": FLOWS}


@pytest.mark.parametrize("mode", ["private", "none", "all"])
def test_what_is_followed_by_all_is_the_users_choice(bench: Callable[..., Bench], mode: str) -> None:
    one = bench(["wan", "wwan"])
    routes("203.0.113.0/24", "100.64.7.0/24")(one.lab)
    one.configure(*pinned(one, ("source_routes", mode)))
    one.connbal("apply")
    public = "wwan" if mode == "all" else "wan"
    private = "wan" if mode == "none" else "wwan"
    assert ways(one, PINNED, 4) == {public: FLOWS}
    assert ways(one, PINNED, 4, "100.64.7.7") == {private: FLOWS}
    shown = one.cli("plan").stdout
    assert shown == "nothing to change\n"


def test_a_route_that_the_user_wrote_is_for_all(bench: Callable[..., Bench]) -> None:
    one = bench(["wan", "wwan"])
    routes("203.0.113.0/24")(one.lab)
    with (one.lab.config_dir / "network").open("a") as stream:
        stream.write("\nconfig route\n\toption interface 'wwan'\n\toption target '203.0.113.0'\n"
                     "\toption netmask '255.255.255.0'\n\toption gateway '10.2.0.1'\n")  # fmt: skip
    one.apply(*pinned(one))
    assert ways(one, PINNED, 4) == {"wwan": FLOWS}
    assert ways(one, PINNED, 4, "198.51.100.7") == {"wan": FLOWS}


@pytest.mark.parametrize("hostile", ["192.168.1.128/25", "192.168.1.178/32", "192.168.1.0/24", "10.1.0.0/25"])
def test_the_lan_and_other_sources_keep_their_networks(bench: Callable[..., Bench], hostile: str) -> None:
    """A narrower route of a source takes no address of the LAN's, and none of another source's network."""
    one = bench(["wan", "wwan"])
    one.apply(*pinned(one))
    one.lab.router.run(["ip", "route", "add", hostile, "via", "10.2.0.1", "dev", DEVICE, "metric", "1"])
    for _ in range(2):
        assert ways(one, PINNED, 4) == {"wan": FLOWS}
        assert ways(one, PINNED, 4, "10.1.0.1") == {"wan": FLOWS}
        one.connbal("apply")


def test_networks_behind_other_devices_are_reached(bench: Callable[..., Bench]) -> None:
    """A tunnel's, be they in public space; and a device's that was away for a moment, without another run."""
    one = bench(["wan", "wwan"], guest=True)
    lab = one.lab
    lab.router.ip(*TUNNEL, "route add 198.51.100.0/24 dev tun9")
    one.apply(*pinned(one))
    asked = ["ip", "route", "get", "198.51.100.9", "from", "192.168.1.178", "iif", "br-lan", "mark", "0x100"]
    assert "dev tun9" in lab.router.run(asked).stdout
    assert "198.51.100.0/24" in one.cli("status", "--json").stdout or "198.51.100.0" in one.lab.router.run(
        ["ipset", "list", "mwan3_connected_ipv4"]
    ).stdout  # fmt: skip
    lab.router.ip("link set br-lan down", "link set br-lan up")
    assert ways(one, PINNED, 4) == {"wan": FLOWS}


@pytest.mark.parametrize("device", ["tun9", DEVICE])
def test_halves_of_the_default_are_told_of(bench: Callable[..., Bench], device: str) -> None:
    """By a tunnel that is no source they are the user's own doing; by a source with ``all``, too."""
    one = bench(["wan", "wwan"])
    one.lab.router.ip(*TUNNEL)
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        one.lab.router.ip(f"route add {half} dev {device}")
    one.configure(*pinned(one, *((("source_routes", "all"),) if device == DEVICE else ())))
    told = one.connbal("apply").stderr
    assert "[covered]" in told
    assert f"routes by {device} (0.0.0.0/1, 128.0.0.0/1) take most of IPv4" in told
    assert "[covered]" in one.cli("status").stderr
    assert "[covered]" in one.cli("check", "--live").stderr
    diagnosed = one.cli("diagnose", "wan", check=False)
    assert f"routes by {device}" in diagnosed.stdout


def test_many_routes_are_one_finding_and_a_bounded_table(bench: Callable[..., Bench]) -> None:
    one = bench(["wan", "wwan"])
    lines = [f"route add 44.{high}.{low}.0/24 via 10.2.0.1 dev {DEVICE}" for high in range(6) for low in range(256)]
    one.lab.router.ip(*lines)
    one.configure(*pinned(one))
    told = one.connbal("apply").stderr
    assert told.count("[source-routes]") == 1
    assert "1536 routes by e-wwan (44.0.0.0/24" in told
    table = one.lab.router.run(["ip", "route", "show", "table", "3"]).stdout.splitlines()
    assert len(table) == 1000 + 2
    assert one.cli("plan").stdout == "nothing to change\n"
