"""Changes in words, and counters by rule."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from connbal.model.config import PortRange, Rule
from connbal.plan.build import plan
from connbal.plan.describe import describe, route_text, rule_text
from connbal.plan.diff import Changes, diff
from connbal.plan.ledger import Ledger
from connbal.plan.state import KernelState
from connbal.plan.status import RuleCounters, rule_counters
from connbal.plan.values import IpRoute, IpRule, Plan, SetSpec
from tests.fakes.build import V4, V6, config, facts

NOTHING = KernelState({V4: {}, V6: {}})


def test_no_change_no_words() -> None:
    assert list(describe(Changes())) == []


def test_everything_that_is_made_is_said() -> None:
    words = list(describe(diff(plan(config(), facts()), NOTHING, Ledger())))
    for said in (
        "+ set mwan3_connected_ipv4 (hash:net, ipv4): 4 entries",
        "+ set mwan3_dynamic_ipv4 (list:set)",
        "+ route default via 10.1.0.1 dev eth1 table 1",
        "+ rule ipv4 2001: from all fwmark 0x100/0x3f00 lookup 1",
        "~ ipv4 chain mwan3_rules: 1 rules",
        "+ ipv6 hook OUTPUT -j mwan3_hook_out",
    ):
        assert words.count(said) == 1
    assert all(word[:2] in ("+ ", "~ ") for word in words)


def test_everything_that_goes_is_said() -> None:
    chains = {"PREROUTING": ("-j mwan3_hook",), "mwan3_hook": ("-j RETURN",)}
    rule = IpRule("ipv4", 2009, "lookup", table=9, mark=0x900, mask=0x3F00)
    route = IpRoute(V4, 9, ipaddress.ip_network("0.0.0.0/0"), "eth9")
    state = KernelState({V4: chains}, ip_rules=frozenset({rule}), routes=frozenset({route}))
    changes = replace(diff(Plan(), state, Ledger()), flush_sets=("a",), destroy_sets=("b",))
    assert list(describe(changes)) == [
        "- ipv4 chain mwan3_hook",
        "- ipv4 hook PREROUTING -j mwan3_hook",
        "~ set a: emptied",
        "- rule ipv4 2009: from all fwmark 0x900/0x3f00 lookup 9",
        "- route default dev eth9 table 9",
        "- set b",
    ]


def test_replaced_sets() -> None:
    spec = SetSpec("s", "hash:net", V4, frozenset({"10.0.0.0/8"}))
    assert list(describe(Changes(replace_sets=(spec,)))) == ["~ set s (hash:net, ipv4): 1 entries"]


def test_rules_and_routes_as_ip_shows_them() -> None:
    assert rule_text(IpRule("ipv6", 2062, "unreachable", mark=0x3E00, mask=0x3F00)) == (
        "ipv6 2062: from all fwmark 0x3e00/0x3f00 unreachable"
    )
    assert rule_text(IpRule("ipv4", 1001, "lookup", table=1, iif="eth1")) == "ipv4 1001: from all iif eth1 lookup 1"
    route = IpRoute(
        V6, 3, ipaddress.ip_network("::/0"), "eth3", ipaddress.ip_address("fe80::1"), 1024,
        source=ipaddress.ip_network("2001:db8::/56"), onlink=True,
    )  # fmt: skip
    assert route_text(route) == "default from 2001:db8::/56 via fe80::1 dev eth3 table 3 metric 1024 onlink"


# --- counters -------------------------------------------------------------------------------------------------------

WEB = Rule("web", "all", protocols=(6, 17), dest_ports=(PortRange(80, 80),))
REST = Rule("rest", "all")


def test_counters_add_up_over_lines_and_families() -> None:
    found = plan(config(rules=[WEB, REST]), facts())
    seen = {V4: {"mwan3_rules": [(1, 10), (2, 20), (4, 40)]}, V6: {"mwan3_rules": [(8, 80), (0, 0), (16, 160)]}}
    assert rule_counters(found, seen) == {"web": RuleCounters(11, 110), "rest": RuleCounters(20, 200)}


def test_log_lines_do_not_count() -> None:
    found = plan(config(rules=[replace(REST, logging=True)], logging=True), facts())
    assert rule_counters(found, {V4: {"mwan3_rules": [(7, 70), (3, 30)]}}) == {"rest": RuleCounters(3, 30)}


def test_a_chain_of_another_length_does_not_count() -> None:
    found = plan(config(rules=[REST]), facts())
    assert rule_counters(found, {V4: {"mwan3_rules": [(1, 1), (2, 2)]}, V6: {}}) == {}


def test_rules_that_only_prerouting_walks() -> None:
    mac = Rule("tv", "all", src_mac=("02:00:00:00:00:01",))
    found = plan(config(rules=[mac, REST]), facts())
    seen = {V4: {"mwan3_rules": [(1, 10), (2, 20)], "mwan3_rules_out": [(4, 40)]}}
    assert rule_counters(found, seen) == {"tv": RuleCounters(1, 10), "rest": RuleCounters(6, 60)}
