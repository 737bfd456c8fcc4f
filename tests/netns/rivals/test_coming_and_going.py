"""Start, stop, and sources that leave and come back: what mwan3 leaves behind, forgets, or takes from others.

Left out, because they need the daemon that tracks: a tracker that dies while its source is offline and leaves it
excluded for good; a tracker stuck in a state; a tracker or route monitor that takes the whole CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.lab import Lab, snapshot
from tests.netns.rivals.router import Router, section

pytestmark = pytest.mark.netns

ROWS = ("wan", "wan1", "wan2")


@pytest.fixture
def three(lab_available: None) -> Iterator[Router]:
    """Three sources, with netifd's answers."""
    with Lab(ROWS) as lab:
        lab.ubus_stub()
        yield Router(lab)


def steered(router: Router, **options: str) -> str:
    """Port 80 by wan1, the rest by wan."""
    return "\n".join([
        router.sources(**options),
        section("rule", "web", proto="tcp", dest_port="80", use_policy="only_wan1"),
        section("rule", "rest", use_policy="only_wan"),
    ])  # fmt: skip


def ids(router: Router) -> dict[str, int]:
    return {one["name"]: one["id"] for one in router.status()["interfaces"]}


# --- start ------------------------------------------------------------------------------------------------------------


def test_no_dead_window_at_the_start(three: Router) -> None:
    """mwan3 fills the tables after it has returned, and what is marked meanwhile is unreachable.

    The rules send this traffic where the main table sends it too, so that nothing but a dead window can harm it.
    """
    pairs = three.lab.pairs("pc", 100)
    with three.lab.constant("pc", port=443, rate=150, pairs=pairs) as traffic:
        traffic.wait_for(30)
        three.apply(steered(three))
        full = {name: [three.table(number, version) for version in (4, 6)] for name, number in ids(three).items()}
        traffic.wait_for(len(traffic.so_far) + 60)
        answers = traffic.stop()
    assert answers.names == Counter({"wan": len(answers)}), answers.errors
    assert three.rule("rest")["packets"] >= 60  # it was marked
    for name, tables in full.items():
        own = tables[1] if name.endswith("6") else tables[0]
        assert any(line.startswith("default via") for line in own), name


def test_a_restart_is_no_outage(three: Router) -> None:
    three.apply(steered(three))
    with three.lab.constant("pc", port=80, rate=150) as traffic, three.lab.stream("pc", port=80) as stream:
        traffic.wait_for(30)
        begun = traffic.so_far
        for _ in range(2):
            three.apply()
        traffic.wait_for(len(begun) + 60)
        assert stream.ask() == "wan1"
        answers = traffic.stop()
    assert answers.names == Counter({"wan1": len(answers)})


def test_the_order_of_the_interfaces_is_that_of_the_configuration(three: Router) -> None:
    """mwan3 starts them all at once, and whoever comes first is first."""
    three.apply(steered(three))
    wanted = [f"-i e-{name} -m mark --mark 0x0/0x3f00 -j mwan3_iface_in_{name}" for name in ROWS]
    assert three.mangle()["mwan3_ifaces_in"] == wanted
    for name in ROWS:
        three.lab.ifdown(name)
    three.apply()
    assert three.mangle()["mwan3_ifaces_in"] == []
    for name in reversed(ROWS):
        three.lab.ifup(name)
        three.apply()
    assert three.mangle()["mwan3_ifaces_in"] == wanted


# --- leaving ----------------------------------------------------------------------------------------------------------


def test_ifdown_removes_chain_rules_and_table_of_both_families(three: Router) -> None:
    three.apply(steered(three))
    number, number6 = ids(three)["wan1"], ids(three)["wan1_6"]
    three.lab.ifdown("wan1")
    three.apply()
    for version, name, one in ((4, "wan1", number), (6, "wan1_6", number6)):
        chains, rules = three.mangle(version), three.ip_rules(version)
        assert f"mwan3_iface_in_{name}" not in chains
        assert not any(name in rule.split() for rule in chains["mwan3_ifaces_in"])
        assert 1000 + one not in rules
        assert 2000 + one not in rules
        assert three.table(one, version) == []
        # What is left of its connections is refused, rather than sent out by another source.
        assert rules[3000 + one][0].startswith(f"from all fwmark {one << 8:#x}/0x3f00 unreachable")
    assert three.lab.tcp("pc", port=443, count=5).names == Counter({"wan": 5})
    three.lab.ifup("wan1")
    three.apply()
    for family in (4, 6):
        assert three.lab.tcp("pc", port=80, count=5, family=family).names == Counter({"wan1": 5})


