"""The one pure function: configuration and facts in, everything that should be in the kernel out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import replace

from connbal.model import names
from connbal.model.config import FAMILIES, Config, Family, IPNetwork, Rule, Verdict
from connbal.model.facts import Facts
from connbal.model.marks import MarkSpace
from connbal.plan import chains, matching, shares, sources
from connbal.plan.sources import Source
from connbal.plan.values import Match, Origin, Plan, RuleView, SetSpec, Tier

#: Never a source's business, whatever the routing tables say: multicast and what is reserved above it, as in mwan3.
ALWAYS_CONNECTED: Mapping[Family, IPNetwork] = {
    Family.IPV4: ipaddress.IPv4Network("224.0.0.0/3"), Family.IPV6: ipaddress.IPv6Network("ff00::/8"),
}  # fmt: skip

Refused = Mapping[Origin, str]


def plan(config: Config, facts: Facts, *, ids: Mapping[str, int] | None = None, refused: Refused | None = None) -> Plan:
    """What should be in the kernel.

    Parameters
    ----------
    config, facts: what the user wants, and how the machine is.
    ids: another id for some interfaces, by name, for a step between two configurations (model.marks.bridge_ids).
    refused: sections the kernel has refused, with its words; they are left out.
    """
    refused = refused or {}
    space = MarkSpace(config.globals.mmx_mask)
    gone = {origin.name: why for origin, why in refused.items() if origin.type == "interface"}
    found = sources.sources(config, facts, space, ids or {}, gone)
    sets = matching.Sets(facts.sets, facts.declared)
    families = [family for family in FAMILIES if facts.ip6 or family is Family.IPV4]
    reasons: dict[str, dict[Family, str]] = {rule.name: {} for rule in config.rules}
    rulesets = {}
    tiers: list[Tier] = []
    for family in families:
        _exempt_sets(family, facts, sets)
        own = {name: source for name, source in found.items() if source.interface.family is family}
        tiers_here = _tiers(config, family, own, facts, refused)
        tiers += tiers_here.values()
        compiled = list(_lines(config, family, facts, own, sets, refused, reasons))
        rulesets[family] = chains.ruleset(chains.Scene(config, family, space, own, tiers_here, compiled, facts.steer))
    return Plan(
        rulesets=rulesets,
        sets=tuple(sets.planned.values()),
        ip_rules=tuple(
            sorted(
                rule
                for family in families
                for rule in sources.ip_rules(family, found, space, config.globals.rt_table_lookup)
            )
        ),
        routes=tuple(sources.routes(found, config.globals.source_routing)),
        interfaces=tuple(sources.views(config, found, facts, space)),
        tiers=tuple(tiers),
        rules=tuple(_views(config, families, reasons)),
        findings=tuple(dict.fromkeys(sets.findings)),
        ids={name: source.id for name, source in found.items()},
        mask=space.mask,
    )


def _exempt_sets(family: Family, facts: Facts, sets: matching.Sets) -> None:
    """The sets of destinations that need no source. What is in "dynamic" is for others to say."""
    custom, connected, dynamic = chains.exempt_sets(family)
    local = [*facts.connected.get(family, ()), ALWAYS_CONNECTED[family]]
    for name, networks in ((custom, facts.custom.get(family, ())), (connected, local)):
        without_default = (network for network in networks if network.prefixlen)
        entries = frozenset(matching.entry(network) for network in matching.minimal(without_default))
        sets.add(SetSpec(name, "hash:net", family, entries))
    if family is Family.IPV4:
        sets.add(SetSpec(dynamic, "list:set", None))
    else:
        sets.add(SetSpec(dynamic, "hash:net", family))


def _tiers(
    config: Config, family: Family, own: Mapping[str, Source], facts: Facts, refused: Refused
) -> dict[str, Tier]:
    interfaces = {name: replace(source.interface, id=source.id) for name, source in own.items()}
    usable = {name for name, source in own.items() if source.usable}
    return {
        policy.name: shares.tier(config, policy, family, interfaces, usable, facts.bpf)
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
) -> Iterator[chains.Line]:
    for rule in config.rules:
        try:
            matches = _matches(rule, family, facts, sets, refused)
        except matching.NoMatch as why:
            reasons[rule.name][family] = str(why)
            continue
        yield chains.Line(rule, matches, _sticky_sets(config, rule, family, own, sets))


def _matches(
    rule: Rule, family: Family, facts: Facts, sets: matching.Sets, refused: Refused
) -> list[tuple[Match, ...]]:
    if not rule.enabled:
        raise matching.NoMatch("disabled")
    for origin in (Origin("rule", rule.name), Origin("policy", rule.use_policy)):
        if origin in refused:
            raise matching.NoMatch(f"{origin} was refused: {refused[origin]}")
    return matching.lines(rule, family, facts, sets)


def _sticky_sets(
    config: Config, rule: Rule, family: Family, own: Mapping[str, Source], sets: matching.Sets
) -> dict[str, str]:
    """One set per interface the rule's policy may use; what names a source that is not usable is thrown away."""
    if not rule.sticky or rule.use_policy in {verdict.value for verdict in Verdict}:
        return {}
    wanted = config.interfaces_of(rule.use_policy)
    found = {}
    for name, source in own.items():
        if name in wanted:
            entries = None if source.usable else frozenset[str]()
            set_name = names.ipset(f"sticky_v{family.version}", rule.name, name)
            spec = SetSpec(set_name, "hash:ip", family, entries, rule.timeout, origin=Origin("rule", rule.name))
            found[name] = sets.add(spec).name
    return found


def _views(
    config: Config, families: list[Family], reasons: Mapping[str, Mapping[Family, str]]
) -> Iterator[RuleView]:
    for rule in config.rules:
        missing = reasons[rule.name]
        within = tuple(family for family in families if family not in missing)
        why = "" if within else "; ".join(dict.fromkeys(missing.values()))
        yield RuleView(rule.name, rule.use_policy, within, why, tuple(missing.items()))
