"""The last run's plan, difference and refusals: a process that runs again and again has them while nothing changes.

Pure functions are asked the same again, so the answer is the same. What was asked is compared in full, not by an event
that something has changed; comparing is much less work than planning. Where something has changed, it is compared
section by section and chain by chain (:mod:`connbal.kept`).

What the kernel has refused is not asked of it again at each run: to find out whose fault it is takes many attempts, and
whatever else there is to do would wait for them. It counts for as long as what the section was made of is the same, and
nobody else has applied anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from connbal.kept import Kept
from connbal.model.config import Config
from connbal.model.facts import Facts
from connbal.plan.build import Refused
from connbal.plan.build import plan as build_plan
from connbal.plan.diff import Changes, diff
from connbal.plan.ledger import Ledger
from connbal.plan.state import KernelState
from connbal.plan.values import Origin, Plan


class Recent:
    """Answers as :func:`connbal.plan.build.plan` and :func:`connbal.plan.diff.diff` do. For one thread at a time."""

    def __init__(self) -> None:
        self._planned: tuple[tuple[object, ...], Plan] | None = None
        self._compared: tuple[tuple[Plan, KernelState, Ledger], Changes] | None = None
        self._sections, self._chains = Kept(), Kept()
        self._refused: dict[Origin, tuple[str, object]] = {}
        self._ledger: Ledger | None = None

    def refused(self, config: Config, facts: Facts, ledger: Ledger) -> dict[Origin, str]:
        """What the kernel would refuse, with its words, as far as it is known. ``ledger``: as it is before this run."""
        if self._ledger is not None and ledger == self._ledger:
            return {origin: said for origin, (said, made_of) in self._refused.items()
                    if made_of == _made_of(origin, config, facts)}  # fmt: skip
        return {}

    def settled(self, config: Config, facts: Facts, ledger: Ledger, refused: Refused) -> None:
        """A run is complete. ``refused``: what was left out; ``ledger``: as it is after it."""
        self._refused = {origin: (said, _made_of(origin, config, facts)) for origin, said in refused.items()}
        self._ledger = ledger

    def ask_again(self) -> None:
        """Try at the next run what was refused."""
        self._refused.clear()

    def plan(self, config: Config, facts: Facts, *, ids: Mapping[str, int] | None, refused: Refused) -> Plan:
        """What should be in the kernel. The same object as before where nothing it depends on has changed."""
        asked = (config, _timeless(facts), ids, dict(refused))
        if self._planned is None or self._planned[0] != asked:
            self._planned = asked, build_plan(config, facts, ids=ids, refused=refused, ask=self._sections)
            self._sections.turn()
        return self._planned[1]

    def diff(self, plan: Plan, state: KernelState, ledger: Ledger) -> Changes:
        """What makes ``state`` into ``plan``."""
        if self._compared is not None:
            (old_plan, old_state, old_ledger), changes = self._compared
            if plan is old_plan and state == old_state and ledger == old_ledger:
                return changes
        changes = diff(plan, state, ledger, self._chains)
        self._chains.turn()
        self._compared = (plan, state, ledger), changes
        return changes


def _made_of(origin: Origin, config: Config, facts: Facts) -> object:
    """What the lines of a section depend on, as far as the kernel may refuse them."""
    if origin.type == "interface":
        sections = [one for one in config.interfaces if one.name == origin.name]
        networks = [facts.network(one.name, one.family) for one in sections]
        return sections, [None if network is None else replace(network, uptime=None) for network in networks]
    rules = [one for one in config.rules if one.name == origin.name]
    policies = [one for one in config.policies if one.name == origin.name]
    return rules, policies, config.members, config.globals, facts.sets


def _timeless(facts: Facts) -> Facts:
    """Without how long networks have been up, which no plan depends on and every second changes."""
    if all(network.uptime is None for network in facts.networks.values()):
        return facts
    return replace(facts, networks={key: replace(one, uptime=None) for key, one in facts.networks.items()})
