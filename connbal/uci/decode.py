"""From the sections of package ``mwan3`` to a :class:`~connbal.model.config.Config`, with a finding for every fault.

Pure: no I/O, no clock. A bad value costs its own option, list entry or section (:mod:`connbal.uci.schema` says which)
and never anything else, so there is always a Config; and whatever is in it was checked against a narrow set of
values.

Codes of findings, all stable:

=======================  ======================================================================================
``bad-value``            an option does not take the value
``missing-option``       an option without which the section means nothing is absent
``unknown-interface``    a member names an interface that no section defines
``unknown-member``       a policy names a member that no section defines
``unknown-policy``       a rule names a policy that no section defines
``matches-nothing``      no packet can fulfil all that a rule says
``narrowed``             a rule means less traffic than it seems to (warning), or less than it might (info)
``wrong-family``         addresses or protocols of a rule that its family excludes (warning)
``duplicate-name``       a second section of one type and name
``duplicate-value``      a list says the same thing twice (warning)
``bad-name``             a section's name has characters that UCI does not allow, or is too long for a file name
``unnamed``              an interface section has no name, so it belongs to no network (warning)
``reserved-name``        a policy is called like a verdict, which wins (warning)
``wrong-globals``        globals that nobody reads, because the section is not called ``globals`` (warning)
``too-many-interfaces``  the mask has no mark left for an interface
``unknown-option``       an option that resembles a known one (warning)
``unknown-section``      a section type that resembles a known one (info)
=======================  ======================================================================================

All but those marked are errors: something written in the configuration has no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from connbal.errors import Finding, Severity
from connbal.frozen import dataclass
from connbal.kept import Ask, afresh
from connbal.model.config import PACKAGE, Config, Globals, Interface, Member, Policy, Rule
from connbal.model.marks import MarkSpace
from connbal.model.names import label
from connbal.uci.decode_reader import Reader, Report, close_match, is_name, read_section
from connbal.uci.decode_rules import VERDICTS, has_policy, read_rule
from connbal.uci.package import Package, Section
from connbal.uci.schema import SECTIONS
from connbal.uci.values import shown

#: NAME_MAX of Linux: an interface has a directory of its name.
MAX_INTERFACE_NAME = 255


@dataclass(frozen=True)
class Decoded:
    """What a package says, and what is wrong with it, in the order of the file within each section type."""

    config: Config
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings because of which something in the configuration has no effect."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)


def decode(package: Package, ask: Ask = afresh) -> Decoded:
    """The configuration in a package. Never raises, whatever the sections hold; see the module's text.

    ``ask``: for what each section says by itself.
    """
    report = Report()
    sections = _by_type(report, package.sections)
    globals_ = _globals(report, sections["globals"], ask)
    interfaces = _interfaces(report, sections["interface"], MarkSpace(globals_.mmx_mask).capacity, ask)
    globals_ = _with_free_tables(report, globals_, len(sections["interface"]))
    members = _members(report, sections["member"], _Names("interface", interfaces, sections), ask)
    policies = _policies(report, sections["policy"], _Names("member", members, sections), ask)
    rules = _rules(report, sections["rule"], _Names("policy", policies, sections), ask)
    return Decoded(Config(globals_, interfaces, members, policies, rules), tuple(report.findings))


class _Names:
    """The names one type of section offers to others: those that are usable, and those a fault has cost."""

    def __init__(
        self,
        type_: str,
        usable: Iterable[Interface | Member | Policy],
        sections: Mapping[str, list[Section]],
    ) -> None:
        self.type = type_
        self.usable = dict.fromkeys(value.name for value in usable)
        self.left_out = {section.name for section in sections[type_]} - self.usable.keys()

    def fault(self, report: Report, name: str) -> tuple[str, str]:
        """For a name that is not usable: why, and what to do about it."""
        if name in self.left_out:
            return f"{self.type} {shown(name)} is left out itself", f"see what is said of {PACKAGE}.{label(name)}"
        meant = report.nearest(name, self.usable)
        remedy = f"did you mean {meant}?" if meant else f"add a section of type {self.type} with that name"
        return f"{self.type} {shown(name)} does not exist", remedy


def _by_type(report: Report, sections: Iterable[Section]) -> dict[str, list[Section]]:
    """The sections of each known type. Types that resemble a known one are mentioned, once each."""
    found: dict[str, list[Section]] = {type_: [] for type_ in SECTIONS}
    mentioned: set[str] = set()
    for section in sections:
        if section.type in found:
            found[section.type].append(section)
        elif section.type not in mentioned and len(mentioned) < 100:
            mentioned.add(section.type)
            meant = close_match(section.type[:64], SECTIONS, 0.7)
            if meant is not None:
                place = f"{PACKAGE}.{label(section.name, limit=255)}"
                message = f"sections of type {shown(section.type)} are ignored"
                report.add(Severity.INFO, "unknown-section", place, message, f"did you mean {meant}?")
    return found


def _readers(report: Report, sections: Iterable[Section]) -> Iterator[tuple[int, Reader]]:
    """A reader for each section whose name can be used, with its position: 0-based, the others counted."""
    seen: set[str] = set()
    for index, section in enumerate(sections):
        reader = Reader(report, section, index)
        if not is_name(section.name):
            reader.error(
                "bad-name", "", f"{shown(section.name)} cannot be a section's name: it is left out",
                "use letters, digits and _ only",
            )  # fmt: skip
        elif section.name in seen:
            reader.error(
                "duplicate-name", "", f"a second {section.type} of this name: it is left out", "rename one of them"
            )
        else:
            seen.add(section.name)
            yield index, reader


V = TypeVar("V")
_Made = tuple[V | None, tuple[Finding, ...]]


def _read(report: Report, reader: Reader, index: int, read: Callable[[Section, int], _Made[V]], ask: Ask) -> V | None:
    """What a section says by itself."""
    made, findings = ask(reader.name, read, reader.section, index)
    report.findings += findings
    return made


def _globals(report: Report, sections: Iterable[Section], ask: Ask) -> Globals:
    decoded = Globals()
    for index, reader in _readers(report, sections):
        if reader.name != "globals":
            reader.warn("wrong-globals", "", "the section is ignored", "begin it with config globals 'globals'")
            continue
        decoded = _read(report, reader, index, _read_globals, ask) or decoded
    return decoded


def _read_globals(section: Section, index: int) -> _Made[Globals]:
    fields, findings = read_section(section, index)
    return None if fields is None else Globals(**fields), findings


def _with_free_tables(report: Report, globals_: Globals, interfaces: int) -> Globals:
    """Globals without the ``rt_table_lookup`` entries that are interfaces' own tables: 1 to their number."""
    taken = [table for table in globals_.rt_table_lookup if table <= interfaces]
    if not taken:
        return globals_
    for table in taken:
        report.add(
            Severity.ERROR, "bad-value", f"{PACKAGE}.globals.rt_table_lookup",
            f"'{table}' is the routing table of an interface: it is ignored",
            f"give numbers above {interfaces}",
        )  # fmt: skip
    free = tuple(table for table in globals_.rt_table_lookup if table > interfaces)
    return replace(globals_, rt_table_lookup=free)


