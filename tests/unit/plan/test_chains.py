"""The layout of the chains, as rendered text where that says it best."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Affinity, Config, Family, Policy, PortRange, Rule, Verdict
from connbal.model.names import MAX_LOG_PREFIX
from connbal.plan.build import plan
from connbal.plan.chains import log_prefix
from connbal.plan.diff import rendered
from connbal.plan.iptables import rule_text
from connbal.plan.values import (
    ChainRule,
    Chance,
    Goto,
    HopLimit,
    InDevice,
    Jump,
    Log,
    OwnerGroup,
    Plan,
    Return,
    Ruleset,
    SetMark,
    SourceMac,
)
from tests.fakes.build import V4, V6, config, facts
from tests.fakes.quick import quick

TV = Rule("tv", "all", src_mac=("02:00:00:00:00:01",))
REST = Rule("rest", "all")


def chains(found: Plan, family: Family = V4) -> dict[str, list[str]]:
    """Each chain's lines, without ``-A CHAIN``."""
    ready = rendered(found.rulesets[family], family)
    return {name: [line.text.split(" ", 2)[2] for line in lines] for name, lines in ready.items()}


def made(
    wanted: Config, family: Family = V4, words: str = "wan wan1 wan6:6", steer: bool = False, **facts_: str
) -> dict[str, list[str]]:
    return chains(plan(wanted, replace(facts(words, **facts_), steer=steer)), family)


def reached(ruleset: Ruleset, start: str) -> set[str]:
    by_name = {chain.name: chain for chain in ruleset.chains}
    found: set[str] = set()
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            actions = [rule.action for rule in by_name[name].rules]
            ahead += [action.chain for action in actions if isinstance(action, Jump | Goto)]
    return found


# --- the hook -------------------------------------------------------------------------------------------------------


def test_the_hook_is_mwan3s() -> None:
    unmarked = "-m mark --mark 0x0/0x3f00"
    marked = "-m mark ! --mark 0x3f00/0x3f00"
    exempt = ["mwan3_custom_ipv4", "mwan3_connected_ipv4", "mwan3_dynamic_ipv4"]
    assert made(config())["mwan3_hook"] == [
        f"{unmarked} -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00",
        f"{unmarked} -j mwan3_ifaces_in",
        *(f"{unmarked} -j {chain}" for chain in exempt),
        f"{unmarked} -j mwan3_rules",
        "-j CONNMARK --save-mark --nfmask 0x3f00 --ctmask 0x3f00",
        *(f"{marked} -j {chain}" for chain in exempt),
    ]


@pytest.mark.parametrize("steer", [False, True])
def test_the_routers_own_neighbour_discovery_comes_first_and_that_of_nobody_else(steer: bool) -> None:
    chains = made(config(), V6, steer=steer)
    own = [f"-p ipv6-icmp -m icmp6 --icmpv6-type {number} -m hl --hl-eq 255 -j RETURN" for number in range(133, 138)]
    here = [f"-p ipv6-icmp -m icmp6 --icmpv6-type {number} -m set --match-set mwan3_connected_ipv6 dst -j RETURN"
            for number in range(133, 138)]  # fmt: skip
    assert chains["mwan3_hook_out"][:5] == own
    assert chains["mwan3_hook"][:5] == here
    elsewhere = {name: lines for name, lines in chains.items() if name not in ("mwan3_hook", "mwan3_hook_out")}
    assert not any("icmp6" in line for lines in elsewhere.values() for line in lines)
    assert not any("icmp" in line for lines in made(config()).values() for line in lines)


def test_without_xt_hl_neighbour_discovery_is_what_is_for_local_networks() -> None:
    without = plan(config(), replace(facts(), hop_limit=False)).rulesets[V6]
    assert not [match for chain in without.chains for rule in chain.rules for match in rule.matches
                if isinstance(match, HopLimit)]  # fmt: skip
    assert [hook.chain for hook in without.hooks] == ["mwan3_hook", "mwan3_hook"]


def test_both_bases_lead_to_the_hook() -> None:
    found = plan(config(), facts())
    hooks = {family: [(hook.base, hook.chain) for hook in found.rulesets[family].hooks] for family in (V4, V6)}
    assert hooks[V4] == [("PREROUTING", "mwan3_hook"), ("OUTPUT", "mwan3_hook")]
    assert hooks[V6] == [("PREROUTING", "mwan3_hook"), ("OUTPUT", "mwan3_hook_out")]


def test_multicast_is_exempt_without_a_route() -> None:
    sets = {spec.name: spec.entries for spec in plan(config(), facts()).sets}
    assert "224.0.0.0/3" in (sets["mwan3_connected_ipv4"] or frozenset())
    assert "ff00::/8" in (sets["mwan3_connected_ipv6"] or frozenset())


