"""Networks out of netifd's dump, out of /etc/config/network, and out of bare links."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

import pytest

from connbal.errors import Severity
from connbal.kernel.api import RoutingState
from connbal.kernel.facts import Networks, aged, gather, networks_from_netifd, networks_from_uci
from connbal.kernel.ubus import parse_dump
from connbal.model.config import FAMILIES, Config, Family, Globals, Interface, IPNetwork, Rule
from connbal.model.facts import BadGateway, DefaultRoute, Link, Network, SetFacts
from connbal.plan.build import plan
from connbal.plan.state import SetState

IPV4, IPV6 = Family.IPV4, Family.IPV6


def address(text: str) -> Any:
    return ipaddress.ip_address(text)


def network_of(link: Link, family: Family, addresses: str = "", default: str = "") -> Network:
    """What the kernel has on a link: addresses, and the gateway of a default route."""
    defaults = (DefaultRoute(address(default), 20),) if default else ()
    parsed = tuple(ipaddress.ip_interface(text) for text in addresses.split())
    return Network(link.name, family, bool(parsed), link.name, parsed, defaults, "seen")


LINKS = {
    link.name: link
    for link in (
        Link("eth1", 2, up=True, carrier=True),
        Link("eth2", 3, up=True, carrier=False),
        Link("eth3", 4, up=False, carrier=False),
        Link("pppoe-dsl", 5, up=True, carrier=True, point_to_point=True),
        Link("wwan0", 6, up=True, carrier=True, point_to_point=True),
        Link("br-lan", 7, up=True, carrier=True),
        Link("wg0", 8, up=True, carrier=True, point_to_point=True),
    )
}


def state(*networks: Network, tables: Mapping[tuple[Family, int], tuple[IPNetwork, ...]] | None = None) -> RoutingState:
    held = {(link.name, family): network_of(link, family) for link in LINKS.values() for family in FAMILIES}
    held.update({(network.name, network.family): network for network in networks})
    return RoutingState(LINKS, held, {IPV4: (), IPV6: ()}, tables or {}, frozenset(), frozenset())


def netifd(*entries: dict[str, Any], kernel: RoutingState | None = None) -> Networks:
    return networks_from_netifd(parse_dump(json.dumps({"interface": entries})), kernel or state())


def wan(**more: Any) -> dict[str, Any]:
    entry = {
        "interface": "wan",
        "up": True,
        "l3_device": "eth1",
        "ipv4-address": [{"address": "198.51.100.2", "mask": 24}],
        "route": [{"target": "0.0.0.0", "mask": 0, "nexthop": "198.51.100.1"}],
    }
    return entry | more


def test_up_in_one_family_and_not_in_the_other() -> None:
    networks = netifd(wan())
    four, six = networks["wan", IPV4], networks["wan", IPV6]
    assert (four.up, four.device, four.reason) == (True, "eth1", "up")
    assert four.defaults == (DefaultRoute(address("198.51.100.1")),)
    assert (six.up, six.reason, six.addresses) == (False, "no IPv6 address", ())


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"up": False}, "netifd says it is down"),
        ({"l3_device": None}, "no device"),
        ({"l3_device": "gone0"}, "gone0 does not exist"),
        ({"l3_device": "eth2"}, "no carrier on eth2"),
        ({"l3_device": "eth3"}, "eth3 is down"),
        ({"ipv4-address": []}, "no IPv4 address"),
    ],
)
def test_why_a_network_is_not_up(more: dict[str, Any], reason: str) -> None:
    network = netifd(wan(**more))["wan", IPV4]
    assert (network.up, network.reason) == (False, reason)


def test_without_a_default_route() -> None:
    """Ethernet has none then, unless the kernel does; at the end of a tunnel there is only one neighbour."""
    plain = netifd(wan(route=[]))["wan", IPV4]
    assert (plain.up, plain.defaults, plain.reason) == (True, (), "up, without an IPv4 gateway")
    kernel = state(network_of(LINKS["eth1"], IPV4, "198.51.100.2/24", "198.51.100.7"))
    assert netifd(wan(route=[]), kernel=kernel)["wan", IPV4].defaults == (DefaultRoute(address("198.51.100.7"), 20),)
    tunnel = netifd(wan(route=[], l3_device="wwan0"))["wan", IPV4]
    assert (tunnel.up, tunnel.defaults) == (True, (DefaultRoute(None),))


@pytest.mark.parametrize(
    ("target", "gateway", "onlink"),
    [("0.0.0.0", "198.51.100.1", False), ("0.0.0.0", "203.0.113.1", True), ("::", "fe80::1", False),
     ("::", "2001:db8::1", False), ("::", "2001:db8:ffff::1", True)],
)  # fmt: skip
def test_a_gateway_outside_every_network_is_onlink(target: str, gateway: str, onlink: bool) -> None:
    entry = wan(route=[{"target": target, "mask": 0, "nexthop": gateway}])
    kernel = state(network_of(LINKS["eth1"], IPV6, "2001:db8::2/64"))
    (default,) = netifd(entry, kernel=kernel)["wan", IPV6 if ":" in target else IPV4].defaults
    assert (default.gateway, default.onlink) == (address(gateway), onlink)


def test_a_delegated_prefix_is_as_good_as_an_address() -> None:
    entry = wan(**{"ipv6-prefix": [{"address": "2001:db8:1::", "mask": 56}]})
    network = netifd(entry)["wan", IPV6]
    assert (network.up, network.addresses) == (True, ())


def test_sub_interfaces_are_the_true_ones() -> None:
    networks = netifd(
        wan(interface="wan1", l3_device="eth2"),
        wan(interface="wan1_4", l3_device="wwan0"),
        wan(interface="wan2_6", l3_device="wwan0"),
        wan(interface="_4"),
    )
    assert networks["wan1", IPV4].device == "wwan0"
    assert networks["wan1", IPV4].name == "wan1"
    assert networks["wan1", IPV6].device == "eth2"
    assert networks["wan1_4", IPV4].device == "wwan0"
    assert networks["wan2", IPV6].device == "wwan0"
    assert ("wan2", IPV4) not in networks
    assert ("", IPV4) not in networks


def uci(**sections: dict[str, Any]) -> Networks:
    kernel = state(
        network_of(LINKS["eth1"], IPV4, "198.51.100.2/24", "198.51.100.1"),
        network_of(LINKS["pppoe-dsl"], IPV4, "203.0.113.5/32"),
        network_of(LINKS["br-lan"], IPV4, "192.168.1.1/24"),
        network_of(LINKS["wg0"], IPV6, "fd00::2/64"),
    )
    return networks_from_uci(sections, kernel)


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ({"device": "eth1"}, "eth1"),
        ({"ifname": "eth1 eth2"}, "eth1"),
        ({"device": ["eth1", "eth2"]}, "eth1"),
        ({"device": "@base"}, "eth1"),
        ({"device": "@sub"}, None),
        ({"device": "@nosuch"}, None),
        ({"proto": "pppoe", "device": "eth9"}, "pppoe-sub"),
        ({"type": "bridge", "ifname": "eth1"}, "br-sub"),
        ({}, None),
        ({"device": 'x" -j'}, None),
        ({"device": []}, None),
    ],
)
def test_devices_of_sections(options: dict[str, Any], device: str | None) -> None:
    networks = uci(base={"device": "eth1"}, sub=options)
    assert networks["sub", IPV4].device == device
    assert networks["sub", IPV4].up == (device == "eth1")


def test_sections_take_addresses_and_gateways_from_the_kernel() -> None:
    networks = uci(
        wan={"device": "eth1"},
        fixed={"device": "eth1", "gateway": "198.51.100.9", "metric": "7", "ip6gw": "rubbish"},
        dsl={"proto": "pppoe", "device": "eth1"},
        wg0={"proto": "wireguard"},
        off={"device": "eth1", "disabled": "1"},
        lan={"type": "bridge"},
    )
    assert networks["wan", IPV4].defaults == (DefaultRoute(address("198.51.100.1"), 20),)
    assert networks["fixed", IPV4].defaults == (DefaultRoute(address("198.51.100.9"), 7),)
    assert networks["dsl", IPV4].defaults == (DefaultRoute(None),)
    assert networks["dsl", IPV4].up
    assert networks["wg0", IPV6].up
    assert networks["off", IPV4].reason == "disabled in /etc/config/network"
    assert networks["lan", IPV4].up
    assert networks["eth1", IPV4].reason == "seen"


@pytest.mark.parametrize(
    ("options", "metrics"),
    [
        ({"gateway": "198.51.100.9", "metric": "4294967295"}, [4294967295]),
        # Nothing that the kernel could not take, and no number so long that Python refuses to read it.
        ({"gateway": "198.51.100.9", "metric": "4294967296"}, [0]),
        ({"gateway": "198.51.100.9", "metric": "9" * 5000}, [0]),
        ({"gateway": "198.51.100.9", "metric": "-1"}, [0]),
        ({"gateway": "198.51.100.9", "metric": "\u0663"}, [0]),
        ({"ip6gw": "fe80::1"}, [0]),
        ({"ip6gw": "fe80::1%eth1"}, []),  # as netifd, which takes no zone
    ],
)
def test_gateways_and_metrics_of_sections(options: dict[str, Any], metrics: list[int]) -> None:
    told = uci(lan={"device": "br-lan", **options})
    assert [route.metric for family in FAMILIES for route in told["lan", family].defaults] == metrics


def test_sections_may_lead_to_each_other_but_not_without_end() -> None:
    chain = {f"n{at}": {"device": f"@n{at + 1}"} for at in range(2000)}
    found = uci(**chain, n2000={"device": "eth1"})
    assert found["n1990", IPV4].device == "eth1"
    assert found["n0", IPV4].device is None


def test_gather() -> None:
    table = {(IPV4, 50): (ipaddress.ip_network("10.9.0.0/16"),), (IPV4, 51): (ipaddress.ip_network("10.1.0.0/16"),)}
    config = Config(
        globals=Globals(rt_table_lookup=(50, 51, 52)),
        interfaces=(Interface("wan", 1), Interface("nosuch", 2)),
        rules=(Rule("r", "default", src_iface=("guest",)),),
    )
    dump = parse_dump(json.dumps({"interface": [wan(), wan(interface="lan", l3_device="br-lan")]}))
    held = {"users": SetState("users", "hash:ip,port", IPV4)}
    facts = gather(config, state(tables=table), dump=dump, sets=held, ip6=False)
    assert facts.networks["lan", IPV4].up
    for name in ("nosuch", "guest"):
        for family in FAMILIES:
            assert facts.networks[name, family].reason == "no such network"
    assert facts.custom == {IPV4: (*table[IPV4, 51], *table[IPV4, 50]), IPV6: ()}
    assert facts.sets == {"users": SetFacts("users", "hash:ip,port", IPV4)}
    assert (facts.ip6, facts.bpf, facts.health) == (False, True, {})
    assert facts.links == LINKS
    assert gather(config, state()).networks["eth1", IPV4].device == "eth1"


# --- gateways that cannot be one ----------------------------------------------------------------------------------

BAD4 = {
    "127.0.0.1": "is the router itself (a loopback address)",
    "224.0.0.1": "is a multicast address",
    "255.255.255.255": "is a broadcast address",
    "198.51.100.2": "is the router's own address there",
    "198.51.100.255": "is the broadcast address of 198.51.100.0/24",
    "0.0.0.9": "is no address of a host",
}
BAD6 = {
    "::1": "is the router itself (a loopback address)",
    "ff02::1": "is a multicast address",
    "2001:db8::2": "is the router's own address there",
}


def wan6(gateway: str) -> dict[str, Any]:
    address = {"address": "2001:db8::2", "mask": 64}
    return wan(**{"ipv6-address": [address], "route": [{"target": "::", "mask": 0, "nexthop": gateway}]})


@pytest.mark.parametrize(("gateway", "why"), [*BAD4.items(), *BAD6.items()])
def test_a_gateway_that_cannot_be_one_is_none(gateway: str, why: str) -> None:
    family = Family.of(address(gateway))
    route = {"target": "0.0.0.0", "mask": 0, "nexthop": gateway}
    told = wan(route=[route]) if family is IPV4 else wan6(gateway)
    found = netifd(told)["wan", family]
    assert (found.up, found.defaults) == (True, ())
    assert found.reason == f"up, without a usable gateway: {gateway} {why}"
    assert found.bad_gateways == (BadGateway(address(gateway), why, "netifd"),)


def test_a_bad_gateway_costs_no_good_one() -> None:
    routes = [
        {"target": "0.0.0.0", "mask": 0, "nexthop": gateway, "metric": metric}
        for metric, gateway in enumerate(("224.0.0.1", "198.51.100.1"), 1)
    ]
    found = netifd(wan(route=routes))["wan", IPV4]
    assert found.defaults == (DefaultRoute(address("198.51.100.1"), 2),)
    assert found.reason == "up"
    assert [bad.gateway for bad in found.bad_gateways] == [address("224.0.0.1")]
    # Nor what the kernel has, where netifd names nothing else.
    kernel = state(network_of(LINKS["eth1"], IPV4, "198.51.100.2/24", "198.51.100.7"))
    found = netifd(wan(route=routes[:1]), kernel=kernel)["wan", IPV4]
    assert [route.gateway for route in found.defaults] == [address("198.51.100.7")]
    # A link to one neighbour needs no gateway; but if one is named, packets are to go there.
    dialled = wan(l3_device="pppoe-dsl", route=routes[:1])
    assert netifd(dialled)["wan", IPV4].defaults == ()


def test_who_names_a_bad_gateway_is_said() -> None:
    kernel = state(network_of(LINKS["eth1"], IPV4, "198.51.100.2/24"), network_of(LINKS["eth2"], IPV4, "10.0.0.2/8",
                                                                                 "10.0.0.2"))  # fmt: skip
    sections = {
        "wan": {"proto": "static", "device": "eth1", "gateway": "127.0.0.1"},
        "none": {"proto": "static", "device": "eth1", "gateway": "0.0.0.0"},
        "dhcp": {"proto": "dhcp", "device": "eth2"},
    }
    networks = networks_from_uci(sections, kernel)
    said = {name: [(str(bad.gateway), bad.by) for bad in networks[name, IPV4].bad_gateways] for name in sections}
    assert said == {
        "wan": [("127.0.0.1", "/etc/config/network")],
        "none": [("0.0.0.0", "/etc/config/network")],
        "dhcp": [("10.0.0.2", "a route of the kernel's")],
    }
    assert [str(bad.gateway) for bad in networks["eth2", IPV4].bad_gateways] == ["10.0.0.2"]
    assert networks["eth2", IPV4].defaults == ()


def test_a_bad_gateway_is_a_finding_and_the_interface_says_so() -> None:
    config = Config(interfaces=(Interface("wan", 1, enabled=True),))
    named = wan(route=[{"target": "0.0.0.0", "mask": 0, "nexthop": "127.0.0.1"}])
    dump = parse_dump(json.dumps({"interface": [named]}))
    made = plan(config, gather(config, state(), dump=dump))
    (view,) = made.interfaces
    assert (view.usable, view.routed) == (False, False)
    assert view.reason == "no usable gateway: 127.0.0.1 is the router itself (a loopback address)"
    (finding,) = made.findings
    assert (finding.severity, finding.code, finding.place) == (Severity.ERROR, "bad-gateway", "mwan3.wan")
    for word in ("interface wan", "127.0.0.1", "netifd", "/etc/config/network"):
        assert word in str(finding), finding


def test_only_how_long_networks_have_been_up_is_put_in_anew() -> None:
    config = Config(interfaces=(Interface("wan", 1), Interface("wan1", 2)))
    entries = [wan(uptime=7), wan(interface="wan1_4", l3_device="wwan0", uptime=70), {"interface": "off", "up": False}]
    first = gather(config, state(), dump=parse_dump(json.dumps({"interface": entries})))
    for entry in entries[:2]:
        entry["uptime"] += 5
    dump = parse_dump(json.dumps({"interface": entries}))
    assert aged(first, dump) == gather(config, state(), dump=dump)
    assert aged(first, dump) != first
