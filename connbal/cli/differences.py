"""Where mwan3 2.12.2 does something else than connbal with the same configuration. Pure.

Read in one direction it says what changes when connbal takes over, in the other what to change before going back. Only
what the present file makes a difference for is said. mwan3 reads words where connbal reads values, so most checks look
at the sections as they are written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from connbal.model.config import PACKAGE, Affinity, Config, Member, Policy, WeightMode
from connbal.model.marks import MarkSpace
from connbal.plan.shares import percents, shares
from connbal.uci.package import Package, Section
from connbal.uci.values import words

#: Longest name that mwan3 takes; of an interface it uses two characters more.
MAX_NAME, MAX_INTERFACE_NAME = 15, 13
#: xt_multiport's slots; a range takes two.
MAX_PORTS = 15
_WITH_PORTS = frozenset(("tcp", "udp", "6", "17"))
_LOSES_ALL = "loses every rule of the family, because iptables refuses this one"
_TIMES = ("timeout", "interval", "failure_interval", "recovery_interval", "failure_latency", "recovery_latency",
          "failure_loss", "recovery_loss")  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One place where the two differ. ``remedy``: what to do so that mwan3 does the same; empty: it cannot."""

    code: str  #: stable
    place: str  #: ``package.section.option``, as far as it applies
    mwan3: str  #: what mwan3 does, in words
    connbal: str  #: what connbal does
    remedy: str


Check = Callable[[Config, Package], Iterator[Difference]]


def differences(config: Config, package: Package) -> list[Difference]:
    """All of them, in the order of the kinds of section."""
    return [one for check in _CHECKS for one in check(config, package)]


def _place(section: Section | str, option: str = "") -> str:
    name = section if isinstance(section, str) else section.name
    return ".".join(part for part in (PACKAGE, name, option) if part)


def _texts(section: Section, option: str) -> list[str]:
    """The words of an option, list or not."""
    value = section.options.get(option, ())
    return words(value) if isinstance(value, str) else [word for text in value for word in words(text)]


def _on(section: Section, option: str, default: bool = False) -> bool:
    texts = _texts(section, option)
    return texts[0] in ("1", "on", "true", "yes", "enabled") if texts else default


def _rules(package: Package) -> Iterator[Section]:
    """The rules that are in force."""
    return (section for section in package.of_type("rule") if _on(section, "enabled", True))


# --- globals and interfaces -------------------------------------------------------------------------------------


def _too_many(config: Config, package: Package) -> Iterator[Difference]:
    room = MarkSpace(config.globals.mmx_mask).capacity
    if len(package.of_type("interface")) > room:
        yield Difference(
            "mask-room", _place("globals", "mmx_mask"), "gives the extra interfaces marks that mean something else",
            f"leaves out what comes after the {room}th interface", "a mask of more bits, or fewer interfaces",
        )  # fmt: skip


def _interface_names(config: Config, _: Package) -> Iterator[Difference]:
    for one in config.interfaces:
        if len(one.name) > MAX_INTERFACE_NAME and one.enabled:
            yield Difference(
                "long-name", _place(one.name), "loses the interface's share of the connections",
                "uses it as any other",
                f"connbal interface rename {one.name} to {MAX_INTERFACE_NAME} characters or fewer; its network as well",
            )  # fmt: skip


def _times(_: Config, package: Package) -> Iterator[Difference]:
    for section in package.of_type("interface"):
        for option in _TIMES:
            for text in _texts(section, option):
                if not text.isdigit():
                    yield Difference(
                        "fraction", _place(section, option),
                        "cannot compute with it: the tracker of the interface ends", f"takes {text} as a time",
                        "a whole number without a unit",
                    )  # fmt: skip


def _quality(_: Config, package: Package) -> Iterator[Difference]:
    for section in package.of_type("interface"):
        window = _texts(section, "quality_window")
        if _on(section, "check_quality") and window != ["0"]:
            yield Difference(
                "quality-window", _place(section, "check_quality"), "judges latency and loss of each round by itself",
                f"judges them over {window[0] if window else 60} s", "raise failure_loss and failure_latency",
            )  # fmt: skip
        if _on(section, "track_gateway"):
            yield Difference(
                "track-gateway", _place(section, "track_gateway"), "does not probe the gateway", "probes it too",
                "name hosts in track_ip",
            )  # fmt: skip
        if (_texts(section, "dampening") or ["0"]) != ["0"]:
            yield Difference(
                "dampening", _place(section, "dampening"), "uses a source again as soon as it answers",
                "waits longer for one that goes and comes", "raise up and recovery_interval",
            )  # fmt: skip


