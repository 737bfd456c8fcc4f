"""What several targets have in common: sections out of bytes, facts to plan with, and what must never happen."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from connbal.errors import Finding
from connbal.kernel.ipset import create_line
from connbal.model.config import Family
from connbal.model.facts import Facts, SetFacts
from connbal.model.names import label
from connbal.plan.diff import diff, rendered
from connbal.plan.ledger import Ledger
from connbal.plan.state import KernelState
from connbal.plan.values import Plan
from connbal.uci.package import Package, Section, Value, anonymous_name
from tests.fakes.build import V4, V6, Machine, machine, network
from tests.fakes.kernel import FakeKernel
from tests.netns.rivals.grammar import RULES, SETS

TESTS = Path(__file__).parents[1]
#: Names of the machine's networks; the third is one of IPv6.
WORDS = "wan wan1 wan6:6"
#: Sets that exist already, of all kinds that a rule may name.
OTHERS = {
    name: SetFacts(name, kind, family)
    for name, kind, family in (
        ("set4", "hash:net", V4), ("set6", "hash:net", V6), ("ports", "hash:ip,port", V4), ("list", "list:set", None),
    )
}  # fmt: skip


def is_message(text: str) -> None:
    """A text for people: one line, nothing that a terminal would obey, and no longer than somebody reads."""
    assert text.isprintable(), f"does not print: {text!r}"
    assert len(text) < 2000, f"{len(text)} characters: {text[:200]!r}"


def are_findings(findings: Iterable[Finding], sections: Iterable[Section]) -> None:
    """Each says in words where it is: a package, a section that is there, an option."""
    names = {label(section.name, limit=255) for section in sections} | {label(section.name) for section in sections}
    for finding in findings:
        is_message(str(finding))
        assert re.fullmatch(r"[a-z][a-z0-9-]+", finding.code), finding
        package, _, place = finding.place.partition(".")
        assert package == "mwan3", finding
        assert not place or place in names or place.rpartition(".")[0] in names, finding


# --- sections out of bytes -------------------------------------------------------------------------------------------

#: Nothing that UCI can hold has a NUL in it, so NULs divide: ``@rule web``, ``proto=tcp``, ``src_ip+=10.0.0.1``.
_TEXT = "utf-8", "surrogateescape"


def sections(data: bytes, package: str = "mwan3") -> Package:
    """A package out of bytes, as nearly every sequence of bytes is one. Values hold whatever there is, but no NUL."""
    found: list[tuple[str, str, dict[str, Value]]] = []
    for part in data.split(b"\0"):
        text = part.decode(*_TEXT)
        if text.startswith("@"):
            kind, _, name = text[1:].partition(" ")
            found.append((kind, name, {}))
        elif found and "=" in text:
            _put(found[-1][2], *text.split("=", 1))
    return Package(package, tuple(
        Section(name or anonymous_name(at, kind), kind, not name, options)
        for at, (kind, name, options) in enumerate(found, 1)
    ))  # fmt: skip


def _put(options: dict[str, Value], key: str, value: str) -> None:
    if not key.endswith("+"):
        options[key] = value
        return
    held = options.get(key[:-1], ())
    options[key[:-1]] = (*((held,) if isinstance(held, str) else held), value)


def as_bytes(package: Package) -> bytes:
    """A package in that notation."""
    parts: list[str] = []
    for section in package.sections:
        parts.append(f"@{section.type} {'' if section.anonymous else section.name}")
        for name, value in section.options.items():
            parts += [f"{name}={value}"] if isinstance(value, str) else [f"{name}+={one}" for one in value]
    return "\0".join(parts).encode(*_TEXT)


def golden() -> Iterator[bytes]:
    """The configurations of the golden cases."""
    for path in sorted((TESTS / "golden/cases").glob("*/config")):
        yield path.read_bytes()


def tokens() -> tuple[bytes, ...]:
    """Words of configurations."""
    from connbal.uci.schema import SECTIONS

    options = {option for spec in SECTIONS.values() for option in spec.options}
    values = "tcp udp icmp all ipv4 ipv6 0.0.0.0/0 ::/0 192.168.1.0/24 fd00::/8 !10.0.0.1 1024:2048 1 0 wan wan1 wan6"
    return tuple(word.encode() for word in (*SECTIONS, *sorted(options), *values.split()))


# --- what is written of it --------------------------------------------------------------------------------------------


def a_machine() -> Machine:
    """One on which everything works, and a device has a name that only just can be written."""
    made = machine(WORDS)
    made.uplinks["wan"].device = "e#(x)?,[y]"
    made.custom = (network("172.16.0.0/12"), network("fd99::/64"))
    return made


def facts() -> Facts:
    return a_machine().facts(OTHERS)


def nothing_strange_is_written(plan: Plan) -> None:
    """Each rule of the plan is one line, of the kind that a grammar of its own knows, and so are the sets; and another
    reader than the renderer finds the same rules in the text that goes to iptables-restore.
    """
    _sets(plan)
    nothing = KernelState({family: {} for family in plan.rulesets}, {}, frozenset(), frozenset())
    transactions = diff(plan, nothing, Ledger()).transactions
    kernel = _kernel(plan)
    for family, ruleset in plan.rulesets.items():
        text = transactions[family].text
        *lines, rest = text.split("\n")
        assert rest == ""
        for line in lines:
            assert _known(line), line
        added = [line for line in lines if line.startswith("-A mwan3_")]
        assert len(added) == sum(len(chain.rules) for chain in ruleset.chains)
        kernel.xtables.restore(family, text)
        read = kernel.xtables.save(family)
        for chain, wanted in rendered(ruleset, family).items():
            assert len(read[chain]) == len(wanted), chain


@functools.lru_cache(maxsize=1 << 14)
def _known(line: str) -> bool:
    """Whether it is one of the lines that a file for iptables-restore may have. They are much the same every time."""
    return RULES.fullmatch(line) is not None


def _sets(plan: Plan) -> None:
    for spec in plan.sets:
        lines = [create_line(spec, f"{spec.name}-"), *(f"add {spec.name}- {entry}" for entry in spec.entries or ())]
        for line in lines:
            assert SETS.fullmatch(line), line
        assert len(spec.name) <= 31, spec
        for entry in spec.entries or ():
            assert spec.type == "list:set" or not entry.endswith("/0"), spec


def _kernel(plan: Plan) -> FakeKernel:
    from connbal.plan.values import SetSpec

    kernel = FakeKernel(a_machine())
    for held in OTHERS.values():
        kernel.sets.create(SetSpec(held.name, held.type, held.family, frozenset()))
    for spec in plan.sets:
        if spec.name not in kernel.sets.states:
            kernel.sets.create(spec)
    return kernel


def families(plan: Plan) -> set[Family]:
    return set(plan.rulesets)
