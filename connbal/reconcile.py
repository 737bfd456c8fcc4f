"""The one loop: facts -> plan -> diff -> apply -> verify, until the kernel is as planned. There is no other path to it.

Each run starts from what is there, so it does not matter what happened before: the first start, a change of the
configuration, a modem that came or went, a firewall restart that took rules away, or a run that was killed half way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Protocol

from connbal.errors import Finding, KernelError
from connbal.frozen import dataclass
from connbal.kernel.api import Kernel, RoutingState, SetRefused, TransientError
from connbal.model.config import FAMILIES, Config, Family
from connbal.model.facts import Facts
from connbal.model.marks import MarkSpace, bridge_ids, bridge_masks
from connbal.plan.build import plan as build_plan
from connbal.plan.describe import describe
from connbal.plan.diff import Changes, Transaction, diff
from connbal.plan.ledger import Ledger, digest
from connbal.plan.recent import Recent
from connbal.plan.state import PREFIX, KernelState, SetState
from connbal.plan.status import RuleCounters, rule_counters
from connbal.plan.transitions import active, flushes
from connbal.plan.values import Origin, Plan
from connbal.refusal import DISPENSABLE, MATCHES, SectionsRefused, blame, blaming, copied, left_out, passing

log = logging.getLogger(__name__)

#: Each attempt leaves out at least one section more, or finds that somebody else changed the tables meanwhile.
MAX_ATTEMPTS = 32

#: The changes that come before the ruleset is switched.
MAKE = ("create_sets", "replace_sets", "put_routes", "copy_routes", "add_rules")

#: What the machine is like, given what netlink and ipset said.
FactsSource = Callable[[Config, RoutingState, Mapping[str, SetState]], Facts]


class Memory(Protocol):
    """Where the ledger is kept."""

    def load(self) -> Ledger: ...

    def save(self, ledger: Ledger) -> None: ...


@dataclass
class Report:
    """What a run did."""

    plan: Plan
    changes: list[str] = field(default_factory=list)  #: in words, in order
    findings: list[Finding] = field(default_factory=list)
    flushed: int = 0  #: marks whose connections were forgotten
    facts: Facts = field(default_factory=Facts)  #: that the plan was made from


@dataclass(frozen=True)
class _Seen:
    """A look at what is read with every run."""

    routing: RoutingState
    headers: Mapping[str, SetState]  #: of the sets


@dataclass
class _Run:
    """What one run knows by now."""

    config: Config
    facts: Facts
    ledger: Ledger
    seen: _Seen | None  #: None: something was changed since
    lacking: dict[str, bool]  #: as in the ledger
    refused: dict[Origin, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    flushed: int = 0

    def leave_out(self, origin: Origin, said: str) -> None:
        self.refused[origin] = said
        self.findings.append(left_out(origin, said))


class Reconciler:
    """Brings a kernel to what a configuration says. Not safe to run twice at once: callers hold the run lock.

    ``recent``: of a process that lives on, so that what has not changed is not worked out again.
    """

    def __init__(self, kernel: Kernel, facts: FactsSource, memory: Memory, recent: Recent | None = None) -> None:
        self._kernel = kernel
        self._recent = recent or Recent()
        self._facts = facts
        self._memory = memory

    # --- what callers want -------------------------------------------------------------------------------------

    def apply(self, config: Config) -> Report:
        """Make the kernel as ``config`` and the facts say. KernelError where that cannot be, with the old rules whole.

        Sections that the kernel refuses are left out and reported; the rest goes in.
        """
        run = self._start(config)
        for origin, said in self._recent.refused(config, run.facts, run.ledger).items():
            run.leave_out(origin, said)
        for mask in bridge_masks(run.ledger.mask, config.globals.mmx_mask):
            run.config = replace(config, globals=replace(config.globals, mmx_mask=mask))
            self._approach(run)
        run.config = config
        plan = self._approach(run)
        self._recent.settled(config, run.facts, run.ledger, run.refused)
        return Report(plan, run.changes, [*plan.findings, *run.findings], run.flushed, run.facts)

    def preview(self, config: Config) -> Report:
        """What :meth:`apply` would change. Nothing is changed, so what the kernel would refuse does not show."""
        run = self._start(config)
        plan = build_plan(config, run.facts)
        assert run.seen is not None
        changes = diff(plan, self._look(plan, run.seen, run.ledger), run.ledger)
        return Report(plan, list(describe(changes)), list(plan.findings), facts=run.facts)

    def status(self, config: Config) -> tuple[Plan, dict[str, RuleCounters]]:
        """How things stand: the plan, and what each rule has matched."""
        plan = build_plan(config, self._start(config).facts)
        seen = {
            family: {
                chain: [(counter.packets, counter.bytes) for counter in counters]
                for chain, counters in self._kernel.xtables.counters(family).items()
            }
            for family in plan.rulesets
            if self._kernel.xtables.available(family)
        }
        return plan, rule_counters(plan, seen)

    def look(self, config: Config) -> Report:
        """The plan with the facts it was made from; the kernel's rules and chains are not looked at."""
        run = self._start(config)
        plan = build_plan(config, run.facts)
        return Report(plan, findings=list(plan.findings), facts=run.facts)

    def stop(self) -> list[str]:
        """Take away everything connbal put into the kernel, and nothing else. Returns what was done, in words."""
        ledger = self._memory.load()
        nothing, seen = Plan(), self._see()
        changes = diff(nothing, self._state(seen, ledger.made_sets & seen.headers.keys(), ledger), ledger)
        # The other way round than apply: no packet may be marked any more when tables and rules go.
        for family, transaction in changes.transactions.items():
            self._kernel.xtables.restore(family, transaction.text)
        self._break(changes)
        self._memory.save(Ledger())
        return list(describe(changes))

    def applied(self) -> bool:
        """Whether a configuration has been applied, and not stopped since."""
        return bool(self._memory.load().mask)

    # --- one run ----------------------------------------------------------------------------------------------

    def _start(self, config: Config) -> _Run:
        ledger = self._memory.load()
        if ledger.backend and ledger.backend != self._kernel.xtables.backend:
            ledger = replace(ledger, chains={})
        seen = self._see()
        facts = self._facts(config, seen.routing, seen.headers)
        if not facts.ip6:
            self._gone(Family.IPV6, ledger)
        # Refused once, it is not tried again until the kernel says that it has it after all.
        lacking = {name: known for name, known in ledger.lacking.items()
                   if name in MATCHES and (known or not self._knows(name))}  # fmt: skip
        return _Run(config, _without(facts, lacking), ledger, seen, lacking)

    def _knows(self, name: str) -> bool:
        """Whether the kernel says of itself that it can do what a fact is about."""
        return self._kernel.xtables.knows_match(MATCHES[name])

    def _approach(self, run: _Run) -> Plan:
        """To what ``run.config`` says, by a step in between where ids need one."""
        step = self._bridge(run)
        if step is not None:
            self._converge(run, step)
        return self._converge(run, None)

    def _bridge(self, run: _Run) -> Mapping[str, int] | None:
        """Ids for a step in between, where some id is about to mean another interface."""
        ledger = run.ledger
        if ledger.mask != run.config.globals.mmx_mask:
            return None
        space = MarkSpace(ledger.mask)
        wanted = {one.name: one.id for one in run.config.interfaces if one.enabled and one.id <= space.capacity}
        return bridge_ids(ledger.ids, wanted, space.capacity, ledger.underway)

    def _converge(self, run: _Run, ids: Mapping[str, int] | None) -> Plan:
        for _ in range(MAX_ATTEMPTS):
            plan = self._recent.plan(run.config, run.facts, ids=ids, refused=run.refused)
            # What the facts were made of is as good as another look. Once something was changed, it is not.
            seen, run.seen = run.seen or self._see(), None
            state = self._look(plan, seen, run.ledger)
            changes = self._recent.diff(plan, state, run.ledger)
            try:
                settled = self._carry_out(run, plan, changes)
            except SectionsRefused as refused:
                self._leave_out(run, refused)
                continue
            self._settle(run, plan)
            if settled:
                return plan
        raise KernelError("connbal apply", None, f"the tables did not settle in {MAX_ATTEMPTS} attempts")

    def _look(self, plan: Plan, seen: _Seen, ledger: Ledger) -> KernelState:
        """The kernel as it is. Entries are read only of sets whose content matters."""
        headers = seen.headers
        wanted = {
            spec.name for spec in plan.sets
            if spec.entries is not None and (state := headers.get(spec.name)) is not None
            and not spec.foreign and (state.type, state.family) == (spec.type, spec.family)
        }  # fmt: skip
        return self._state(seen, wanted, ledger)

    def _state(self, seen: _Seen, filled: Collection[str], ledger: Ledger) -> KernelState:
        sets = self._kernel.sets.filled(seen.headers, filled)
        families = [family for family in FAMILIES if self._available(family, ledger)]
        return KernelState(self._kernel.xtables.look(families), sets, seen.routing.ip_rules, seen.routing.routes,
                           seen.routing.copies)

    def _see(self) -> _Seen:
        return _Seen(self._kernel.routing.read(), self._kernel.sets.headers())

    def _available(self, family: Family, ledger: Ledger) -> bool:
        if self._kernel.xtables.available(family):
            return True
        self._gone(family, ledger)
        return False

    def _gone(self, family: Family, ledger: Ledger) -> None:
        """Raises KernelError where a family is not there that has to be: IPv4, and whatever has rules of connbal's.

        These give marks, so what takes the marks must stay until they can be changed too.
        """
        if family is Family.IPV4 or ledger.chains.get(family):
            self._kernel.xtables.look([family])  # which says what is wrong
            raise TransientError("iptables-save", None, f"the rules of {family.value} could not be looked at")

    def _carry_out(self, run: _Run, plan: Plan, changes: Changes) -> bool:
        """Do it: make, switch, break. False where what was written does not read back whole, so look again."""
        if not changes:
            self._forget(run, plan)
            return True
        self._remember_before(run, plan, changes)
        changes = self._make(run, plan, changes)
        run.changes += describe(replace(Changes(), **{name: getattr(changes, name) for name in MAKE}))
        transactions = list(changes.transactions.items())
        for family, transaction in transactions:  # one by one: the kernel has a lock, and both would have to try again
            self._restore(family, transaction)
            run.changes += describe(Changes(transactions={family: transaction}))
        # Only now: while one family is read back, connections of the other would go astray.
        whole = self._read_back(run, transactions)
        for name in changes.flush_sets:
            self._kernel.sets.flush(name)
        self._forget(run, plan)
        self._break(changes)
        run.changes += describe(replace(changes, transactions={}, **dict.fromkeys(MAKE, ())))
        return whole

    def _make(self, run: _Run, plan: Plan, changes: Changes) -> Changes:
        """What was made: all but copies of routes that the kernel does not take."""
        try:
            self._kernel.sets.create(*changes.create_sets)
        except SetRefused as error:
            with blaming(error.spec.origin):
                raise
        self._kernel.sets.replace(*changes.replace_sets)
        owners = {number: name for name, number in plan.ids.items()}
        for route in changes.put_routes:
            with blaming(Origin("interface", owners[route.table])):
                self._kernel.routing.replace_route(route)
        copies, findings = copied(self._kernel.routing, changes.copy_routes)
        run.findings += [one for one in findings if one not in run.findings]
        for rule in changes.add_rules:
            self._kernel.routing.add_rule(rule)
        return replace(changes, copy_routes=copies)

    def _restore(self, family: Family, transaction: Transaction) -> None:
        xtables = self._kernel.xtables
        try:
            xtables.restore(family, transaction.text)
        except TransientError:
            raise
        except KernelError as error:
            refused = blame(error, transaction, family, xtables)
            if refused is None:
                raise
            raise refused from error

    def _read_back(self, run: _Run, transactions: Sequence[tuple[Family, Transaction]]) -> bool:
        """Learn how the kernel prints what was just written. False where not all of it is there."""
        looked = self._kernel.xtables.look([family for family, _ in transactions])
        whole = True
        for family, transaction in transactions:
            found = looked[family]
            known = {name: pair for name, pair in run.ledger.chains.get(family, {}).items() if name in found}
            for name, written in transaction.chains.items():
                known.pop(name, None)
                if len(found.get(name, ())) == len(written) and name in found:
                    known[name] = (digest(written), digest(found[name]))
                else:
                    whole = False
            run.ledger = replace(run.ledger, chains={**run.ledger.chains, family: known})
        if transactions:
            self._memory.save(run.ledger)
        return whole

    def _break(self, changes: Changes) -> None:
        for rule in changes.delete_rules:
            self._kernel.routing.delete_rule(rule)
        for route in changes.delete_routes:
            self._kernel.routing.delete_route(route)
        for copy in changes.delete_copies:
            self._kernel.routing.delete_copy(copy)
        for name in changes.destroy_sets:
            try:
                self._kernel.sets.destroy(name)
            except KernelError as error:
                if passing(error):
                    raise
                log.warning("set %s stays: %s", name, error)  # a rule or set of others uses it

    def _forget(self, run: _Run, plan: Plan) -> None:
        for mark, mask in flushes(run.ledger, run.config, plan):
            try:
                self._kernel.conntrack.flush(mark, mask)
                run.flushed += 1
            except KernelError as error:
                if passing(error):
                    raise  # what has to be forgotten is not known any more once the run is complete
                log.warning("old connections were not forgotten: %s", error)

    # --- memory ------------------------------------------------------------------------------------------------

    def _remember_before(self, run: _Run, plan: Plan, changes: Changes) -> None:
        """Write down what is about to happen, in case it is cut short.

        Which ids will be in use besides those that are, and which sets were missing: ``stop`` takes away these and no
        others.
        """
        made = {
            spec.name for spec in changes.create_sets if spec.foreign or not spec.name.startswith(f"{PREFIX}addr_")
        }
        ledger = replace(
            run.ledger,
            backend=self._kernel.xtables.backend,
            made_sets=run.ledger.made_sets | made,
            underway=run.ledger.underway | (plan.ids.items() - run.ledger.ids.items()),
        )
        if ledger != run.ledger:
            run.ledger = ledger
            self._memory.save(ledger)

    def _settle(self, run: _Run, plan: Plan) -> None:
        ledger = replace(
            run.ledger,
            ids=dict(plan.ids),
            underway=frozenset(),
            mask=plan.mask,
            present=frozenset(view.name for view in plan.interfaces if view.present),
            usable=frozenset(view.name for view in plan.interfaces if view.usable),
            active=active(plan),
            lacking=run.lacking,
        )
        if ledger != run.ledger:
            run.ledger = ledger
            self._memory.save(ledger)

    def _leave_out(self, run: _Run, refused: SectionsRefused) -> None:
        lacking = [name for name in DISPENSABLE if name in refused.lacking and getattr(run.facts, name)]
        if lacking:
            run.facts = _without(run.facts, lacking)
            run.findings += [DISPENSABLE[name] for name in lacking]
            # What is wanted only now and then is asked for anew each time.
            run.lacking |= {name: self._knows(name) for name in lacking if name in MATCHES}
            return
        for origin, said in refused.reasons.items():
            if origin in run.refused:
                self._recent.ask_again()
                raise KernelError("connbal apply", None, said)
            run.leave_out(origin, said)


def _without(facts: Facts, lacking: Iterable[str]) -> Facts:
    """What holds where the kernel lacks these."""
    absent: dict[str, Any] = dict.fromkeys(lacking, False)
    return replace(facts, **absent)

