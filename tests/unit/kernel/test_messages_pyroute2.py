"""What is written to netlink, byte for byte as pyroute2 writes it; and what pyroute2 writes, read."""

from __future__ import annotations

import importlib
import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.kernel import messages
from connbal.kernel.conntrack import SystemConntrack
from connbal.kernel.ipset import SystemSets
from connbal.kernel.routing import SystemRouting, route_message, rule_message
from connbal.model.config import Family
from connbal.plan.state import ROUTE_PROTOCOL
from connbal.plan.values import IpRoute, IpRule

_HEADER = 16
NUMBERS = st.integers(0, 0xFFFFFFFF)


def codec(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"pyroute2.netlink.{module}"), name)


def by_pyroute2(module: str, name: str, attributes: list[tuple[str, Any]], **fields: int) -> bytes:
    """The payload of a message."""
    message = codec(module, name)()
    for field, value in fields.items():
        message[field] = value
    message["attrs"] = attributes
    message.reset()
    message.encode()
    return bytes(message.data[_HEADER:])


class Sent(Exception):
    """What would have been sent."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        self.payload = payload


class Mouth:
    """A channel that only tells what it was asked for."""

    def request(self, payload: bytes, *_: object) -> None:
        raise Sent(payload)

    dump = request


def asked(thing: Any, method: str, *arguments: object) -> bytes:
    thing._netlink = Mouth()
    with pytest.raises(Sent) as sent:
        getattr(thing, method)(*arguments)
    return sent.value.payload


@st.composite
def rules(draw: st.DrawFn) -> IpRule:
    return IpRule(
        family=draw(st.sampled_from(["ipv4", "ipv6"])),
        priority=draw(NUMBERS),
        action=draw(st.sampled_from(["lookup", "blackhole", "unreachable"])),
        table=draw(st.sampled_from([0, 1, 60, 254, 255, 256, 1000])),
        mark=draw(NUMBERS),
        mask=draw(NUMBERS),
        iif=draw(st.sampled_from(["", "eth0", "a-name-of-15-ch"])),
        suppress_prefixlen=draw(st.integers(-1, 128)),
    )


@given(rules(), st.sampled_from([0, 3, ROUTE_PROTOCOL]))
def test_rules(rule: IpRule, protocol: int) -> None:
    attributes: list[tuple[str, Any]] = [("FRA_PRIORITY", rule.priority)]
    attributes += [("FRA_PROTOCOL", protocol)] if protocol else []
    attributes += [("FRA_TABLE", rule.table)] if rule.table else []
    attributes += [("FRA_FWMARK", rule.mark), ("FRA_FWMASK", rule.mask)] if rule.mask else []
    attributes += [("FRA_IIFNAME", rule.iif)] if rule.iif else []
    if rule.suppress_prefixlen >= 0:
        attributes.append(("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefixlen))
    action = {"lookup": 1, "blackhole": 6, "unreachable": 7}[rule.action]
    table = rule.table if rule.table < 256 else 252
    wanted = by_pyroute2("rtnl.fibmsg", "fibmsg", attributes, family=Family(rule.family).af, action=action, table=table)
    assert rule_message(rule, protocol) == wanted


def networks(family: Family) -> st.SearchStrategy[Any]:
    bits, kind = (32, ipaddress.IPv4Network) if family is Family.IPV4 else (128, ipaddress.IPv6Network)
    pairs = st.tuples(st.integers(0, 2**bits - 1), st.integers(0, bits))
    return pairs.map(lambda one: kind((one[0] >> (bits - one[1]) << (bits - one[1]), one[1])))


@st.composite
def routes(draw: st.DrawFn) -> IpRoute:
    family = draw(st.sampled_from(list(Family)))
    address = st.ip_addresses(v=4 if family is Family.IPV4 else 6)
    return IpRoute(
        family=family,
        table=draw(st.integers(1, 1000)),
        destination=draw(networks(family)),
        device="eth0",
        gateway=draw(st.one_of(st.none(), address, st.ip_addresses(v=6))),
        metric=draw(NUMBERS),
        prefsrc=draw(st.one_of(st.none(), address)),
        source=draw(st.one_of(st.none(), networks(family))),
        onlink=draw(st.booleans()),
    )


@given(routes(), st.integers(0, 0x7FFFFFFF), st.booleans())
def test_routes(route: IpRoute, index: int, delete: bool) -> None:
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", route.table)]
    attributes += [("RTA_OIF", index)] if index else []
    attributes += [("RTA_DST", str(route.destination.network_address))] if route.destination.prefixlen else []
    if route.gateway is not None and Family.of(route.gateway) is route.family:
        attributes.append(("RTA_GATEWAY", str(route.gateway)))
    elif route.gateway is not None:
        attributes.append(("RTA_VIA", {"family": int(socket.AF_INET6), "addr": str(route.gateway)}))
    attributes += [("RTA_PRIORITY", route.metric)] if route.metric else []
    attributes += [("RTA_PREFSRC", str(route.prefsrc))] if route.prefsrc else []
    attributes += [("RTA_SRC", str(route.source.network_address))] if route.source else []
    scope = 0 if route.family is Family.IPV6 else 255 if delete else 253 if route.gateway is None else 0
    wanted = by_pyroute2(
        "rtnl.rtmsg", "rtmsg", attributes, family=route.family.af, table=route.table if route.table < 256 else 252,
        proto=ROUTE_PROTOCOL, type=1, scope=scope, flags=4 if route.onlink else 0, dst_len=route.destination.prefixlen,
        src_len=route.source.prefixlen if route.source else 0,
    )  # fmt: skip
    assert route_message(route, index, delete=delete) == wanted


def test_questions() -> None:
    links = by_pyroute2("rtnl.ifinfmsg", "ifinfmsg", [("IFLA_EXT_MASK", 8)], family=socket.AF_UNSPEC)
    assert asked(SystemRouting(), "read") == links
    assert messages.ADDRESS.encode() == by_pyroute2("rtnl.ifaddrmsg", "ifaddrmsg", [], family=0)
    assert messages.ROUTE.encode() == by_pyroute2("rtnl.rtmsg", "rtmsg", [], family=0)
    assert messages.RULE.encode() == by_pyroute2("rtnl.fibmsg", "fibmsg", [], family=0)


def test_sets() -> None:
    head: list[tuple[str, Any]] = [("IPSET_ATTR_PROTOCOL", 6)]
    every = by_pyroute2("nfnetlink.ipset", "ipset_msg", [*head, ("IPSET_ATTR_FLAGS", 4)])
    named = by_pyroute2("nfnetlink.ipset", "ipset_msg", [*head, ("IPSET_ATTR_SETNAME", "mwan3_x")])
    assert asked(SystemSets(), "headers") == every
    assert [asked(SystemSets(), method, "mwan3_x") for method in ("entries", "remaining", "flush", "destroy")] == [
        named
    ] * 4


def test_connections() -> None:
    message = "nfnetlink.nfctsocket", "nfct_msg"
    forget = by_pyroute2(*message, [("CTA_MARK", 0x100), ("CTA_MARK_MASK", 0x3F00)], nfgen_family=0)
    assert asked(SystemConntrack(), "flush", 0x100, 0x3F00) == forget
    every = by_pyroute2(*message, [], nfgen_family=0)
    assert asked(SystemConntrack(), "connections") == asked(SystemConntrack(), "tally") == every


def test_what_a_layout_does_not_know() -> None:
    with pytest.raises(TypeError, match="no field flgs"):
        messages.ROUTE.encode(flgs=4)
    with pytest.raises(KeyError, match="RTA_NONE"):
        messages.ROUTE.encode([("RTA_NONE", 4)])
    with pytest.raises(TypeError, match="RTA_MULTIPATH is only read"):
        messages.ROUTE.encode([("RTA_MULTIPATH", [])])
