"""Checks of rules: those that are never reached, and those that do something else than one may think."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connbal.errors import Severity
from connbal.model.boxes import whole
from connbal.model.checks import Hit, listed
from connbal.model.config import FAMILIES, Family, Policy, Rule, Verdict
from connbal.plan.lint_cover import Cover
from connbal.plan.lint_subject import FATE, VERDICTS, WORD, Subject, check

# --- order ----------------------------------------------------------------------------------------------------------


@check("shadowed", Severity.WARNING, "a rule that is never reached, because rules above it take all it is for")
def shadowed(subject: Subject) -> Iterator[Hit]:
    for rule, cover in _covers(subject):
        if cover.is_shadowed and not _is_same(subject, cover):
            above = cover.rules_above
            message = f"it is never reached: {_above(above)} all it is for"
            if len({one.use_policy for one in above} | {rule.use_policy}) == 1:
                remedy = f"all of them use {rule.use_policy}, so it can go: connbal rule delete {rule.name}"
            else:
                remedy = f"connbal rule move {rule.name} --before {above[0].name}"
            yield Hit(rule.name, "", message, remedy)


@check("repeated-rule", Severity.WARNING, "a rule that is for exactly what a rule above it is for")
def repeated_rule(subject: Subject) -> Iterator[Hit]:
    for rule, cover in _covers(subject):
        if cover.is_shadowed and _is_same(subject, cover):
            other = cover.rules_above[0]
            message = f"it is for the same as rule {other.name} above it, so it is never reached"
            yield Hit(rule.name, "", message, f"delete one of the two: connbal rule delete {rule.name}")


@check("partly-shadowed", Severity.INFO, "a rule for both families that is reached in one of them only")
def partly_shadowed(subject: Subject) -> Iterator[Hit]:
    for rule, cover in _covers(subject):
        taken = [family for family, above in cover.above.items() if above is not None]
        if taken and not cover.is_shadowed and not _has_set(rule):
            (family,) = taken
            other = Family.IPV6 if family is Family.IPV4 else Family.IPV4
            message = f"it is reached for {WORD[other]} only: {_above(cover.rules_above)} all its {WORD[family]}"
            remedy = f"if that is meant, say so: connbal rule set {rule.name} --family {other.value}"
            yield Hit(rule.name, "", message, remedy)


def _covers(subject: Subject) -> Iterator[tuple[Rule, Cover]]:
    covers = subject.coverage.covers
    return ((rule, covers[rule.name]) for rule in subject.config.rules if rule.enabled)


def _has_set(rule: Rule) -> bool:
    """Whether it depends on what a set holds in which families it takes anything."""
    return rule.ipset is not None or rule.ipset_src is not None


def _above(rules: tuple[Rule, ...]) -> str:
    """``rule A above it takes``, ``rules A and B above it take``."""
    return f"{_which([rule.name for rule in rules])} above it {'takes' if len(rules) == 1 else 'take'}"


def _is_same(subject: Subject, cover: Cover) -> bool:
    """Whether one rule above says exactly the same."""
    above = cover.rules_above
    return len(above) == 1 and subject.coverage.covers[above[0].name].boxes == cover.boxes


@check("unmatched-traffic", Severity.INFO, "traffic of a family with an enabled interface that no rule is for")
def unmatched_traffic(subject: Subject) -> Iterator[Hit]:
    open_families = [family for family in FAMILIES if subject.coverage.unmatched[family]]
    if not subject.config.rules or not subject.enabled:
        return
    for family in open_families:
        ends = [rule.name for rule, cover in subject.rules if _is_all_of_one(cover) and family not in cover.boxes]
        if family not in subject.families and not (ends and family is Family.IPV6):
            continue
        message = f"no rule is for all {WORD[family]} traffic: what no rule takes uses the main routing table"
        if ends and family is Family.IPV6:
            message += f" (dest_ip 0.0.0.0/0, as in {listed(ends)}, is IPv4 only)"
        yield Hit("", "", message, f"if that is not meant, add a last rule with option family '{family.value}'")


def _is_all_of_one(cover: Cover) -> bool:
    """It is for all traffic of its only family."""
    return len(cover.boxes) == 1 and all(box == whole(family) for family, box in cover.boxes.items())


# --- families -------------------------------------------------------------------------------------------------------


@check("no-member-of-family", Severity.WARNING, "a rule for one family whose policy has no enabled member of it")
def no_member_of_family(subject: Subject) -> Iterator[Hit]:
    for rule, cover, policy in _with_live_policy(subject):
        if len(cover.boxes) == 1 and not subject.live_members(policy, family := next(iter(cover.boxes))):
            message = (
                f"it is for {WORD[family]}, but policy {policy.name} has no member whose interface is enabled and "
                f"{WORD[family]}: these connections {FATE[policy.last_resort]}"
            )
            yield Hit(rule.name, "use_policy", message, _member_remedy(subject, policy, family))


@check("refuses-family", Severity.WARNING, "a rule for both families whose policy has members of one only")
def refuses_family(subject: Subject) -> Iterator[Hit]:
    for rule, cover, policy in _with_live_policy(subject):
        if len(cover.boxes) < 2 or policy.last_resort is Verdict.DEFAULT or _has_set(rule):
            continue
        for family in FAMILIES:
            if subject.live_members(policy, family) or cover.above[family] is not None:
                continue
            other = Family.IPV4 if family is Family.IPV6 else Family.IPV6
            message = (
                f"it is for both families, but policy {policy.name} has no member whose interface is enabled and "
                f"{WORD[family]}: {WORD[family]} connections {FATE[policy.last_resort]}"
            )
            remedy = _member_remedy(subject, policy, family)
            remedy += f", or connbal rule set {rule.name} --family {other.value}"
            yield Hit(rule.name, "family", message, remedy)


@check("no-source-of-family", Severity.INFO, "rules for a family of which no interface is enabled")
def no_source_of_family(subject: Subject) -> Iterator[Hit]:
    if not subject.enabled:
        return
    for family in FAMILIES:
        if family in subject.families:
            continue
        refused = [
            rule.name
            for rule, cover in subject.rules
            if cover.above.get(family, ()) is None and not _has_set(rule)
            and (policy := subject.policy_of(rule)) is not None
            and policy.members and policy.last_resort is not Verdict.DEFAULT
        ]  # fmt: skip
        if refused:
            message = (
                f"no interface is enabled and {WORD[family]}: {WORD[family]} connections that "
                f"{_which(refused)} {'takes' if len(refused) == 1 else 'take'} are refused or dropped"
            )
            other = Family.IPV4 if family is Family.IPV6 else Family.IPV6
            remedy = f"if {WORD[family]} is to pass, connbal rule set {refused[0]} --family {other.value}"
            yield Hit(refused[0], "family", message, remedy)


def _with_live_policy(subject: Subject) -> Iterator[tuple[Rule, Cover, Policy]]:
    """Rules that are reached whose policy has an enabled member, with their policy, where both families are in use."""
    if len(subject.families) == len(FAMILIES):
        for rule, cover in subject.rules:
            policy = subject.policy_of(rule)
            if policy is not None and subject.live_members(policy):
                yield rule, cover, policy


def _member_remedy(subject: Subject, policy: Policy, family: Family) -> str:
    """How to give a policy a member of a family."""
    for member in subject.config.members:
        interface = subject.interfaces[member.interface]
        if interface.enabled and interface.family is family:
            return f"connbal policy set {policy.name} --add use_member={member.name}"
    found = next(one for one in subject.enabled if one.family is family)
    return f"add a member for interface {found.name} to it"


# --- further options ------------------------------------------------------------------------------------------------


@check("sticky-without-effect", Severity.INFO, "option sticky where there is nothing to choose from")
def sticky_without_effect(subject: Subject) -> Iterator[Hit]:
    for rule, _ in subject.rules:
        if not rule.sticky:
            continue
        if rule.use_policy in VERDICTS:
            why = f"use_policy {rule.use_policy} uses no interface"
        elif len(set(subject.config.interfaces_of(rule.use_policy))) == 1:
            why = f"policy {rule.use_policy} has one interface only"
        else:
            continue
        yield Hit(rule.name, "sticky", f"it changes nothing: {why}", f"connbal rule set {rule.name} --no-sticky")


@check("logging-off", Severity.INFO, "rules that ask for logging while section globals does not allow it")
def logging_off(subject: Subject) -> Iterator[Hit]:
    names = [rule.name for rule in subject.config.rules if rule.logging and rule.enabled]
    if names and not subject.config.globals.logging:
        message = f"nothing is logged for {listed(names)}: section globals has no option logging '1'"
        yield Hit(names[0], "logging", message, "connbal globals set --logging")


# --- sets -----------------------------------------------------------------------------------------------------------


@check("missing-set", Severity.WARNING, "an ipset that a rule names, that does not exist, and that nothing fills")
def missing_set(subject: Subject) -> Iterator[Hit]:
    if subject.live_sets is not None:
        for name, option, rules in _named_sets(subject):
            where = (subject.declared_sets or {}).get(name)
            if name in subject.live_sets or where == "dhcp":  # connbal makes it, dnsmasq fills it
                continue
            message = f"set {name} does not exist; connbal makes it, empty, so {_rules(rules)} never reached"
            if where:
                message += f" (/etc/config/{where} declares it: did that service make an nft set of it?)"
            yield Hit(rules[0].name, option, message, _set_remedy(name))


@check("undeclared-set", Severity.INFO, "an ipset that a rule names and that neither dnsmasq nor the firewall declares")
def undeclared_set(subject: Subject) -> Iterator[Hit]:
    if subject.declared_sets is not None and subject.live_sets is None:
        for name, option, rules in _named_sets(subject):
            if name not in subject.declared_sets:
                message = (
                    f"neither /etc/config/dhcp nor /etc/config/firewall declares set {name}: unless another program "
                    f"fills it, {_rules(rules)} never reached"
                )
                yield Hit(rules[0].name, option, message, _set_remedy(name))


def _named_sets(subject: Subject) -> Iterator[tuple[str, str, list[Rule]]]:
    """Each set that enabled rules name, with the option that does so first, and those rules."""
    found: dict[str, tuple[str, list[Rule]]] = {}
    for rule in subject.config.rules:
        for name, option in ((rule.ipset, "ipset"), (rule.ipset_src, "ipset_src")):
            if name is not None and rule.enabled:
                found.setdefault(name, (option, []))[1].append(rule)
    for name, (option, rules) in found.items():
        yield name, option, rules


def _rules(rules: Sequence[Rule]) -> str:
    return f"{_which([rule.name for rule in rules])} {'is' if len(rules) == 1 else 'are'}"


def _which(names: Sequence[str]) -> str:
    """``rule A``, ``rules A and B``."""
    return f"{'rule' if len(names) == 1 else 'rules'} {listed(names)}"


def _set_remedy(name: str) -> str:
    return f"for sites: connbal ipset add {name} --domain example.com"
