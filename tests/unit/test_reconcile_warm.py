"""The loop in a process that lives on: what it remembers saves work and changes nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from connbal.model.config import Config, PortRange, Rule
from connbal.model.facts import Facts, Network
from connbal.plan.build import plan
from connbal.plan.ledger import Ledger
from connbal.plan.recent import Recent
from connbal.plan.state import KernelState
from connbal.reconcile import Reconciler
from tests.fakes.build import V4, config, machine
from tests.fakes.router import Router, without_leftovers
from tests.fakes.situations import SITUATIONS, WORDS, enter
from tests.fakes.work import calls
from tests.unit.test_reconcile import DAMAGES, expected


class Warm(Router):
    """A router whose daemon has run before: one memory for all runs."""

    recent: Recent | None = None

    @property
    def reconciler(self) -> Reconciler:
        self.recent = self.recent or Recent()
        return Reconciler(self.kernel.api, self.machine.source, self.kernel.memory, self.recent)


def asked(router: Router, wanted: Config) -> list[str]:
    """The calls of a run that has nothing to do."""
    router.kernel.calls.forget()
    assert not router.apply(wanted).changes
    return [name.split(" mwan3_")[0] for name in router.kernel.calls.names]


@pytest.mark.parametrize("walk", range(4))
def test_hopping_ends_where_a_fresh_start_does(walk: int) -> None:
    chance = random.Random(f"warm {walk}")
    router = Warm(machine(WORDS))
    for _ in range(40):
        situation = chance.choice(SITUATIONS)
        wanted = enter(router, situation)
        router.apply(wanted)
        assert without_leftovers(router.kernel.text()) == expected(situation)
        assert not router.apply(wanted).changes


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_damage_is_repaired_after_runs_that_had_nothing_to_do(damage: Callable[[Router], None]) -> None:
    router = Warm(machine(WORDS), others=False)
    wanted = config(WORDS)
    router.apply(wanted)
    before = router.kernel.text()
    for _ in range(3):  # the same damage again and again
        assert not router.apply(wanted).changes
        damage(router)
        assert router.apply(wanted).changes
        assert router.kernel.text() == before


def test_a_run_looks_at_each_table_once() -> None:
    router = Warm(machine(WORDS))
    wanted = config(WORDS)
    router.apply(wanted)
    assert asked(router, wanted) == ["read routing", "set headers", "set entries", "save ipv4", "save ipv6"]


def test_what_has_not_changed_is_not_worked_out_again() -> None:
    rules = [Rule(f"r{number}", "all", dest_ports=(PortRange(number, number),), protocols=(6,))
             for number in range(1, 200)]  # fmt: skip
    router, wanted = Warm(machine(WORDS)), config(WORDS, rules=rules)
    facts = router.machine.source(wanted, router.kernel.routing.read(), {})
    recent, state, ledger = Recent(), KernelState({V4: router.kernel.xtables.save(V4)}), Ledger()

    def once() -> object:
        return recent.diff(recent.plan(wanted, facts, ids=None, refused={}), state, ledger)

    assert calls(once) > 100 * calls(once)


def test_what_differs_in_anything_is_planned_anew() -> None:
    recent, wanted = Recent(), config(WORDS)
    facts = Router(machine(WORDS)).machine.source(wanted, Router().kernel.routing.read(), {})
    first = recent.plan(wanted, facts, ids=None, refused={})
    assert recent.plan(wanted, replace(facts), ids=None, refused={}) is first
    for other in (replace(facts, ip6=False), replace(facts, networks={})):
        assert recent.plan(wanted, other, ids=None, refused={}) == plan(wanted, other)
        assert recent.plan(wanted, facts, ids=None, refused={}) == first
    assert recent.plan(wanted, facts, ids={"wan": 9}, refused={}) == plan(wanted, facts, ids={"wan": 9})


def test_how_long_a_network_has_been_up_makes_no_other_plan() -> None:
    recent, wanted = Recent(), config(WORDS)

    def after(seconds: int) -> Facts:
        return Facts(networks={("wan", V4): Network("wan", V4, up=True, device="eth1", uptime=seconds)})

    assert recent.plan(wanted, after(1), ids=None, refused={}) is recent.plan(wanted, after(2), ids=None, refused={})
