"""Lists of interfaces and globals: each entry by itself."""

from __future__ import annotations

import pytest

from connbal.uci.decode_reader import MAX_REPORTED
from tests.unit.uci_decode.build import brief, globals_of, interface_of, only, run, section

GOOD_HOSTS = [
    "1.1.1.1", "2606:4700:4700::1111", "::1", "www.google.com", "localhost", "a_b.example", "x-1.example.org.",
    "1a.net", "_srv._tcp.example", "xn--mnchen-3ya.de", "3com.com", "a" * 63 + ".org", ".".join(["a" * 49] * 5),
]  # fmt: skip
BAD_HOSTS = [
    "1.1.1.300", "256.1.1.1", "8.8.8", "1.1.1.1.", "01.1.1.1", "1.1.1.1/32", "fe80::1%eth0", ":::", "[::1]",
    "1.1.1.1:53", "-c", "--help", "a..b", ".example", "-a.org", "a-.org", "a" * 64 + ".org", ".".join(["a" * 50] * 6),
    "a/../../b", "../x", "münchen.de", "host;reboot", "$(reboot)", "`id`", "a'b", 'a"b', "a\x00b", "a\x1bb", "\udcffx",
    "http://x.org", "*", "..", ".", "٣.٣.٣.٣", "x" * 10_000, "1." * 5000,
]  # fmt: skip


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_good_hosts(host):
    interface, decoded = interface_of(track_ip=(host,))
    assert (interface.track_ip, decoded.findings) == ((host,), ())


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_bad_host_costs_itself(host):
    interface, decoded = interface_of(track_ip=("9.9.9.9", host))
    assert interface.track_ip == ("9.9.9.9",)
    assert brief(decoded) == [("error", "bad-value", "mwan3.wan.track_ip")]
    assert only(decoded).message.endswith(": it is ignored")


@pytest.mark.parametrize(
    "value",
    ["1.1.1.1 9.9.9.9", "1.1.1.1,9.9.9.9", ("1.1.1.1", "9.9.9.9"), ("1.1.1.1  9.9.9.9",), ("", "1.1.1.1", "9.9.9.9")],
)
def test_ways_to_write_a_list(value):
    interface, decoded = interface_of(track_ip=value)
    assert (interface.track_ip, decoded.findings) == (("1.1.1.1", "9.9.9.9"), ())


@pytest.mark.parametrize("value", ["", " ", (), ("",), ","])
def test_no_hosts(value):
    interface, decoded = interface_of(track_ip=value)
    assert (interface.track_ip, decoded.findings) == ((), ())


def test_a_host_given_twice_counts_once():
    interface, decoded = interface_of(track_ip=("1.1.1.1", "9.9.9.9", "1.1.1.1"))
    assert interface.track_ip == ("1.1.1.1", "9.9.9.9")
    assert brief(decoded) == [("warning", "duplicate-value", "mwan3.wan.track_ip")]


def test_many_bad_entries_are_counted():
    _, decoded = interface_of(track_ip="; " * 1000)
    assert len(decoded.findings) == MAX_REPORTED + 1
    assert str(1000 - MAX_REPORTED) in decoded.findings[-1].message


@pytest.mark.parametrize("value", ["ifup connected", ("ifup", "connected"), "IFUP,connected"])
def test_flush_events(value):
    interface, decoded = interface_of(flush_conntrack=value)
    assert (interface.flush_conntrack, decoded.findings) == (frozenset(("ifup", "connected")), ())


@pytest.mark.parametrize("word", ["always", "never", "connecting", "-F"])
def test_unknown_flush_events(word):
    interface, decoded = interface_of(flush_conntrack=("ifdown", word))
    assert interface.flush_conntrack == frozenset(("ifdown",))
    assert only(decoded).remedy == "give any of ifup, ifdown, connected, disconnected"


@pytest.mark.parametrize("value", ["220 300", ("220", "300"), ("0220", "300")])
def test_routing_tables(value):
    found, decoded = globals_of(rt_table_lookup=value)
    assert (found.rt_table_lookup, decoded.findings) == ((220, 300), ())


@pytest.mark.parametrize("word", ["0", "253", "254", "255", "main", "vpn", "4294967296", "-1", "1e2", "0xdc"])
def test_bad_routing_tables(word):
    found, decoded = globals_of(rt_table_lookup=("220", word))
    assert found.rt_table_lookup == (220,)
    assert brief(decoded) == [("error", "bad-value", "mwan3.globals.rt_table_lookup")]


def test_tables_of_interfaces_are_not_looked_up():
    decoded = run(
        section("globals", "globals", rt_table_lookup=("1", "2", "3", "4294967295")),
        section("interface", "wan"), section("interface", "bad name"),
    )  # fmt: skip
    assert decoded.config.globals.rt_table_lookup == (3, 4294967295)
    assert [finding.message.split()[0] for finding in decoded.findings if finding.code == "bad-value"] == ["'1'", "'2'"]
