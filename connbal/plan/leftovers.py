"""What in a kernel is mwan3's, and whether its marks mean what the configuration says. Pure.

mwan3 puts no name on its rules and routes, so they are known by their shape: a rule is mwan3's if it is exactly what
mwan3 2.12.2 makes of an id and a mask, a route if it is the copy of one in the main table in a table that such a rule
leads to. What has mwan3's numbers but another shape is somebody else's, and is only told of.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from connbal.model.config import FAMILIES, Family
from connbal.model.marks import (
    IIF_PRIORITY,
    MARK_PRIORITY,
    MAX_TABLE,
    MIN_MASK_BITS,
    UNREACHABLE_PRIORITY,
    MarkSpace,
)
from connbal.model.terms import Verdict
from connbal.plan.describe import route_text, rule_text
from connbal.plan.ledger import Ledger
from connbal.plan.sources import MAIN_TABLE
from connbal.plan.state import PREFIX, ROUTE_PROTOCOL, ChainText, SetState
from connbal.plan.values import IpRoute, IpRule, Plan

#: Protocols that rules of the ``ip`` command have: none given, and "boot".
_BY_HAND = (0, 3)
#: Protocol of the routes that the kernel makes for addresses. In an interface's table, only a copy has it.
_KERNEL = 2
#: The range of priorities in which mwan3 puts its rules, verdicts of a wide mask left out.
_RANGE = range(IIF_PRIORITY, 4000)

#: Sets that mwan3 makes, in the names of its versions since 2.6.
_SET = re.compile(
    rf"{PREFIX}(?:(?:connected|custom|dynamic|source)(?:_(?:ip)?v[46])?|(?:sticky|rule)_(?:ip)?v[46]_\w+)"
)
#: The line that marks what comes in by an interface, as iptables prints it.
_CAME_IN = re.compile(r"-j MARK --set-xmark (0x[0-9a-f]+)/(0x[0-9a-f]+)")
_CHAIN_IN = f"{PREFIX}iface_in_"


@dataclass(frozen=True)
class FoundRule:
    """A rule as the kernel has it. ``plain``: it looks at nothing but what ``rule`` says."""

    rule: IpRule
    protocol: int
    plain: bool = True


@dataclass(frozen=True)
class FoundRoute:
    """A route with one next hop or none. ``type``: as in linux/rtnetlink.h; ``device`` of ``route`` may be empty."""

    route: IpRoute
    protocol: int
    type: int


@dataclass(frozen=True)
class Found:
    """One look at everything that may be mwan3's."""

    rules: tuple[FoundRule, ...] = ()
    routes: tuple[FoundRoute, ...] = ()
    chains: Mapping[Family, Mapping[str, ChainText]] = field(default_factory=dict)
    sets: Mapping[str, SetState] = field(default_factory=dict)


@dataclass(frozen=True)
class Leftovers:
    """What is mwan3's. Rules, routes and sets in the order in which they are taken away."""

    mask: int = 0  #: under which mwan3 marks; 0: nothing says
    ids: Mapping[str, int] = field(default_factory=dict)  #: interface -> id, as mwan3's chains say
    devices: Mapping[int, str] = field(default_factory=dict)  #: id -> device, as mwan3's rules say
    chains: Mapping[Family, tuple[str, ...]] = field(default_factory=dict)
    rules: tuple[FoundRule, ...] = ()
    routes: tuple[FoundRoute, ...] = ()
    sets: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  #: what has mwan3's numbers or names and is not its: left alone, in words

    def __bool__(self) -> bool:
        return bool(any(self.chains.values()) or self.rules or self.routes or self.sets)