def test_stop_takes_nothing_of_others(three: Router) -> None:
    """mwan3 flushes tables and deletes rules by number, whoever made them."""
    for number in (1001, 1500, 2001, 2003, 2500, 2999, 3003, 3999):
        three.node.ip(f"rule add pref {number} from 198.51.100.0/24 lookup 77")
    three.node.run(["ip", "-6", "rule", "add", "pref", "2001", "from", "fd01:77::/64", "lookup", "77"])
    three.node.ip(
        "route add 198.51.100.0/24 dev br-lan table 77",
        "route add 198.51.100.7/32 dev br-lan table 5",
        "route add 198.51.100.8/32 dev br-lan table 1",
    )
    three.node.run(["ipset", "create", "theirs", "hash:ip"])
    others = "*mangle\n:others - [0:0]\n-A PREROUTING -j others\n-A others -p tcp -j MARK --set-xmark 0x1/0x1\nCOMMIT\n"
    three.node.run(["iptables-restore", "--noflush"], input=others)
    before = snapshot(three.node)
    three.apply(steered(three))
    assert three.lab.tcp("pc", port=80, count=5).names == Counter({"wan1": 5})
    assert snapshot(three.node) != before
    three.connbal("stop")
    assert snapshot(three.node) == before
    assert three.connbal("stop").stdout == "nothing to stop\n"


# --- routes that come later ------------------------------------------------------------------------------------------


def test_routes_that_come_later_are_taken_up(lab_available: None) -> None:
    """An interface without track_ip has nobody who would notice, in mwan3."""
    with Lab(("wan", "wan1")) as lab:
        # Without netifd and its configuration, what the kernel has is all there is to know.
        (lab.config_dir / "network").unlink()
        router, late = Router(lab), lab.source("wan1")
        lab.router.ip(f"route del default dev {late.device}")
        names = {lab.source(name).device.replace("-", "_"): lab.source(name) for name in ("wan", "wan1")}
        for name, source in names.items():  # a section's name cannot hold the dash of the lab's devices
            lab.router.ip(f"link set {source.device} down", f"link set {source.device} name {name}",
                          f"link set {name} up")  # fmt: skip
        lab.router.ip("route replace default via 10.1.0.1 dev e_wan metric 10")
        router.apply(
            *(section("interface", name, enabled=1) for name in names),
            *(section("member", f"m_{name}", interface=name) for name in names),
            section("policy", "late", use_member=["m_e_wan1"]),
            section("rule", "rest", family="ipv4", use_policy="late"),
        )
        assert "default" not in str(router.table(2))
        assert not lab.tcp("pc", count=3, timeout=0.5).names
        lab.router.ip("route add default via 10.2.0.1 dev e_wan1 metric 20")
        router.apply()
        assert router.table(2)[0].startswith("default via 10.2.0.1 dev e_wan1")
        assert lab.tcp("pc", count=5).names == Counter({"wan1": 5})
        # A public network behind wan, and the rule says wan1: only with mwan3's way does the main table know better.
        lab.router.ip("route add 198.51.100.0/24 via 10.1.0.1 dev e_wan")
        assert lab.tcp("pc", "198.51.100.9", count=5).names == Counter({"wan1": 5})
        router.connbal("globals", "set", "--source-routes", "all")
        assert lab.tcp("pc", "198.51.100.9", count=5).names == Counter({"wan": 5})
        # And then it does so without any apply.
        lab.router.ip("route del 198.51.100.0/24", "route add 100.64.9.0/24 via 10.1.0.1 dev e_wan")
        assert lab.tcp("pc", "100.64.9.9", count=5).names == Counter({"wan": 5})


