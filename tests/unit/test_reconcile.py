"""The loop, against a kernel in memory that executes what it is given."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from connbal.errors import KernelError
from connbal.kernel.api import SetRefused, TransientError
from connbal.kernel.netlink import Refused
from connbal.model.config import Affinity, Config, Family, PortRange, Rule, SourceRoutes
from connbal.model.facts import Health, MainRoute
from connbal.plan.describe import main_text
from connbal.plan.ledger import Ledger
from connbal.plan.state import SetState
from connbal.plan.values import SetSpec
from connbal.reconcile import Report
from connbal.refusal import PROBE
from tests.fakes import situations
from tests.fakes.build import V4, V6, config, machine, network
from tests.fakes.kernel import Killed, Trouble
from tests.fakes.router import Router, foreign_route, foreign_rule, with_mask, without_leftovers
from tests.fakes.situations import SITUATIONS, WORDS, Situation, enter
from tests.fakes.xtables import Refusal, fresh

#: What connbal raises on purpose, and the end of its process.
FAILURES = (KernelError, Killed)


def fresh_text(situation: Situation) -> str:
    """The kernel after one run from nothing."""
    router = Router(machine(WORDS))
    router.apply(enter(router, situation))
    return without_leftovers(router.kernel.text())


FRESH: dict[Situation, str] = {}


def expected(situation: Situation) -> str:
    if situation not in FRESH:
        FRESH[situation] = fresh_text(situation)
    return FRESH[situation]


def changes_nothing(router: Router, wanted: Config) -> None:
    router.kernel.calls.forget()
    report = router.apply(wanted)
    assert not router.kernel.calls.changing, router.kernel.calls.names
    assert not report.changes


# --- where it ends does not depend on where it came from ----------------------------------------------------------


@pytest.mark.parametrize("walk", range(4))
def test_hopping_ends_where_a_fresh_start_does(walk: int) -> None:
    chance = random.Random(walk)
    router = Router(machine(WORDS))
    for _ in range(40):
        situation = chance.choice(SITUATIONS)
        wanted = enter(router, situation)
        router.kernel.calls.observe = router.check_marks
        router.apply(wanted)
        assert without_leftovers(router.kernel.text()) == expected(situation), situation.__name__
        changes_nothing(router, wanted)
        router.kernel.conntrack.flows.clear()


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
def test_stop_leaves_nothing_and_takes_nothing(situation: Situation) -> None:
    router = Router(machine(WORDS))
    before = router.kernel.text()
    router.apply(enter(router, situation))
    router.apply(enter(router, situations.everything))
    router.apply(enter(router, situation))
    said = router.reconciler.stop()
    assert router.kernel.text() == before
    assert said
    assert router.ledger == Ledger()
    router.kernel.calls.forget()
    router.reconciler.stop()
    assert not router.kernel.calls.changing


def test_stop_where_nobody_else_uses_the_table_leaves_it_empty() -> None:
    router = Router(others=False)
    router.apply(config())
    router.reconciler.stop()
    assert router.kernel.xtables.tables == {V4: fresh(), V6: fresh()}
    assert router.kernel.text() == router.kernel.rulesets()


def test_stop_keeps_a_set_that_was_made_empty_and_filled_by_somebody_else() -> None:
    router = Router(machine(WORDS))
    router.apply(enter(router, situations.missing_set))
    filled = replace(router.kernel.sets.states["made_by_nobody"], entries=frozenset({"203.0.113.9"}))
    router.kernel.sets.states["made_by_nobody"] = filled
    router.reconciler.stop()
    assert router.kernel.sets.states["made_by_nobody"] == filled


def test_stop_goes_through_where_a_rule_of_others_uses_a_set_or_chain_of_ours() -> None:
    router = Router(machine(WORDS))
    router.apply(config(WORDS))
    foreign = "-m set --match-set mwan3_connected_ipv4 dst -j mwan3_hook"
    router.kernel.xtables.tables[V4]["fw_mss"].append(foreign)
    router.kernel.xtables.hits[V4]["fw_mss"].append((0, 0))
    router.reconciler.stop()
    chains = router.kernel.xtables.tables[V4]
    assert chains["mwan3_hook"] == []
    assert [name for name in chains if name.startswith("mwan3_")] == ["mwan3_hook"]
    assert [name for name in router.kernel.sets.states if name.startswith("mwan3_")] == ["mwan3_connected_ipv4"]
    assert not router.kernel.routing.rules
    assert not router.kernel.routing.routes
    assert router.ledger == Ledger()


# --- damage is repaired ----------------------------------------------------------------------------------------------


def _lose_hook(router: Router) -> None:
    router.kernel.xtables.tables[V4]["PREROUTING"].clear()


def _lose_rule_of_chain(router: Router) -> None:
    router.kernel.xtables.tables[V6]["mwan3_hook"].pop(3)


def _gain_rule(router: Router) -> None:
    router.kernel.xtables.tables[V4]["mwan3_rules"].insert(0, "-j RETURN")


def _double_hook(router: Router) -> None:
    router.kernel.xtables.tables[V4]["OUTPUT"].append("-j mwan3_hook")


def _lose_table(router: Router) -> None:
    """``iptables -t mangle -F; iptables -t mangle -X`` of a firewall restart."""
    router.kernel.xtables.tables.pop(V4)
    router.kernel.xtables.hits.pop(V4)


def _lose_routes(router: Router) -> None:
    router.kernel.routing.routes.clear()


def _lose_rules(router: Router) -> None:
    router.kernel.routing.rules.clear()


def _leftovers(router: Router) -> None:
    router.kernel.routing.rules.add(foreign_rule())
    route = foreign_route()
    router.kernel.routing.routes[route.family, route.table, route.destination, route.metric, route.source] = route
    router.kernel.xtables.tables[V4]["mwan3_probe"] = []
    router.kernel.sets.states["mwan3_addr_ipv4_0123456789ab"] = SetState(
        "mwan3_addr_ipv4_0123456789ab", "hash:net", V4, frozenset()
    )


def _lose_set_entries(router: Router) -> None:
    states = router.kernel.sets.states
    states["mwan3_connected_ipv4"] = replace(states["mwan3_connected_ipv4"], entries=frozenset())


def _lose_memory(router: Router) -> None:
    router.kernel.memory.data = "garbage"


DAMAGES = (
    _lose_hook, _lose_rule_of_chain, _gain_rule, _double_hook, _lose_table, _lose_routes, _lose_rules, _leftovers,
    _lose_set_entries, _lose_memory,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_damage_is_repaired(damage: Callable[[Router], None]) -> None:
    router = Router(machine(WORDS), others=False)
    wanted = config(WORDS)
    router.apply(wanted)
    before = router.kernel.text()
    damage(router)
    report = router.apply(wanted)
    assert router.kernel.text() == before
    assert report.changes
    changes_nothing(router, wanted)


def test_counters_of_chains_that_stay_the_same_survive() -> None:
    router = Router(machine(WORDS))
    router.apply(enter(router, situations.everything))
    hits = router.kernel.xtables.hits[V4]
    hits["mwan3_rules"] = [(5, 500)]
    hits["mwan3_policy_all"] = [(2, 200)] * len(hits["mwan3_policy_all"])
    wanted = enter(router, situations.unplugged)
    router.apply(wanted)
    assert router.kernel.xtables.hits[V4]["mwan3_rules"] == [(5, 500)]
    assert set(router.kernel.xtables.hits[V4]["mwan3_policy_all"]) == {(0, 0)}
    assert router.kernel.xtables.hits[V4]["fw_mss"] == [(7, 700)]
    _, counters = router.reconciler.status(wanted)
    assert (counters["everything"].packets, counters["everything"].bytes) == (5, 500)


# --- failures at every point -----------------------------------------------------------------------------------------

CHANGES = (
    (situations.everything, situations.pair),
    (situations.everything, situations.shifted),
    (situations.sticky, situations.unplugged),
    (situations.nothing, situations.many_networks),
    (situations.mac, situations.lan),
)


Attempt = tuple[Router, Config, BaseException | None]


def _walk(first: Situation, second: Situation, trouble: Trouble) -> Iterator[Attempt]:
    """The change from ``first`` to ``second`` with a trouble at its first call, then at its second, and so on."""
    number = 0
    while True:
        router = Router(machine(WORDS))
        router.apply(enter(router, first))
        router.kernel.calls.forget()
        router.kernel.calls.trouble[number] = trouble
        wanted = enter(router, second)
        failure: BaseException | None = None
        try:
            router.apply(wanted)
        except FAILURES as error:
            failure = error
        if len(router.kernel.calls.names) <= number:
            return
        yield router, wanted, failure
        number += 1


@pytest.mark.parametrize("trouble", Trouble, ids=lambda one: one.name)
@pytest.mark.parametrize("change", CHANGES, ids=lambda pair: f"{pair[0].__name__}{pair[1].__name__}")
def test_a_failure_at_any_call_is_got_over(change: tuple[Situation, Situation], trouble: Trouble) -> None:
    allowed = _rulesets_on_the_way(*change)
    count = 0
    for router, wanted, _ in _walk(*change, trouble):
        count += 1
        at = router.kernel.calls.names[min(len(router.kernel.calls.names) - 1, count - 1)]
        if trouble is not Trouble.REFUSED:  # then a section is left out, which is a third ruleset
            assert router.kernel.rulesets() in allowed, at
        router.kernel.calls.forget()
        if trouble is Trouble.KILLED_AFTER:  # even then every mark that is given leads to its own interface
            router.check_marks()
            router.kernel.calls.observe = router.check_marks
        router.apply(wanted)
        assert without_leftovers(router.kernel.text()) == expected(change[1]), at
        changes_nothing(router, wanted)
    assert count > 8


def _rulesets_on_the_way(first: Situation, second: Situation) -> set[str]:
    """Every state the chains are in between one configuration and the next, if nothing goes wrong."""
    router = Router(machine(WORDS))
    router.apply(enter(router, first))
    seen = {router.kernel.rulesets()}
    router.kernel.calls.observe = lambda: seen.add(router.kernel.rulesets())
    router.apply(enter(router, second))
    return seen


def test_a_held_lock_is_nobodys_fault() -> None:
    """A transient refusal must not make connbal leave out sections that are fine."""
    tried = {
        trouble: [(failure, any(PROBE in name for name in router.kernel.calls.names))
                  for router, _, failure in _walk(situations.nothing, situations.pair, trouble)]
        for trouble in (Trouble.BUSY, Trouble.REFUSED)
    }  # fmt: skip
    assert len(tried[Trouble.BUSY]) > 8
    assert all(isinstance(failure, TransientError) and not probed for failure, probed in tried[Trouble.BUSY])
    assert any(probed for _, probed in tried[Trouble.REFUSED]), "so it is seen where lines are tried one by one"


def test_ipv6_that_cannot_be_looked_at_is_not_taken_for_gone() -> None:
    """Its rules are in the kernel, and give marks: the routing rules for these must stay."""
    router = Router()
    router.apply(config("wan wan6:6"))
    before = router.kernel.text()
    router.machine.ip6 = False
    router.kernel.xtables.families = (V4,)
    router.kernel.calls.forget()
    with pytest.raises(TransientError):
        router.apply(config("wan wan6:6"))
    assert router.kernel.text() == before
    assert not router.kernel.calls.changing


@pytest.mark.parametrize("family", [V4, V6])
def test_stop_does_not_leave_out_a_family_that_cannot_be_looked_at(family: Family) -> None:
    router = Router()
    router.apply(config("wan wan6:6"))
    before = router.kernel.text()
    router.kernel.xtables.families = tuple({V4, V6} - {family})
    with pytest.raises(KernelError):
        router.reconciler.stop()
    assert router.kernel.text() == before
    assert router.ledger.mask


def test_a_first_run_without_a_look_at_ipv4_is_no_success() -> None:
    router = Router(others=False)
    router.kernel.xtables.families = (V6,)
    with pytest.raises(KernelError):
        router.apply(config())


@pytest.mark.parametrize("fault", [Refused("ipset destroy", errno.EPERM), TransientError("ipset destroy", None, "")])
def test_stop_forgets_nothing_while_a_set_cannot_be_destroyed_for_the_moment(fault: KernelError) -> None:
    router = Router()
    before = router.kernel.text()
    router.apply(config())
    destroy = router.kernel.sets.destroy

    def failing(name: str) -> None:
        if name == "mwan3_dynamic_ipv4":
            raise fault
        destroy(name)

    router.kernel.sets.destroy = failing  # type: ignore[method-assign]
    with pytest.raises(KernelError):
        router.reconciler.stop()
    router.kernel.sets.destroy = destroy  # type: ignore[method-assign]
    router.reconciler.stop()
    assert router.kernel.text() == before


def test_what_could_not_be_forgotten_for_the_moment_is_forgotten_by_the_next_run() -> None:
    router = Router()
    router.apply(config("wan wan1"))
    router.check_marks()
    wanted = config("wan1 wan")
    number = 0
    while True:
        router.kernel.calls.forget()
        router.kernel.calls.trouble[number] = Trouble.BUSY
        try:
            router.apply(wanted)
        except TransientError:
            number += 1
        else:
            break
        if any(name.startswith("forget") for name in router.kernel.calls.names):
            break
    assert router.kernel.conntrack.flows
    router.kernel.calls.forget()
    router.apply(wanted)
    assert not router.kernel.conntrack.flows


@pytest.mark.parametrize("after", [0, 3, 5])
def test_where_nothing_goes_in_no_section_is_left_out(after: int) -> None:
    """Not even if that begins while the culprits are searched for."""
    router = Router()
    router.apply(config())
    router.kernel.xtables.refusals = [Refusal("--dports 666", False)]
    restore, count = router.kernel.xtables.restore, 0

    def failing(family: Family, text: str) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise KernelError("iptables-restore", None, "it is broken")
        restore(family, text)

    router.kernel.xtables.restore = failing  # type: ignore[method-assign]
    before = router.kernel.rulesets()
    with pytest.raises(KernelError):
        router.apply(config(rules=[GOOD, BAD, LAST]))
    assert [line for line in router.kernel.rulesets().splitlines() if "probe" not in line] == before.splitlines()


def test_who_may_change_nothing_has_no_section_to_blame() -> None:
    router = Router()

    def refused(_: object) -> None:
        raise Refused("ip route replace", errno.EPERM)

    router.kernel.routing.replace_route = refused  # type: ignore[method-assign]
    with pytest.raises(Refused):
        router.apply(config())
    assert "mwan3_" not in router.kernel.rulesets()


def test_so_it_is_where_a_set_of_a_section_may_not_be_made() -> None:
    """As of a program that died half way, which left a set that may not be removed."""
    router = Router()

    def refused(*specs: SetSpec) -> None:
        of_rule = next(spec for spec in specs if spec.origin is not None)
        raise SetRefused(of_rule, Refused("ipset destroy", errno.EPERM))

    router.kernel.sets.create = refused  # type: ignore[method-assign]
    with pytest.raises(SetRefused):
        router.apply(config(rules=[Rule("tv", "all", sticky=True)]))
    assert "mwan3_" not in router.kernel.rulesets()


def test_tables_that_others_keep_changing_are_an_error_in_the_end() -> None:
    router = Router()

    def interfere() -> None:
        chains = router.kernel.xtables.tables.get(V4, {})
        if "mwan3_rules" in chains:
            chains["mwan3_rules"].append("-j RETURN")
            router.kernel.xtables.hits[V4]["mwan3_rules"].append((0, 0))

    router.kernel.calls.race = dict.fromkeys(range(100_000), interfere)
    with pytest.raises(KernelError, match="did not settle"):
        router.apply(config())


def test_one_interference_is_repaired_at_once() -> None:
    """Another program flushes our rules between the write and the look at what came of it."""
    router = Router()
    router.apply(config())
    done = router.kernel.text()
    for number in range(40):
        router = Router()
        router.kernel.calls.race[number] = lambda router=router: _flush_ours(router)  # type: ignore[misc]
        router.apply(config())
        if len(router.kernel.calls.names) <= number:
            break
        router.apply(config())
        assert router.kernel.text() == done


def _flush_ours(router: Router) -> None:
    for family in (V4, V6):
        chains = router.kernel.xtables.tables[family]
        for name in [name for name in chains if name.startswith("mwan3_")]:
            chains[name] = []
            router.kernel.xtables.hits[family][name] = []


# --- what the kernel refuses is left out -----------------------------------------------------------------------------

GOOD = Rule("good", "all", dest_ports=(PortRange(53, 53),), protocols=(17,))
BAD = Rule("bad", "all", dest_ports=(PortRange(666, 666),), protocols=(6,))
WORSE = Rule("worse", "all", dest_ports=(PortRange(667, 667),), protocols=(6,))
LAST = Rule("last", "all")


def refused(report: Report) -> set[str]:
    return {finding.place for finding in report.findings if finding.code == "refused"}


def comments(router: Router, chain: str) -> list[str]:
    return [line.split()[3] for line in router.kernel.xtables.tables[V4][chain]]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("bad", [("bad",), ("bad", "worse")], ids=len)
def test_a_rule_that_the_kernel_refuses_is_left_out_and_named(bad: tuple[str, ...], named: bool) -> None:
    router = Router()
    router.kernel.xtables.refusals = [Refusal("--dports 66[67]", named)]
    rules = [GOOD, BAD, *([WORSE] if "worse" in bad else []), LAST]
    report = router.apply(config(rules=rules))
    assert refused(report) == {f"mwan3.{name}" for name in bad}
    assert all("--dports 66" in finding.message for finding in report.findings)
    assert comments(router, "mwan3_rules") == ["good", "last"]
    assert "mwan3_probe" not in router.kernel.xtables.tables[V4]
    views = {view.name: view for view in report.plan.rules}
    assert not views["bad"].families
    assert "refused" in views["bad"].reason


@pytest.mark.parametrize("named", [True, False])
def test_without_xt_bpf_pairs_are_drawn_by_connection(named: bool) -> None:
    router = Router()
    router.kernel.xtables.refusals = [Refusal("-m bpf", named)]
    wanted = config(affinity=Affinity.PAIR)
    report = router.apply(wanted)
    assert [finding.code for finding in report.findings] == ["no-bpf"]
    assert "-m statistic" in router.kernel.xtables.tables[V4]["mwan3_policy_all"][0]
    changes_nothing(router, wanted)


def test_what_was_refused_is_tried_again_when_the_kernel_has_it_after_all() -> None:
    """Once: where the kernel says so, and it is refused all the same, it is the program that lacks it."""
    router = Router()
    xtables = router.kernel.xtables
    xtables.refusals = [Refusal("-m bpf")]
    wanted = config(affinity=Affinity.PAIR)
    router.apply(wanted)
    xtables.known = {"bpf"}
    assert [finding.code for finding in router.apply(wanted).findings] == ["no-bpf"]
    changes_nothing(router, wanted)
    assert router.ledger.lacking == {"bpf": True}
    router = Router()
    xtables = router.kernel.xtables
    xtables.refusals = [Refusal("-m bpf")]
    router.apply(wanted)
    xtables.known, xtables.refusals = {"bpf"}, []
    assert not router.apply(wanted).findings
    assert "-m bpf" in xtables.tables[V4]["mwan3_policy_all"][0]
    assert not router.ledger.lacking


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("bad", ["", "--dports 666"])
def test_without_xt_comment_only_the_comments_are_lost(named: bool, bad: str) -> None:
    router = Router()
    router.kernel.xtables.refusals = [Refusal("-m comment", named), *([Refusal(bad, named)] if bad else [])]
    wanted = config("wan wan1 wan6:6", rules=[GOOD, BAD, LAST] if bad else [GOOD, LAST])
    report = router.apply(wanted)
    assert {finding.code for finding in report.findings} == {"no-comment", *(["refused"] if bad else [])}
    assert refused(report) == ({"mwan3.bad"} if bad else set())
    for family in (V4, V6):
        chains = router.kernel.xtables.tables[family]
        assert not any("comment" in line for lines in chains.values() for line in lines)
        assert len(chains["mwan3_rules"]) == 2
        assert "mwan3_probe" not in chains
    if not bad:
        changes_nothing(router, wanted)
        assert router.apply(config("wan wan1 wan6:6", rules=[LAST])).findings == []


@pytest.mark.parametrize("named", [True, False])
def test_without_xt_hl_the_routers_own_neighbour_discovery_is_not_told_apart(named: bool) -> None:
    """Nothing of what is forwarded gets past the rules for it."""
    router = Router()
    router.kernel.xtables.refusals = [Refusal("-m hl", named)]
    wanted = config("wan wan6:6")
    report = router.apply(wanted)
    assert [finding.code for finding in report.findings] == ["no-hl"]
    chains = router.kernel.xtables.tables[V6]
    assert not any("-m hl" in line for lines in chains.values() for line in lines)
    assert all("mwan3_connected_ipv6 dst" in line for lines in chains.values() for line in lines if "icmp6" in line)
    assert chains["OUTPUT"] == ["-j mwan3_hook"]
    changes_nothing(router, wanted)


def test_a_passing_refusal_costs_no_comments() -> None:
    """While not even an empty chain goes in, nothing is known of comments."""
    router = Router()
    router.kernel.xtables.refusals = [Refusal("", False)]
    with pytest.raises(KernelError):
        router.apply(config())
    assert not router.ledger.lacking
    router.kernel.xtables.refusals = []
    assert not router.apply(config()).findings
    assert comments(router, "mwan3_rules")


@pytest.mark.parametrize("named", [True, False])
def test_without_xt_owner_only_use_is_lost(named: bool) -> None:
    router = Router()
    router.machine.steer = True
    router.kernel.xtables.refusals = [Refusal("-m owner", named), Refusal("--dports 666", named)]
    report = router.apply(config(rules=[GOOD, BAD, LAST]))
    assert {finding.code for finding in report.findings} == {"no-owner", "refused"}
    assert comments(router, "mwan3_rules") == ["good", "last"]
    assert "mwan3_use" not in router.kernel.xtables.tables[V4]
    assert "mwan3_use" not in router.ledger.chains[V4]


@pytest.mark.parametrize("named", [True, False])
def test_a_bad_rule_beside_missing_xt_bpf_costs_only_itself(named: bool) -> None:
    router = Router()
    router.kernel.xtables.refusals = [Refusal("-m bpf", named), Refusal("--dports 666", named)]
    report = router.apply(config(affinity=Affinity.PAIR, rules=[GOOD, BAD, LAST]))
    assert {finding.code for finding in report.findings} == {"no-bpf", "refused"}
    assert refused(report) == {"mwan3.bad"}
    assert comments(router, "mwan3_rules") == ["good", "last"]


def test_a_refused_policy_takes_its_rules_along_and_no_others() -> None:
    router = Router()
    router.kernel.xtables.refusals = [Refusal("-A mwan3_policy_odd .*0x200/0x3f00", False),
                                      Refusal("-A mwan3_probe .*wan1 1 1", False)]  # fmt: skip
    report = router.apply(config(policies={"odd": "wan1", "all": "wan"}, rules=[Rule("first", "odd"), LAST]))
    assert refused(report) == {"mwan3.odd"}
    assert comments(router, "mwan3_rules") == ["last"]


def test_a_refusal_that_no_section_explains_leaves_the_old_rules_whole() -> None:
    router = Router()
    router.apply(config())
    before = router.kernel.text()
    router.kernel.xtables.refusals = [Refusal("^:mwan3_rules")]
    with pytest.raises(KernelError):
        router.apply(config(rules=[GOOD]))
    assert router.kernel.rulesets() in before


def test_an_interface_whose_route_is_refused_is_left_out() -> None:
    router = Router()
    router.machine.uplinks["wan"].gateway = "198.51.100.1"  # in no connected network
    report = router.apply(config())
    assert refused(report) == {"mwan3.wan"}
    assert {route.device for route in router.kernel.routing.routes.values()} == {"eth2"}
    assert [view.present for view in report.plan.interfaces] == [False, True]


def test_a_set_whose_name_is_too_long_costs_only_its_rule() -> None:
    """31 characters fit into the kernel, but leave no room to build beside; nobody made it, so it cannot be made."""
    router = Router()
    report = router.apply(config(rules=[Rule("long", "all", ipset="n" * 31), LAST]))
    assert refused(report) == {"mwan3.long"}
    assert comments(router, "mwan3_rules") == ["last"]


# --- ids that change their meaning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("wan wan1 wan2", "wan2 wan wan1"),
        ("wan wan1", "wan1 wan"),
        ("wan wan1 wan2", "wan1 wan2"),
        ("wan1 wan2", "wan wan1 wan2"),
        ("wan wan1", "-wan3 wan wan1"),
        ("wan -wan1 wan2", "wan1 -wan wan2"),
    ],
)
def test_a_mark_never_leads_to_another_interface(old: str, new: str) -> None:
    router = Router(machine("wan wan1 wan2"))
    router.kernel.calls.observe = router.check_marks
    router.apply(config(old))
    assert router.kernel.conntrack.flows
    router.apply(config(new))
    wanted = config(new)
    assert router.ledger.ids == {one.name: one.id for one in wanted.interfaces if one.enabled}
    changes_nothing(router, wanted)


def test_connections_of_interfaces_that_keep_their_ids_are_kept() -> None:
    router = Router(machine("wan wan1 wan2"))
    router.apply(config("wan wan1 wan2"))
    router.check_marks()
    router.apply(config("wan wan2 wan1"))
    assert {name for _, _, name in router.kernel.conntrack.flows} == {"wan"}


def test_a_new_mask_forgets_what_the_old_one_marked() -> None:
    router = Router()
    router.apply(config())
    router.check_marks()
    router.apply(with_mask(config(), 0xFF0000))
    assert router.kernel.conntrack.flows == set()
    assert router.kernel.conntrack.flushed == [(0x100, 0x3F00), (0x200, 0x3F00), (0x3F00, 0x3F00)]


def test_only_the_connections_of_a_lost_interface_are_forgotten() -> None:
    router = Router()
    wanted = config(flush=("disconnected", "connected"), members={"a": ("wan", 1, 1), "b": ("wan1", 2, 1)})
    router.apply(wanted)
    router.machine.uplinks["wan"].health = Health(False, "lost")
    assert router.apply(wanted).flushed == 1
    assert router.kernel.conntrack.flushed == [(0x100, 0x3F00)]
    router.machine.uplinks["wan"].health = None
    assert router.apply(wanted).flushed == 1
    assert router.kernel.conntrack.flushed == [(0x100, 0x3F00), (0x200, 0x3F00)]
    assert router.apply(wanted).flushed == 0


# --- without changing anything ---------------------------------------------------------------------------------------


def test_preview_and_status_change_nothing() -> None:
    router = Router()
    before = router.kernel.text()
    preview = router.reconciler.preview(config())
    router.reconciler.status(config())
    assert router.kernel.text() == before
    assert router.kernel.calls.changing == 0
    assert router.apply(config()).changes == preview.changes


def test_without_ipv6_there_is_none() -> None:
    router = Router(machine("wan wan1"), others=False)
    router.machine.ip6 = False
    router.kernel.xtables.families = (V4,)
    router.apply(config())
    assert "ipv6" not in router.kernel.text()
    changes_nothing(router, config())


def test_another_backend_means_other_tables() -> None:
    """The rules the ledger knows are in the tables of the other programs."""
    router = Router(others=False)
    router.apply(config())
    done = router.kernel.text()
    router.kernel.xtables.tables.clear()
    router.kernel.xtables.hits.clear()
    router.kernel.xtables.backend = "legacy"
    router.apply(config())
    assert router.kernel.text() == done
    assert router.ledger.backend == "legacy"


def test_a_set_of_others_is_never_touched() -> None:
    """Somebody made a set of the name connbal uses, of another type: it is matched against and left alone."""
    router = Router()
    foreign = SetState("mwan3_connected_ipv4", "hash:ip", V4, frozenset({"203.0.113.1"}))
    router.kernel.sets.states["mwan3_connected_ipv4"] = foreign
    router.apply(config())
    assert router.kernel.sets.states["mwan3_connected_ipv4"] == foreign
    changes_nothing(router, config())


def test_sticky_entries_are_kept_while_their_source_is_usable() -> None:
    router = Router()
    wanted = config(rules=[Rule("tv", "all", sticky=True)])
    router.apply(wanted)
    sets = router.kernel.sets
    for name in ("wan", "wan1"):
        state = sets.states[f"mwan3_sticky_v4_tv.{name}"]
        sets.states[state.name] = replace(state, entries=frozenset({"192.168.1.7"}))
    changes_nothing(router, wanted)
    router.machine.uplinks["wan1"].health = Health(False, "lost")
    router.apply(wanted)
    assert sets.states["mwan3_sticky_v4_tv.wan"].entries == frozenset({"192.168.1.7"})
    assert sets.states["mwan3_sticky_v4_tv.wan1"].entries == frozenset()


def test_the_fake_refuses_what_the_real_one_does() -> None:
    """The fake is worth nothing if it takes anything."""
    router = Router()
    restore = router.kernel.xtables.restore
    for lines in (
        ["-A nochain -j RETURN"],
        [":c - [0:0]", "-A c -j nochain"],
        [":c - [0:0]", "-A c -m set --match-set nosuch dst -j RETURN"],
        [":c - [0:0]", "-A c -m multiport --dports 1 -j RETURN"],
        [":c - [0:0]", f"-A c -p tcp -m multiport --dports {','.join(map(str, range(16)))} -j RETURN"],
        [":c - [0:0]", "-A c -m mac --mac-source 02:00:00:00:00:01 -j RETURN", "-A OUTPUT -j c"],
        [":c - [0:0]", "-A PREROUTING -j c", "-X c"],
        [":c - [0:0]", ":d - [0:0]", "-A c -j d", "-A d -j c", "-A OUTPUT -j c"],
        ["-D OUTPUT -j c"],
        [f":{'c' * 29} - [0:0]"],
    ):
        before = router.kernel.text()
        with pytest.raises(KernelError):
            restore(V4, "\n".join(["*mangle", ":good - [0:0]", *lines, "COMMIT", ""]))
        assert router.kernel.text() == before
    with pytest.raises(KernelError):
        router.kernel.sets.create(SetSpec("new", "hash:net", V4, frozenset({"0.0.0.0/0"})))


# --- copies of local routes -----------------------------------------------------------------------------------------


def test_a_route_that_cannot_be_copied_holds_up_nothing() -> None:
    """It has gone since it was seen, say: everything else goes in, it is told of, and tried again with the next run."""
    router = Router(machine(WORDS))
    refusing, calls = {"copy route 192.168.1.0/24 dev br-lan"}, router.kernel.routing.copy_route

    def copy(route: MainRoute) -> None:
        if f"copy route {main_text(route)}" in refusing:
            raise Refused("ip route append", errno.ENETUNREACH, "Network is unreachable")
        calls(route)

    router.kernel.routing.copy_route = copy  # type: ignore[method-assign]
    report = router.apply(config(WORDS))
    assert [one.code for one in report.findings] == ["not-copied"]
    assert not any("local route 192.168.1.0/24" in line for line in report.changes)
    assert len(router.kernel.routing.copies) == len({*report.plan.local}) - 1
    assert not router.apply(config(WORDS)).changes
    refusing.clear()
    assert router.apply(config(WORDS)).changes == ["+ local route 192.168.1.0/24 dev br-lan"]
    changes_nothing(router, config(WORDS))


def test_copies_go_with_their_routes_and_with_connbal() -> None:
    router = Router(machine(WORDS))
    router.machine.extra_connected = (network("172.30.0.0/16"),)
    router.apply(config(WORDS))
    assert set(router.kernel.routing.copies) == {one for routes in router.machine.main.values() for one in routes}
    router.machine.extra_connected = ()
    assert "- local route 172.30.0.0/16 dev br-lan" in router.apply(config(WORDS)).changes
    router.apply(config(WORDS, source_routes=SourceRoutes.ALL))
    assert not router.kernel.routing.copies
    assert not [rule for rule in router.kernel.routing.rules if rule.priority == 999]
    router.apply(config(WORDS))
    assert router.kernel.routing.copies
    router.reconciler.stop()
    assert not router.kernel.routing.copies