def leftovers(found: Found, ledger: Ledger, plan: Plan, lookups: Collection[int] = ()) -> Leftovers:
    """What of ``found`` is mwan3's. ``plan``: what connbal wants; ``lookups``: ``globals.rt_table_lookup``.

    Sets that the plan has are not among it: connbal goes on using them.
    """
    foreign = [one for one in found.rules if one.rule.priority in _RANGE and one.protocol != ROUTE_PROTOCOL]
    mask = _mask(found.rules)
    rules = _rules(found.rules, mask) if mask else []
    routes, strange = _routes(found.routes, rules, plan.ids.values(), lookups)
    applied = bool(ledger.mask)
    chains = {
        family: tuple(name for name in names if _is_mwan3s(name, ledger.chains.get(family, {}) if applied else {}))
        for family, names in found.chains.items()
    }
    sets, others = _sets(found.sets, ledger, plan)
    words = [f"rule {rule_text(one.rule)}{'' if one.plain else ' ...'}" for one in foreign if one not in rules]
    words += [f"route {route_words(one)}" for one in strange]
    return Leftovers(
        mask=mask,
        ids=_ids(found.chains, mask, chains),
        devices={one.rule.table: one.rule.iif for one in rules if one.rule.iif},
        chains=chains,
        rules=tuple(rules),
        routes=tuple(routes),
        sets=tuple(sets),
        others=(*words, *(f"set {name}" for name in others)),
    )


# --- rules ------------------------------------------------------------------------------------------------------


def _verdicts(mask: int) -> dict[tuple[int, str, int], Verdict]:
    space = MarkSpace(mask)
    kinds = (Verdict.BLACKHOLE, Verdict.UNREACHABLE)
    return {(MARK_PRIORITY + space.verdict_id(one), one.value, space.verdict_mark(one)): one for one in kinds}


def _is_verdict(rule: IpRule, mask: int) -> bool:
    key = (rule.priority, rule.action, rule.mark)
    return rule.mask == mask and not rule.iif and rule.suppress_prefixlen < 0 and key in _verdicts(mask)


def _mask(rules: Iterable[FoundRule]) -> int:
    """The mask that mwan3 marks under. Its verdict rules are always there, so without one there is no mwan3."""
    votes: dict[int, int] = {}
    for one in rules:
        mask = one.rule.mask
        if one.plain and one.protocol in _BY_HAND and bin(mask).count("1") >= MIN_MASK_BITS:
            votes[mask] = votes.get(mask, 0) + _is_verdict(one.rule, mask)
    best = max(votes, key=lambda mask: votes[mask], default=0)
    return best if votes.get(best) else 0


def _id(rule: IpRule, space: MarkSpace) -> int:
    """The id of the interface that a rule by mark is for; 0: it is no such rule."""
    first = UNREACHABLE_PRIORITY if rule.action == "unreachable" else MARK_PRIORITY
    number = rule.priority - first
    fits = 0 < number <= MAX_TABLE and rule.mask == space.mask and rule.mark == space.mark(number) and not rule.iif
    if not fits or rule.suppress_prefixlen >= 0 or rule.action not in ("lookup", "unreachable"):
        return 0
    return number if rule.action == "unreachable" or rule.table == number else 0


def _rules(rules: Sequence[FoundRule], mask: int) -> list[FoundRule]:
    """Those of mwan3, so ordered that what others are known by goes last."""
    space = MarkSpace(mask)
    plain = [one for one in rules if one.plain and one.protocol in _BY_HAND]
    anchored = {one.rule.family for one in plain if _is_verdict(one.rule, mask)}
    plain = [one for one in plain if one.rule.family in anchored]
    marked = {one: _id(one.rule, space) for one in plain}
    known = {(one.rule.family, number) for one, number in marked.items() if number}
    incoming = [one for one in plain if _came_in(one.rule) and (one.rule.family, one.rule.table) in known]
    refused = [one for one, number in marked.items() if number and one.rule.action == "unreachable"]
    looked_up = [one for one, number in marked.items() if number and one.rule.action == "lookup"]
    return [*incoming, *refused, *looked_up, *(one for one in plain if _is_verdict(one.rule, mask))]


def _came_in(rule: IpRule) -> bool:
    bare = rule.action == "lookup" and not rule.mask and rule.suppress_prefixlen < 0
    return bare and bool(rule.iif) and 0 < rule.table <= MAX_TABLE and rule.priority == IIF_PRIORITY + rule.table


# --- routes -----------------------------------------------------------------------------------------------------


