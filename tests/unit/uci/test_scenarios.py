"""The three scenarios: what they write, that they are at rest when repeated, and that the right rule is met first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.errors import UsageError
from connbal.model.config import Affinity, Config, Rule
from connbal.plan.shares import percents, shares
from connbal.uci import scenarios
from connbal.uci.decode import decode
from connbal.uci.edit import Editor
from connbal.uci.scenario import Traffic
from connbal.uci.text import parse
from tests.fakes.packets import PACKETS, TV, matches, takes

SOURCES = "".join(f"config interface '{name}'\n\n" for name in ("wan", "wan1", "wan2", "wwan"))
HALVES = "".join(
    f"config interface '{name}'\n\toption family 'ipv6'\n\n" for name in ("wan6", "wan1_6", "wan2_6", "wwan6")
)
INVERSE = "config globals 'globals'\n\toption weight_mode 'inverse'\n\toption affinity 'pair'\n\n"


def editor(text: str = SOURCES) -> Editor:
    return Editor(parse(text.encode(), "mwan3"))


def config(one: Editor) -> Config:
    found = decode(one.package)
    assert not found.findings, found.findings
    return found.config


def options(one: Editor, name: str) -> dict[str, object]:
    section = one.package.get(name)
    assert section is not None, name
    return dict(section.options)


def rules(one: Editor) -> list[str]:
    return [section.name for section in one.package.of_type("rule")]


# --- the document -----------------------------------------------------------------------------------------------------


def test_a_device_and_the_others_as_the_document_has_them() -> None:
    one = editor()
    scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], others=["wan1"], name="SmartTV")
    assert options(one, "SmartTV") == {
        "src_ip": TV, "dest_ip": "0.0.0.0/0", "proto": "all", "use_policy": "TV_Policy",
    }  # fmt: skip
    assert options(one, "TV_Policy") == {"use_member": ("TV_Internet",)}
    assert options(one, "TV_Internet") == {"interface": "wan2", "metric": "1", "weight": "1"}
    assert options(one, "All_Traffic") == {"dest_ip": "0.0.0.0/0", "proto": "all", "use_policy": "All_Policy"}
    assert options(one, "All_Policy") == {"use_member": ("All_Internet",)}
    assert options(one, "All_Internet") == {"interface": "wan1", "metric": "1", "weight": "1"}
    assert rules(one) == ["SmartTV", "All_Traffic"]
    assert [found.name for found in config(one).interfaces if found.enabled] == ["wan1", "wan2"]


def test_failover_as_the_document_has_it() -> None:
    one = editor()
    scenarios.failover(one, ["wwan", "wan1"])
    assert options(one, "All_Policy") == {"use_member": ("Primary", "Secondary")}
    assert options(one, "Primary") == {"interface": "wwan", "metric": "1", "weight": "1"}
    assert options(one, "Secondary") == {"interface": "wan1", "metric": "2", "weight": "1"}


def test_split_as_the_document_has_it() -> None:
    one = editor(INVERSE + SOURCES)
    scenarios.split(one, {"wan1": 2, "wan2": 1})
    assert options(one, "All_Policy") == {"use_member": ("Source1", "Source2")}
    assert options(one, "Source1") == {"interface": "wan1", "metric": "1", "weight": "1"}
    assert options(one, "Source2") == {"interface": "wan2", "metric": "1", "weight": "2"}


def test_all_three_at_once() -> None:
    one = editor(INVERSE + SOURCES)
    scenarios.split(one, {"wan1": 3, "wan2": 1})
    scenarios.failover(one, ["wwan", "wan1"], traffic=Traffic(proto="tcp", dest_ports=("443",)), name="Web")
    scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], name="SmartTV")
    assert rules(one) == ["SmartTV", "Web", "All_Traffic"]
    assert options(one, "Web_Policy") == {"use_member": ("Web_Primary", "Web_Secondary")}
    assert options(one, "Source2")["weight"] == "3"


# --- families ---------------------------------------------------------------------------------------------------------


def test_ipv6_halves_come_along() -> None:
    one = editor(SOURCES + HALVES)
    (outcome,) = scenarios.failover(one, ["wwan", "wan1"])
    assert options(one, "All_Policy") == {"use_member": ("Primary", "Primary_6", "Secondary", "Secondary_6")}
    assert options(one, "Secondary_6") == {"interface": "wan1_6", "metric": "2", "weight": "1"}
    assert options(one, "All_Traffic")["dest_ip"] == ("0.0.0.0/0", "::/0")
    assert {found.name for found in config(one).interfaces if found.enabled} == {"wwan", "wwan6", "wan1", "wan1_6"}
    assert not [note for note in outcome.notes if "IPv6" in note]


def test_a_device_by_its_ipv4_address_has_no_ipv6_and_it_is_said() -> None:
    one = editor(SOURCES + HALVES)
    (outcome,) = scenarios.device(one, Traffic(ips=(TV,)), ["wan2"])
    assert options(one, outcome.policy) == {"use_member": (f"{outcome.rule}_Internet",)}
    assert outcome.notes == ["its IPv6 is not covered: give its IPv6 address as well, or --mac instead of --ip"]


def test_a_device_by_its_mac_has_both() -> None:
    one = editor(SOURCES + HALVES)
    (outcome,) = scenarios.device(one, Traffic(macs=("AA:bb:cc:00:11:22",)), ["wan2"])
    assert outcome.rule == "Dev1122"
    assert len(config(one).policies[0].members) == 2
    assert not outcome.notes


@pytest.mark.parametrize(
    ("use", "note"),
    [
        (["wan1"], "IPv6 is not covered: there is no IPv6 interface for wan1"),
        (["wan2", "wan1"], "IPv6 does not use wan1: there is no IPv6 interface for it"),
    ],
)
def test_what_ipv6_lacks_is_said(use: list[str], note: str) -> None:
    one = editor(SOURCES + "config interface wan2_6\n\toption family ipv6\n")
    (outcome,) = scenarios.device(one, Traffic(macs=("aa:bb:cc:00:11:22",)), use)
    assert note in outcome.notes


def test_no_family_in_common() -> None:
    with pytest.raises(UsageError, match="no address family in common"):
        scenarios.device(editor(), Traffic(ips=("2001:db8::1",)), ["wan2"])


# --- again, and otherwise ---------------------------------------------------------------------------------------------

Wish = Callable[[Editor], object]
NAMES = ["wan", "wan1", "wan2", "wwan"]

some = st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True)
traffics = st.sampled_from([
    Traffic(), Traffic(ips=(TV,)), Traffic(ips=("192.168.1.0/24",)), Traffic(ips=("192.168.1.178", "fd01::178")),
    Traffic(macs=("aa:bb:cc:00:11:22",)), Traffic(ipset="youtube"), Traffic(proto="tcp", dest_ports=("443",)),
    Traffic(proto="udp", dest_ports=("53", "5000:5010")), Traffic(ips=(TV,), proto="tcp", dest_ports=("80", "443")),
])  # fmt: skip
names = st.sampled_from([None, "SmartTV", "Web", "All_Traffic", "Primary_Traffic"])


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    traffic, name, interfaces = draw(traffics), draw(names), draw(some)
    kind = draw(st.sampled_from(["device", "failover", "split"]))
    if kind == "device" and traffic.is_device:
        others = draw(st.sampled_from([[], ["wan1"]])) if name != "All_Traffic" else []
        return lambda one: scenarios.device(one, traffic, interfaces, others=others, name=name)
    if kind == "split":
        parts = {interface: draw(st.integers(1, 9)) for interface in interfaces}
        affinity = draw(st.sampled_from([None, *Affinity]))
        return lambda one: scenarios.split(one, parts, affinity=affinity, traffic=traffic, name=name)
    return lambda one: scenarios.failover(one, interfaces, traffic=traffic, name=name)


def written(found: Sequence[dict[str, str]]) -> str:
    """Rules of others, and names that scenarios would like to have in sections of other types."""
    text = "config policy 'All_Policy'\n\nconfig member 'Web_Policy'\n\toption interface 'wan'\n\n"
    for number, each in enumerate(found):
        text += f"config rule 'r{number}'\n"
        text += "".join(f"\toption {key} '{value}'\n" for key, value in {"use_policy": "default", **each}.items())
    return text


@given(st.lists(matches, max_size=4), st.lists(wishes(), min_size=1, max_size=4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_same_wish_again_changes_nothing(others: list[dict[str, str]], wished: list[Wish], six: bool) -> None:
    one = editor(SOURCES + (HALVES if six else "") + written(others))
    for wish in wished:
        wish(one)
        before = one.package
        again = Editor(before)
        wish(again)
        assert not again.changes, again.changes


@given(st.lists(matches, max_size=4), wishes(), wishes())
@settings(max_examples=100, deadline=None)
def test_sections_of_others_stay_as_they_are(others: list[dict[str, str]], first: Wish, second: Wish) -> None:
    text = SOURCES + written(others)
    one = editor(text)
    first(one)
    second(one)
    for section in editor(text).sections():
        now = one.package.get(section.name)
        used = section.name == "All_Policy" and not any(each.get("use_policy") == "All_Policy" for each in others)
        if section.type != "interface" and not used:
            assert now == section


def test_other_values_change_the_same_sections() -> None:
    one = editor()
    scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], name="SmartTV")
    before = [(section.type, section.name) for section in one.sections()]
    scenarios.device(one, Traffic(ips=("192.168.1.179",)), ["wwan"], name="SmartTV")
    assert [(section.type, section.name) for section in one.sections()] == before
    assert options(one, "SmartTV")["src_ip"] == "192.168.1.179"
    assert options(one, "TV_Internet")["interface"] == "wwan"


def test_a_device_without_a_name_finds_its_rule() -> None:
    one = editor()
    scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], name="SmartTV")
    (outcome,) = scenarios.device(one, Traffic(ips=(TV,)), ["wan1"])
    assert outcome.rule == "SmartTV"
    assert rules(one) == ["SmartTV"]


@pytest.mark.parametrize(
    ("traffic", "name"),
    [
        (Traffic(ips=(TV,)), "Dev178"),
        (Traffic(ips=("192.168.100.0/24",)), "Dev0_24"),
        (Traffic(ips=("fd01::178",)), "Dev178"),
        (Traffic(ips=("192.168.1.100-192.168.1.200",)), "Dev200"),
        (Traffic(macs=("00-11-22-AA-BB-CC",)), "DevBBCC"),
        (Traffic(proto="tcp", dest_ports=("443",)), "Tcp443"),
        (Traffic(proto="udp", dest_ports=("1024:2048", "53")), "Udp1024_"),
        (Traffic(ipset="youtube"), "youtube"),
    ],
)
def test_names_of_their_own_are_short_enough_for_mwan3(traffic: Traffic, name: str) -> None:
    one = editor(SOURCES + HALVES)
    (outcome,) = scenarios.failover(one, ["wan", "wan1"], traffic=traffic)
    assert outcome.rule == name
    assert len(outcome.policy) <= 15
    assert scenarios.failover(one, ["wan", "wan1"], traffic=traffic)[0].rule == name


def test_devices_whose_short_names_are_the_same_have_two_rules() -> None:
    one = editor()
    for ip in (TV, "10.0.0.178", TV):
        scenarios.device(one, Traffic(ips=(ip,)), ["wan2"])
    assert rules(one) == ["Dev178", "Dev178_2"]
    assert options(one, "Dev178_2")["src_ip"] == "10.0.0.178"


def test_members_that_are_no_more_used_go() -> None:
    one = editor()
    scenarios.failover(one, ["wwan", "wan1", "wan2"])
    scenarios.split(one, {"wan1": 1, "wan2": 1})
    assert [section.name for section in one.package.of_type("member")] == ["Source1", "Source2"]


def test_a_policy_that_others_use_is_used_but_not_changed() -> None:
    one = editor()
    scenarios.failover(one, ["wwan", "wan1"])
    one.set("mine", "rule")
    one.set("mine", "use_policy", "All_Policy")
    one.set("mine", "src_ip", "192.168.1.7")
    scenarios.failover(one, ["wwan", "wan1"])
    assert options(one, "All_Traffic")["use_policy"] == "All_Policy"
    scenarios.failover(one, ["wan", "wan1"])
    assert options(one, "All_Traffic")["use_policy"] == "All_Policy_2"
    assert options(one, "All_Policy") == {"use_member": ("Primary", "Secondary")}
    assert options(one, "All_Policy_2") == {"use_member": ("Primary_2", "Secondary")}


def test_the_weight_mode_in_force_counts() -> None:
    one = editor(INVERSE + SOURCES)
    scenarios.split(one, {"wan1": 3, "wan2": 1})
    assert options(one, "Source2")["weight"] == "3"
    one.set("All_Policy", "weight_mode", "proportional")
    scenarios.split(one, {"wan1": 3, "wan2": 1}, affinity=Affinity.SOURCE)
    assert options(one, "Source1")["weight"] == "3"
    found = config(one).policies_by_name["All_Policy"]
    assert found.affinity is Affinity.SOURCE
    assert found.weight_mode is not None
    weights = [config(one).members_by_name[name].weight for name in found.members]
    assert percents(shares(weights, found.weight_mode)) == [75, 25]


# --- order ------------------------------------------------------------------------------------------------------------


@given(st.lists(matches, max_size=5), st.sampled_from([Traffic(ips=(TV,)), Traffic(macs=("aa:bb:cc:00:11:22",))]),
       st.booleans())  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_the_packet_of_a_device_meets_its_rule_first(
    others: list[dict[str, str]], traffic: Traffic, six: bool
) -> None:
    """Unless the rule above takes a part only of what the device does: that one is more special."""
    one = editor(SOURCES + (HALVES if six else "") + written(others))
    (outcome,) = scenarios.device(one, traffic, ["wan2"], others=[])
    found = decode(one.package).config.rules
    own = next(rule for rule in found if rule.name == outcome.rule)
    its = [packet for packet in PACKETS if takes(own, packet)]
    assert its
    for packet in its:
        first = next(rule for rule in found if takes(rule, packet))
        if first.name != outcome.rule:
            theirs = [other for other in PACKETS if takes(first, other) and "." in other.src]
            ours = [other for other in PACKETS if takes(own, other) and "." in other.src]
            narrower = {other.src for other in theirs} <= {other.src for other in ours}
            assert narrower, (first, packet)
            assert set(theirs) != set(ours)


@given(st.lists(matches, max_size=5), some)
@settings(max_examples=200, deadline=None)
def test_all_traffic_stands_below_what_is_special(others: list[dict[str, str]], interfaces: list[str]) -> None:
    """No rule that was reached before and is not for everything is out of reach now.

    Where it stood below one that is for everything of one family, no place is above that and below it: it may be out
    of reach, and is named.
    """
    text = SOURCES + HALVES + written(others)
    one = editor(text)
    before = [rule for rule in decode(editor(text).package).config.rules if rule.enabled]
    (outcome,) = scenarios.failover(one, interfaces)
    after = decode(one.package).config.rules
    named = {note.split()[1] for note in outcome.notes if "not reached" in note}
    for number, rule in enumerate(before):
        reached = any(next(other for other in before if takes(other, packet)) is rule for packet in PACKETS
                      if takes(rule, packet))  # fmt: skip
        now = any(next(other for other in after if takes(other, packet)).name == rule.name for packet in PACKETS
                  if takes(rule, packet))  # fmt: skip
        below = any(takes_all_of_a_family(other) for other in before[:number])
        assert now or not reached or takes_all_of_a_family(rule) or (below and rule.name in named)
        if rule.name in named:
            assert not now


def takes_all_of_a_family(rule: Rule) -> bool:
    return any(all(takes(rule, packet) for packet in PACKETS if dot in packet.src) for dot in (".", ":"))


def test_what_is_for_a_device_stays_above_what_is_for_a_port() -> None:
    """Whichever came first: the television goes before the web."""
    one = editor()
    scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], name="SmartTV")
    scenarios.failover(one, ["wwan", "wan1"], traffic=Traffic(proto="tcp", dest_ports=("443",)), name="Web")
    assert rules(one) == ["SmartTV", "Web"]
    scenarios.failover(one, ["wan", "wan1"], traffic=Traffic(ips=(TV,), proto="tcp", dest_ports=("443",)), name="TvWeb")
    assert rules(one) == ["TvWeb", "SmartTV", "Web"]


def test_a_rule_that_stands_right_stays() -> None:
    one = editor()
    scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], name="SmartTV", others=["wan1"])
    one.set("last", "rule")
    one.set("last", "src_ip", "192.168.1.7")
    one.set("last", "use_policy", "TV_Policy")
    scenarios.failover(one, ["wwan", "wan1"])
    assert rules(one) == ["SmartTV", "last", "All_Traffic"]
    scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], name="SmartTV")
    assert rules(one) == ["SmartTV", "last", "All_Traffic"]


def test_all_traffic_on_the_default_configuration_comes_before_its_rules_for_everything() -> None:
    import importlib.resources

    one = editor(importlib.resources.files("connbal").joinpath("default-config").read_text("utf-8"))
    (outcome,) = scenarios.failover(one, ["wwan", "wan1"])
    assert rules(one) == ["All_Traffic", "default_rule_v4", "default_rule_v6"]
    assert [note.split()[1] for note in outcome.notes] == ["default_rule_v4", "default_rule_v6"]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (lambda one: scenarios.device(one, Traffic(), ["wan2"]), "give --ip or --mac"),
        (lambda one: scenarios.device(one, Traffic(ips=("tv.lan",)), ["wan2"]), "is not an address"),
        (lambda one: scenarios.device(one, Traffic(ips=(TV,)), ["wna2"]), "did you mean wan2"),
        (lambda one: scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], name="a'b"), "letters, digits and _"),
        (lambda one: scenarios.device(one, Traffic(ips=(TV,)), ["wan2"], name="wan"), "no rule but of type interface"),
        (lambda one: scenarios.failover(one, ["wan1"]), "at least two"),
        (lambda one: scenarios.failover(one, NAMES, traffic=Traffic(ipset="a b")), "is not the name of an ipset"),
        (lambda one: scenarios.failover(one, ["wan1", "wan1"]), "twice"),
        (lambda one: scenarios.split(one, {"wan1": 0, "wan2": 1}), "whole number from 1"),
        (lambda one: scenarios.failover(one, NAMES, traffic=Traffic(proto="icmp", dest_ports=("1",))), "has none"),
    ],
)  # fmt: skip
def test_refusals_say_what_is_wrong(wish: Wish, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        wish(editor())


def test_a_network_without_a_section_gets_one() -> None:
    one = editor("")
    scenarios.failover(one, ["wan", "wan6"], networks={"wan", "wan6", "lan"})
    assert options(one, "wan") == {"enabled": "1"}
    assert options(one, "wan6") == {"family": "ipv6", "enabled": "1"}
