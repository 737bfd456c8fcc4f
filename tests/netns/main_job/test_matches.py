"""What a rule can match by, and what it can do, each by real traffic."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.demo.config import TV, TV6
from tests.lab import Lab
from tests.netns.main_job.bench import Bench, interfaces, member, only, policy, section

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Benches = Callable[..., Bench]
SOURCES = ("wan", "wan1", "wan2", "wwan")
FAMILIES = (4, 6)
Options = tuple[tuple[str, str], ...]


def singles(lab: Lab, *rules: str) -> list[str]:
    """A policy for each source, then these rules, then everything else by wan."""
    names = lab.spec.sources
    return [
        *interfaces(lab),
        *(member(f"m_{name}", name) for name in names),
        *(policy(f"by_{name}", f"m_{name}") for name in names),
        *rules,
        section("rule", "All_Traffic", ("use_policy", f"by_{names[0]}")),
    ]


def by_wan1(name: str, *options: tuple[str, str]) -> str:
    return section("rule", name, *options, ("use_policy", "by_wan1"))


def test_source_and_destination(bench: Benches) -> None:
    """Addresses, networks, lists and exclusions, on either side."""
    one = bench(SOURCES)
    lab = one.lab
    sites = {4: ("203.0.113.9", "198.51.100.77"), 6: ("2001:db8:ffff:1::9", "2001:db8:ffff:2::77")}
    near = [("dest_ip", "203.0.113.8/30"), ("dest_ip", "2001:db8:ffff:1::/64")]
    cases: list[tuple[tuple[tuple[str, str], ...], str, int, str]] = [
        ((("src_ip", TV), ("src_ip", TV6)), "tv", 0, "wan1"),
        ((("src_ip", TV), ("src_ip", TV6)), "pc", 0, "wan"),
        ((("src_ip", "192.168.1.128/25"), ("src_ip", "fd01::100/120")), "tv", 0, "wan1"),
        ((("src_ip", f"!{TV}"), ("src_ip", f"!{TV6}")), "tv", 0, "wan"),
        ((("src_ip", f"!{TV}"), ("src_ip", f"!{TV6}")), "pc", 0, "wan1"),
        (tuple(near), "pc", 0, "wan1"),
        (tuple(near), "pc", 1, "wan"),
        (tuple((key, f"!{value}") for key, value in near), "pc", 1, "wan1"),
    ]
    for options, client, site, wanted in cases:
        one.apply(singles(lab, by_wan1("Case", *options)))
        for family in FAMILIES:
            only(lab.udp(client, sites[family][site], count=5), wanted)


def test_protocols_and_ports(bench: Benches) -> None:
    """Protocols, port lists, ranges, and 20 ports in one rule, more than one match of the kernel's holds."""
    one = bench(SOURCES)
    lab = one.lab
    twenty = ",".join(str(port) for port in (*range(2001, 2039, 2), 853))
    assert twenty.count(",") == 19
    for options, tcp_443, tcp_853, udp in (
        ((("proto", "tcp"),), "wan1", "wan1", "wan"),
        ((("proto", "udp"),), "wan", "wan", "wan1"),
        ((("proto", "tcp"), ("dest_port", "443")), "wan1", "wan", "wan"),
        ((("proto", "tcp"), ("dest_port", "80,443,8000:9000")), "wan1", "wan", "wan"),
        ((("proto", "tcp"), ("dest_port", "400:900")), "wan1", "wan1", "wan"),
        ((("proto", "tcp"), ("dest_port", twenty)), "wan", "wan1", "wan"),
        ((("proto", "tcp udp"), ("dest_port", "5000,853")), "wan", "wan1", "wan1"),
    ):
        one.apply(singles(lab, by_wan1("Case", *options)))
        for family in FAMILIES:
            only(lab.tcp("pc", port=443, count=5, family=family), tcp_443)
            only(lab.tcp("pc", port=853, count=5, family=family), tcp_853)
            only(lab.udp("pc", port=5000, count=5, family=family), udp)


