"""Rules: whether what one says can hold all at once, and what it then means.

A rule that says something impossible is left out: without the impossible part it would catch traffic that its
author meant for another rule.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from connbal.errors import Finding
from connbal.model.config import AddressMatch, Family, Rule, Verdict
from connbal.uci.decode_match import ICMPV6, PORT_PROTOCOLS, TCP, UDP
from connbal.uci.decode_reader import Reader, Report
from connbal.uci.package import Section
from connbal.uci.values import shown

#: What ``use_policy`` may name besides policies.
VERDICTS = tuple(verdict.value for verdict in Verdict)

_BOTH = frozenset(Family)
_SHORT = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


def read_rule(section: Section, index: int) -> tuple[str | None, Rule | None, tuple[Finding, ...]]:
    """What the section of a rule says by itself: the policy it names; the rule, or None where it has to be left out;
    and all faults.
    """
    report = Report()
    reader = Reader(report, section, index)
    fields = reader.read()
    if fields is None:
        return None, None, tuple(report.findings)
    rule: Rule | None = Rule(name=section.name, **fields)
    for step in (_with_ports, _with_addresses, _with_families):
        if rule is not None:
            rule = step(reader, rule)
    return fields["use_policy"], rule, tuple(report.findings)


def has_policy(reader: Reader, name: str, policies: Collection[str], left_out: Collection[str]) -> bool:
    """Whether there is what a rule names.

    ``policies``: the policies there are; ``left_out``: those that a fault of their own cost.
    """
    if name in policies or name in VERDICTS:
        return True
    why = "is left out itself" if name in left_out else "does not exist"
    meant = None if name in left_out else reader.report.nearest(name, [*policies, *VERDICTS])
    reader.error(
        "unknown-policy", "use_policy", f"policy {shown(name)} {why}: the rule is left out",
        f"did you mean {meant}?" if meant else f"name a policy, or {', '.join(VERDICTS)}",
    )  # fmt: skip
    return False


def _with_ports(reader: Reader, rule: Rule) -> Rule | None:
    """Ports need protocols that have them."""
    if not rule.src_ports and not rule.dest_ports:
        return rule
    option = "src_port" if rule.src_ports else "dest_port"
    if not rule.protocols:
        reader.warn(
            "narrowed", option, "ports are given without a protocol: the rule is for tcp and udp only",
            "add option proto 'tcpudp'",
        )  # fmt: skip
        return replace(rule, protocols=(TCP, UDP))
    portless = [number for number in rule.protocols if number not in PORT_PROTOCOLS]
    if portless:
        numbers = ", ".join(map(str, portless))
        reader.error(
            "matches-nothing", option, f"ports are given, but protocol {numbers} has none: the rule is left out",
            "remove the ports or name tcp, udp, sctp, dccp, udplite only",
        )  # fmt: skip
        return None
    return rule


def _with_addresses(reader: Reader, rule: Rule) -> Rule | None:
    """Where a family is given, addresses of the other one go, with a warning, unless nothing is left."""
    if rule.family is None:
        return rule
    for attribute, option in (("src", "src_ip"), ("dest", "dest_ip")):
        match: AddressMatch | None = getattr(rule, attribute)
        if match is None or len(match.of(rule.family)) == len(match.networks):
            continue
        if not match.of(rule.family):
            break  # _with_families says it better
        reader.warn(
            "wrong-family", option, f"addresses that are not {_SHORT[rule.family]} have no effect",
            "remove them, or remove option family",
        )  # fmt: skip
        narrowed = AddressMatch(match.of(rule.family), match.negated)
        rule = replace(rule, src=narrowed) if attribute == "src" else replace(rule, dest=narrowed)
    return rule


def _with_families(reader: Reader, rule: Rule) -> Rule | None:
    """All that is given must leave at least one family."""
    left = _BOTH if rule.family is None else frozenset((rule.family,))
    for option, match in (("src_ip", rule.src), ("dest_ip", rule.dest)):
        possible = left if match is None else left & _families(match)
        if not possible:
            rest = " and ".join(_SHORT[family] for family in Family if family in left)
            reader.error(
                "matches-nothing", option, f"no {rest} address can match this: the rule is left out",
                "give family, src_ip and dest_ip of one family",
            )  # fmt: skip
            return None
        left = possible
    if ICMPV6 in rule.protocols and Family.IPV6 not in left:
        return _without_icmpv6(reader, rule)
    return _with_negation(reader, rule, left)


def _families(match: AddressMatch) -> frozenset[Family]:
    """The families of which some address can match. "Not 10.0.0.0/8" speaks of IPv4 only, as it does for mwan3."""
    families = frozenset(Family.of(network) for network in match.networks)
    if not match.negated:
        return families
    return families - frozenset(Family.of(network) for network in match.networks if network.prefixlen == 0)


def _without_icmpv6(reader: Reader, rule: Rule) -> Rule | None:
    others = tuple(number for number in rule.protocols if number != ICMPV6)
    remedy = "use icmp, which means that of each family"
    if not others:
        reader.error("matches-nothing", "proto", "there is no ICMPv6 in IPv4: the rule is left out", remedy)
        return None
    reader.warn("wrong-family", "proto", "there is no ICMPv6 in IPv4; it is ignored", remedy)
    return replace(rule, protocols=others)


def _with_negation(reader: Reader, rule: Rule, left: frozenset[Family]) -> Rule:
    """A negated match speaks of the families of its addresses only: say so in the rule, where that is one."""
    negated = any(match is not None and match.negated for match in (rule.src, rule.dest))
    if not negated or rule.family is not None or len(left) > 1:
        return rule
    (family,) = left
    reader.note("narrowed", "family", f"the rule is for {_SHORT[family]} only, as its addresses are")
    return replace(rule, family=family)