@pytest.mark.parametrize("rules", [[REST], [TV, REST], [Rule("s", "all", sticky=True), TV], []])
def test_chains_come_before_those_that_lead_to_them(rules: list[Rule]) -> None:
    for ruleset in plan(config("wan wan6:6", rules=rules), facts("wan wan6:6")).rulesets.values():
        known: set[str] = set()
        for chain in ruleset.chains:
            known.add(chain.name)
            targets = {rule.action.chain for rule in chain.rules if isinstance(rule.action, Jump | Goto)}
            assert targets <= known
        assert len(known) == len(ruleset.chains)


# --- MAC addresses --------------------------------------------------------------------------------------------------


def test_mac_rules_are_reached_from_prerouting_only() -> None:
    found = plan(config(rules=[TV, REST]), facts())
    for ruleset in found.rulesets.values():
        hooks = {hook.base: hook.chain for hook in ruleset.hooks}
        macs = {chain.name for chain in ruleset.chains
                if any(isinstance(match, SourceMac) for rule in chain.rules for match in rule.matches)}  # fmt: skip
        assert macs == {"mwan3_rules"}
        assert macs <= reached(ruleset, hooks["PREROUTING"])
        assert not macs & reached(ruleset, hooks["OUTPUT"])
    assert len(chains(found)["mwan3_rules"]) == 2
    assert len(chains(found)["mwan3_rules_out"]) == 1
    assert "mwan3_rules_out" not in made(config(rules=[REST]))


# --- connbal use ----------------------------------------------------------------------------------------------------


def test_groups_are_matched_below_output_only() -> None:
    found = plan(config(rules=[REST]), replace(facts(), steer=True))
    for ruleset in found.rulesets.values():
        hooks = {hook.base: hook.chain for hook in ruleset.hooks}
        owners = {chain.name for chain in ruleset.chains
                  if any(isinstance(match, OwnerGroup) for rule in chain.rules for match in rule.matches)}  # fmt: skip
        assert "mwan3_hook_out" in owners
        assert owners <= {"mwan3_use", "mwan3_hook_out"}
        assert not owners & reached(ruleset, hooks["PREROUTING"])
        assert owners <= reached(ruleset, hooks["OUTPUT"])
    assert [line.split(" -m comment")[0] for line in chains(found)["mwan3_use"]] == [
        "-m owner --gid-owner 51701", "-m owner --gid-owner 51702",
    ]  # fmt: skip
    assert "mwan3_use" not in made(config(rules=[REST]))


# --- interfaces -----------------------------------------------------------------------------------------------------


def test_what_comes_in_is_marked_by_where() -> None:
    found = made(config())
    unmarked = "-m mark --mark 0x0/0x3f00"
    sets = ("custom", "connected", "dynamic")
    assert found["mwan3_iface_in_wan1"] == [
        *(f"-i eth2 -m set --match-set mwan3_{kind}_ipv4 src {unmarked} -m comment --comment default "
          "-j MARK --set-xmark 0x3f00/0x3f00" for kind in sets),
        f"-i eth2 {unmarked} -m comment --comment wan1 -j MARK --set-xmark 0x200/0x3f00",
    ]  # fmt: skip
    assert found["mwan3_ifaces_in"] == [
        f"-i eth1 {unmarked} -j mwan3_iface_in_wan", f"-i eth2 {unmarked} -j mwan3_iface_in_wan1",
    ]  # fmt: skip


def test_an_interface_that_is_away_has_no_chain_and_one_that_does_not_answer_has() -> None:
    assert "mwan3_iface_in_wan1" not in made(config(), down="wan1")
    assert "mwan3_iface_in_wan1" in made(config(), offline="wan1")
    assert "mwan3_iface_in_wan6" not in made(config("wan wan6:6"))
    assert "mwan3_iface_in_wan6" in made(config("wan wan6:6"), V6)


def test_the_order_of_interfaces_is_that_of_their_ids() -> None:
    """In mwan3 it is that in which parallel processes end."""
    words = " ".join(f"w{number}" for number in range(20))
    jumps = made(config(words), words=words)["mwan3_ifaces_in"]
    assert [line.split("_in_")[1] for line in jumps] == words.split()


# --- policies -------------------------------------------------------------------------------------------------------


def _mark(rule: ChainRule) -> int:
    assert isinstance(rule.action, SetMark)
    return rule.action.value


