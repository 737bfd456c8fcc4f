"""Whether an edit leaves the configuration right: what it made wrong, and what was wrong before. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from connbal.errors import ConfigError, Finding, Severity
from connbal.model.names import PACKAGE
from connbal.uci.package import Package, Section

if TYPE_CHECKING:
    from connbal.uci.edit import Editor

#: How :class:`~connbal.uci.decode_reader.Reader` says where an anonymous section stands.
_POSITION = re.compile(r" \(@[a-z]+\[[0-9]+\]\)$")
#: What a finding says of the consequence, which does not come about where the edit is refused.
_CONSEQUENCE = re.compile(r": (?:it|the [a-z]+|the value of [a-z_]+|the default, \S+,) is (?:ignored|left out|used)$")
_SHOWN = 3


def verify(editor: Editor, before: Package) -> tuple[Finding, ...]:
    """What is worth saying of an edit that is about to be written: its new findings, warnings and hints only.

    before: the package as the editor began with it. What was wrong in it is nobody's concern now, unless the edit was
    about just that option.

    Raises
    ------
    ConfigError: because of the edit something in the configuration would have no effect.
    """
    from connbal.uci.decode import decode

    after = editor.package
    old, new = _concerned(before, after)
    found = decode(new).findings
    if not found:
        return ()
    known = Counter(_key(finding, _renamed(editor)) for finding in decode(old).findings)
    touched = {f"{PACKAGE}.{change.section}.{change.option}" for change in editor.changes if change.option}
    fresh = []
    for finding in found:
        key = _key(finding, {})
        if known[key] > 0 and not (finding.severity is Severity.ERROR and finding.place in touched):
            known[key] -= 1
        else:
            fresh.append(_at_its_place(finding, after))
    _refuse([finding for finding in fresh if finding.severity is Severity.ERROR], after)
    return tuple(fresh)


def cause(message: str) -> str:
    """What a finding says is wrong, without what comes of it and without the position."""
    return _CONSEQUENCE.sub("", _POSITION.sub("", message))


def _concerned(before: Package, after: Package) -> tuple[Package, Package]:
    """Both packages without the rules that are the same in both, where nothing else has changed.

    What is said of a rule depends on that rule and on the policies alone, so the rest need not be decoded. Rules are
    most of a large configuration.
    """
    if _others(before) != _others(after):
        return before, after
    old = {section.name: section for section in before.sections if section.type == "rule"}
    new = {section.name: section for section in after.sections if section.type == "rule"}
    same = {name for name, section in new.items() if old.get(name) == section}
    return _reduced(before, same), _reduced(after, same)


def _others(package: Package) -> list[Section]:
    return [section for section in package.sections if section.type != "rule"]


def _reduced(package: Package, without: set[str]) -> Package:
    kept = (section for section in package.sections if section.type != "rule" or section.name not in without)
    return Package(package.name, tuple(kept))


def _renamed(editor: Editor) -> Mapping[str, str]:
    """The names that sections have now, by those they had."""
    names: dict[str, str] = {}
    for change in editor.changes:
        if change.kind == "@" and change.option is None and change.value:
            first = next((old for old, new in names.items() if new == change.section), change.section)
            names[first] = change.value
    return names


def _key(finding: Finding, renamed: Mapping[str, str]) -> tuple[str, str, str]:
    """What makes two findings the same, although positions have shifted or a section has another name now."""
    package, _, rest = finding.place.partition(".")
    section, dot, option = rest.partition(".")
    place = f"{package}.{renamed.get(section, section)}{dot}{option}"
    message = "" if finding.code == "too-many-interfaces" else _POSITION.sub("", finding.message)
    return finding.code, place, message


def _at_its_place(finding: Finding, package: Package) -> Finding:
    """A finding of the reduced package, with the position that an anonymous section has in the whole one."""
    if not _POSITION.search(finding.message):
        return finding
    name = finding.place.split(".")[1]
    section = package.get(name)
    if section is None:
        return finding
    index = package.of_type(section.type).index(section)
    return replace(finding, message=_POSITION.sub(f" (@{section.type}[{index}])", finding.message))


def _reference(package: Package, name: str) -> str:
    """How a section is called in messages: an anonymous one by its place, because its name is in no file."""
    section = package.get(name)
    if section is None or not section.anonymous:
        return name
    return f"@{section.type}[{package.of_type(section.type).index(section)}]"


def _refuse(found: Sequence[Finding], package: Package) -> None:
    """Raise for the errors, if there are any."""
    if not found:
        return
    first = found[0]
    _, _, rest = first.place.partition(".")
    name, _, option = rest.partition(".")
    section = _reference(package, name)
    why = f"{cause(first.message)}; {first.remedy}" if first.remedy else cause(first.message)
    why += "".join(f". Also {finding.place}: {cause(finding.message)}" for finding in found[1:_SHOWN])
    if len(found) > _SHOWN:
        why += f". And {len(found) - _SHOWN} more"
    raise ConfigError(PACKAGE, section or None, option or None, f"{why} (nothing was changed)")
