"""How ``connbal explain`` prints what it found: a text for people, an object for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from connbal.cli.explain_gather import Look
from connbal.cli.output import visible
from connbal.model.config import Affinity
from connbal.plan.chains import exempt_sets
from connbal.plan.describe import route_text, selector_text
from connbal.plan.explain import Packet
from connbal.plan.explain_reasons import protocol_text
from connbal.plan.explain_route import Hop
from connbal.plan.explain_story import Ending, RuleStory, Story
from connbal.plan.shares import percents
from connbal.plan.view import members_data

#: How many rules that did not match are shown: those that came nearest.
SHOWN = 8

_ANSWERS = {
    "default": "It is routed by the main table, as if connbal were not there",
    "none": "It is routed by the main table, as if connbal were not there",
    "unreachable": "It is refused (unreachable)",
    "blackhole": "It is dropped in silence (blackhole)",
    "unknown": "It has a mark that means nothing to the plan",
}
_AFFINITY = {
    Affinity.CONNECTION: "each new connection is drawn by itself",
    Affinity.PAIR: "this source and this destination always take the same member while it is up",
    Affinity.SOURCE: "this source always takes the same member while it is up",
}


def as_text(seen: Look, everything: bool) -> str:
    """The answer first, then how it came about, in parts with an empty line between them."""
    story = seen.story
    new = seen.fresh or story
    parts = [
        [_packet_line(story.packet), _answer(story), *([f"A new one: {_answer(seen.fresh)}"] if seen.fresh else [])],
        list(_state(seen)),
        list(_rules(new, everything)),
        list(_policy(new)),
        ["Way", *(f"  {line}" for ending in story.endings for line in _way(story, ending))],
    ]
    return "\n".join("".join(f"{visible(line)}\n" for line in part) for part in parts if part)


# --- the answer -----------------------------------------------------------------------------------------------------


def _packet_line(packet: Packet) -> str:
    protocol = "packet" if packet.protocol is None else protocol_text(packet.protocol)
    source, destination = (
        _end(address, port)
        for address, port in (
            (packet.source, packet.source_port), (packet.destination, packet.destination_port)
        )
    )  # fmt: skip
    if packet.local:
        place = "sent by the router" + (f", at first by {packet.leaving}" if packet.leaving else "")
    else:
        place = f"coming in by {packet.device or 'a device that is not known'}"
    return f"{protocol} from {source} to {destination}, {place}"


def _end(address: object, port: int | None) -> str:
    return str(address) if port is None else f"{address} port {port}"


def _answer(story: Story) -> str:
    first = story.endings[0]
    if first.interface is None:
        return f"{_ANSWERS[first.meaning]}: {_because(story)}."
    if len(story.endings) == 1:
        return f"{_taken(story.packet, first)}: {_because(story)}."
    values = percents([ending.probability for ending in story.endings])
    names = " or ".join(
        f"{ending.interface or ending.meaning} ({value} %)" for ending, value in zip(story.endings, values, strict=True)
    )
    return f"It takes {names}: {_because(story)}, {_AFFINITY[Affinity.CONNECTION]}."


def _taken(packet: Packet, ending: Ending) -> str:
    """Whether it leaves by the source whose mark it has."""
    way = ending.hop.way
    if way is not None and way.refused:
        return f"It has the mark of {ending.interface}, but is not sent ({way.refused})"
    if packet.bound is not None and ending.hop.route is None:
        return f"It has the mark of {ending.interface}, but leaves by {packet.bound}, which its program is bound to"
    return f"It takes {ending.interface}"


def _because(story: Story) -> str:
    """Who decided, in words."""
    if story.decided == "rule":
        what = f"rule {story.by} matches"
        if story.remembered is not None:
            return f"{what}, and this source is remembered on {story.remembered} (sticky)"
        if story.tier is not None and not story.tier.shares:
            if story.endings[0].meaning != story.tier.verdict.value:
                return f"{what}, nothing of policy {story.tier.policy} works, and it leaves by one of its devices"
            return f"{what}, and of policy {story.tier.policy} {story.tier.reason}"
        return what
    return {
        "connection": "it belongs to an open connection, which keeps its mark",
        "interface": f"it comes in by {story.by}, and answers go back the way it came",
        "exempt": f"{_exempt(story)}",
        "discovery": "IPv6 neighbour discovery is left alone",
        "nothing": "no rule matches",
    }[story.decided]


def _exempt(story: Story) -> str:
    custom, connected, dynamic = exempt_sets(story.packet.family)
    why = {
        custom: "networks of the tables in rt_table_lookup", connected: "networks that are reached without a source",
        dynamic: "networks that others have put there",
    }.get(story.by, "")  # fmt: skip
    return f"{_exempt_address(story)} is in set {story.by} ({why})"


def _exempt_address(story: Story) -> str:
    return str(story.packet.source if story.exempt_source else story.packet.destination)


def _state(seen: Look) -> Iterator[str]:
    """What limits the answer."""
    if seen.applied is None:
        yield "Not looked at (--no-kernel): what is applied. This is how the configuration and the network have it."
    elif not seen.applied:
        yield "Not applied: this is how it would be after connbal apply."
    elif seen.pending:
        changes = "1 change is" if seen.pending == 1 else f"{seen.pending} changes are"
        yield f"What is applied differs from this: {changes} to be made (connbal plan shows them)."
    yield from (f"Note: {note}." for note in seen.notes)
    for rule in (seen.fresh or seen.story).unknown:
        yield f"Note: rule {rule} looks at something that is not given or not known: it might match as well."


# --- rules and policy -----------------------------------------------------------------------------------------------


def _rules(story: Story, everything: bool) -> Iterator[str]:
    if not story.rules:
        return
    shown = select(story, everything)
    yield "Rules"
    hidden = 0
    for rule in story.rules:
        if rule not in shown:
            hidden += rule.verdict == "no"
            continue
        yield f"  {rule.number} {rule.name}: {_rule_text(rule)}"
    if story.decided not in ("rule", "nothing"):
        yield "  not asked: the packet has its mark before the rules"
    if hidden:
        yield f"  ({hidden} more did not match: --all shows them)"
    if story.logged:
        yield "  It is written to the kernel log."


def select(story: Story, everything: bool) -> set[RuleStory]:
    """The rules worth showing: the one that matched, those out of use, and of the others those that came nearest."""
    rules = story.rules
    if everything:
        return set(rules)
    if story.decided not in ("rule", "nothing"):
        return set()
    missed = [rule for rule in rules if rule.verdict == "no"]
    nearest = sorted(missed, key=lambda rule: (rule.misses, -rule.number))[:SHOWN]
    matched = next((rule.number for rule in rules if rule.verdict == "matched"), None)
    above = [rule for rule in rules if rule.verdict == "unused" and (matched is None or rule.number < matched)]
    return {*nearest, *above[:SHOWN], *(rule for rule in rules if rule.verdict == "matched")}


def _rule_text(rule: RuleStory) -> str:
    if rule.verdict == "matched":
        return f"yes: policy {rule.policy}"
    if rule.verdict == "no":
        return f"no: {'; '.join(rule.reasons)}"
    return f"not in use: {'; '.join(rule.reasons)}" if rule.verdict == "unused" else "not reached"


def _policy(story: Story) -> Iterator[str]:
    tier = story.tier
    if story.rule is None or story.decided != "rule":
        return
    if tier is None:
        yield f"Policy {story.rule.use_policy}"
        return
    yield f"Policy {tier.policy}: {tier.reason}"
    taken = {ending.interface for ending in story.endings}
    for share, value in zip(tier.shares, percents([one.share for one in tier.shares]), strict=True):
        mark = "  <- taken" if len(taken) == 1 and share.interface in taken else ""
        yield f"  {share.member}: {share.interface} {value} % (metric {tier.metric}, weight {share.weight}){mark}"
    for share in tier.layout:
        if not share.usable:
            yield f"  {share.member}: {share.interface} is down"
    if len(tier.shares) > 1 and story.remembered is None:
        yield f"  affinity {tier.affinity.value}: {_AFFINITY[tier.affinity]}"
    if story.rule.sticky:
        yield f"  sticky: {_sticky(story)}"


def _sticky(story: Story) -> str:
    assert story.rule is not None
    if story.remembered is not None:
        return f"{story.packet.source} is remembered on {story.remembered}"
    return f"{story.packet.source} is not remembered yet; it will be for {story.rule.timeout} s"


# --- the way --------------------------------------------------------------------------------------------------------


def _way(story: Story, ending: Ending) -> Iterator[str]:
    name = ending.interface or ending.meaning
    if len(story.endings) > 1:
        name = f"{name} ({float(ending.probability):.1%})".replace("%", " %")
    yield f"{name}: mark {ending.mark:#x}/{story.mask:#x}, {_rule_of(ending.hop)}"
    yield f"  {_route_of(ending.hop)}"


def _rule_of(hop: Hop) -> str:
    if hop.rule is None:
        return "no rule of connbal's: lookup main"
    return f"rule {hop.rule.priority} {selector_text(hop.rule)}"


def _route_of(hop: Hop) -> str:
    if hop.route is not None:
        return route_text(hop.route)
    way = hop.way
    if way is None:
        return "the main table's route was not looked at"
    if way.local:
        return "it is for the router itself"
    if way.refused:
        return f"it is not sent: {way.refused}"
    return " ".join([*(("via", str(way.gateway)) if way.gateway else ()), "dev", way.device or "?"])


# --- for programs ---------------------------------------------------------------------------------------------------


def as_data(seen: Look, everything: bool) -> dict[str, Any]:
    """The object of ``explain/1``."""
    story = seen.story
    new = seen.fresh or story
    shown = select(new, everything)
    return {
        "packet": _packet_data(story.packet),
        "decided": story.decided,
        "by": story.by or None,
        "because": _because(story),
        "rules": [_rule_data(rule) for rule in new.rules if rule in shown],
        "rules_left_out": len(new.rules) - len(shown),
        "policy": _policy_data(new),
        "sticky": new.remembered,
        "logged": new.logged,
        "mask": story.mask,
        "outcomes": [_ending_data(ending) for ending in story.endings],
        "new_connection": None if seen.fresh is None else {
            "decided": new.decided, "by": new.by or None, "because": _because(new),
            "outcomes": [_ending_data(ending) for ending in new.endings],
        },
        "might_match": list(new.unknown),
        "applied": seen.applied,
        "pending": seen.pending,
        "notes": list(seen.notes),
    }  # fmt: skip


def _packet_data(packet: Packet) -> dict[str, Any]:
    return {
        "family": packet.family.value, "source": str(packet.source), "destination": str(packet.destination),
        "protocol": packet.protocol, "source_port": packet.source_port, "destination_port": packet.destination_port,
        "local": packet.local, "device": packet.leaving if packet.local else packet.device, "mac": packet.mac,
    }  # fmt: skip


def _rule_data(rule: RuleStory) -> dict[str, Any]:
    return {
        "number": rule.number, "name": rule.name, "policy": rule.policy, "verdict": rule.verdict,
        "reasons": list(rule.reasons),
    }  # fmt: skip


def _policy_data(story: Story) -> dict[str, Any] | None:
    if story.rule is None:
        return None
    tier = story.tier
    if tier is None:
        return {"name": story.rule.use_policy, "metric": None, "affinity": None, "reason": "", "members": []}
    return {
        "name": tier.policy, "metric": tier.metric, "affinity": tier.affinity.value, "reason": tier.reason,
        "members": members_data(tier),
    }  # fmt: skip


def _ending_data(ending: Ending) -> dict[str, Any]:
    rule, way = ending.hop.rule, ending.hop.way
    return {
        "percent": round(float(ending.probability) * 100, 3), "mark": ending.mark,
        "connection_mark": ending.connection, "meaning": ending.meaning, "interface": ending.interface,
        "member": ending.member,
        "ip_rule": None if rule is None else {"priority": rule.priority, "text": selector_text(rule)},
        "table": rule.table if rule is not None and rule.action == "lookup" else None if rule else 254,
        "device": way.device or None if way else None,
        "gateway": str(way.gateway) if way and way.gateway else None,
        "refused": way.refused or None if way else None,
    }  # fmt: skip