def test_shares_are_drawn_one_after_the_other() -> None:
    members = {"a": ("wan", 1, 1), "b": ("wan1", 1, 2), "c": ("wan2", 1, 1)}
    ruleset = plan(config("wan wan1 wan2", members=members), facts("wan wan1 wan2")).rulesets[V4]
    [chain] = [chain for chain in ruleset.chains if chain.name == "mwan3_policy_all"]
    chances = [match.probability for rule in chain.rules for match in rule.matches if isinstance(match, Chance)]
    assert chances == [Fraction(1, 4), Fraction(2, 3)]
    assert [rule.comment for rule in chain.rules] == ["wan 1 4", "wan1 2 3", "wan2 1 1"]


def test_a_weight_of_1_beside_1000_is_not_nothing() -> None:
    """In mwan3 its probability is 0."""
    members = {"a": ("wan", 1, 1), "b": ("wan1", 1, 1000)}
    assert "--probability 0.00099900100" in made(config(members=members))["mwan3_policy_all"][0]


WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=12)


@quick(100)
@given(WEIGHTS)
def test_drawing_gives_each_its_share_to_nine_digits(weights: list[int]) -> None:
    words = " ".join(f"w{number}" for number in range(len(weights)))
    found = plan(config(words, {f"m{n}": (f"w{n}", 1, weight) for n, weight in enumerate(weights)}), facts(words))
    [chain] = [chain for chain in found.rulesets[V4].chains if chain.name == "mwan3_policy_all"]
    left = Fraction(1)
    for rule, weight in zip(chain.rules, weights, strict=True):
        words_ = rule_text(rule, V4).split()
        chance = Fraction(words_[words_.index("--probability") + 1]) if "--probability" in words_ else Fraction(1)
        assert abs(float(left * chance - Fraction(weight, sum(weights)))) < 1e-9
        left *= 1 - chance
    assert left == 0


@pytest.mark.parametrize("affinity", Affinity)
def test_whoever_comes_to_a_policy_leaves_with_a_mark(affinity: Affinity) -> None:
    for away in ("", "wan", "wan wan1"):
        for name, lines in made(config(affinity=affinity), offline=away).items():
            if name.startswith("mwan3_policy_"):
                assert " -m statistic" not in lines[-1]
                assert " -m bpf" not in lines[-1]
                assert "-j MARK" in lines[-1]
                assert all("--mark 0x0/0x3f00" in line for line in lines)


@pytest.mark.parametrize(
    ("verdict", "mark"), [(Verdict.UNREACHABLE, "0x3e00"), (Verdict.BLACKHOLE, "0x3d00"), (Verdict.DEFAULT, "0x3f00")]
)
def test_last_resort(verdict: Verdict, mark: str) -> None:
    wanted = config(policies=[Policy("all", ("wan", "wan1"), verdict)])
    last = made(wanted, offline="wan wan1")["mwan3_policy_all"][-1]
    assert last.endswith(f"--comment {verdict.value} -j MARK --set-xmark {mark}/0x3f00")


def test_probes_may_leave_by_a_dead_interface_only_where_no_other_lives() -> None:
    assert not any("-o " in line for line in made(config())["mwan3_policy_all"])
    assert not any("-o " in line for line in made(config(), offline="wan")["mwan3_policy_all"])
    dead = made(config(), offline="wan wan1")["mwan3_policy_all"]
    assert [line.split()[1] for line in dead if line.startswith("-o ")] == ["eth1", "eth2"]
    assert all(line.endswith("-j MARK --set-xmark 0x3f00/0x3f00") for line in dead[:-1])
    away = made(config(), offline="wan", down="wan1")["mwan3_policy_all"]
    assert [line.split()[1] for line in away if line.startswith("-o ")] == ["eth1"]


def test_without_xt_bpf_pairs_are_drawn() -> None:
    wanted = config(affinity=Affinity.PAIR)
    assert "-m bpf" in chains(plan(wanted, facts()))["mwan3_policy_all"][0]
    assert "-m statistic" in chains(plan(wanted, replace(facts(), bpf=False)))["mwan3_policy_all"][0]


# --- rules ----------------------------------------------------------------------------------------------------------


def test_a_rule_goes_to_its_policy_and_never_comes_back() -> None:
    found = made(config(rules=[Rule("a", "all", protocols=(6,)), REST]))
    assert found["mwan3_rules"] == [
        "-p tcp -m comment --comment a -g mwan3_policy_all", "-m comment --comment rest -g mwan3_policy_all",
    ]  # fmt: skip


def test_a_verdict_may_stand_for_a_policy() -> None:
    found = made(config(rules=[Rule("a", "blackhole"), Rule("b", "default")]))
    assert [line.split()[-1] for line in found["mwan3_rules"]] == ["mwan3_verdict_blackhole", "mwan3_verdict_default"]
    assert found["mwan3_verdict_blackhole"] == ["-m comment --comment blackhole -j MARK --set-xmark 0x3d00/0x3f00"]
    assert "mwan3_verdict_unreachable" not in found