def _interfaces(report: Report, sections: Iterable[Section], capacity: int, ask: Ask) -> tuple[Interface, ...]:
    found = []
    for index, reader in _readers(report, sections):
        interface = _read(report, reader, index, _read_interface, ask)
        if interface is None or not _fits(reader, index + 1, capacity):
            continue
        if reader.section.anonymous:
            reader.warn("unnamed", "", "the section has no name, so it belongs to no network", "name it as its network")
        found.append(interface)
    return tuple(found)


def _read_interface(section: Section, index: int) -> _Made[Interface]:
    fields, findings = read_section(section, index)
    return None if fields is None else Interface(name=section.name, id=index + 1, **fields), findings


def _fits(reader: Reader, number: int, capacity: int) -> bool:
    """Whether an interface can have a mark and a directory of its own."""
    if len(reader.name) > MAX_INTERFACE_NAME:
        reader.error(
            "bad-name", "", f"the name has {len(reader.name)} characters: the interface is left out",
            f"use at most {MAX_INTERFACE_NAME}",
        )  # fmt: skip
        return False
    if number > capacity:
        reader.error(
            "too-many-interfaces", "",
            f"it is number {number}, but there are marks for {capacity} interfaces only, disabled ones counted: "
            "it is left out", "remove interface sections or set more bits in globals.mmx_mask",
        )  # fmt: skip
        return False
    return True


def _members(report: Report, sections: Iterable[Section], interfaces: _Names, ask: Ask) -> tuple[Member, ...]:
    found = []
    for index, reader in _readers(report, sections):
        member = _read(report, reader, index, _read_member, ask)
        if member is None:
            continue
        if member.interface in interfaces.usable:
            found.append(member)
        else:
            why, remedy = interfaces.fault(report, member.interface)
            reader.error("unknown-interface", "interface", f"{why}: the member is left out", remedy)
    return tuple(found)


def _read_member(section: Section, index: int) -> _Made[Member]:
    fields, findings = read_section(section, index)
    return None if fields is None else Member(name=section.name, **fields), findings


def _policies(report: Report, sections: Iterable[Section], members: _Names, ask: Ask) -> tuple[Policy, ...]:
    found = []
    for index, reader in _readers(report, sections):
        policy = _read(report, reader, index, _read_policy, ask)
        if policy is None:
            continue
        unknown = [name for name in policy.members if name not in members.usable]
        for name in unknown:
            why, remedy = members.fault(report, name)
            reader.error("unknown-member", "use_member", f"{why}: it is ignored", remedy)
        if unknown:
            policy = replace(policy, members=tuple(name for name in policy.members if name in members.usable))
        if reader.name in VERDICTS:
            reader.warn(
                "reserved-name", "", f"no rule can use it: use_policy '{reader.name}' means something else", "rename it"
            )
        found.append(policy)
    return tuple(found)


def _read_policy(section: Section, index: int) -> _Made[Policy]:
    fields, findings = read_section(section, index)
    return None if fields is None else Policy(name=section.name, **fields), findings


def _rules(report: Report, sections: Iterable[Section], policies: _Names, ask: Ask) -> tuple[Rule, ...]:
    found = []
    for index, reader in _readers(report, sections):
        policy, rule, findings = ask(reader.name, read_rule, reader.section, index)
        report.findings += findings
        usable = policy is not None and has_policy(reader, policy, policies.usable, policies.left_out)
        if rule is not None and usable:
            found.append(rule)
    return tuple(found)
