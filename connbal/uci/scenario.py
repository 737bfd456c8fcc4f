"""Carrying out a scenario: one rule, its policy, its members and their interfaces, made or changed or left. Pure.

Whether something is there already is a question of what it means, not of how it is written. A section that others use
too is never changed. Where it says what is needed it is used as well; where it does not, another name is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from connbal.errors import Severity, UsageError
from connbal.model.config import FAMILIES, Affinity, Config, Family, Interface, WeightMode
from connbal.model.weights import weights_for
from connbal.uci.decode import decode
from connbal.uci.decode_match import parse_addresses
from connbal.uci.decode_reader import check_option, is_name
from connbal.uci.edit import Editor
from connbal.uci.meaning import ANY_POLICY, MATCHES, entries, meant, same, texts
from connbal.uci.package import Package, Section, Value
from connbal.uci.placing import place
from connbal.uci.schema import RULE
from connbal.uci.values import words

#: What ``dest_ip`` says for everything, by family.
EVERYWHERE = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}
#: How the names begin that scenarios give to members, after the policy's.
_LABELS = ("Internet", "Primary", "Secondary", "Backup", "Source")


@dataclass(frozen=True)
class Traffic:
    """Which connections are meant, in the words of UCI; nothing at all means every connection.

    ips: addresses or networks of devices; macs: their MAC addresses; proto: as ``option proto``; dest_ports: as
    ``option dest_port``; ipset: the name of a set with destinations.
    """

    ips: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()
    proto: str = "all"
    dest_ports: tuple[str, ...] = ()
    ipset: str = ""

    @property
    def is_device(self) -> bool:
        """Whether it is about certain devices."""
        return bool(self.ips or self.macs)


@dataclass(frozen=True)
class Source:
    """A member that is wanted. ``label``: its name, or what its name ends in."""

    label: str
    interface: str
    metric: int = 1
    weight: int = 1


@dataclass
class Outcome:
    """What a scenario did, for the user: the sections' names, the members in order, the weight mode they are for, and
    what is not covered or reached any more, in words.
    """

    rule: str
    policy: str = ""
    sources: Sequence[Source] = ()
    mode: WeightMode = WeightMode.PROPORTIONAL
    before: str = ""  #: the rule that it was put in front of; empty where it was not moved, or to the end
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Half:
    """A member that is wanted for one family."""

    label: str
    interface: Interface
    metric: int
    weight: int

    @property
    def options(self) -> dict[str, Value]:
        return {"interface": self.interface.name, "metric": str(self.metric), "weight": str(self.weight)}


class Making:
    """Scenarios on one editor. ``networks``: names in ``/etc/config/network``."""

    def __init__(self, editor: Editor, networks: Collection[str]) -> None:
        self.editor, self.networks = editor, networks
        if not editor.sections():
            # A file that connbal begins says what the documentation says; where it says nothing, mwan3's meaning holds.
            editor.set("globals", "globals")
            editor.set("globals", "weight_mode", WeightMode.INVERSE.value)
            editor.set("globals", "affinity", Affinity.PAIR.value)
        #: What else there is than rules: there may be thousands, and they are looked at when one has to be placed.
        self.config: Config = decode(_without_rules(editor.package)).config

    @staticmethod
    def is_everything(traffic: Traffic) -> bool:
        """Whether every connection is meant."""
        return meant(_rule_options(traffic, ANY_POLICY, FAMILIES)) == meant({})

    def rule_for(self, traffic: Traffic, base: str) -> str:
        """The name of the rule for just this traffic: of the one there is, whatever it is called; else ``base``, or
        that with a number, which nothing is called yet.
        """
        wanted = meant(_rule_options(traffic, ANY_POLICY, FAMILIES))
        sections = (one for one in self.editor.package.of_type("rule") if not one.anonymous)
        there = next((one.name for one in sections if meant(one.options) == wanted), None) if wanted else None
        return there or next(name for name in _candidates(base) if self.editor.package.get(name) is None)

    def carry_out(
        self,
        rule: str,
        traffic: Traffic,
        sources: Sequence[Source],
        parts: Sequence[int] = (),
        affinity: Affinity | None = None,
    ) -> Outcome:
        """All sections of one rule. ``parts``: the shares wanted of ``sources``; none: their weights are as given.

        Raises UsageError, the editor being as it was, or not worth keeping.
        """
        self._check(rule, traffic)
        owned = [self._interface(source.interface) for source in sources]
        twins = [self._twin(one, owned) for one in owned]
        outcome = Outcome(rule)
        covered = self._covered(traffic, owned, twins, outcome)
        stem = rule.removesuffix("_Traffic").removeprefix("Smart") or rule
        extra: dict[str, Value] = {"affinity": affinity.value} if affinity else {}
        for name in _candidates(f"{stem}_Policy"):
            section = self.editor.package.get(name)
            mode = self._mode(name)
            weighed = _weighed(sources, parts, mode)
            halves = _halves(weighed, owned, twins, covered)
            same = section is not None and section.type == "policy" and self._says(section, halves, extra)
            own = section is None or (section.type == "policy" and self._users("rule", "use_policy", name) <= {rule})
            if own or same:
                break
        for half in halves:
            self._enable(half.interface)
        if not same:
            self._policy(name, stem, halves, extra)
        self._write_rule(rule, _rule_options(traffic, name, covered))
        outcome.policy, outcome.sources, outcome.mode = name, weighed, mode
        self._place(outcome)
        if len(sources) > 1:
            outcome.notes += _unprobed([one.name for one in owned if not (one.track_ip or one.track_gateway)])
        return outcome

    def _check(self, rule: str, traffic: Traffic) -> None:
        """UsageError where a value is none, or the rule's name is something else's."""
        section = self.editor.package.get(rule)
        if section is not None and section.type != "rule":
            raise UsageError(f"{rule!r} is no rule but of type {section.type}; choose another --name")
        if section is None and not is_name(rule):
            raise UsageError(f"{rule!r} cannot be a name; use letters, digits and _ only")
        given: dict[str, Value] = {
            "src_ip": traffic.ips, "src_mac": traffic.macs, "proto": traffic.proto, "dest_port": traffic.dest_ports,
            "ipset": traffic.ipset,
        }  # fmt: skip
        for option, value in given.items():
            for fault in check_option("rule", option, value):
                if fault.severity is Severity.ERROR:
                    raise UsageError(f"{option}: {fault.message}; {fault.remedy}")

    # --- interfaces -------------------------------------------------------------------------------------------------

    def _interface(self, name: str) -> Interface:
        """An interface, as it is or as it will be made. UsageError where there is nothing of that name."""
        known = {one.name: one for one in self.config.interfaces}
        if name in known:
            return known[name]
        section = self.editor.package.get(name)
        if section is not None:
            if section.type == "interface":
                raise UsageError(f"interface {name!r} has a mistake: see connbal check")
            raise UsageError(f"{name!r} is of type {section.type}, not interface")
        if name in self.networks and is_name(name):
            whole = {name.removesuffix("6"), name.removesuffix("_6")} - {name}
            family = Family.IPV6 if whole & {*self.networks, *known} else Family.IPV4
            return Interface(name, len(known) + 1, family=family)
        import difflib

        near = difflib.get_close_matches(name, [*known, *self.networks], 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise UsageError(f"there is no interface {name!r}; {hint}")

    def _twin(self, one: Interface, owned: Sequence[Interface]) -> Interface | None:
        """The IPv6 half of an IPv4 interface: wan6, wan1_6; None where there is none or it is named by itself."""
        if one.family is Family.IPV6:
            return None
        halves = (f"{one.name}_6", f"{one.name}6")
        return next(
            (other for other in self.config.interfaces
             if other.name in halves and other.family is Family.IPV6 and other not in owned), None
        )  # fmt: skip

    def _covered(
        self, traffic: Traffic, owned: Sequence[Interface], twins: Sequence[Interface | None], outcome: Outcome
    ) -> frozenset[Family]:
        """The families that both traffic and sources have; and notes on what that leaves out."""
        spec = RULE.options["src_ip"]
        addresses = {Family.of(one.network) for text in traffic.ips for word in words(text)
                     for one in parse_addresses(word, spec)}  # fmt: skip
        asked = frozenset(addresses or FAMILIES)
        covered = asked & {one.family for one in (*owned, *twins) if one is not None}
        names = ", ".join(one.name for one in owned)
        if not covered:
            raise UsageError(f"{', '.join(traffic.ips)} and {names} have no address family in common")
        if asked == {Family.IPV4}:
            outcome.notes.append("its IPv6 is not covered: give its IPv6 address as well, or --mac instead of --ip")
        elif Family.IPV6 not in covered:
            outcome.notes.append(f"IPv6 is not covered: there is no IPv6 interface for {names}")
        elif any(one.family is Family.IPV4 for one in owned):
            there = {one.name for one in (*owned, *twins) if one is not None}
            lacking = [one.name for one in owned if one.family is Family.IPV4
                       and not there & {f"{one.name}_6", f"{one.name}6"}]  # fmt: skip
            if lacking:
                outcome.notes.append(f"IPv6 does not use {', '.join(lacking)}: there is no IPv6 interface for it")
        return covered

    def _enable(self, one: Interface) -> None:
        if self.editor.package.get(one.name) is None:
            self.editor.set(one.name, "interface")
            if one.family is Family.IPV6:
                self.editor.set(one.name, "family", one.family.value)
        if not one.enabled:
            self.editor.set(one.name, "enabled", "1")

    # --- policies and members ---------------------------------------------------------------------------------------

    def _mode(self, policy: str) -> WeightMode:
        """The weight mode in force for a policy."""
        found = self.config.policies_by_name.get(policy)
        return (found.weight_mode if found else None) or self.config.globals.weight_mode

    def _says(self, policy: Section, halves: Sequence[_Half], extra: Mapping[str, Value]) -> bool:
        """Whether a policy is as it is wanted, whatever its members are called."""
        members = [self.config.members_by_name.get(name) for name in entries(policy.options.get("use_member"))]
        found = [(one.interface, one.metric, one.weight) for one in members if one is not None]
        wanted = [(half.interface.name, half.metric, half.weight) for half in halves]
        whole = len(found) == len(members)
        return whole and found == wanted and all(policy.options.get(key) == value for key, value in extra.items())

    def _is_half(self, name: str, half: _Half) -> bool:
        """Whether a member is as it is wanted, however it is written."""
        one = self.config.members_by_name.get(name)
        return one is not None and (one.interface, one.metric, one.weight) == (
            half.interface.name, half.metric, half.weight
        )  # fmt: skip

    def _policy(self, name: str, stem: str, halves: Sequence[_Half], extra: Mapping[str, Value]) -> None:
        """Make or change a policy and its members; those it had, and that a scenario made for it, go if unused."""
        section = self.editor.package.get(name)
        before = entries(section.options.get("use_member")) if section else ()
        members = [self._member(name, stem, half) for half in halves]
        self._write("policy", name, {"use_member": tuple(members), **extra})
        for one in before:
            named_so = one.removeprefix(f"{stem}_").startswith(_LABELS)
            if named_so and one not in members and not self._users("policy", "use_member", one):
                self.editor.delete(one)

    def _member(self, policy: str, stem: str, half: _Half) -> str:
        """The name of the member for one half, which is made, changed or found."""
        plain = stem == "All" and not half.label.startswith("Internet")
        for name in _candidates(half.label if plain else f"{stem}_{half.label}"):
            section = self.editor.package.get(name)
            if section is None:
                break
            if section.type == "member" and self._is_half(name, half):
                return name
            if section.type == "member" and self._users("policy", "use_member", name) <= {policy}:
                break
        self._write("member", name, half.options)
        return name

    def _users(self, kind: str, option: str, name: str) -> set[str]:
        """The sections of type ``kind`` that name ``name`` in ``option``."""
        return {one.name for one in self.editor.package.of_type(kind) if name in entries(one.options.get(option))}

    # --- rules --------------------------------------------------------------------------------------------------

    def _write_rule(self, name: str, options: Mapping[str, Value | None]) -> None:
        """As :meth:`_write`. What a rule matches by is left as it is written where it means what it is to mean."""
        section = self.editor.package.get(name)
        if section is not None and same(section.options, options):
            options = {option: value for option, value in options.items() if option not in MATCHES}
        self._write("rule", name, options)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(self, kind: str, name: str, options: Mapping[str, Value | None]) -> None:
        """Set options of a section, which is made where it is not there; None: the option goes."""
        section = self.editor.package.get(name)
        if section is None:
            self.editor.set(name, kind)
        present = section.options if section else {}
        for option, value in options.items():
            if value is None:
                self.editor.delete(name, option)
            elif texts(present.get(option)) != texts(value):
                self.editor.set(name, option, value)

    def _place(self, outcome: Outcome) -> None:
        """Put the rule where it belongs. UsageError where it would have no effect."""
        decoded = decode(self.editor.package)
        self.config = decoded.config
        if outcome.rule not in (one.name for one in self.config.rules):
            faults = [str(one) for one in decoded.errors if f".{outcome.rule}." in one.place]
            raise UsageError("; ".join(faults) or f"rule {outcome.rule} would have no effect; see connbal check")
        placed = place(self.editor, outcome.rule, self.config.rules)
        outcome.before = placed.before
        for name in placed.hidden:
            why = f"{outcome.rule} above it takes all that it would match"
            outcome.notes.append(f"rule {name} is not reached any more: {why}; delete it if that is as meant")


def _without_rules(package: Package) -> Package:
    return Package(package.name, tuple(section for section in package.sections if section.type != "rule"))


def _weighed(sources: Sequence[Source], parts: Sequence[int], mode: WeightMode) -> Sequence[Source]:
    """The sources with weights that divide as ``parts`` do; as they are where there are none."""
    if not parts:
        return sources
    weights = weights_for(parts, mode)
    return [replace(source, weight=weight) for source, weight in zip(sources, weights, strict=True)]


def _halves(
    sources: Sequence[Source],
    owned: Sequence[Interface],
    twins: Sequence[Interface | None],
    covered: Collection[Family],
) -> list[_Half]:
    """The members that are wanted, for each source its own and that of its IPv6 half."""
    return [
        _Half(label, half, source.metric, source.weight)
        for source, own, twin in zip(sources, owned, twins, strict=True)
        for half, label in ((own, source.label), (twin, f"{source.label}_6"))
        if half is not None and half.family in covered
    ]


def _rule_options(traffic: Traffic, policy: str, covered: Collection[Family]) -> dict[str, Value | None]:
    everywhere = tuple(text for family, text in EVERYWHERE.items() if family in covered)
    wanted: dict[str, Value | None] = {
        "src_ip": _value(traffic.ips), "src_mac": _value(traffic.macs), "dest_ip": _value(everywhere),
        "proto": traffic.proto, "dest_port": _value(traffic.dest_ports), "ipset": traffic.ipset or None,
        "use_policy": policy,
    }  # fmt: skip
    return {**wanted, **{option: None for option in (*MATCHES, "enabled") if option not in wanted}}


def _unprobed(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [f"not probed, as there is no track_ip: {', '.join(names)}; up is what has a link, an address and a route"]


def _candidates(name: str) -> Iterator[str]:
    """Names to try: ``name``, then with 2, 3 and so on behind it, without end."""
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def _value(values: tuple[str, ...]) -> Value | None:
    """One value as an option, several as a list, none as no option."""
    return None if not values else values[0] if len(values) == 1 else values
