"""What became of a packet, as one value for people and programs: made from the walk and the configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from connbal.model import names
from connbal.model.config import Config, Family, Rule, Verdict
from connbal.model.marks import MarkSpace
from connbal.plan.chains import IFACES_IN, RULES, RULES_OUT, exempt_sets, sticky_chain_name
from connbal.plan.explain import Branch, Packet, Step, Walk, World, walk
from connbal.plan.explain_reasons import misses, reasons
from connbal.plan.explain_route import Hop, leave
from connbal.plan.values import Goto, Icmp6Type, InDevice, InSet, Log, Plan, RuleView, Share, Tier


@dataclass(frozen=True)
class RuleStory:
    """What a rule of the configuration had to do with it."""

    number: int  #: 1-based, as ``connbal status`` counts
    name: str
    policy: str
    verdict: str  #: ``matched``, ``no``, ``unused`` (not in this family's chains), ``not reached``
    reasons: tuple[str, ...] = ()  #: of ``no`` and ``unused``
    misses: int = 0  #: how many matches failed in its nearest line


@dataclass(frozen=True)
class Ending:
    """One of the ways it may go. Several where a member is drawn."""

    probability: Fraction
    mark: int  #: of the packet as it is routed
    connection: int  #: that its connection keeps
    interface: str | None  #: the source whose mark the packet has
    meaning: str  #: ``interface``, ``default``, ``unreachable``, ``blackhole``, ``none``
    member: str | None
    hop: Hop


@dataclass(frozen=True)
class Story:
    """All there is to say.

    ``decided``: who gave the mark: ``connection`` (it has one already), ``interface`` (it came in by a source),
    ``exempt`` (a set of destinations, or sources, that need none), ``rule``, ``discovery`` (IPv6 neighbour discovery
    is left alone), ``nothing``.
    """

    packet: Packet
    decided: str
    by: str  #: name of the interface, set or rule
    rules: tuple[RuleStory, ...]
    rule: Rule | None
    tier: Tier | None  #: of the rule's policy, where that is no verdict
    remembered: str | None  #: interface that a sticky entry named
    logged: bool
    endings: tuple[Ending, ...]  #: likeliest first
    unknown: tuple[str, ...]  #: rules ahead that might match too: they look at what is not given or not known
    mask: int
    exempt_source: bool = False  #: ``exempt`` is because of where it comes from


def explain(config: Config, plan: Plan, packet: Packet, world: World) -> Story:
    """Walk the plan with a packet and say what happened."""
    walked = walk(plan, packet, world)
    by_rule = _rule_steps(walked.steps)
    matched = next((name for name, steps in by_rule.items() if not steps[-1].failed), None)
    rule = next((one for one in config.rules if one.name == matched), None)
    decided, by = _decided(plan, packet, world, walked, matched)
    rules = tuple(_rule_stories(config, plan, packet, by_rule, matched, asked=rule is not None or decided == "nothing"))
    tier = None
    if rule is not None:
        tiers = (one for one in plan.tiers if one.policy == rule.use_policy and one.family is packet.family)
        tier = next(tiers, None)
    return Story(
        packet, decided, by, rules, rule, tier,
        remembered=_remembered(config, rule, walked.steps),
        logged=any(isinstance(step.rule.action, Log) and not step.failed for step in walked.steps),
        endings=tuple(_endings(plan, packet, world, tier, walked.ends)),
        unknown=tuple(dict.fromkeys(
            step.rule.origin.name for step in walked.steps if step.unknown and step.rule.origin is not None
            and step.rule.origin.type == "rule" and len(step.unknown) == len(step.failed)
        )),
        mask=plan.mask,
        exempt_source=decided == "exempt" and by not in _exempting(packet, walked),
    )  # fmt: skip


def _exempting(packet: Packet, walked: Walk) -> set[str]:
    """The sets that exempt it because of where it goes."""
    return {step.chain for step in walked.steps if step.chain in exempt_sets(packet.family) and not step.failed}


def _rule_steps(steps: Sequence[Step]) -> dict[str, list[Step]]:
    """The lines of each rule that were met, by its name, in order. The last that was met is the one that matched."""
    found: dict[str, list[Step]] = {}
    for step in steps:
        if step.chain in (RULES, RULES_OUT) and isinstance(step.rule.action, Goto) and step.rule.origin is not None:
            found.setdefault(step.rule.origin.name, []).append(step)
    return found


def _decided(plan: Plan, packet: Packet, world: World, walked: Walk, matched: str | None) -> tuple[str, str]:
    if any(isinstance(match, Icmp6Type) for step in walked.steps if not step.failed for match in step.rule.matches):
        return "discovery", ""
    if (world.connection or 0) & plan.mask:
        return "connection", ""
    if matched is not None:
        return "rule", matched
    decided = walked.ends[0].decided
    if decided is None:
        return "nothing", ""
    chain, line = decided
    sets = [match.name for match in line.matches if isinstance(match, InSet)]
    if chain in exempt_sets(packet.family) or sets:
        return "exempt", sets[0]
    assert chain != IFACES_IN
    assert any(isinstance(match, InDevice) for match in line.matches)
    return "interface", line.origin.name if line.origin is not None else ""


# --- rules ----------------------------------------------------------------------------------------------------------


def _rule_stories(
    config: Config,
    plan: Plan,
    packet: Packet,
    by_rule: Mapping[str, list[Step]],
    matched: str | None,
    *,
    asked: bool,
) -> list[RuleStory]:
    views = {view.name: view for view in plan.rules}
    found = []
    reached = asked
    for number, rule in enumerate(config.rules, 1):
        steps = by_rule.get(rule.name, [])
        verdict, why, count = "not reached", tuple[str, ...](), 0
        if rule.name == matched:
            verdict, reached = "matched", False
        elif packet.family not in views[rule.name].families:
            verdict, why = "unused", (_why_unused(views[rule.name], packet.family),)
        elif steps:
            verdict, why, count = "no", reasons(rule, steps, packet), misses(steps)
        elif reached and rule.src_mac:
            verdict, why = "no", ("src_mac: what the router itself sends has none",)
        found.append(RuleStory(number, rule.name, rule.use_policy, verdict, why, count))
    return found


def _why_unused(view: RuleView, family: Family) -> str:
    return dict(view.missing).get(family) or view.reason or f"there are no {family.value} rules on this machine"


def _remembered(config: Config, rule: Rule | None, steps: Sequence[Step]) -> str | None:
    """The interface of the sticky entry that decided. Its name is in the name of the set, which may be shortened."""
    if rule is None:
        return None
    chain = sticky_chain_name(rule)
    for step in steps:
        if step.chain == chain and not step.failed and any(isinstance(match, InSet) for match in step.rule.matches):
            used = config.interfaces_of(rule.use_policy)
            return next((name for name in used if step.rule.comment == names.label(name)), step.rule.comment)
    return None


# --- endings ----------------------------------------------------------------------------------------------------------


def _endings(plan: Plan, packet: Packet, world: World, tier: Tier | None, ends: Sequence[Branch]) -> list[Ending]:
    space = MarkSpace(plan.mask)
    owners = {space.mark(number): name for name, number in plan.ids.items()}
    verdicts = {space.verdict_mark(verdict): verdict.value for verdict in Verdict}
    summed: dict[tuple[int, int], Fraction] = {}
    for end in ends:
        key = (end.mark, end.connection)
        summed[key] = summed.get(key, Fraction(0)) + end.probability
    found = []
    for (mark, connection), probability in sorted(summed.items(), key=lambda item: -item[1]):
        own = mark & plan.mask
        interface = owners.get(own)
        hop = leave(
            plan, packet.family.value, packet.destination, mark,
            device=None if packet.local else packet.device or "", source=packet.source, connected=world.connected,
            custom=world.custom, main=world.main, bound=packet.bound,
        )  # fmt: skip
        meaning = "interface" if interface else verdicts.get(own, "none" if not own else "unknown")
        found.append(Ending(probability, mark, connection, interface, meaning, _member(tier, interface), hop))
    return found


def _member(tier: Tier | None, interface: str | None) -> str | None:
    shares: Sequence[Share] = tier.shares if tier is not None else ()
    return next((share.member for share in shares if share.interface == interface), None)
