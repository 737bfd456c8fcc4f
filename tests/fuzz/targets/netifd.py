"""The dump of netifd: entries that make no sense are left out, and what is left leads to a plan that can be written."""

from __future__ import annotations

import json
from collections.abc import Iterator

from connbal.errors import KernelError
from connbal.kernel.api import RoutingState
from connbal.kernel.facts import gather
from connbal.kernel.rtnl import fit_name
from connbal.kernel.ubus import NetifdInterface, parse_dump
from connbal.model.config import Config, Family
from connbal.model.facts import Link
from connbal.plan.build import plan
from connbal.plan.describe import route_text, rule_text
from connbal.uci.decode import decode
from connbal.uci.package import Package, Section
from tests.fuzz import oracle, structure

LONGEST = 4096
TOKENS = (b'"interface"', b'"l3_device"', b'"device"', b'"up"', b'"ipv4-address"', b'"ipv6-address"', b'"ipv6-prefix"',
          b'"ipv6-prefix-assignment"', b'"local-address"', b'"address"', b'"mask"', b'"route"', b'"target"',
          b'"nexthop"',
          b'"source"', b'"metric"', b'"dns-server"', b'"uptime"', b'"0.0.0.0"', b'"::"', b'"2001:db8::/56"', b"true",
          b"null",
          b"32", b"128", b"0", b"-1", b"1e9", b'"wan"', b'"wan_6"', b'"eth1"', b"4294967295", b'"fe80::1"')  # fmt: skip

_STATE = RoutingState({"eth1": Link("eth1", 3, True, True), "ppp0": Link("ppp0", 4, True, True, True)},
                      {}, {}, {}, frozenset(), frozenset())  # fmt: skip


def _config() -> Config:
    interfaces = [
        Section(name, "interface", False, {"enabled": "1", "family": family})
        for name, family in (("wan", "ipv4"), ("wan6", "ipv6"), ("wan1", "ipv4"))
    ]
    members = [Section(f"m_{one.name}", "member", False, {"interface": one.name}) for one in interfaces]
    policy = Section("all", "policy", False, {"use_member": tuple(one.name for one in members)})
    rule = Section("rest", "rule", False, {"use_policy": "all", "src_iface": "lan"})
    return decode(Package("mwan3", (*interfaces, *members, policy, rule))).config


_CONFIG = _config()

mutate = structure.of_json()


def seeds() -> Iterator[bytes]:
    for path in sorted((oracle.TESTS / "golden/cases").glob("*/facts.json")):
        yield json.dumps(json.loads(path.read_text())["netifd"]).encode()
    yield json.dumps({"interface": [
        {"interface": "wan", "up": True, "l3_device": "eth1", "metric": 5, "uptime": 9,
         "dns-server": ["192.0.2.53", "x"], "ipv4-address": [{"address": "192.0.2.2", "mask": 24}],
         "route": [{"target": "0.0.0.0", "mask": 0, "nexthop": "192.0.2.1"}]},
        {"interface": "wan_6", "up": True, "l3_device": "ppp0", "ipv6-prefix": [{"address": "2001:db8::", "mask": 48}],
         "ipv6-address": [{"address": "2001:db8::2", "mask": 64, "preferred": 0}],
         "route": [{"target": "::", "mask": 0, "nexthop": "fe80::1", "source": "2001:db8::/48"},
                   {"target": "::", "mask": 0, "nexthop": "fe80::2%eth1", "metric": 7}]},
        {"interface": "lan", "up": True, "device": "br-lan", "ipv6-prefix-assignment": [
            {"address": "fd00::", "mask": 60, "local-address": {"address": "fd00::1", "mask": 60}}]},
    ]}).encode()  # fmt: skip


def read(data: bytes) -> tuple[NetifdInterface, ...]:
    """What the dump says; nothing where it is none."""
    try:
        found = parse_dump(data.decode("utf-8", "surrogateescape"))
    except KernelError as error:
        oracle.is_message(str(error))
        return ()
    for one in found:
        assert one.name.isascii()
        assert one.name.isprintable()
        assert one.device is None or fit_name(one.device)
        for route in one.defaults[Family.IPV4] + one.defaults[Family.IPV6]:
            assert 0 <= route.metric < 1 << 32
            assert "%" not in str(route.gateway), route
    return found


def check(data: bytes) -> None:
    found = read(data)
    facts = gather(_CONFIG, _STATE, dump=found)
    made = plan(_CONFIG, facts)
    oracle.nothing_strange_is_written(made)
    for view in made.interfaces:
        oracle.is_message(view.reason)
    for route in made.routes:
        oracle.is_message(route_text(route))
    for rule in made.ip_rules:
        oracle.is_message(rule_text(rule))