def ping(lab: Lab, client: str, family: int, device: str) -> bool:
    """Whether an echo request of a client leaves by a device and is answered."""
    tool = "iptables" if family == 4 else "ip6tables"
    rule = f"FORWARD -o {device} -p {'icmp' if family == 4 else 'icmpv6'}"
    lab.router.sh(f"{tool} -t filter -I {rule}")
    site = "203.0.113.1" if family == 4 else "2001:db8:ffff::1"
    lab.node(client).run(["ping", f"-{family}", "-c", "2", "-i", "0.2", "-W", "1", site])
    seen = lab.router.sh(f"{tool}-save -c -t filter")
    lab.router.sh(f"{tool} -t filter -D {rule}")
    return any(f"-o {device}" in line and not line.startswith("[0:0]") for line in seen.splitlines())


def test_icmp_in_both_families(bench: Benches) -> None:
    """`proto icmp` means ICMP of the packet's own family; neighbour discovery is left alone."""
    one = bench(SOURCES)
    one.apply(singles(one.lab, by_wan1("Ping", ("proto", "icmp"))))
    for family in FAMILIES:
        assert ping(one.lab, "pc", family, "e-wan1")
        assert not ping(one.lab, "pc", family, "e-wan")
        only(one.lab.udp("pc", family=family, count=5), "wan")
    one.lab.router.sh("ip -6 neigh flush all; ip neigh flush all")
    only(one.lab.udp("pc", family=6, count=5), "wan")


def test_where_it_comes_in_and_who_sent_it(bench: Benches) -> None:
    """`src_iface`, a network's name, and `src_mac`; what the router itself sends matches neither."""
    one = bench(SOURCES, guest=True)
    lab = one.lab
    mac = lab.node("tv").run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
    one.apply(singles(
        lab, by_wan1("Guests", ("src_iface", "guest")),
        section("rule", "Mac", ("src_mac", mac.upper()), ("use_policy", "by_wan2")),
    ))  # fmt: skip
    for family in FAMILIES:
        only(lab.tcp("visitor", count=5, family=family), "wan1")
        only(lab.tcp("tv", count=5, family=family), "wan2")
        only(lab.tcp("pc", count=5, family=family), "wan")
        only(lab.tcp("router", count=5, family=family), "wan")


def test_sets_of_others(bench: Benches) -> None:
    """`ipset` and `ipset_src`: networks, address and port, a list of sets; filled and emptied while connbal runs."""
    one = bench(SOURCES)
    lab = one.lab
    lab.router.run(["ipset", "restore"], input=(
        "create video hash:net family inet\ncreate video6 hash:net family inet6\n"
        "create service hash:ip,port family inet\nadd service 203.0.113.20,tcp:443\n"
        "create all_of list:set\nadd all_of video\ncreate kids hash:ip family inet\n"
        f"add kids {TV}\n"
    ))  # fmt: skip
    one.apply(singles(
        lab, section("rule", "Kids", ("ipset_src", "kids"), ("dest_ip", "198.51.100.0/24"), ("use_policy", "by_wwan")),
        section("rule", "Service", ("ipset", "service"), ("use_policy", "by_wan2")),
        by_wan1("Video", ("ipset", "all_of")), by_wan1("Video6", ("ipset", "video6"), ("family", "ipv6")),
    ))  # fmt: skip
    site, site6 = "203.0.113.10", "2001:db8:ffff:3::10"
    only(lab.tcp("pc", site, count=5), "wan")
    lab.router.sh("ipset add video 203.0.113.8/29; ipset add video6 2001:db8:ffff:3::/64")
    only(lab.tcp("pc", site, count=5), "wan1")
    only(lab.tcp("pc", site6, count=5), "wan1")
    only(lab.tcp("pc", "203.0.113.20", 443, count=5), "wan2")
    only(lab.tcp("pc", "203.0.113.20", 80, count=5), "wan")
    only(lab.tcp("tv", "198.51.100.5", count=5), "wwan")
    only(lab.tcp("pc", "198.51.100.5", count=5), "wan")
    one.apply()
    lab.router.sh("ipset flush video; ipset flush video6")
    only(lab.tcp("pc", site, count=5), "wan")
    only(lab.tcp("pc", site6, count=5), "wan")