# --- more sources than the mask holds ---------------------------------------------------------------------------------


def test_more_sources_than_the_mask_holds(lab_available: None) -> None:
    """In mwan3 the fifth source of a mask for four gets the mark that means blackhole."""
    names = tuple(f"w{number}" for number in range(1, 6))
    with Lab(names) as lab:
        router = Router(lab)
        parts = [section("globals", "globals", mmx_mask="0x0700")]
        parts += [section("interface", name, enabled=1) for name in names]
        parts += [section("member", f"m_{name}", interface=name) for name in names]
        said = router.apply(
            *parts,
            section("policy", "all", use_member=[f"m_{name}" for name in names]),
            section("rule", "hole", family="ipv4", dest_ip="203.0.113.66", use_policy="blackhole"),
            section("rule", "rest", family="ipv4", use_policy="all"),
        ).stderr
        assert "mwan3.w5:" in said
        assert "marks for 4 interfaces" in said
        assert set(lab.tcp("pc", count=200).names) == set(names[:4])
        assert lab.tcp("pc", "203.0.113.66", count=3, timeout=0.5).errors == Counter({"timeout": 3})
        assert "from all fwmark 0x500/0x700 blackhole" in router.ip_rules()[2005][0]


# --- old flows --------------------------------------------------------------------------------------------------------


def marks_of(router: Router, port: int) -> set[int]:
    """Marks of the connections to a port."""
    text = router.node.run(["conntrack", "-L", "-p", "tcp", "--orig-port-dst", str(port)], check=False).stdout
    return {int(word[5:]) for line in text.splitlines() for word in line.split() if word.startswith("mark=")}


def test_old_flows_are_forgotten_where_flush_conntrack_says_so(three: Router) -> None:
    three.apply(steered(three, flush_conntrack="disconnected"))
    mark = ids(three)["wan1"] << 8
    with three.lab.stream("pc", port=80) as by_wan1, three.lab.stream("pc", port=443) as by_wan:
        assert (by_wan1.ask(), by_wan.ask()) == ("wan1", "wan")
        three.connbal("interface", "force", "wan1", "down")
        assert mark not in marks_of(three, 80)
        assert by_wan.ask() == "wan"  # nobody else's connections suffer
        assert by_wan1.ask() is None  # it has ended, and its user knows
    three.connbal("interface", "force", "wan1", "auto")


def test_old_flows_stay_on_an_offline_source_otherwise(three: Router) -> None:
    """Its link is up, so it may still carry them; what must not happen is that they leave by another source."""
    three.apply(steered(three))
    mark = ids(three)["wan1"] << 8
    with three.lab.stream("pc", port=80) as by_wan1:
        three.connbal("interface", "force", "wan1", "down")
        assert mark in marks_of(three, 80)
        assert by_wan1.ask() == "wan1"
        assert not three.lab.tcp("pc", port=80, count=3, timeout=1).names  # new ones are refused
    three.connbal("interface", "force", "wan1", "auto")


def test_old_flows_of_a_source_that_is_gone_are_refused(lab_available: None) -> None:
    # With masquerading the kernel itself forgets the connections of an address that goes.
    with Lab(("wan", "wan1"), nat=False) as lab:
        lab.ubus_stub()
        router = Router(lab)
        router.apply(
            router.sources(),
            section("member", "first", interface="wan1", metric=1),
            section("member", "second", interface="wan", metric=2),
            section("policy", "failover", use_member=["first", "second"]),
            section("rule", "rest", family="ipv4", use_policy="failover"),
        )
        mark = ids(router)["wan1"] << 8
        with lab.stream("pc", port=80) as old:
            assert old.ask() == "wan1"
            lab.ifdown("wan1")
            router.apply()
            assert lab.tcp("pc", port=80, count=5).names == Counter({"wan": 5})
            assert mark in marks_of(router, 80)
            assert "unreachable" in router.route("203.0.113.1", "192.168.1.20", mark)
            # Had it been sent by wan, that end would have reset it.
            assert (old.ask(), old.error) == (None, None)
