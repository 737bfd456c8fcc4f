"""How many lines a packet passes on its way through the chains: exact, where time is not.

A packet of an open connection passes the same few, however many rules, policies and interfaces there are.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Affinity, Config, Family, Policy, PortRange, Rule
from connbal.model.marks import MarkSpace
from connbal.plan.build import plan
from connbal.plan.explain import Packet, World, walk
from connbal.plan.values import Plan
from tests.fakes.build import V4, V6, config, facts, with_affinity
from tests.fakes.quick import quick

UDP = 17
#: Of the hook: the mark restored, five questions for who has none, the mark saved, three jumps to the exempt sets; and
#: the line of each of these.
SENT = 1 + 5 + 1 + 3 + 3
#: The destination is in the second of the three sets, so the third is not asked.
RECEIVED = SENT - 1
#: With the mark "default" none of them is.
DEFAULT = SENT - 3
#: Before all else, for IPv6: is it neighbour discovery?
MORE = {V4: 0, V6: 5}

ADDRESSES = {V4: ("192.168.1.20", "203.0.113.7"), V6: ("fd00:1::20", "2001:db8:ffff::7")}


def packet(family: Family, *, back: bool = False, device: str = "br-lan") -> Packet:
    inside, outside = map(ipaddress.ip_address, ADDRESSES[family])
    ends = (outside, inside) if back else (inside, outside)
    return Packet(*ends, protocol=UDP, source_port=4000, destination_port=5000, device=device)


def passed(found: Plan, sent: Packet, mark: int = 0) -> int:
    """The lines that a packet meets whose connection has this mark. No chance may be in its way, or both count."""
    return len(walk(found, sent, World(connection=mark)).steps)


def sized(interfaces: int, rules: int, affinity: Affinity = Affinity.PAIR) -> Config:
    """Interfaces of both families in turn; rules of which the last alone takes the packet, for a policy of all."""
    words = words_of(interfaces)
    others = [Rule(f"r{n}", "all", protocols=(UDP,), dest_ports=(PortRange(10000 + n, 10000 + n),))
              for n in range(rules - 1)]  # fmt: skip
    return with_affinity(config(words, rules=[*others, Rule("rest", "all")]), affinity)


def words_of(interfaces: int) -> str:
    return " ".join(f"w{number}" + (":6" if number % 2 else "") for number in range(interfaces))


@quick(30)
@given(
    interfaces=st.integers(2, 60), rules=st.integers(1, 40), affinity=st.sampled_from(Affinity),
    policies=st.integers(0, 20), sticky=st.booleans(), steer=st.booleans(), data=st.data(),
)  # fmt: skip
def test_an_open_connection_passes_the_same_lines_whatever_there_is(
    interfaces: int, rules: int, affinity: Affinity, policies: int, sticky: bool, steer: bool, data: st.DataObject
) -> None:
    wanted = sized(interfaces, rules, affinity)
    more = tuple(Policy(f"p{number}", wanted.policies[0].members) for number in range(policies))
    last = replace(wanted.rules[-1], sticky=sticky)
    wanted = replace(wanted, policies=(*wanted.policies, *more), rules=(*wanted.rules[:-1], last))
    found = plan(wanted, replace(facts(words_of(interfaces)), steer=steer))
    space = MarkSpace(found.mask)
    number = data.draw(st.integers(1, interfaces), label="interface")
    family, mark = wanted.interfaces[number - 1].family, space.mark(number)
    back = packet(family, back=True, device=f"eth{number}")
    assert passed(found, packet(family), mark) == SENT + MORE[family]
    assert passed(found, back, mark) == RECEIVED + MORE[family]
    assert passed(found, packet(family), space.mask) == DEFAULT + MORE[family]


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.parametrize(("interfaces", "rules"), [(2, 1), (2, 1000), (60, 1), (60, 100)])
def test_a_new_connection_passes_one_line_for_each_interface_rule_and_member(
    family: Family, interfaces: int, rules: int
) -> None:
    found = plan(sized(interfaces, rules), facts(words_of(interfaces)))
    (policy,) = (chain for chain in found.rulesets[family].chains if chain.name == "mwan3_policy_all")
    own = interfaces // 2
    exempt = 3  # the lines of the chains that are jumped to while it has no mark
    assert passed(found, packet(family)) == SENT + MORE[family] + exempt + own + rules + len(policy.rules)
    assert len(policy.rules) == own


@pytest.mark.parametrize("family", [V4, V6])
def test_who_comes_in_by_an_interface_is_asked_about_its_own_alone(family: Family) -> None:
    """And the rules are not looked at: it has its mark before."""
    interfaces = 60
    found = plan(sized(interfaces, 100), facts(words_of(interfaces)))
    last = 59 if family is V4 else 60
    inside = 4  # lines of its chain
    came = passed(found, packet(family, back=True, device=f"eth{last}"))
    assert came == RECEIVED + MORE[family] + interfaces // 2 + inside


def test_who_no_rule_takes_is_asked_about_each_again() -> None:
    """It has no mark, as with mwan3: a last rule for everything is what helps."""
    whole = sized(2, 100)
    found = plan(replace(whole, rules=whole.rules[:-1]), facts(words_of(2)))
    (end,) = walk(found, packet(V4), World()).ends
    assert end.connection == 0
    assert passed(found, packet(V4), end.connection) >= SENT + 99
    found = plan(replace(whole, rules=(*whole.rules[:-1], Rule("rest", "default"))), facts(words_of(2)))
    (end,) = walk(found, packet(V4), World()).ends
    assert passed(found, packet(V4), end.connection) == DEFAULT