def test_a_set_nobody_made(bench: Benches) -> None:
    """It is made, empty, so that the rest works; who fills it later is heeded; stop takes it away if nobody did."""
    one = bench(SOURCES)
    one.configure(singles(one.lab, by_wan1("Later", ("ipset", "from_dnsmasq"))))
    done = one.connbal("apply")
    assert "from_dnsmasq" in done.stderr
    only(one.lab.tcp("pc", count=5), "wan")
    one.lab.router.sh("ipset add from_dnsmasq 203.0.113.1")
    only(one.lab.tcp("pc", count=5), "wan1")
    one.lab.router.sh("ipset flush from_dnsmasq")
    one.connbal("stop")
    assert one.lab.router.sh("ipset list -n") == ""


def test_further_tables_are_exempt(bench: Benches) -> None:
    """`rt_table_lookup`: networks of another routing table, a VPN's say, are reached by it and by no source."""
    one = bench(SOURCES)
    lab = one.lab
    wan2 = lab.source("wan2")
    lab.router.ip(
        f"route add 203.0.113.0/25 via {wan2.gateway4} dev {wan2.device} table 77",
        f"route add 2001:db8:ffff:7::/64 via {wan2.gateway6} dev {wan2.device} table 77",
    )
    lab.router.sh("for f in -4 -6; do ip $f rule add priority 5000 lookup 77; done")
    text = singles(lab, by_wan1("Rule", ("proto", "tcp")))
    for options, wanted in (((), "wan1"), ((("rt_table_lookup", "77"),), "wan2")):
        one.apply(section("globals", "globals", *options), text)
        only(lab.tcp("pc", "203.0.113.5", count=5), wanted)
        only(lab.tcp("pc", "2001:db8:ffff:7::5", count=5), wanted)
        only(lab.tcp("pc", "203.0.113.200", count=5), "wan1")


def test_logging(bench: Benches) -> None:
    """A rule that logs does so for each new connection, if globals say so too, and goes on as it would without."""
    one = bench(SOURCES)
    rule = by_wan1("Logged", ("proto", "tcp"), ("dest_port", "443"), ("logging", "1"))
    for options, expected in (((), []), ((("logging", "1"), ("loglevel", "info")), [7])):
        one.apply(section("globals", "globals", *options), singles(one.lab, rule))
        for family in FAMILIES:
            only(one.lab.tcp("pc", port=443, count=7, family=family), "wan1")
            only(one.lab.tcp("pc", port=80, count=7, family=family), "wan")
            lines = [(line, count) for line, count in one.counters(family)["mwan3_rules"] if "-j LOG" in line]
            assert [count for _, count in lines] == expected
            assert all("MWAN3(Logged)" in line and "--log-level 6" in line for line, _ in lines)


def sticky(lab: Lab, timeout: int = 600) -> list[str]:
    """Everything to port 443 sticky, divided equally over three sources, each connection drawn by itself."""
    names = ("wan", "wan1", "wan2")
    return [
        *interfaces(lab), *(member(f"m_{name}", name) for name in names),
        policy("Split", *(f"m_{name}" for name in names)),
        section("rule", "Sticky", ("proto", "tcp"), ("dest_port", "443"), ("sticky", "1"), ("timeout", str(timeout)),
                ("use_policy", "Split")),
        section("rule", "All_Traffic", ("use_policy", "Split")),
    ]  # fmt: skip


def test_sticky_keeps_a_client_on_its_source(bench: Benches) -> None:
    """Whatever it talks to; clients are divided. What is not sticky is still drawn anew."""
    one = bench(SOURCES)
    lab = one.lab
    one.apply(sticky(lab))
    for family in FAMILIES:
        clients = lab.add_addresses("pc", 40, family)
        # One after the other: two first connections at once would both be drawn.
        pairs = [(src, dst) for dst in lab.destinations(6, family) for src in clients]
        met: dict[str, set[str | None]] = {}
        for row in lab.tcp("pc", port=443, pairs=pairs, parallel=1):
            met.setdefault(row.src, set()).add(row.source)
        assert all(len(names) == 1 for names in met.values()), met
        assert set().union(*met.values()) == {"wan", "wan1", "wan2"}
        assert set(lab.tcp("pc", port=80, count=100, family=family).names) == {"wan", "wan1", "wan2"}