def _flushes(config: Config, _: Package) -> Iterator[Difference]:
    for one in config.interfaces:
        if one.flush_conntrack and one.enabled:
            yield Difference(
                "flush-conntrack", _place(one.name, "flush_conntrack"), "forgets all connections, of every source",
                "forgets those of this source, or that it displaces", "leave the option out",
            )  # fmt: skip


# --- members and policies ---------------------------------------------------------------------------------------


def _metrics(config: Config, _: Package) -> Iterator[Difference]:
    for member in config.members:
        if member.metric == 256:
            yield Difference(
                "metric-256", _place(member.name, "metric"), "puts it behind last_resort, so never uses it",
                "uses it when all others are down", "a metric of 255 or less",
            )  # fmt: skip


def _tiers(config: Config, policy: Policy) -> Iterator[list[Member]]:
    """The members of each metric of a policy."""
    known = [config.members_by_name[name] for name in policy.members if name in config.members_by_name]
    for metric in sorted({member.metric for member in known}):
        yield [member for member in known if member.metric == metric]


def _inverse(config: Config, policy: Policy) -> bool:
    return (policy.weight_mode or config.globals.weight_mode) is WeightMode.INVERSE


def _told(tier: Sequence[Member], mode: WeightMode) -> str:
    parts = percents(shares([member.weight for member in tier], mode))
    return ", ".join(f"{member.interface} {part} %" for member, part in zip(tier, parts, strict=True))


def _weights(config: Config, _: Package) -> Iterator[Difference]:
    for policy in config.policies:
        for tier in _tiers(config, policy):
            if _inverse(config, policy) and len({member.weight for member in tier}) > 1:
                yield Difference(
                    "weight-mode", _place(policy.name, "weight_mode"),
                    f"gives the higher weight more: {_told(tier, WeightMode.PROPORTIONAL)}",
                    f"gives the lower weight more: {_told(tier, WeightMode.INVERSE)}",
                    "; ".join(_turned(config, policy)),
                )  # fmt: skip


