"""The chains of one family: the hook every packet passes, and what it leads to.

A packet without a mark takes the mark its connection has; a connection's first packet gets one: the interface it came
in by, "default" where its destination needs no source, else what the first matching rule's policy says. The mark goes
back to the connection, so the rules are walked once per connection. The layout is mwan3's wherever others look.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from connbal.frozen import dataclass
from connbal.kept import Ask, afresh
from connbal.model import names
from connbal.model.config import LOG_LEVELS, Affinity, Config, Family, Rule, Verdict
from connbal.model.marks import MAX_TABLE, STEER_GROUP, MarkSpace
from connbal.plan.affinity import picks
from connbal.plan.sources import Source
from connbal.plan.values import (
    AddToSet,
    Chain,
    ChainRule,
    Chance,
    Goto,
    Hook,
    HopLimit,
    Icmp6Type,
    InDevice,
    InSet,
    Jump,
    Log,
    MarkIs,
    Match,
    Origin,
    OutDevice,
    OwnerGroup,
    RestoreMark,
    Return,
    Ruleset,
    SaveMark,
    SetMark,
    Share,
    SourceMac,
    Tier,
)

HOOK, HOOK_OUT = "mwan3_hook", "mwan3_hook_out"
RULES, RULES_OUT = "mwan3_rules", "mwan3_rules_out"
IFACES_IN = "mwan3_ifaces_in"
STEER = "mwan3_use"
#: Stands for all lines of ``connbal use``, where the kernel refuses them.
STEER_ORIGIN = Origin("globals", "use")
#: ICMPv6 types of router and neighbour discovery, and the hop limit that all of it is sent with (RFC 4861).
NEIGHBOUR_DISCOVERY, NEVER_FORWARDED = range(133, 138), 255
#: Stands for the lines about neighbour discovery, where the kernel refuses them.
DISCOVERY_ORIGIN = Origin("globals", "discovery")


def exempt_sets(family: Family) -> tuple[str, str, str]:
    """The sets whose members need no source, in the order mwan3 asks them: custom, connected, dynamic."""
    return f"mwan3_custom_{family.value}", f"mwan3_connected_{family.value}", f"mwan3_dynamic_{family.value}"


@dataclass(frozen=True)
class Line:
    """A rule of the configuration with the matches of each line it needs in this family."""

    rule: Rule
    matches: Sequence[tuple[Match, ...]]
    #: The sources that clients are kept on, each with the set that does it; empty: the rule is not sticky.
    sticky: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scene:
    """What all chains of one family have in common."""

    family: Family
    space: MarkSpace

    @property
    def unmarked(self) -> MarkIs:
        return MarkIs(0, self.space.mask)

    def set_mark(self, mark: int) -> SetMark:
        return SetMark(mark, self.space.mask)

    @property
    def exempt(self) -> SetMark:
        return self.set_mark(self.space.verdict_mark(Verdict.DEFAULT))


def ruleset(
    scene: Scene,
    config: Config,
    sources: Mapping[str, Source],
    tiers: Mapping[str, Tier],
    lines: Sequence[Line],
    steer: bool = False,
    hop_limit: bool = True,
    ask: Ask = afresh,
) -> Ruleset:
    """All chains of a family. Those that are jumped to come before those that jump.

    ``sources`` and ``lines``: of this family; ``tiers``: by policy; ``steer``: with lines for ``connbal use``;
    ``hop_limit``: hop limits can be matched; ``ask``: for what one section makes of them.
    """
    family, present = scene.family, [source for source in sources.values() if source.present]
    level = LOG_LEVELS[config.globals.loglevel] if config.globals.logging else None
    ready = [(line, ask((family, line.rule.name), _rule_lines, line, level)) for line in lines]
    outbound = [rules for line, rules in ready if not _inbound_only(line)]
    discovery = hop_limit and family is Family.IPV6
    fewer = steer or len(outbound) < len(ready)
    chains = [
        *(ask((family, name), _exempt_chain, scene, name) for name in exempt_sets(family)),
        *(ask((family, source.interface.name), _interface_chain, scene, source) for source in present),
        ask(family, _way_in, scene, tuple(present)),
        *_verdict_chains(scene, lines),
        *(ask((family, name), _policy_chain, scene, tier, _bound(config, tier, sources))
          for name, tier in tiers.items()),
        *(ask((family, line.rule.name), _sticky_chain, scene, line, _again(line, sources))
          for line in lines if line.sticky),
        Chain(RULES, tuple(itertools.chain.from_iterable(rules for _, rules in ready))),
        ask((family, HOOK), _hook_chain, scene, HOOK, RULES),
    ]  # fmt: skip
    if fewer:
        chains += [Chain(RULES_OUT, tuple(itertools.chain.from_iterable(outbound)))]
        chains += [_steer_chain(scene, present)] if steer else []
        chains += [ask((family, HOOK_OUT), _hook_chain, scene, HOOK_OUT, RULES_OUT, steer, discovery)]
    elif discovery:
        chains += [Chain(HOOK_OUT, (*_own_discovery(), ChainRule((), Goto(HOOK))))]
    out_hook = HOOK_OUT if fewer or discovery else HOOK
    return Ruleset(tuple(chains), (Hook("PREROUTING", HOOK), Hook("OUTPUT", out_hook)))


def _inbound_only(line: Line) -> bool:
    """xt_mac refuses to stand in a chain that OUTPUT reaches, so such rules are left out of what OUTPUT walks."""
    return any(isinstance(match, SourceMac) for matches in line.matches for match in matches)


def _exempt_chain(scene: Scene, name: str) -> Chain:
    return Chain(name, (ChainRule((InSet(name, "dst"),), scene.exempt),))


def _steer_chain(scene: Scene, present: Iterable[Source]) -> Chain:
    """Marks what commands of ``connbal use`` send, each for its interface; xt_owner may stand below OUTPUT only."""
    lines = []
    for source in present:
        group, mark = STEER_GROUP + source.id, scene.set_mark(scene.space.mark(source.id))
        lines.append(ChainRule((OwnerGroup(group, group),), mark, names.label(source.interface.name), STEER_ORIGIN))
    return Chain(STEER, tuple(lines))


def _hook_chain(scene: Scene, name: str, rules: str, steer: bool = False, discovery: bool = False) -> Chain:
    """What every packet passes. ``steer``, ``discovery``: with what the router alone sends."""
    exempt = exempt_sets(scene.family)
    marked = MarkIs(scene.space.verdict_mark(Verdict.DEFAULT), scene.space.mask, negated=True)
    lines = [
        ChainRule((scene.unmarked,), RestoreMark(scene.space.mask)),
        ChainRule((scene.unmarked,), Jump(IFACES_IN)),
        *(ChainRule((scene.unmarked,), Jump(chain)) for chain in exempt),
        ChainRule((scene.unmarked,), Jump(rules)),
        ChainRule((), SaveMark(scene.space.mask)),
        # A reply carries its connection's mark; on its way to a local network it needs none.
        *(ChainRule((marked,), Jump(chain)) for chain in exempt),
    ]
    if steer:  # before the connection's mark, so that it holds for each packet of an unconnected socket
        everybody = OwnerGroup(STEER_GROUP + 1, STEER_GROUP + MAX_TABLE)
        lines[:0] = [ChainRule((everybody,), Jump(STEER), origin=STEER_ORIGIN)]
    if scene.family is Family.IPV6:
        lines[:0] = _discovery_here()
    if discovery:
        lines[:0] = _own_discovery()
    return Chain(name, tuple(lines))


def _discovery_here() -> list[ChainRule]:
    """Neighbour discovery that is for the router, a local network or a link is let alone, as in mwan3.

    What else comes in with its types would have to be forwarded to a source, and that no discovery is, be its hop limit
    255 or not: any device of the LAN can send that. It goes by the rules.
    """
    _, connected, _ = exempt_sets(Family.IPV6)
    return [ChainRule((Icmp6Type(number), InSet(connected, "dst")), Return()) for number in NEIGHBOUR_DISCOVERY]


def _own_discovery() -> list[ChainRule]:
    """The router's own neighbour discovery is let alone wherever it goes: what gets a mark in OUTPUT is routed anew,
    and a neighbour is where it is.
    """
    unforwarded = HopLimit(NEVER_FORWARDED)
    return [ChainRule((Icmp6Type(number), unforwarded), Return(), origin=DISCOVERY_ORIGIN)
            for number in NEIGHBOUR_DISCOVERY]  # fmt: skip


def _interface_chain(scene: Scene, source: Source) -> Chain:
    origin = Origin("interface", source.interface.name)
    came_in = InDevice(source.device)
    lines = [
        ChainRule((came_in, InSet(exempt, "src"), scene.unmarked), scene.exempt, "default", origin)
        for exempt in exempt_sets(scene.family)
    ]
    mark = scene.set_mark(scene.space.mark(source.id))
    lines.append(ChainRule((came_in, scene.unmarked), mark, names.label(source.interface.name), origin))
    return Chain(names.chain("iface_in", source.interface.name), tuple(lines))


def _way_in(scene: Scene, present: Iterable[Source]) -> Chain:
    """The device here too, or every new connection would be asked about every interface, a chain each."""
    return Chain(IFACES_IN, tuple(
        ChainRule((InDevice(source.device), scene.unmarked), Jump(names.chain("iface_in", source.interface.name)),
                  origin=Origin("interface", source.interface.name))
        for source in present
    ))  # fmt: skip


def verdict_chain(verdict: Verdict) -> str:
    return f"mwan3_verdict_{verdict.value}"


def _verdict_chains(scene: Scene, lines: Iterable[Line]) -> Iterator[Chain]:
    """One for each verdict that a rule names as its policy."""
    used = {line.rule.use_policy for line in lines}
    for verdict in Verdict:
        if verdict.value in used:
            mark = scene.set_mark(scene.space.verdict_mark(verdict))
            yield Chain(verdict_chain(verdict), (ChainRule((), mark, verdict.value),))


def target(rule: Rule) -> str:
    """The chain that marks what ``rule`` matched."""
    if rule.use_policy in {verdict.value for verdict in Verdict}:
        return verdict_chain(Verdict(rule.use_policy))
    return names.chain("policy", rule.use_policy)


def _bound(config: Config, tier: Tier, sources: Mapping[str, Source]) -> tuple[tuple[str, str], ...]:
    """The sources of a policy, none of which can be used, that have a device, each with it."""
    members = () if tier.shares else config.interfaces_of(tier.policy)
    return tuple((name, sources[name].device) for name in members if name in sources and sources[name].present)


def _policy_chain(scene: Scene, tier: Tier, bound: Iterable[tuple[str, str]]) -> Chain:
    origin = Origin("policy", tier.policy)
    if not tier.shares:
        lines = [*_bound_to_unusable(scene, bound, origin), _last_resort(scene, tier, origin)]
    elif tier.affinity is Affinity.CONNECTION:
        lines = list(_drawn(scene, tier, origin))
    else:
        lines = [
            ChainRule((scene.unmarked, choice) if choice else (scene.unmarked,),
                      scene.set_mark(scene.space.mark(share.id)), _share_comment(share, tier.shares), origin)
            for choice, share in picks(tier.affinity, tier.layout, tier.shares)
        ]  # fmt: skip
    return Chain(names.chain("policy", tier.policy), tuple(lines))


def _bound_to_unusable(scene: Scene, bound: Iterable[tuple[str, str]], origin: Origin) -> Iterator[ChainRule]:
    """What the router itself sends out by an unusable member may go, or nobody could find out that it is back."""
    for name, device in bound:
        comment = f"out {names.label(name)} {device}"
        yield ChainRule((OutDevice(device), scene.unmarked), scene.exempt, comment, origin)


def _last_resort(scene: Scene, tier: Tier, origin: Origin) -> ChainRule:
    mark = scene.set_mark(scene.space.verdict_mark(tier.verdict))
    return ChainRule((scene.unmarked,), mark, tier.verdict.value, origin)


def _drawn(scene: Scene, tier: Tier, origin: Origin) -> Iterator[ChainRule]:
    """Each line takes its share of what the lines before it left; the last takes the rest."""
    left = Fraction(1)
    for position, share in enumerate(tier.shares):
        chance = share.share / left
        matches: tuple[Match, ...] = (scene.unmarked,)
        if position < len(tier.shares) - 1:
            matches += (Chance(chance),)
        comment = _share_comment(share, tier.shares[position:])
        yield ChainRule(matches, scene.set_mark(scene.space.mark(share.id)), comment, origin)
        left -= share.share


def _share_comment(share: Share, among: Sequence[Share]) -> str:
    """``interface part total``, mwan3's form: whole numbers in the ratio of the shares that are left."""
    scale = math.lcm(*(other.share.denominator for other in among))
    parts = [int(other.share * scale) for other in among]
    common = math.gcd(*parts)
    return f"{names.label(share.interface)} {int(share.share * scale) // common} {sum(parts) // common}"


