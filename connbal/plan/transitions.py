"""Which connections have to be forgotten when one plan follows another. Pure.

A connection keeps its mark for life. That is wrong for it in three cases: the mark's id now means another interface
or none; its source is gone and ``flush_conntrack`` says so; a better source came back and ``flush_conntrack`` says so.
Connections on other sources are never touched.
"""

from __future__ import annotations

from connbal.model.config import Config
from connbal.model.marks import MarkSpace
from connbal.plan.ledger import Ledger
from connbal.plan.values import Plan

#: A mark and the mask it counts under.
Flush = tuple[int, int]


def active(plan: Plan) -> dict[str, frozenset[str]]:
    """The interfaces that take part in each policy and family, for the ledger."""
    return {f"{tier.policy} {tier.family.value}": frozenset(share.interface for share in tier.shares)
            for tier in plan.tiers}  # fmt: skip


def flushes(ledger: Ledger, config: Config, plan: Plan) -> list[Flush]:
    """The connections to forget once ``plan`` is in the kernel, where ``ledger`` tells what was there before."""
    if not ledger.mask:
        return []
    old = MarkSpace(ledger.mask)
    held: set[tuple[str, int]] = {*ledger.ids.items(), *ledger.underway}
    if ledger.mask != plan.mask:
        return [(old.mark(number), old.mask) for number in sorted({*(number for _, number in held), old.highest})]
    numbers = {number for name, number in held if plan.ids.get(name) != number}
    for name in _events(ledger, config, plan):
        numbers.add(plan.ids[name])
    return [(old.mark(number), old.mask) for number in sorted(numbers)]


def _events(ledger: Ledger, config: Config, plan: Plan) -> set[str]:
    """Interfaces whose connections an event of theirs, or of one that displaces them, throws away."""
    wanted = {interface.name: interface.flush_conntrack for interface in config.interfaces}
    gone: set[str] = set()
    for view in plan.interfaces:
        if ledger.ids.get(view.name) != plan.ids.get(view.name) or view.name not in plan.ids:
            continue
        events = set()
        if view.present != (view.name in ledger.present):
            events.add("ifup" if view.present else "ifdown")
        if view.usable != (view.name in ledger.usable):
            events.add("connected" if view.usable else "disconnected")
        if events & wanted[view.name] & {"ifdown", "disconnected"}:
            gone.add(view.name)
        if events & wanted[view.name] & {"ifup", "connected"}:
            gone |= _displaced(view.name, ledger, plan)
    return gone & set(plan.ids)


def _displaced(name: str, ledger: Ledger, plan: Plan) -> set[str]:
    """Interfaces that took part in a policy until ``name`` came back, and do no longer."""
    found: set[str] = set()
    for key, now in active(plan).items():
        before = ledger.active.get(key, frozenset())
        if name in now and name not in before:
            found |= before - now
    return found
