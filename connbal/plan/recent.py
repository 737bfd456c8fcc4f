"""The last plan, and the last difference: a process that runs again and again has them at hand while nothing changes.

Pure functions are asked the same again, so the answer is the same. What was asked is compared in full, not by an event
that something has changed; comparing is much less work than planning. Where something has changed, it is compared
section by section and chain by chain (:mod:`connbal.kept`).
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
from connbal.plan.values import Plan


class Recent:
    """Answers as :func:`connbal.plan.build.plan` and :func:`connbal.plan.diff.diff` do. For one thread at a time."""

    def __init__(self) -> None:
        self._planned: tuple[tuple[object, ...], Plan] | None = None
        self._compared: tuple[tuple[Plan, KernelState, Ledger], Changes] | None = None
        self._sections, self._chains = Kept(), Kept()

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


def _timeless(facts: Facts) -> Facts:
    """Without how long networks have been up, which no plan depends on and every second changes."""
    if all(network.uptime is None for network in facts.networks.values()):
        return facts
    return replace(facts, networks={key: replace(one, uptime=None) for key, one in facts.networks.items()})