STICKY = Rule("https", "all", sticky=True, timeout=60)


def test_sticky_asks_decides_and_remembers() -> None:
    found = made(config(rules=[STICKY]))
    unmarked = "-m mark --mark 0x0/0x3f00"
    assert found["mwan3_rules"] == ["-m comment --comment https -g mwan3_rule_https"]
    assert found["mwan3_rule_https"] == [
        *(f"{unmarked} -m set --match-set mwan3_sticky_v4_https.{name} src -m comment --comment {name} "
          f"-j MARK --set-xmark {mark}/0x3f00" for name, mark in (("wan", "0x100"), ("wan1", "0x200"))),
        f"{unmarked} -j mwan3_policy_all",
        *(f"-m mark --mark {mark}/0x3f00 -j SET --add-set mwan3_sticky_v4_https.{name} src --exist"
          for name, mark in (("wan", "0x100"), ("wan1", "0x200"))),
    ]  # fmt: skip


def test_a_source_that_leaves_loses_its_sticky_entries() -> None:
    found = plan(config(rules=[STICKY]), facts(offline="wan1"))
    sets = {spec.name: spec for spec in found.sets if "sticky_v4" in spec.name}
    assert sets["mwan3_sticky_v4_https.wan"].entries is None
    assert sets["mwan3_sticky_v4_https.wan1"].entries == frozenset()
    assert {spec.timeout for spec in sets.values()} == {60}
    assert not any("wan1" in line for line in chains(found)["mwan3_rule_https"])


def test_a_sticky_verdict_is_just_a_verdict() -> None:
    found = made(config(rules=[Rule("a", "default", sticky=True)]))
    assert [line.split()[-1] for line in found["mwan3_rules"]] == ["mwan3_verdict_default"]


def test_names_of_sticky_sets_never_meet() -> None:
    rules = [Rule("a", "all", sticky=True), Rule("a_b", "all", sticky=True)]
    found = plan(config("b_c c", rules=rules), facts("b_c c"))
    assert len({spec.name for spec in found.sets if "sticky_v4" in spec.name}) == 4


# --- logging --------------------------------------------------------------------------------------------------------


def test_rules_log_where_globals_do_too() -> None:
    rules = [Rule("web", "all", logging=True, protocols=(6,), dest_ports=(PortRange(80, 80),))]
    quiet = made(config(rules=rules))["mwan3_rules"]
    loud = made(config(rules=rules, logging=True, loglevel="debug"))["mwan3_rules"]
    assert len(quiet) == 1
    log = "-p tcp -m multiport --dports 80 -m comment --comment web -j LOG --log-prefix \"MWAN3(web)\" --log-level 7"
    assert loud == [log, *quiet]


@quick(200)
@given(st.text(max_size=100))
def test_a_log_prefix_fits(name: str) -> None:
    prefix = log_prefix(name)
    assert prefix.startswith("MWAN3(")
    assert prefix.endswith(")")
    assert len(prefix) <= MAX_LOG_PREFIX
    assert rule_text(ChainRule((), Log(prefix, 5)), V4).count('"') == 2


def test_long_log_prefixes() -> None:
    assert log_prefix("r" * 22) == f"MWAN3({'r' * 22})"
    assert log_prefix("r" * 23) == f"MWAN3({'r' * 21}~)"


# --- nothing that is not meant gets in ------------------------------------------------------------------------------


@quick(200)
@given(st.text(min_size=1, max_size=40))
def test_no_name_becomes_a_rule(rule: str) -> None:
    """Names are checked when they are read; even if one was not, it could not become a line of its own."""
    wanted = config(rules=[Rule(rule, "all", logging=True)], logging=True)
    for line in chains(plan(wanted, facts()))["mwan3_rules"]:
        assert "\n" not in line
        assert line.count('"') % 2 == 0


@pytest.mark.parametrize("device", ["eth0\n-A x", 'eth0"', "eth0 -j DROP\\", "é"])
def test_a_device_that_cannot_be_one_is_a_bug_and_no_rule(device: str) -> None:
    with pytest.raises(ValueError, match="unfit"):
        rule_text(ChainRule((InDevice(device),), Return()), V4)


def test_a_mask_of_any_shape_is_used_throughout() -> None:
    found = made(config(mmx_mask=0x70001))
    assert any("0x1/0x70001" in line for line in found["mwan3_policy_all"])
    assert not any("0x3f00" in line for lines in found.values() for line in lines)
