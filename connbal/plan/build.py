"""The one pure function: configuration and facts in, everything that should be in the kernel out."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from connbal.kept import Ask, afresh
from connbal.model import names
from connbal.model.config import FAMILIES, Config, Family, IPNetwork, Rule, SourceRoutes, Verdict
from connbal.model.facts import Facts, MainRoute
from connbal.model.marks import MarkSpace
from connbal.plan import chains, local_findings, locality, matching, probed, shares, sources
from connbal.plan.sources import Source
from connbal.plan.values import IpRule, Match, Origin, Plan, RuleView, SetSpec, Tier

#: Never a source's business, whatever the routing tables say: multicast and what is reserved above it, as in mwan3.
ALWAYS_CONNECTED: Mapping[Family, IPNetwork] = {
    Family.IPV4: ipaddress.IPv4Network("224.0.0.0/3"), Family.IPV6: ipaddress.IPv6Network("ff00::/8"),
}  # fmt: skip

Refused = Mapping[Origin, str]


def plan(
    config: Config,
    facts: Facts,
    *,
    ids: Mapping[str, int] | None = None,
    refused: Refused | None = None,
    ask: Ask = afresh,
) -> Plan:
    """What should be in the kernel.

    Parameters
    ----------
    config, facts: what the user wants, and how the machine is.
    ids: another id for some interfaces, by name, for a step between two configurations (model.marks.bridge_ids).
    refused: sections the kernel has refused, with its words; they are left out.
    ask: for what each section makes of it by itself.
    """
    refused = refused or {}
    space = ask("", MarkSpace, config.globals.mmx_mask)
    gone = {origin.name: why for origin, why in refused.items() if origin.type == "interface"}
    found = sources.sources(config, facts, space, ids or {}, gone, ask)
    sets = matching.Sets(facts.sets, facts.declared)
    families = [family for family in FAMILIES if facts.ip6 or family is Family.IPV4]
    reasons: dict[str, dict[Family, str]] = {rule.name: {} for rule in config.rules}
    rulesets = {}
    tiers: list[Tier] = []
    ip_rules: list[IpRule] = []
    judged = locality.judgement(config, facts, families, ask)
    copied = config.globals.source_routes is not SourceRoutes.ALL
    for family in families:
        _exempt_sets(family, facts, judged[family].local, sets, ask)
        own = {name: source for name, source in found.items() if source.interface.family is family}
        tiers_here = _tiers(config, family, own, facts, refused, ask)
        tiers += tiers_here.values()
        lines = list(_lines(config, family, facts, own, sets, refused, reasons, ask))
        scene = ask(family, chains.Scene, family, space)
        made = chains.ruleset(scene, config, own, tiers_here, lines, facts.steer, facts.hop_limit, ask)
        rulesets[family] = made if facts.comment else replace(made, comments=False)
        tables = config.globals.rt_table_lookup
        ip_rules += ask(family, sources.ip_rules, family, (*own.values(),), space, tables, copied)
    routes = (
        ask(name, sources.routes, source, config.globals.source_routing, _kept(judged, source))
        for name, source in found.items()
    )
    views = tuple(sources.views(config, found, space, ask))
    told = ask("", local_findings.findings, config, locality.source_devices(config, facts), judged)
    return Plan(
        rulesets=rulesets,
        sets=tuple(sets.planned.values()),
        ip_rules=tuple(ip_rules),
        routes=tuple(itertools.chain.from_iterable(routes)),
        local=tuple(itertools.chain.from_iterable(one.local for one in judged.values())) if copied else (),
        interfaces=views,
        tiers=tuple(tiers),
        rules=tuple(_views(config, families, reasons, ask)),
        findings=tuple(dict.fromkeys(
            (*sets.findings, *sources.findings(found.values()), *probed.findings(config, facts), *told)
        )),
        judged=judged,
        ids={name: source.id for name, source in found.items()},
        mask=space.mask,
    )


def _kept(judged: Mapping[Family, locality.Judged], source: Source) -> tuple[MainRoute, ...]:
    """The routes that are for a source alone."""
    found = judged.get(source.interface.family, locality.Judged()).kept
    return tuple(one.route for one in found if one.device == source.device)


def _exempt_sets(family: Family, facts: Facts, routes: tuple[MainRoute, ...], sets: matching.Sets, ask: Ask) -> None:
    """The sets of destinations that need no source. ``routes``: local ones. What is in "dynamic", others say."""
    custom, connected, dynamic = chains.exempt_sets(family)
    reached = (route.destination for route in routes if route.kind in ("unicast", "local"))
    local = (*facts.connected.get(family, ()), *reached, ALWAYS_CONNECTED[family])
    for name, networks in ((custom, facts.custom.get(family, ())), (connected, local)):
        sets.add(ask(name, _exempt_set, name, family, networks))
    if family is Family.IPV4:
        sets.add(SetSpec(dynamic, "list:set", None))
    else:
        sets.add(SetSpec(dynamic, "hash:net", family))


def _exempt_set(name: str, family: Family, networks: tuple[IPNetwork, ...]) -> SetSpec:
    without_default = (network for network in networks if network.prefixlen)
    entries = frozenset(matching.entry(network) for network in matching.minimal(without_default))
    return SetSpec(name, "hash:net", family, entries)


def _tiers(
    config: Config, family: Family, own: Mapping[str, Source], facts: Facts, refused: Refused, ask: Ask
) -> dict[str, Tier]:
    ids = {name: source.id for name, source in own.items()}
    usable = {name for name, source in own.items() if source.usable}
    return {
        policy.name: shares.tier(config, policy, family, ids, usable, facts.bpf, ask)
        for policy in config.policies
        if Origin("policy", policy.name) not in refused
    }


def _lines(
    config: Config,
    family: Family,
    facts: Facts,
    own: Mapping[str, Source],
    sets: matching.Sets,
    refused: Refused,
    reasons: dict[str, dict[Family, str]],
    ask: Ask,
) -> Iterator[chains.Line]:
    for rule in config.rules:
        try:
            matches = _matches(rule, family, facts, sets, refused, ask)
        except matching.NoMatch as why:
            reasons[rule.name][family] = str(why)
            continue
        sticky = _sticky_sets(config, rule, family, own, sets)
        yield ask((family, rule.name), chains.Line, rule, matches, sticky)


def _matches(
    rule: Rule, family: Family, facts: Facts, sets: matching.Sets, refused: Refused, ask: Ask
) -> tuple[tuple[Match, ...], ...]:
    if not rule.enabled:
        raise matching.NoMatch("disabled")
    for origin in _origins(rule) if refused else ():
        if origin in refused:
            raise matching.NoMatch(f"{origin} was refused: {refused[origin]}")
    if rule.src_iface or rule.ipset or rule.ipset_src:
        return (*matching.lines(rule, family, facts, sets),)
    matches, made, why_not = ask((family, rule.name), matching.alone, rule, family)
    if why_not:
        raise matching.NoMatch(why_not)
    for spec in made:
        sets.add(spec)
    return matches


def _origins(rule: Rule) -> tuple[Origin, Origin]:
    return Origin("rule", rule.name), Origin("policy", rule.use_policy)


def _sticky_sets(
    config: Config, rule: Rule, family: Family, own: Mapping[str, Source], sets: matching.Sets
) -> tuple[tuple[str, str], ...]:
    """One set per interface the rule's policy may use; what names a source that is not usable is thrown away."""
    if not rule.sticky or rule.use_policy in {verdict.value for verdict in Verdict}:
        return ()
    wanted = config.interfaces_of(rule.use_policy)
    found = []
    for name, source in own.items():
        if name in wanted:
            entries = None if source.usable else frozenset[str]()
            set_name = names.ipset(f"sticky_v{family.version}", rule.name, name)
            spec = SetSpec(set_name, "hash:ip", family, entries, rule.timeout, origin=Origin("rule", rule.name))
            found.append((name, sets.add(spec).name))
    return tuple(found)


def _views(
    config: Config, families: list[Family], reasons: Mapping[str, Mapping[Family, str]], ask: Ask
) -> Iterator[RuleView]:
    for rule in config.rules:
        yield ask(rule.name, _view, rule, families, reasons[rule.name])


def _view(rule: Rule, families: list[Family], missing: Mapping[Family, str]) -> RuleView:
    within = tuple(family for family in families if family not in missing)
    why = "" if within else "; ".join(dict.fromkeys(missing.values()))
    return RuleView(rule.name, rule.use_policy, within, why, tuple(missing.items()))
