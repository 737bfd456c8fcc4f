"""Rules that mwan3 cannot take, and for which it then drops all rules of the family in silence."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.lab import Answers
from tests.netns.rivals.router import Router, section

pytestmark = pytest.mark.netns

SIXTEEN = ",".join(str(port) for port in (443, *range(6000, 6015)))


def only(answers: Answers, name: str) -> bool:
    return answers.names == Counter({name: len(answers)})


def around(router: Router, *middle: str) -> str:
    """A configuration in which port 80 goes to wan1 and everything else to wan, with ``middle`` before both."""
    return "\n".join([
        router.sources(), *middle,
        section("rule", "web", proto="tcp", dest_port="80", use_policy="only_wan1"),
        section("rule", "rest", use_policy="only_wan"),
    ])  # fmt: skip


def the_others_work(router: Router) -> None:
    for family in (4, 6):
        assert only(router.lab.tcp("pc", port=80, count=5, family=family), "wan1")
        assert only(router.lab.tcp("pc", port=5000, count=5, family=family), "wan")


@pytest.mark.parametrize(
    ("option", "value", "more"),
    [
        ("dest_port", "http", {"proto": "tcp"}),
        ("dest_port", "70000", {"proto": "tcp"}),
        ("src_port", "9-8", {"proto": "udp"}),
        ("proto", "nonsense", {}),
        ("proto", "300", {}),
        ("src_ip", "www.example.com", {}),
        ("dest_ip", "192.168.1.300", {}),
        ("dest_ip", "1.2.3.4/33", {}),
        ("src_ip", "fd01::20", {"family": "ipv4"}),
        ("ipset", "name with blanks", {}),
    ],
)
def test_a_bad_rule_costs_itself_and_is_named(router: Router, option: str, value: str, more: dict[str, str]) -> None:
    bad = section("rule", "bad", **{option: value, **more}, use_policy="blackhole")
    said = router.apply(around(router, bad)).stderr
    assert "mwan3.bad" in said
    assert "left out" in said
    assert [one["place"].split(".")[1] for one in router.found() if one["severity"] == "error"] == ["bad"]
    the_others_work(router)


@pytest.mark.parametrize("ports", ["443-444", "443:444", SIXTEEN, f"{SIXTEEN},7000:7010,7020-7030"])
def test_ranges_with_a_dash_and_many_ports_work(router: Router, ports: str) -> None:
    good = section("rule", "ports", proto="tcp", dest_port=ports, use_policy="only_wan1")
    assert router.apply(around(router, good)).stderr == ""
    assert only(router.lab.tcp("pc", port=443, count=5), "wan1")
    assert only(router.lab.tcp("pc", port=853, count=5), "wan")
    the_others_work(router)


def test_a_list_of_sources_works(router: Router) -> None:
    both = section("rule", "both", src_ip=["192.168.1.178", "192.168.1.7", "fd01::178"], use_policy="only_wan1")
    assert router.apply(around(router, both)).stderr == ""
    for family in (4, 6):
        assert only(router.lab.tcp("tv", port=443, count=5, family=family), "wan1")
    the_others_work(router)


def test_a_set_that_nobody_made_is_made_and_works_once_filled(router: Router) -> None:
    named = section("rule", "named", ipset="not_there_yet", family="ipv4", use_policy="only_wan1")
    assert "mwan3.named.ipset" in router.apply(around(router, named)).stderr
    the_others_work(router)
    router.node.run(["ipset", "add", "not_there_yet", "203.0.113.50"])
    assert only(router.lab.tcp("pc", "203.0.113.50", 443, count=5), "wan1")
    assert only(router.lab.tcp("pc", "203.0.113.51", 443, count=5), "wan")
    router.connbal("stop")
    assert "203.0.113.50" in router.node.run(["ipset", "save", "not_there_yet"]).stdout  # somebody filled it: theirs
    router.node.run(["ipset", "destroy", "not_there_yet"])


def test_a_set_of_the_wrong_family_costs_its_rule(router: Router) -> None:
    router.node.run(["ipset", "create", "six", "hash:net", "family", "inet6"])
    router.node.run(["ipset", "add", "six", "2001:db8:ffff::50"])
    wrong = section("rule", "wrong", ipset="six", family="ipv4", use_policy="blackhole")
    either = section("rule", "either", ipset="six", use_policy="only_wan1")
    said = router.apply(around(router, wrong, either)).stderr
    assert "mwan3.wrong.ipset" in said
    assert "mwan3.either" not in said
    the_others_work(router)
    assert only(router.lab.tcp("pc", "2001:db8:ffff::50", 443, count=5), "wan1")
    router.connbal("stop")
    router.node.run(["ipset", "destroy", "six"])


def test_long_policy_and_rule_names_work(router: Router) -> None:
    long, longer = "a_policy_with_a_name_of_47_characters_in_total_", "a_policy_with_a_name_of_47_characters_in_total_2"
    router.apply(around(
        router,
        section("policy", long, use_member=["m_wan"]),
        section("policy", longer, use_member=["m_wan1"]),
        section("rule", f"{long}rule", family="ipv4", proto="tcp", dest_port="443", use_policy=long),
        section("rule", f"{longer}rule", family="ipv4", proto="tcp", dest_port="853", use_policy=longer),
    ))  # fmt: skip
    assert only(router.lab.tcp("pc", port=443, count=5), "wan")
    assert only(router.lab.tcp("pc", port=853, count=5), "wan1")
    assert all(len(chain) <= 28 for chain in router.mangle())
    the_others_work(router)


def test_ports_with_a_protocol_that_has_none_do_not_match_everything(router: Router) -> None:
    rule = section("rule", "p", proto="icmp", dest_port="80", use_policy="blackhole")
    said = router.apply(around(router, rule)).stderr
    assert "mwan3.p.dest_port" in said
    assert "icmp" not in str(router.mangle()["mwan3_rules"])
    the_others_work(router)


def test_ports_without_a_protocol_are_for_tcp_and_udp(router: Router) -> None:
    router.apply(around(router, section("rule", "p", dest_port="443", use_policy="only_wan1")))
    assert only(router.lab.tcp("pc", port=443, count=5), "wan1")
    assert only(router.lab.udp("pc", port=443, count=5), "wan1")
    assert only(router.lab.udp("pc", port=53, count=5), "wan")


def test_icmp_means_that_of_each_family(router: Router) -> None:
    router.apply(around(router, section("rule", "pings", proto="icmp", use_policy="only_wan1")))
    assert any("-p ipv6-icmp" in rule and "only_wan1" in rule for rule in router.mangle(6)["mwan3_rules"])
    assert not any("-p icmp" in rule for rule in router.mangle(6)["mwan3_rules"])
    for dst in ("203.0.113.9", "2001:db8:ffff::9"):
        before = router.rule("pings")["packets"]
        router.lab.exec_in("pc", ["ping", "-c", "1", "-W", "2", dst])
        assert router.rule("pings")["packets"] == before + 1
    the_others_work(router)


def test_an_unknown_policy_costs_its_rule_and_is_named(router: Router) -> None:
    said = router.apply(around(router, section("rule", "lost", use_policy="only_wann"))).stderr
    assert "mwan3.lost.use_policy" in said
    assert "did you mean only_wan" in said
    assert not any("wann" in chain for chain in router.mangle())
    the_others_work(router)


def test_an_unknown_member_costs_itself(router: Router) -> None:
    policy = section("policy", "half", use_member=["m_wan1", "nobody", "m_wan1_6"])
    rule = section("rule", "r", proto="tcp", dest_port="443", use_policy="half")
    said = router.apply(around(router, policy, rule)).stderr
    assert "mwan3.half.use_member" in said
    assert only(router.lab.tcp("pc", port=443, count=5), "wan1")
    the_others_work(router)