def _again(line: Line, sources: Mapping[str, Source]) -> tuple[tuple[str, int, str], ...]:
    """The sources that a sticky line can keep clients on: name, id, and the set of those clients."""
    return tuple((name, sources[name].id, held) for name, held in line.sticky if sources[name].usable)


def _sticky_chain(scene: Scene, line: Line, usable: Sequence[tuple[str, int, str]]) -> Chain:
    """A client that this rule sent to a source lately goes there again; else the policy decides and is remembered."""
    origin = Origin("rule", line.rule.name)
    again = [
        ChainRule((scene.unmarked, InSet(held, "src")), scene.set_mark(scene.space.mark(number)), names.label(name),
                  origin)
        for name, number, held in usable
    ]  # fmt: skip
    remember = [
        ChainRule((MarkIs(scene.space.mark(number), scene.space.mask),), AddToSet(held, "src"), origin=origin)
        for _, number, held in usable
    ]
    decide = ChainRule((scene.unmarked,), Jump(target(line.rule)), origin=origin)
    return Chain(sticky_chain_name(line.rule), (*again, decide, *remember))


def sticky_chain_name(rule: Rule) -> str:
    return names.chain("rule", rule.name)


def _rule_lines(line: Line, level: int | None) -> tuple[ChainRule, ...]:
    """One Goto per line of a rule: who matched has a mark when it comes back, and no later rule is looked at.

    ``level``: of what is logged; None: nothing is.
    """
    origin = Origin("rule", line.rule.name)
    comment = names.label(line.rule.name)
    chain = sticky_chain_name(line.rule) if line.sticky else target(line.rule)
    found = []
    for matches in line.matches:
        if line.rule.logging and level is not None:
            found.append(ChainRule(matches, Log(log_prefix(line.rule.name), level), comment, origin))
        found.append(ChainRule(matches, Goto(chain), comment, origin))
    return tuple(found)


def log_prefix(rule: str) -> str:
    """``MWAN3(rule)``, as mwan3 writes it, within what LOG takes."""
    room = names.MAX_LOG_PREFIX - len("MWAN3()")
    return f"MWAN3({names.label(rule, room)})"
