"""What rules match; and that a rule is left out rather than made to match something else."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from connbal.model.config import AddressMatch, Family, PortRange
from connbal.uci.decode_match import PROTOCOLS
from tests.unit.uci_decode.build import brief, good_rule, left_out, only, rule_of


def networks(*texts: str, negated: bool = False) -> AddressMatch:
    return AddressMatch(tuple(ip_network(text) for text in texts), negated)


ADDRESSES = [
    ("192.168.1.178", networks("192.168.1.178/32")),
    ("192.168.1.178/24", networks("192.168.1.0/24")),
    ("10.1.2.3/255.0.0.0", networks("10.0.0.0/8")),
    ("10.1.2.3/0.0.0.0", networks("0.0.0.0/0")),
    ("10.1.2.3/255.255.255.255", networks("10.1.2.3/32")),
    ("0.0.0.0/0", networks("0.0.0.0/0")),
    ("::/0", networks("::/0")),
    ("2001:DB8::1", networks("2001:db8::1/128")),
    ("2001:db8::1/32", networks("2001:db8::/32")),
    ("::ffff:192.0.2.1", networks("::ffff:c000:201/128")),
    (" 10.0.0.1 ", networks("10.0.0.1")),
    ("10.0.0.1,10.0.0.2", networks("10.0.0.1", "10.0.0.2")),
    ("10.0.0.1, 10.0.0.2 10.0.0.3", networks("10.0.0.1", "10.0.0.2", "10.0.0.3")),
    (("10.0.0.1", "10.0.0.2"), networks("10.0.0.1", "10.0.0.2")),
    (("10.0.0.1", "10.0.0.1/32", ""), networks("10.0.0.1")),
    (("10.0.0.1", "2001:db8::1"), networks("10.0.0.1", "2001:db8::1")),
    ("10.0.0.0-10.0.0.255", networks("10.0.0.0/24")),
    ("10.0.0.1-10.0.0.3", networks("10.0.0.1", "10.0.0.2/31")),
    ("10.0.0.5-10.0.0.5", networks("10.0.0.5")),
    ("0.0.0.0-255.255.255.255", networks("0.0.0.0/0")),
    ("2001:db8::-2001:db8::f", networks("2001:db8::/124")),
    (("!10.0.0.1", "! 2001:db8::1"), networks("10.0.0.1", "2001:db8::1", negated=True)),
    ("!10.0.0.1 ! 2001:db8::1", networks("10.0.0.1", "2001:db8::1", negated=True)),
]


@pytest.mark.parametrize(("value", "match"), ADDRESSES)
def test_addresses(value, match):
    assert good_rule(src_ip=value).src == match
    assert good_rule(dest_ip=value).dest == match


BAD_ADDRESSES = [
    "example.org", "lan", "any", "10.0.0", "10/8", "010.0.0.1", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/",
    "10.0.0.0/8/8", "10.0.0.1/0.0.0.255", "10.0.0.1/255.0.255.0", "::1/255.0.0.0", "2001:db8::/129",
    "2001:db8::1/ffff::", "fe80::1%eth0", "fe80::1%1", "10.0.0.9-10.0.0.1", "10.0.0.1-", "-10.0.0.1", "10.0.0.1-::1",
    "10.0.0.0/8-10.1.0.0/16", "10.0.0.1-2", "!", "!!10.0.0.1", "! ", ",", " ", "10.0.0.1;", "10.0.0.1 -j ACCEPT",
    "10.0.0.1\n-A OUTPUT", "-j", "٣.1.1.1", "\udcff", "1" * 10_000, "10.0.0.1\u00a010.0.0.2",
    ("10.0.0.1", "!10.0.0.2"), "!10.0.0.1,10.0.0.2", ("10.0.0.1", "bogus"), "1", "0x0a000001",
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_ADDRESSES)
@pytest.mark.parametrize("option", ["src_ip", "dest_ip"])
def test_a_bad_address_costs_the_rule(option, value):
    rule, decoded = rule_of(**{option: value})
    assert rule is None
    left_out(decoded, "bad-value", f"mwan3.r.{option}")


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"family": "ipv4", "src_ip": "::1"}, "src_ip"),
        ({"family": "ipv6", "dest_ip": "198.51.100.8"}, "dest_ip"),
        ({"src_ip": "10.0.0.1", "dest_ip": "::1"}, "dest_ip"),
        ({"family": "ipv4", "src_ip": "!::1"}, "src_ip"),
        ({"src_ip": "!0.0.0.0/0"}, "src_ip"),
        ({"family": "ipv4", "src_ip": "10.0.0.1 ::1", "dest_ip": "::1"}, "dest_ip"),
        ({"family": "ipv4", "proto": "icmpv6"}, "proto"),
        ({"dest_ip": "10.0.0.1", "proto": "58"}, "proto"),
        ({"proto": "icmp", "dest_port": "80"}, "dest_port"),
        ({"proto": "tcp esp", "src_port": "80"}, "src_port"),
        ({"proto": "47", "src_port": "80", "dest_port": "80"}, "src_port"),
    ],
)
def test_what_matches_nothing_is_left_out(options, place):
    rule, decoded = rule_of(**options)
    assert rule is None
    finding = decoded.findings[-1]
    assert (finding.code, finding.place) == ("matches-nothing", f"mwan3.r.{place}")


def test_addresses_of_the_other_family_go():
    rule, decoded = rule_of(family="ipv4", src_ip="10.0.0.1 ::1", dest_ip=("::2", "10.0.0.2"))
    assert (rule.family, rule.src, rule.dest) == (Family.IPV4, networks("10.0.0.1"), networks("10.0.0.2"))
    assert brief(decoded) == [
        ("warning", "wrong-family", "mwan3.r.src_ip"),
        ("warning", "wrong-family", "mwan3.r.dest_ip"),
    ]


def test_a_negated_address_speaks_of_its_family():
    rule, decoded = rule_of(dest_ip="! 10.0.0.0/8")
    assert (rule.family, rule.dest) == (Family.IPV4, networks("10.0.0.0/8", negated=True))
    assert brief(decoded) == [("info", "narrowed", "mwan3.r.family")]
    rule, decoded = rule_of(dest_ip="! 10.0.0.0/8", family="ipv4")
    assert not decoded.findings


def test_one_family_of_a_mixed_list_is_enough():
    rule = good_rule(src_ip="10.0.0.1 ::1", dest_ip="10.0.0.2")
    assert (rule.family, rule.src) == (None, networks("10.0.0.1", "::1"))


@pytest.mark.parametrize(
    ("value", "family"), [("any", None), ("", None), ("ipv4", Family.IPV4), ("IPv6", Family.IPV6), ("ANY", None)]
)
def test_families(value, family):
    assert good_rule(family=value).family is family


@pytest.mark.parametrize("value", ["ipv5", "4", "inet", "ipv4 ipv6", ("ipv4", "ipv6"), " "])
def test_a_bad_family_costs_the_rule(value):
    rule, decoded = rule_of(family=value)
    assert rule is None
    left_out(decoded, "bad-value", "mwan3.r.family")


PORTS = [
    ("443", [(443, 443)]),
    ("80,443", [(80, 80), (443, 443)]),
    ("80, 443 8080", [(80, 80), (443, 443), (8080, 8080)]),
    ("1024:2048", [(1024, 2048)]),
    ("1024-2048", [(1024, 2048)]),
    (("80", "8000-8100,443"), [(80, 80), (8000, 8100), (443, 443)]),
    ("0:65535", [(0, 65535)]),
    ("0080", [(80, 80)]),
    ("80,80", [(80, 80)]),
    (",".join(map(str, range(1, 40))), [(port, port) for port in range(1, 40)]),
]


@pytest.mark.parametrize(("value", "ports"), PORTS)
def test_ports(value, ports):
    expected = tuple(PortRange(*pair) for pair in ports)
    assert good_rule(proto="tcp", src_port=value).src_ports == expected
    assert good_rule(proto="udp", dest_port=value).dest_ports == expected


@pytest.mark.parametrize(
    "value",
    [
        "65536",
        "-1",
        "http",
        "80:",
        ":80",
        "90:80",
        "1:2:3",
        "80;",
        "!80",
        "8O",
        "٣",
        "1e3",
        ",",
        "80 -j DROP",
        "9" * 9999,
        "+1",
    ],
)
def test_a_bad_port_costs_the_rule(value):
    rule, decoded = rule_of(proto="tcp", dest_port=value)
    assert rule is None
    left_out(decoded, "bad-value", "mwan3.r.dest_port")


@pytest.mark.parametrize("proto", ["", "all", "any"])
def test_ports_without_a_protocol_mean_tcp_and_udp(proto):
    rule, decoded = rule_of(proto=proto, src_port="80")
    assert rule.protocols == (6, 17)
    assert brief(decoded) == [("warning", "narrowed", "mwan3.r.src_port")]


@pytest.mark.parametrize("proto", ["tcp", "udp", "sctp", "dccp", "udplite", "tcpudp", "6"])
def test_protocols_with_ports(proto):
    assert good_rule(proto=proto, dest_port="80").dest_ports


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("all", ()), ("any", ()), ("", ()), ("ALL", ()), ("tcp", (6,)), ("UDP", (17,)), ("icmp", (1,)),
        ("icmpv6", (58,)), ("ipv6-icmp", (58,)), ("igmp", (2,)), ("esp", (50,)), ("ah", (51,)), ("gre", (47,)),
        ("sctp", (132,)), ("udplite", (136,)), ("dccp", (33,)), ("ipencap", (4,)), ("ipip", (94,)), ("ipv6", (41,)),
        ("l2tp", (115,)), ("ospf", (89,)), ("vrrp", (112,)), ("tcpudp", (6, 17)), ("tcp udp", (6, 17)),
        ("udp,tcp", (17, 6)), (("tcp", "udp", "6"), (6, 17)), ("1", (1,)), ("255", (255,)), ("08", (8,)),
        ("tcp all", ()),
    ],
)  # fmt: skip
def test_protocols(value, numbers):
    assert good_rule(proto=value).protocols == numbers


@pytest.mark.parametrize(
    "value", ["tpc", "256", "0", "-1", "!tcp", "tcp;", "-p", " ", "tcp bogus", ("tcp", "x y"), "٦", "1.0"]
)
def test_a_bad_protocol_costs_the_rule(value):
    rule, decoded = rule_of(proto=value)
    assert rule is None
    left_out(decoded, "bad-value", "mwan3.r.proto")


def test_the_protocol_table_is_of_protocols():
    assert all(1 <= number <= 255 and name == name.lower() for name, number in PROTOCOLS.items())


def test_icmp_means_that_of_each_family():
    for family in ("any", "ipv4", "ipv6"):
        assert good_rule(proto="icmp", family=family).protocols == (1,)


def test_icmpv6_beside_others_in_ipv4_goes():
    rule, decoded = rule_of(proto="tcp icmpv6", family="ipv4")
    assert rule.protocols == (6,)
    assert brief(decoded) == [("warning", "wrong-family", "mwan3.r.proto")]


def test_macs():
    rule = good_rule(src_mac=("00:11:22:AA:bb:cc", "00-11-22-33-44-55 00:11:22:aa:bb:cc"))
    assert rule.src_mac == ("00:11:22:aa:bb:cc", "00:11:22:33:44:55")


@pytest.mark.parametrize(
    "value",
    [
        "00:11:22:33:44",
        "00:11:22:33:44:5g",
        "001122334455",
        "00:11:22-33:44:55",
        "!00:11:22:33:44:55",
        "0:1:2:3:4:5",
        "x",
    ],
)
def test_a_bad_mac_costs_the_rule(value):
    rule, decoded = rule_of(src_mac=value)
    assert rule is None
    left_out(decoded, "bad-value", "mwan3.r.src_mac")


def test_networks_connections_come_in_by():
    assert good_rule(src_iface="lan").src_iface == ("lan",)
    assert good_rule(src_iface=("lan guest", "vpn-1.2")).src_iface == ("lan", "guest", "vpn-1.2")
    assert good_rule(src_iface="x" * 64).src_iface == ("x" * 64,)


@pytest.mark.parametrize("value", ["-i", "a/b", "lan;", "!lan", "x" * 65, "lan+", "a'b", "ä", ".."])
def test_a_bad_network_name_costs_the_rule(value):
    rule, decoded = rule_of(src_iface=value)
    assert rule is None
    left_out(decoded, "bad-value", "mwan3.r.src_iface")


@pytest.mark.parametrize(
    "value", ["youtube", "mwan3_dynamic_ipv4", "mwan3_r.x", "a.b:c+d-e", "x" * 31, "0", " youtube "]
)
def test_ipsets(value):
    assert good_rule(ipset=value).ipset == value.strip()
    assert good_rule(ipset_src=value).ipset_src == value.strip()


@pytest.mark.parametrize(
    "value",
    ["-x", "!x", "x" * 32, "a b", "a dst -j ACCEPT", "a,b", "a/b", "a\nb", 'a"', "ä", " ", ("a", "b"), "\udcff"],
)
@pytest.mark.parametrize("option", ["ipset", "ipset_src"])
def test_a_bad_ipset_costs_the_rule(option, value):
    rule, decoded = rule_of(**{option: value})
    assert rule is None
    left_out(decoded, "bad-value", f"mwan3.r.{option}")


def test_every_fault_of_a_rule_is_reported():
    rule, decoded = rule_of(src_ip="x", dest_port="y", proto="z", sticky="w", use_policy="")
    assert rule is None
    assert [place for _, _, place in brief(decoded)] == [
        f"mwan3.r.{option}" for option in ("use_policy", "proto", "src_ip", "dest_port", "sticky")
    ]


def test_a_finding_reads_as_a_sentence():
    assert str(only(rule_of(proto="tpc")[1])) == (
        "mwan3.r.proto: 'tpc' is not a protocol that connbal knows by name: the rule is left out; "
        "give protocols by name (tcp, udp, icmp, esp) or by number from 1 to 255, or all"
    )
