"""The least change from what is there to what should be."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from connbal.model.config import Config, Family, Rule
from connbal.model.facts import Facts
from connbal.plan.build import plan
from connbal.plan.diff import Changes, diff
from connbal.plan.ledger import Ledger, digest
from connbal.plan.state import ChainText, KernelState, SetState
from connbal.plan.values import IpRoute, IpRule, Plan
from tests.fakes.build import V4, V6, config, facts

EMPTY = KernelState({V4: {}, V6: {}})


def first(wanted: Config | None = None, facts_: Facts | None = None) -> tuple[Plan, Changes]:
    found = plan(wanted or config(), facts_ or facts())
    return found, diff(found, EMPTY, Ledger())


def applied(found: Plan) -> tuple[KernelState, Ledger]:
    """The kernel, and what is remembered, once a plan is in: here a kernel that prints in capitals."""
    changes = diff(found, EMPTY, Ledger())
    chains: dict[Family, dict[str, ChainText]] = {}
    known: dict[Family, dict[str, tuple[str, str]]] = {}
    for family, transaction in changes.transactions.items():
        chains[family] = {name: tuple(line.upper() for line in lines) for name, lines in transaction.chains.items()}
        for hook in found.rulesets[family].hooks:
            chains[family][hook.base] = (f"-j {hook.chain}",)
        known[family] = {name: (digest(lines), digest(chains[family][name])) for name, lines in
                         transaction.chains.items()}  # fmt: skip
    sets = {
        spec.name: SetState(spec.name, spec.type, spec.family, spec.entries or frozenset(), spec.timeout)
        for spec in found.sets
    }
    state = KernelState(chains, sets, frozenset(found.ip_rules), frozenset(found.routes), frozenset(found.local))
    return state, Ledger(chains=known)


def text(changes: Changes, family: Family = V4) -> list[str]:
    return changes.transactions[family].text.splitlines()


# --- from nothing, and again ---------------------------------------------------------------------------------------


def test_from_nothing_everything_is_made() -> None:
    found, changes = first()
    assert set(changes.create_sets) == set(found.sets)
    assert set(changes.put_routes) == set(found.routes)
    assert set(changes.copy_routes) == set(found.local) != set()
    assert set(changes.add_rules) == set(found.ip_rules)
    assert set(changes.transactions) == {V4, V6}
    assert not any((changes.replace_sets, changes.flush_sets, changes.delete_rules, changes.delete_routes))
    lines = text(changes)
    assert (lines[0], lines[-1]) == ("*mangle", "COMMIT")
    assert [line for line in lines if line.startswith("-A PREROUTING")] == ["-A PREROUTING -j mwan3_hook"]


def test_twice_is_nothing() -> None:
    found, _ = first(config(rules=[Rule("s", "all", sticky=True)]))
    assert not diff(found, *applied(found))


def test_chains_are_declared_before_they_are_filled_and_hooks_come_last() -> None:
    lines = text(first()[1])
    kinds = ["A" if line.startswith("-A") else line[0] for line in lines]
    assert kinds == sorted(kinds, key="*:AC".index)
    assert [line.split()[1] for line in lines if line.startswith("-A")][-2:] == ["PREROUTING", "OUTPUT"]


def test_a_network_is_there_before_the_gateway_in_it() -> None:
    _, changes = first()
    by_table = [(route.table, route.destination.prefixlen) for route in changes.put_routes]
    assert by_table == [(1, 24), (1, 0), (2, 24), (2, 0)]


# --- chains ---------------------------------------------------------------------------------------------------------


def test_only_changed_chains_are_written() -> None:
    before, _ = first()
    state, ledger = applied(before)
    changes = diff(plan(config(), facts(offline="wan1")), state, ledger)
    assert set(changes.transactions) == {V4}
    assert set(changes.transactions[V4].chains) == {"mwan3_policy_all"}
    assert not changes.add_rules
    assert not changes.put_routes


def test_what_somebody_changed_is_written_again() -> None:
    found, _ = first()
    state, ledger = applied(found)
    for touched in ((), ("-j RETURN", *state.chains[V4]["mwan3_rules"])):
        chains = {**state.chains, V4: {**state.chains[V4], "mwan3_rules": touched}}
        changes = diff(found, replace(state, chains=chains), ledger)
        assert set(changes.transactions[V4].chains) == {"mwan3_rules"}
        assert V6 not in changes.transactions


def test_without_memory_every_chain_is_written_once() -> None:
    found, _ = first()
    state, _ = applied(found)
    changes = diff(found, state, Ledger())
    assert set(changes.transactions[V4].chains) == {chain.name for chain in found.rulesets[V4].chains}
    assert not any(line.startswith(("-A PREROUTING", "-D")) for line in text(changes))


def test_chains_and_hooks_of_others_are_not_touched() -> None:
    found, _ = first()
    others = {
        "PREROUTING": ("-j fw_mark", "-i eth0 -j mwan3_hook", "-j mwan3_hook"),
        "FORWARD": ("-j mss",), "fw_mark": ("-j RETURN",), "mss": (),
    }  # fmt: skip
    changes = diff(found, KernelState({V4: others, V6: {}}), Ledger())
    lines = text(changes)
    assert not any(name in line for line in lines for name in ("fw_mark", "mss", "FORWARD"))
    assert not any(line.startswith("-A PREROUTING") for line in lines)
    gone = text(diff(Plan(), KernelState({V4: others, V6: {}}), Ledger()))
    assert gone == ["*mangle", "-D PREROUTING -j mwan3_hook", "COMMIT"]


def test_a_hook_that_is_there_twice_is_taken_away_once() -> None:
    found, _ = first()
    state, ledger = applied(found)
    chains = {**state.chains, V4: {**state.chains[V4], "OUTPUT": ("-j mwan3_hook",) * 3}}
    assert text(diff(found, replace(state, chains=chains), ledger)) == [
        "*mangle", *["-D OUTPUT -j mwan3_hook"] * 2, "COMMIT",
    ]  # fmt: skip


def test_a_missing_hook_is_put_back() -> None:
    found, _ = first()
    state, ledger = applied(found)
    chains = {**state.chains, V4: {**state.chains[V4], "OUTPUT": ()}}
    assert text(diff(found, replace(state, chains=chains), ledger)) == ["*mangle", "-A OUTPUT -j mwan3_hook", "COMMIT"]


def test_a_chain_nobody_wants_any_more_goes() -> None:
    found, _ = first()
    state, ledger = applied(found)
    chains = {**state.chains, V4: {**state.chains[V4], "mwan3_policy_old": ("-j RETURN",)}}
    assert text(diff(found, replace(state, chains=chains), ledger)) == [
        "*mangle", ":mwan3_policy_old - [0:0]", "-X mwan3_policy_old", "COMMIT",
    ]  # fmt: skip


def test_a_chain_that_others_lead_to_is_emptied_and_left() -> None:
    found, _ = first()
    state, ledger = applied(found)
    chains = {**state.chains, V4: {**state.chains[V4], "mwan3_old": ("-j RETURN",), "fw": ("-p tcp -j mwan3_old",)}}
    changes = diff(found, replace(state, chains=chains), ledger)
    assert text(changes) == ["*mangle", ":mwan3_old - [0:0]", "COMMIT"]
    chains = {**chains, V4: {**chains[V4], "mwan3_old": ()}}
    assert not diff(found, replace(state, chains=chains), ledger)


def test_no_transaction_for_a_family_the_kernel_has_not() -> None:
    found, _ = first()
    assert set(diff(found, KernelState({V4: {}}), Ledger()).transactions) == {V4}


# --- sets -----------------------------------------------------------------------------------------------------------


def _with_set(state: KernelState, name: str, **changed: object) -> KernelState:
    return replace(state, sets={**state.sets, name: replace(state.sets[name], **changed)})  # type: ignore[arg-type]


def test_sets_are_replaced_or_emptied_as_needed() -> None:
    found, _ = first(config(rules=[Rule("s", "all", sticky=True)]), facts(offline="wan1"))
    state, ledger = applied(found)
    connected = _with_set(state, "mwan3_connected_ipv4", entries=frozenset({"10.0.0.0/8"}))
    assert [spec.name for spec in diff(found, connected, ledger).replace_sets] == ["mwan3_connected_ipv4"]
    gone = _with_set(state, "mwan3_sticky_v4_s.wan1", entries=frozenset({"192.168.1.7"}))
    assert diff(found, gone, ledger).flush_sets == ("mwan3_sticky_v4_s.wan1",)
    kept = _with_set(state, "mwan3_sticky_v4_s.wan", entries=frozenset({"192.168.1.7"}))
    assert not diff(found, kept, ledger)
    older = _with_set(state, "mwan3_sticky_v4_s.wan", timeout=5)
    assert [spec.name for spec in diff(found, older, ledger).replace_sets] == ["mwan3_sticky_v4_s.wan"]


def test_sets_nobody_wants_any_more_go_if_they_are_connbals() -> None:
    found, _ = first()
    state, ledger = applied(found)
    more = ("mwan3_addr_ipv4_0123", "mwan3_sticky_v4_x.wan", "mwan3_connected_ipv4-", "mwan3_mine", "streaming")
    sets = {**state.sets, **{name: SetState(name, "hash:net", V4) for name in more}}
    assert diff(found, replace(state, sets=sets), ledger).destroy_sets == tuple(sorted(more[:3]))


def test_stop_takes_the_sets_it_made_and_no_others() -> None:
    found, _ = first()
    state, ledger = applied(found)
    ledger = replace(ledger, made_sets=frozenset({"mwan3_dynamic_ipv4", "asked_for", "filled"}))
    sets = {
        **{name: state.sets[name] for name in ("mwan3_dynamic_ipv4", "mwan3_dynamic_ipv6", "mwan3_custom_ipv4")},
        "asked_for": SetState("asked_for", "hash:net", V4, frozenset()),
        "filled": SetState("filled", "hash:net", V4, frozenset({"192.0.2.1"})),
        "streaming": SetState("streaming", "hash:net", V4, frozenset()),
    }
    assert diff(Plan(), replace(state, sets=sets), ledger).destroy_sets == (
        "asked_for", "mwan3_custom_ipv4", "mwan3_dynamic_ipv4",
    )  # fmt: skip


def test_a_set_of_another_type_is_left_alone() -> None:
    found, _ = first()
    state, ledger = applied(found)
    assert not diff(found, _with_set(state, "mwan3_connected_ipv4", type="hash:ip", entries=frozenset()), ledger)


# --- rules and routes -----------------------------------------------------------------------------------------------


def test_a_changed_gateway_replaces_and_deletes_nothing() -> None:
    found, _ = first()
    state, ledger = applied(found)
    [default] = [route for route in found.routes if route.table == 1 and not route.destination.prefixlen]
    old = replace(default, gateway=ipaddress.ip_address("10.1.0.254"))
    changes = diff(found, replace(state, routes=state.routes - {default} | {old}), ledger)
    assert changes == Changes(put_routes=(default,))


def test_make_before_break() -> None:
    """A device that is called otherwise: the new rule is there before the old one goes."""
    before, _ = first()
    state, ledger = applied(before)
    base = facts()
    moved = replace(base.networks["wan", V4], device="ppp0")
    changes = diff(plan(config(), replace(base, networks={**base.networks, ("wan", V4): moved})), state, ledger)
    assert [rule.iif for rule in changes.add_rules] == ["ppp0"]
    assert [rule.iif for rule in changes.delete_rules] == ["eth1"]
    assert [route.device for route in changes.put_routes] == ["ppp0", "ppp0"]
    assert not changes.delete_routes  # the new ones took their places
    order = list(Changes.__dataclass_fields__)
    made = ["create_sets", "replace_sets", "put_routes", "copy_routes", "add_rules"]
    broken = ["flush_sets", "delete_rules", "delete_routes", "delete_copies", "destroy_sets"]
    assert order == [*made, "transactions", *broken]


def test_what_is_left_of_another_table_goes() -> None:
    found, _ = first()
    state, ledger = applied(found)
    rule = IpRule("ipv4", 2009, "lookup", table=9, mark=0x900, mask=0x3F00)
    net = ipaddress.ip_network("10.9.0.0/24")
    route = IpRoute(V4, 9, ipaddress.ip_network("0.0.0.0/0"), "eth9", ipaddress.ip_address("10.9.0.1"))
    near = IpRoute(V4, 9, net, "eth9")
    changed = replace(state, ip_rules=state.ip_rules | {rule}, routes=state.routes | {near, route})
    assert diff(found, changed, ledger) == Changes(delete_rules=(rule,), delete_routes=(route, near))
