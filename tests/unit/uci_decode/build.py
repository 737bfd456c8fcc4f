"""Packages out of a few words, for the tests of decoding."""

from __future__ import annotations

from connbal.errors import Finding, Severity
from connbal.model.config import Globals, Interface, Member, Policy, Rule
from connbal.uci.decode import Decoded, decode
from connbal.uci.package import Package, Section, Value


def section(type_: str, name: str, anonymous: bool = False, **options: Value) -> Section:
    return Section(name, type_, anonymous, options)


def run(*sections: Section) -> Decoded:
    return decode(Package("mwan3", sections))


def globals_of(**options: Value) -> tuple[Globals, Decoded]:
    decoded = run(section("globals", "globals", **options))
    return decoded.config.globals, decoded


def interface_of(**options: Value) -> tuple[Interface | None, Decoded]:
    decoded = run(section("interface", "wan", **options))
    return (decoded.config.interfaces[0] if decoded.config.interfaces else None), decoded


def member_of(**options: Value) -> tuple[Member | None, Decoded]:
    decoded = run(section("interface", "wan"), section("member", "m", **{"interface": "wan", **options}))
    return (decoded.config.members[0] if decoded.config.members else None), decoded


def policy_of(**options: Value) -> tuple[Policy, Decoded]:
    decoded = run(
        section("interface", "wan"), section("member", "m", interface="wan"), section("policy", "p", **options)
    )
    return decoded.config.policies[0], decoded


def rule_of(**options: Value) -> tuple[Rule | None, Decoded]:
    decoded = run(section("policy", "p"), section("rule", "r", **{"use_policy": "p", **options}))
    return (decoded.config.rules[0] if decoded.config.rules else None), decoded


def good_rule(**options: Value) -> Rule:
    """The rule, which must be there, of options that nothing is wrong with."""
    rule, decoded = rule_of(**options)
    assert not decoded.findings
    assert rule is not None
    return rule


def only(decoded: Decoded) -> Finding:
    """The one finding there must be."""
    assert len(decoded.findings) == 1, decoded.findings
    return decoded.findings[0]


def brief(decoded: Decoded) -> list[tuple[str, str, str]]:
    """Severity, code and place of each finding."""
    return [(finding.severity.value, finding.code, finding.place) for finding in decoded.findings]


def left_out(decoded: Decoded, code: str, place: str) -> None:
    """The one finding is an error of this code and place which says that a section is left out."""
    finding = only(decoded)
    assert (finding.severity, finding.code, finding.place) == (Severity.ERROR, code, place)
    assert "is left out" in finding.message
    assert finding.remedy