def _turned(config: Config, policy: Policy) -> Iterator[str]:
    """The commands that give the same shares with proportional weights, which mwan3 knows."""
    yield f"connbal policy set {policy.name} --weight-mode proportional"
    for tier in _tiers(config, policy):
        least = math.lcm(*(member.weight for member in tier))
        new = [least // member.weight for member in tier]
        if max(new) > 1000:  # the most that a weight may be; shares are kept as nearly as whole numbers can
            new = [max(1, round(weight * 1000 / max(new))) for weight in new]
        for member, weight in zip(tier, new, strict=True):
            if weight != member.weight:
                yield f"connbal member set {member.name} --weight {weight}"
    shared = {member for other in config.policies if other is not policy for member in other.members}
    for name in sorted(shared & set(policy.members)):
        yield f"member {name} is in other policies too: give this one a member of its own"


def _small_shares(config: Config, _: Package) -> Iterator[Difference]:
    for policy in config.policies:
        for tier in _tiers(config, policy):
            total = sum(member.weight for member in tier)
            for member in tier:
                if not _inverse(config, policy) and member.weight * 1000 < total:
                    yield Difference(
                        "small-share", _place(member.name, "weight"), f"gives it nothing in policy {policy.name}",
                        f"gives it {member.weight} of {total} connections", "weights that differ less",
                    )  # fmt: skip


def _affinity(config: Config, _: Package) -> Iterator[Difference]:
    what = {Affinity.PAIR: "what one device does with one address", Affinity.SOURCE: "what one device does"}
    for policy in config.policies:
        affinity = policy.affinity or config.globals.affinity
        if affinity in what and any(len(tier) > 1 for tier in _tiers(config, policy)):
            yield Difference(
                "affinity", _place(policy.name, "affinity"), "draws a source for each connection",
                f"keeps {what[affinity]} on one source", "connbal rule set RULE --sticky for the rules that use it",
            )  # fmt: skip


def _policy_names(config: Config, _: Package) -> Iterator[Difference]:
    for policy in config.policies:
        if len(policy.name) > MAX_NAME:
            yield Difference(
                "long-name", _place(policy.name), "loses every rule, because of the one that uses it",
                "uses it as any other",
                f"connbal policy rename {policy.name} to {MAX_NAME} characters or fewer",
            )  # fmt: skip


# --- rules ------------------------------------------------------------------------------------------------------


def _disabled(_: Config, package: Package) -> Iterator[Difference]:
    for section in package.of_type("rule"):
        if not _on(section, "enabled", True):
            yield Difference(
                "disabled-rule", _place(section, "enabled"), "does not know the option: the rule is in force",
                "passes over the rule", f"connbal rule delete {section.name}",
            )  # fmt: skip


def _rule_names(_: Config, package: Package) -> Iterator[Difference]:
    for section in _rules(package):
        if len(section.name) > MAX_NAME:
            yield Difference(
                "long-name", _place(section), "passes over the rule without a word", "uses it as any other",
                f"connbal rule rename {section.name} to {MAX_NAME} characters or fewer",
            )  # fmt: skip


def _unknown_matches(_: Config, package: Package) -> Iterator[Difference]:
    for section in _rules(package):
        for option in ("src_mac", "ipset_src"):
            if _texts(section, option):
                yield Difference(
                    "unknown-match", _place(section, option),
                    "does not know the option: the rule takes the traffic of all others as well",
                    "takes only what matches", "src_ip in its place",
                )  # fmt: skip


def _addresses(_: Config, package: Package) -> Iterator[Difference]:
    for section in _rules(package):
        for option in ("src_ip", "dest_ip"):
            texts = _texts(section, option)
            plain = len(texts) == 1 and re.fullmatch(r"[0-9A-Fa-f.:]+(?:/[0-9]+)?", texts[0])
            if texts and (not plain or not isinstance(section.options[option], str)):
                yield Difference(
                    "addresses", _place(section, option), _LOSES_ALL,
                    "takes lists, ranges, negation and both families", "a rule for each address or network",
                )  # fmt: skip


def _ports(_: Config, package: Package) -> Iterator[Difference]:
    for section in _rules(package):
        protocols = _texts(section, "proto")
        for option in ("src_port", "dest_port"):
            texts = _texts(section, option)
            if not texts:
                continue
            slots = sum(2 if ":" in text else 1 for text in texts)
            if not protocols or not set(protocols) <= _WITH_PORTS:
                yield Difference(
                    "ports-without-protocol", _place(section, option), "heeds no ports: the rule takes all ports",
                    "leaves out the rule, or heeds them if the protocol has ports", "proto tcp or udp",
                )  # fmt: skip
            elif slots > MAX_PORTS or any("-" in text for text in texts):
                yield Difference(
                    "ports", _place(section, option), _LOSES_ALL, "takes more than 15 ports, and ranges with -",
                    "ranges with a colon, and at most 15 ports in a rule",
                )  # fmt: skip


def _lists(_: Config, package: Package) -> Iterator[Difference]:
    for section in _rules(package):
        for option in ("proto", "src_iface"):
            if len(_texts(section, option)) > 1:
                yield Difference(
                    "several-values", _place(section, option), _LOSES_ALL, "takes several values", "a rule for each",
                )  # fmt: skip
        if _texts(section, "proto") == ["icmp"] and _texts(section, "family") in ([], ["any"]):
            yield Difference(
                "icmp", _place(section, "proto"), "looks for IPv4's ICMP in IPv6, too, where there is none",
                "takes ICMP of the packet's family", "a second rule of family ipv6 with proto ipv6-icmp",
            )  # fmt: skip


def _named_sets(_: Config, package: Package) -> Iterator[Difference]:
    for section in _rules(package):
        for name in _texts(section, "ipset"):
            yield Difference(
                "ipset", _place(section, "ipset"), f"loses every rule of the family while there is no set {name}",
                "makes the set, empty, where there is none", f"have {name} made before mwan3 starts",
            )  # fmt: skip


_CHECKS: Sequence[Check] = (
    _too_many, _interface_names, _times, _quality, _flushes, _metrics, _weights, _small_shares, _affinity,
    _policy_names, _disabled, _rule_names, _unknown_matches, _addresses, _ports, _lists, _named_sets,
)  # fmt: skip
