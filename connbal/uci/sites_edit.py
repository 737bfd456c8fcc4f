"""Changes to the ``ipset`` sections of package ``dhcp``: on an editor, before anything is written.

Each function checks everything first, so that an editor is untouched where it raises UsageError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from connbal.errors import UsageError
from connbal.model.config import Config, Family
from connbal.model.names import label
from connbal.uci.edit import Editor
from connbal.uci.sites import (
    FAMILY_OPTION,
    PACKAGE,
    TIMEOUT_OPTION,
    TWIN,
    TYPE,
    Site,
    domain,
    nearest,
    set_name,
    sites,
    timeout,
)
from connbal.uci.values import shown

#: What dnsmasq's init script calls the families (23.05 and later).
_WORD = {Family.IPV4: "4", Family.IPV6: "6"}


@dataclass(frozen=True)
class Wanted:
    """What a new section is to say, checked."""

    sets: tuple[tuple[str, Family], ...]
    domains: tuple[str, ...]
    timeout: int | None
    paired: bool


def wanted(name: str, domains: Sequence[str], family: str, time: str | None) -> Wanted:
    """The words of a command line, checked. UsageError where one makes no sense."""
    first = set_name(name, family)
    if family == "any":
        sets: tuple[tuple[str, Family], ...] = ((first, Family.IPV4), (f"{first}{TWIN}", Family.IPV6))
    else:
        sets = ((first, Family(family)),)
    found = tuple(dict.fromkeys(map(domain, domains)))
    if not found:
        raise UsageError("an ipset without a domain stays empty; give --domain NAME, as often as needed")
    return Wanted(sets, found, None if time is None else timeout(time), family == "any")


def find(found: Sequence[Site], reference: str) -> Site:
    """The site that is meant: by the name of a set or of its section. UsageError with the nearest name otherwise."""
    for site in found:
        if reference in (name for name, _ in site.sets):
            return site
    for index, site in enumerate(found):
        if reference in (site.section, f"@{TYPE}[{index}]", f"@{TYPE}[{index - len(found)}]"):
            return site
    near = nearest(reference, [one.name for one in found])
    raise UsageError(f"no ipset {shown(reference)} in package {PACKAGE}{near}")


def add(editor: Editor, new: Wanted) -> Site:
    """Append a section. UsageError where a set or a domain is in another one already."""
    package = editor.package
    for site in sites(package):
        for name, _ in new.sets:
            if name in (held for held, _ in site.sets):
                remedy = f"connbal ipset set {name} changes it"
                raise UsageError(f"{PACKAGE}.{site.section} fills a set {name} already; {remedy}")
    _refuse_taken(sites(package), new.domains, None)
    section = re.sub(r"[^A-Za-z0-9_]", "_", new.sets[0][0])
    if package.get(section) is None:
        editor.set(section, TYPE)
    else:
        section = editor.add(TYPE)
    editor.set(section, "name", [name for name, _ in new.sets])
    editor.set(section, "domain", new.domains)
    if new.paired:
        editor.set(section, FAMILY_OPTION, "any")
    else:
        editor.set(section, "family", _WORD[new.sets[0][1]])
    if new.timeout is not None:
        editor.set(section, TIMEOUT_OPTION, str(new.timeout))
    return _named(editor, section)


def change(
    editor: Editor, site: Site, *, add: Sequence[str] = (), remove: Sequence[str] = (), time: str | None = None
) -> Site:
    """Add and remove domains, or set the timeout (``0``: none). UsageError where that makes no sense."""
    section = editor.package.get(site.section)
    held = section.options.get("domain", ()) if section is not None else ()
    domains = [held] if isinstance(held, str) else list(held)  # what is no domain stays: others wrote it
    for name in remove:
        if name not in site.domains:
            raise UsageError(f"{PACKAGE}.{site.section} has no domain {name}{nearest(name, site.domains)}")
        domains = [one for one in domains if one.lower() != name]
    _refuse_taken(sites(editor.package), add, site.section)
    there = {one.lower() for one in domains}
    domains += [name for name in dict.fromkeys(add) if name not in there]
    if not domains:
        raise UsageError(f"that would leave {site.name} without a domain; connbal ipset delete {site.name} removes it")
    seconds = None if time is None else timeout(time)
    if add or remove:
        editor.set(site.section, "domain", domains)
    if time is not None:
        editor.set(site.section, TIMEOUT_OPTION, "" if seconds is None else str(seconds))
    return _named(editor, site.section)


def delete(editor: Editor, site: Site, config: Config | None) -> None:
    """Remove a section. UsageError where rules name one of its sets."""
    rules = users(site, config)
    if rules:
        names, one = ", ".join(map(label, rules)), len(rules) == 1
        what = f"rule {names} names" if one else f"rules {names} name"
        raise UsageError(f"{what} {site.name}; delete {'it' if one else 'them'} first, or give another ipset")
    editor.delete(site.section)


def users(site: Site, config: Config | None) -> list[str]:
    """The rules that name a set of a site, in their order."""
    held = {name for name, _ in site.sets}
    return [one.name for one in config.rules if {one.ipset, one.ipset_src} & held] if config is not None else []


def _refuse_taken(found: Sequence[Site], domains: Sequence[str], but: str | None) -> None:
    for site in found:
        for name in domains:
            if site.section != but and name in site.domains:
                why = f"dnsmasq fills the sets of one section only: remove it from {site.name} first"
                raise UsageError(f"{name} is in {PACKAGE}.{site.section} already; {why}")


def _named(editor: Editor, section: str) -> Site:
    return next(site for site in sites(editor.package) if site.section == section)
