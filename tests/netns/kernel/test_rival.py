"""Taking single rules and routes of others away, and no other."""

from __future__ import annotations

import pytest

from connbal.kernel.netlink import NLM_F_CREATE
from connbal.kernel.rival import RivalRouting
from connbal.kernel.routing import rule_message
from connbal.model.config import Family
from connbal.plan.leftovers import FoundRoute, FoundRule
from connbal.plan.values import IpRule
from tests.netns.kernel.isolation import isolated, run, veth

pytestmark = pytest.mark.netns


def shown(ip: str) -> list[str]:
    return sorted(line.strip() for line in run(f"{ip} rule show priority 2001").splitlines())


@isolated
def test_the_rule_that_is_meant_goes_and_those_like_it_stay(family: Family) -> None:
    ip = "ip -6" if family is Family.IPV6 else "ip"
    routing = RivalRouting()
    run(f"{ip} rule add priority 2001 fwmark 0x100/0x3f00 lookup 1 protocol 77")
    run(f"{ip} rule add priority 2001 fwmark 0x100/0x3f00 lookup 1 protocol 131")
    before = shown(ip)
    run(f"{ip} rule add priority 2001 fwmark 0x100/0x3f00 lookup 1")
    rules, _ = routing.found()
    (meant,) = (one for one in rules if one.rule.priority == 2001 and one.protocol not in (77, 131))
    assert routing.remove_rule(meant)
    assert shown(ip) == before
    assert routing.remove_rule(meant)
    assert shown(ip) == before


@isolated
def test_a_rule_that_cannot_be_put_back_is_not_moved(family: Family) -> None:
    ip = "ip -6" if family is Family.IPV6 else "ip"
    routing = RivalRouting()
    target = "192.0.2.1" if family is Family.IPV4 else "2001:db8::1"
    run(f"{ip} rule add priority 2001 to {target} fwmark 0x100/0x3f00 lookup 1")
    meant = FoundRule(IpRule(family.value, 2001, "lookup", table=1, mark=0x100, mask=0x3F00), 0)
    # The ip command would say that there is one, looking at no more than what it was given.
    routing._netlink.request(rule_message(meant.rule, 0), 32, NLM_F_CREATE, "ip rule add")
    before = shown(ip)
    assert len(before) == 2
    assert not routing.remove_rule(meant)
    assert shown(ip) == before


@isolated
def test_routes_of_any_kind_go_and_those_like_them_stay(family: Family) -> None:
    veth("wan1", "10.0.1.2/24", "fd00:1::2/64")
    ip, net, far = ("ip -6", "fd09::/32", "fd00:1::1") if family is Family.IPV6 else ("ip", "10.9.0.0/16", "10.0.1.1")
    routing = RivalRouting()
    run(f"{ip} route add {net} via {far} dev wan1 table 5 metric 7 protocol 131")
    before = run(f"{ip} route show table 5")
    run(f"{ip} route add {net} via {far} dev wan1 table 5 metric 9 protocol static")
    run(f"{ip} route add default via {far} dev wan1 table 5 metric 9 protocol 77")
    run(f"{ip} route add unreachable {net} table 5 metric 11")
    found: list[FoundRoute] = [one for one in routing.found()[1] if one.route.table == 5 and one.protocol != 131]
    assert len(found) == 3
    for one in found * 2:
        routing.remove_route(one)
    assert run(f"{ip} route show table 5") == before
