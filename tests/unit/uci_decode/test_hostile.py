"""Whatever is written in a configuration, decoding answers, and only checked values come out of it."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.model.config import FLUSH_EVENTS, LOG_LEVELS, Config, PortRange
from connbal.uci.decode import Decoded, decode
from connbal.uci.package import Package, Section
from connbal.uci.schema import SECTIONS
from tests.unit.uci_decode.build import run, section

NASTY = [
    "a\n-A OUTPUT -j ACCEPT", "x\nCOMMIT\n", "'; reboot; '", '"', "\\", "$(reboot)", "`reboot`", "--help", "-j",
    "! -j DROP", "../../etc/passwd", "/dev/null", "a" * 10_000, "1" * 10_000, "1." * 5_000, "!" * 5_000, "," * 10_000,
    " " * 10_000, "0x" + "f" * 9_999, "\x00", "\x1b[31m", "\u202e", "\ud800", "\udcff\udc80", "٣", "%n%s",
    "10.0.0.1\n", "wan\n", "\r\n", "１", "ﬀ", "default", "wan", "p", "m", "::" * 4000, "1-" * 4000,
    "10.0.0.1-10.0.0.9-10.0.0.20", "255.255.255.255/255.255.255.255", "any", "all", "1e999", "nan", "infinity",
]  # fmt: skip
OPTIONS = [(type_, option) for type_, spec in SECTIONS.items() for option in spec.options]

NAME = r"[A-Za-z0-9_]+"
#: The alphabet of every text a Config may hold.
ALPHABETS = {
    "name": NAME, "interface": NAME, "members": NAME, "use_policy": NAME,
    "loglevel": "|".join(LOG_LEVELS), "flush_conntrack": "|".join(FLUSH_EVENTS),
    "track_ip": r"[A-Za-z0-9_:][A-Za-z0-9_.:-]{0,253}",
    "src_iface": r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}",
    "src_mac": r"[0-9a-f]{2}(:[0-9a-f]{2}){5}",
    "ipset": r"[A-Za-z0-9_.:+][A-Za-z0-9_.:+-]{0,30}", "ipset_src": r"[A-Za-z0-9_.:+][A-Za-z0-9_.:+-]{0,30}",
}  # fmt: skip
RANGES = {
    "metric": (1, 256), "weight": (1, 1000), "reliability": (1, 100), "count": (1, 100), "size": (0, 65507),
    "max_ttl": (1, 255), "down": (1, 1000), "up": (1, 1000), "interval": (0.1, 86400),
    "failure_interval": (0.1, 86400), "id": (1, 252), "recovery_interval": (0.1, 86400),
    "failure_latency": (1, 3600000), "recovery_latency": (1, 3600000), "failure_loss": (1, 100),
    "recovery_loss": (0, 100), "first": (0, 65535), "last": (0, 65535), "protocols": (1, 255),
    "mmx_mask": (7, 0xFFFFFFFF), "rt_table_lookup": (1, 0xFFFFFFFF), "timeout": (0.05, 2147483),
    "quality_window": (0, 600), "dampening": (0, 86400),
}  # fmt: skip


def check(value: Any, attribute: str = "") -> None:
    """Walk a Config; fail at anything that is not of its alphabet or range."""
    if isinstance(value, enum.Enum | bool | None | ipaddress.IPv4Network | ipaddress.IPv6Network):
        return
    if isinstance(value, str):
        assert re.fullmatch(ALPHABETS[attribute], value), (attribute, value)
        assert not value.endswith("\n")
    elif isinstance(value, int | float):
        low, high = RANGES[attribute]
        assert low <= value <= high, (attribute, value)
    elif isinstance(value, tuple | frozenset):
        for item in value:
            check(item, attribute)
    else:
        assert dataclasses.is_dataclass(value)
        for field in dataclasses.fields(value):
            check(getattr(value, field.name), field.name)


def check_whole(decoded: Decoded) -> None:
    """The promises of decode()."""
    config: Config = decoded.config
    check(config)
    interfaces = {interface.name for interface in config.interfaces}
    members = {member.name for member in config.members}
    policies = {policy.name for policy in config.policies} | {"unreachable", "blackhole", "default"}
    assert all(member.interface in interfaces for member in config.members)
    assert all(member in members for policy in config.policies for member in policy.members)
    assert all(rule.use_policy in policies for rule in config.rules)
    assert all(rule.protocols for rule in config.rules if rule.src_ports or rule.dest_ports)
    for values in (config.interfaces, config.members, config.policies, config.rules):
        assert len({value.name for value in values}) == len(values)
    for finding in decoded.findings:
        text = f"{finding}"
        assert text.isascii()
        assert text.isprintable()
        assert finding.place.startswith("mwan3.")
        assert len(text) < 1500


def surroundings(*sections: Section) -> Decoded:
    """Decode beside sound sections, which must survive."""
    decoded = run(
        section("interface", "wan"), section("member", "m", interface="wan"), section("policy", "p", use_member="m"),
        section("rule", "sound", use_policy="p"), *sections,
    )  # fmt: skip
    assert decoded.config.interfaces[0].name == "wan"
    assert decoded.config.policies[0].members == ("m",)
    assert decoded.config.rules[0].name == "sound"
    return decoded


def victim(type_: str, **options: Any) -> Section:
    required = {"interface": "wan"} if type_ == "member" else {"use_policy": "p"} if type_ == "rule" else {}
    return section(type_, "globals" if type_ == "globals" else "victim", **{**required, **options})


@pytest.mark.parametrize(("type_", "option"), OPTIONS)
def test_nasty_values(type_, option):
    for value in NASTY:
        for shape in (value, (value,), (value, value), ("1", value), ("10.0.0.1", value)):
            check_whole(surroundings(victim(type_, **{option: shape})))


@pytest.mark.parametrize("name", NASTY)
def test_nasty_names_types_and_options(name):
    for type_ in SECTIONS:
        check_whole(surroundings(section(type_, name), victim(type_, **{name: name})))
    check_whole(surroundings(Section(name, name, True, {name: name})))


TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(), max_size=30),
    st.text("0123456789.:/-!, abcdefx%_*'\"\n", max_size=40),
    st.integers(-10, 70000).map(str),
    st.ip_addresses().map(str),
    st.sampled_from(
        ["1.1.1.1", "tcp", "udp", "icmp", "icmpv6", "80", "ipv4", "ipv6", "::1", "!10.0.0.0/8", "aa:bb:cc:dd:ee:ff"]
    ),
)
VALUE = st.one_of(TEXT, st.lists(TEXT, max_size=4).map(tuple))


@st.composite
def any_section(draw: st.DrawFn) -> Section:
    type_ = draw(st.sampled_from([*SECTIONS, "other"]))
    known = list(SECTIONS[type_].options) if type_ in SECTIONS else ["x"]
    options = draw(st.dictionaries(st.one_of(st.sampled_from(known), TEXT), VALUE, max_size=8))
    name = draw(st.one_of(st.sampled_from(["globals", "a", "b", "wan", "m", "p"]), TEXT))
    return Section(name, type_, draw(st.booleans()), options)


@settings(max_examples=250, deadline=None)
@given(st.lists(any_section(), max_size=12))
def test_any_configuration_at_all(sections):
    package = Package("mwan3", tuple(sections))
    decoded = decode(package)
    check_whole(decoded)
    assert decode(package) == decoded


@settings(max_examples=300, deadline=None)
@given(VALUE)
def test_a_bad_rule_never_widens(value):
    """A match that was given is either in the rule or the rule is not there."""
    given_texts = [text for text in ((value,) if isinstance(value, str) else value) if text]
    for option, attribute in (
        ("src_ip", "src"),
        ("dest_port", "dest_ports"),
        ("src_iface", "src_iface"),
        ("ipset", "ipset"),
    ):
        config = surroundings(victim("rule", **{option: value})).config
        if given_texts and len(config.rules) > 1:
            assert getattr(config.rules[1], attribute)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted), min_size=1, max_size=30))
def test_ports_survive_as_written(pairs):
    text = ",".join(f"{first}:{last}" if first != last else str(first) for first, last in pairs)
    rule = surroundings(victim("rule", proto="tcp", dest_port=text)).config.rules[1]
    assert rule.dest_ports == tuple(dict.fromkeys(PortRange(*pair) for pair in pairs))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.ip_addresses(), min_size=2, max_size=2))
def test_ranges_hold_exactly_their_addresses(ends):
    low, high = ends
    decoded = surroundings(victim("rule", src_ip=f"{low}-{high}"))
    if low.version != high.version or low > high:
        assert len(decoded.config.rules) == 1
        return
    networks = decoded.config.rules[1].src.networks
    assert (networks[0][0], networks[-1][-1]) == (low, high)
    assert sum(network.num_addresses for network in networks) == int(high) - int(low) + 1