def _routes(
    routes: Sequence[FoundRoute], rules: Iterable[FoundRule], ids: Collection[int], lookups: Collection[int]
) -> tuple[list[FoundRoute], list[FoundRoute]]:
    """Those of mwan3, gateways before networks; and others' in the tables of interfaces."""
    models = {_copied(one) for one in routes if one.route.table == MAIN_TABLE or one.route.table in lookups}
    led_to = {(one.rule.family, one.rule.table) for one in rules if one.rule.action == "lookup"}
    by_table: dict[tuple[str, int], list[FoundRoute]] = {}
    for one in routes:
        key = (one.route.family.value, one.route.table)
        if one.protocol != ROUTE_PROTOCOL and 0 < key[1] <= MAX_TABLE and (key in led_to or key[1] in ids):
            by_table.setdefault(key, []).append(one)
    own, strange = [], []
    for key, held in by_table.items():
        copies = [one for one in held if _copied(one) in models]
        # Where no rule says whose table it is, only one that is a copy throughout is taken for mwan3's.
        sure = key in led_to or (len(copies) == len(held) and any(one.protocol == _KERNEL for one in held))
        own += copies if sure else []
        strange += [one for one in held if not sure or one not in copies]
    own.sort(key=lambda one: (one.route.table, one.route.family.value, one.route.gateway is None, str(one.route)))
    return own, strange


def _copied(one: FoundRoute) -> FoundRoute:
    """What a copy has in common with its model."""
    return replace(one, route=replace(one.route, table=0, source=None))


def route_words(one: FoundRoute) -> str:
    """A route in words, after its family."""
    kinds = {6: "blackhole ", 7: "unreachable ", 8: "prohibit "}
    text = f"{one.route.family.value} {kinds.get(one.type, '')}{route_text(one.route)}"
    return text if one.route.device else text.replace(" dev  table", " table")


# --- chains and sets --------------------------------------------------------------------------------------------


def _is_mwan3s(name: str, known: Collection[str]) -> bool:
    return name.startswith(PREFIX) and name not in known


def _ids(
    chains: Mapping[Family, Mapping[str, ChainText]], mask: int, own: Mapping[Family, Collection[str]]
) -> dict[str, int]:
    """Which id each interface has, by the chains that mark what comes in by it."""
    found = {}
    for family in FAMILIES:
        for name, lines in chains.get(family, {}).items():
            if mask and name.startswith(_CHAIN_IN) and name in own.get(family, ()):
                marks = [match for match in map(_CAME_IN.search, lines) if match and int(match[2], 16) == mask]
                numbers = {MarkSpace(mask).id_of(int(match[1], 16)) for match in marks} - {MarkSpace(mask).highest}
                if len(numbers) == 1:
                    found[name.removeprefix(_CHAIN_IN)] = numbers.pop()
    return found


def _sets(sets: Mapping[str, SetState], ledger: Ledger, plan: Plan) -> tuple[list[str], list[str]]:
    """Those of mwan3, lists of sets first; and those whose name only looks like it."""
    wanted = {spec.name for spec in plan.sets} | ledger.made_sets
    free = [name for name in sorted(sets) if name.startswith(PREFIX) and name not in wanted]
    own = [name for name in free if _SET.fullmatch(name)]
    own.sort(key=lambda name: sets[name].type != "list:set")
    ours = (f"{PREFIX}addr_", f"{PREFIX}sticky_")
    others = [name for name in free if name not in own and not name.startswith(ours) and not name.endswith("-")]
    return own, others


# --- do marks keep their meaning? -------------------------------------------------------------------------------


def conflicts(left: Leftovers, plan: Plan) -> Iterator[str]:
    """Why a mark of mwan3's would mean something else under ``plan``, in words; nothing: connections can go on."""
    if not left.mask:
        return
    if left.mask != plan.mask:
        yield f"mwan3 marks under {left.mask:#x}, and the configuration says mmx_mask {plan.mask:#x}"
        return
    owners = {number: name for name, number in plan.ids.items()}
    for name, number in sorted(left.ids.items()):
        here = owners.get(number)
        if here is not None and here != name:
            yield f"id {number} is {name} with mwan3, and {here} in the configuration"
    if left.ids:
        return
    planned = {rule.iif: rule.table for rule in plan.ip_rules if rule.iif and rule.action == "lookup" and rule.table}
    for number, device in sorted(left.devices.items()):
        there = planned.get(device, number)
        if there != number and there <= MAX_TABLE:
            yield f"id {number} is device {device} with mwan3, which has id {there} in the configuration"