def test_sticky_entries_of_a_source_that_leaves_go(bench: Benches) -> None:
    """Its clients are drawn anew, and stay there when it comes back; those of other sources never move."""
    one = bench(SOURCES)
    lab = one.lab
    one.apply(sticky(lab))
    clients = lab.add_addresses("pc", 40)
    pairs = [(src, "203.0.113.1") for src in clients]

    def where() -> dict[str, str | None]:
        return {row.src: row.source for row in lab.tcp("pc", port=443, pairs=pairs, parallel=1)}

    before = where()
    assert where() == before
    lab.carrier("wan1", False)
    one.apply()
    without = where()
    assert {src: name for src, name in without.items() if before[src] != "wan1"} == {
        src: name for src, name in before.items() if name != "wan1"
    }
    assert set(without.values()) == {"wan", "wan2"}
    lab.carrier("wan1", True)
    one.apply()
    assert where() == without


def test_sticky_entries_end(bench: Benches) -> None:
    """After `timeout` without a new connection a client is drawn anew; a change elsewhere does not shorten that."""
    one = bench(SOURCES)
    lab = one.lab
    one.apply(sticky(lab, timeout=2))
    clients = lab.add_addresses("pc", 40)
    pairs = [(src, "203.0.113.1") for src in clients]
    sets = "ipset list -o save | grep -c '^add mwan3_sticky' || true"
    before = {row.src: row.source for row in lab.tcp("pc", port=443, pairs=pairs, parallel=1)}
    assert lab.router.sh(sets).strip() == "40"
    one.apply(sticky(lab, timeout=2), section("rule", "Other", ("use_policy", "default")))
    assert {row.src: row.source for row in lab.tcp("pc", port=443, pairs=pairs, parallel=1)} == before
    deadline = time.monotonic() + 10
    while lab.router.sh(sets).strip() != "0":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    after = {row.src: row.source for row in lab.tcp("pc", port=443, pairs=pairs, parallel=1)}
    assert after != before  # one chance in 3 ** 40


def answer_to_ping(lab: Lab, site: str) -> str:
    """What a client learns from one echo request within a second: `unreachable`, `silence` or `reply`.

    TCP would not do: here an ICMP error is back while connect() still holds the socket, and is dropped for that.
    """
    done = lab.node("pc").run(["ping", "-c", "1", "-W", "0.4", site], check=False)
    assert done.returncode in (0, 1), done.stderr  # a ping that cannot run is silent too
    said = done.stdout
    if "1 received" in said:
        return "reply"
    return "unreachable" if "unreachable" in said.lower() or "No route" in said else "silence"


def test_last_resort(bench: Benches) -> None:
    """Nothing usable: `unreachable` says so at once, `blackhole` is silent, `default` goes by the main table."""
    one = bench(SOURCES)
    lab = one.lab
    lab.carrier("wan2", False)
    sites = {"policy": ("198.51.100.1", "2001:db8:ffff:a::1"), "rule": ("198.51.100.2", "2001:db8:ffff:b::2")}
    for verdict, answer in (("unreachable", "unreachable"), ("blackhole", "silence"), ("default", "reply")):
        by_policy = section("policy", "Gone", ("use_member", "m_wan2"), ("use_member", "m_wan2_6"),
                            ("last_resort", verdict))  # fmt: skip
        rules = [
            section("rule", f"By_{kind}", *(("dest_ip", site) for site in sites[kind]), ("use_policy", target))
            for kind, target in (("policy", "Gone"), ("rule", verdict))
        ]
        one.apply(by_policy, singles(lab, *rules))
        for site in (*sites["policy"], *sites["rule"]):
            assert answer_to_ping(lab, site) == answer, (verdict, site)
            if answer == "reply":
                only(lab.tcp("pc", site, count=5), "wan")
            elif answer == "silence":  # not for both: the kernel gives a client five IPv4 errors, then one a second
                assert dict(lab.tcp("pc", site, count=5, timeout=0.3).errors) == {"timeout": 5}
        for family in FAMILIES:
            only(lab.udp("pc", count=5, family=family), "wan")
