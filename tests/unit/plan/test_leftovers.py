"""What is told apart as mwan3's: by shape and by copies, and nothing else."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Family
from connbal.model.marks import MarkSpace
from connbal.model.terms import Verdict
from connbal.plan.ledger import Ledger
from connbal.plan.leftovers import Found, FoundRoute, FoundRule, Leftovers, conflicts, leftovers
from connbal.plan.state import ROUTE_PROTOCOL, SetState
from connbal.plan.values import IpRoute, IpRule, Plan, SetSpec

MASK = 0x3F00
BOOT, STATIC, KERNEL = 3, 4, 2
UNICAST = 1


def of_mwan3(mask: int, ids: dict[int, str], family: str = "ipv4") -> list[FoundRule]:
    """The rules that mwan3 makes."""
    space = MarkSpace(mask)
    rules = []
    for verdict in (Verdict.BLACKHOLE, Verdict.UNREACHABLE):
        number = space.verdict_id(verdict)
        rules.append(IpRule(family, 2000 + number, verdict.value, mark=space.mark(number), mask=mask))
    for number, device in ids.items():
        rules += [
            IpRule(family, 1000 + number, "lookup", table=number, iif=device),
            IpRule(family, 2000 + number, "lookup", table=number, mark=space.mark(number), mask=mask),
            IpRule(family, 3000 + number, "unreachable", mark=space.mark(number), mask=mask),
        ]
    return [FoundRule(rule, BOOT) for rule in rules]


@given(
    mask=st.integers(0, 0xFFFFFFFF).filter(lambda mask: bin(mask).count("1") >= 3),
    ids=st.sets(st.integers(1, 60), max_size=6),
)
def test_rules_of_any_mask_and_ids_are_known(mask: int, ids: set[int]) -> None:
    fitting = {number: f"eth{number}" for number in ids if number <= MarkSpace(mask).capacity}
    rules = of_mwan3(mask, fitting)
    found = leftovers(Found(rules=tuple(rules)), Ledger(), Plan())
    assert set(found.rules) == set(rules)
    assert found.mask == mask
    assert found.devices == fitting
    assert found.others == ()


@pytest.mark.parametrize(
    "other",
    [
        FoundRule(IpRule("ipv4", 2001, "lookup", table=1, mark=0x100, mask=MASK), BOOT, plain=False),
        FoundRule(IpRule("ipv4", 2001, "lookup", table=1, mark=0x100, mask=MASK), 77),
        FoundRule(IpRule("ipv4", 2003, "lookup", table=100, mark=0x300, mask=MASK), BOOT),
        FoundRule(IpRule("ipv4", 2003, "lookup", table=3, mark=0x300, mask=0xFF00), BOOT),
        FoundRule(IpRule("ipv4", 2003, "lookup", table=3, mark=0x400, mask=MASK), BOOT),
        FoundRule(IpRule("ipv4", 2003, "lookup", table=3, mark=0x300, mask=MASK, iif="br-lan"), BOOT),
        FoundRule(IpRule("ipv4", 1007, "lookup", table=7, iif="br-lan"), BOOT),
        FoundRule(IpRule("ipv4", 1001, "lookup", table=2, iif="wan1"), BOOT),
        FoundRule(IpRule("ipv4", 3001, "blackhole", mark=0x100, mask=MASK), BOOT),
        FoundRule(IpRule("ipv6", 2001, "lookup", table=1, mark=0x100, mask=MASK), BOOT),
        FoundRule(IpRule("ipv4", 3999, "lookup", table=254, mark=1, mask=1), BOOT),
    ],
)
def test_rules_of_others_are_left_alone(other: FoundRule) -> None:
    rules = of_mwan3(MASK, {1: "wan1"})
    found = leftovers(Found(rules=(other, *rules)), Ledger(), Plan())
    assert set(found.rules) == set(rules)
    assert len(found.others) == 1


def test_without_a_verdict_rule_nothing_is_mwan3s() -> None:
    rules = [one for one in of_mwan3(MASK, {1: "wan1", 2: "wan2"}) if one.rule.priority not in (2061, 2062)]
    found = leftovers(Found(rules=tuple(rules)), Ledger(), Plan())
    assert not found
    assert found.mask == 0
    assert len(found.others) == len(rules)


def test_what_others_are_known_by_goes_last() -> None:
    """So that whatever is left of a removal that was cut short is still known."""
    rules = of_mwan3(MASK, {1: "wan1", 2: "wan2"})
    order = list(leftovers(Found(rules=tuple(rules)), Ledger(), Plan()).rules)
    while order:
        order.pop(0)
        assert set(leftovers(Found(rules=tuple(order)), Ledger(), Plan()).rules) == set(order)


def route(text: str, table: int, protocol: int = STATIC, type_: int = UNICAST, via: str = "") -> FoundRoute:
    gateway = ipaddress.ip_address(via) if via else None
    return FoundRoute(
        IpRoute(Family.IPV4, table, ipaddress.ip_network(text), "wan1", gateway, metric=10), protocol, type_
    )


ANY, NET = "0.0.0.0/0", "10.1.0.0/24"
MAIN = (route(ANY, 254, via="10.1.0.1"), route(NET, 254, KERNEL))


def routes(*extra: FoundRoute, rules: list[FoundRule] | None = None, ids: dict[str, int] | None = None) -> Leftovers:
    everything = of_mwan3(MASK, {1: "wan1"}) if rules is None else rules
    return leftovers(Found(rules=tuple(everything), routes=(*MAIN, *extra)), Ledger(), Plan(ids=ids or {}))


def test_copies_of_the_main_table_are_mwan3s() -> None:
    copies = (route(ANY, 1, via="10.1.0.1"), route(NET, 1, KERNEL))
    assert set(routes(*copies).routes) == set(copies)
    assert routes(*copies, rules=[]).routes == ()
    assert set(routes(*copies, rules=[], ids={"wan": 1}).routes) == set(copies)


def test_other_routes_are_left_alone() -> None:
    others = (
        route("192.0.2.0/28", 1), route(ANY, 1, via="10.1.0.9"), route(ANY, 1, 77, via="10.1.0.1"),
        route(NET, 1, KERNEL, 7),
    )  # fmt: skip
    found = routes(*others, route(NET, 2, KERNEL), route(NET, 1, ROUTE_PROTOCOL))
    assert found.routes == ()
    assert len(found.others) == len(others)


def test_a_table_that_no_rule_leads_to_is_mwan3s_only_throughout() -> None:
    found = routes(route(NET, 1, KERNEL), route("192.0.2.0/28", 1), rules=[], ids={"wan": 1})
    assert found.routes == ()
    assert routes(route(ANY, 1, via="10.1.0.1"), rules=[], ids={"wan": 1}).routes == ()


def test_sets() -> None:
    names = (
        "mwan3_connected_ipv4", "mwan3_dynamic_v4", "mwan3_connected", "mwan3_sticky_v4_web", "mwan3_rule_ipv6_web",
        "mwan3_mine", "mwan3_addr_0123", "youtube", "mwan3_custom_ipv4", "mwan3_made",
    )  # fmt: skip
    sets = {name: SetState(name, "list:set" if name == "mwan3_connected" else "hash:net", None) for name in names}
    plan = Plan(sets=(SetSpec("mwan3_custom_ipv4", "hash:net", Family.IPV4),))
    found = leftovers(Found(sets=sets), Ledger(made_sets=frozenset({"mwan3_made"})), plan)
    assert found.sets[0] == "mwan3_connected"
    assert set(found.sets) == {*names[:5]}
    assert found.others == ("set mwan3_mine",)


def test_chains_are_mwan3s_where_the_ledger_does_not_know_them() -> None:
    found = Found(chains={Family.IPV4: {"PREROUTING": (), "mwan3_hook": (), "mwan3_rules": (), "qos": ()}})
    known = Ledger(mask=MASK, chains={Family.IPV4: {"mwan3_hook": ("a", "b")}})
    assert leftovers(found, Ledger(), Plan()).chains[Family.IPV4] == ("mwan3_hook", "mwan3_rules")
    assert leftovers(found, known, Plan()).chains[Family.IPV4] == ("mwan3_rules",)


def test_ids_are_those_of_the_chains() -> None:
    lines = {
        f"mwan3_iface_in_{name}": (
            f"-i {name} -m mark --mark 0x0/0x3f00 -m comment --comment default -j MARK --set-xmark 0x3f00/0x3f00",
            f"-i {name} -m mark --mark 0x0/0x3f00 -m comment --comment {name} -j MARK --set-xmark {mark}/0x3f00",
        )
        for name, mark in (("wan", "0x100"), ("wanb", "0x200"))
    }
    found = leftovers(Found(tuple(of_mwan3(MASK, {})), chains={Family.IPV4: lines}), Ledger(), Plan())
    assert found.ids == {"wan": 1, "wanb": 2}
    agreed = Plan(mask=MASK, ids={"wan": 1, "wanb": 2, "new": 3})
    assert list(conflicts(found, agreed)) == []
    assert list(conflicts(found, replace(agreed, ids={"wanb": 2}))) == []  # wan is not enabled any more
    assert len(list(conflicts(found, replace(agreed, ids={"wan": 2, "wanb": 1})))) == 2
    assert len(list(conflicts(found, replace(agreed, mask=0xFF00)))) == 1


def test_without_chains_devices_say_whose_an_id_is() -> None:
    found = Leftovers(mask=MASK, devices={1: "eth1", 2: "eth2"})
    rules = {name: IpRule("ipv4", 1000 + number, "lookup", table=number, iif=name)
             for name, number in (("eth1", 1), ("eth2", 2))}  # fmt: skip
    assert list(conflicts(found, Plan(mask=MASK, ip_rules=tuple(rules.values())))) == []
    moved = replace(rules["eth2"], table=1, priority=1001)
    assert len(list(conflicts(found, Plan(mask=MASK, ip_rules=(moved,))))) == 1
