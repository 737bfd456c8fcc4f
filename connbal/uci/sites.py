"""Sites by name: the ``ipset`` sections of package ``dhcp``, from which dnsmasq fills sets with what names resolve to.

What OpenWrt's init script of dnsmasq reads of such a section (21.02 and later): ``list name``, the sets, and
``list domain``; values that are not lists it does not see. It writes one line ``ipset=/DOMAIN/.../SET,...`` of them.
From 23.05 on it writes a line ``nftset=...`` as well, for sets of nftables, with ``option table``, ``table_family`` and
``family`` (4 or 6); and of the two lines it leaves out those that the build of dnsmasq does not know. Options it does
not know are kept and ignored, so what connbal has to remember besides is in ``connbal_family`` and
``connbal_timeout``.

A set of the kernel holds addresses of one family, and dnsmasq tries each address on each set of a line: what does not
fit is refused by the kernel and ignored. So one section can fill a set for each family.

Pure: packages in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from connbal.errors import Finding, Severity, UsageError
from connbal.model.config import Family
from connbal.model.facts import SetDeclaration
from connbal.model.names import MAX_SET, label
from connbal.uci.declared import DHCP, firewall_sets
from connbal.uci.declared import FIREWALL as _FIREWALL
from connbal.uci.package import Package, Section
from connbal.uci.values import BadValue, digits, shown, trim, words

PACKAGE, FIREWALL = DHCP, _FIREWALL
TYPE = "ipset"
#: The options that are connbal's own. ``any`` is written only; the other families dnsmasq has an option for.
FAMILY_OPTION, TIMEOUT_OPTION = "connbal_family", "connbal_timeout"
#: ``(UINT_MAX / 2) / 1000``: what the kernel can count down from, seconds.
MAX_TIMEOUT = 2147483
#: Every set of connbal's own, and of mwan3's, begins so.
RESERVED = "mwan3_"
#: One character is needed to build a set beside another.
MAX_NAME = MAX_SET - 1
#: What the set for IPv6 has behind the name of the one for IPv4, where a section has both.
TWIN = "6"

_SET = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.:+-]*[A-Za-z0-9_.:+])?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
#: Where OpenWrt's init script sees a family in the name of a set: a 4 or 6 at its end or its beginning, or alone.
_HINT = re.compile(r".*[^0-9]([46])|.*[-_]([46])[-_].*|([46])[^0-9].*")
#: IDNA of 2003, which Python has, makes another domain of these than IDNA of 2008, which registries use.
_DISPUTED = "\u00df\u03c2\u200c\u200d"
_SECONDS_IN = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_WORD = {
    **dict.fromkeys(("ipv4", "ip", "4"), Family.IPV4), **dict.fromkeys(("ipv6", "ip6", "6"), Family.IPV6),
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """One section: names of sites, and the sets their addresses go to."""

    section: str  #: its name; of an anonymous one, good until the next change
    anonymous: bool
    sets: tuple[tuple[str, Family], ...]  #: in the order of the section
    domains: tuple[str, ...]  #: in lower case; each stands for itself and everything below it
    timeout: int | None = None  #: seconds an address stays; None: for good, or as ``firewall`` says
    paired: bool = False  #: two sets that rules take for one, by the name of the first

    @property
    def name(self) -> str:
        """What rules call it: the first set. The section's name where it has no set."""
        return self.sets[0][0] if self.sets else self.section

    @property
    def family(self) -> str:
        """``ipv4``, ``ipv6`` or ``any``."""
        found = {family.value for _, family in self.sets}
        return found.pop() if len(found) == 1 else "any"

    def conf_line(self, option: str = "ipset") -> str:
        """The line of a dnsmasq.conf that does what the section says; empty where that is nothing."""
        if not self.sets or not self.domains:
            return ""
        return f"{option}=/{'/'.join(self.domains)}/{','.join(name for name, _ in self.sets)}"


def sites(package: Package) -> tuple[Site, ...]:
    """The sections of type ``ipset``, in file order; of each, what is usable."""
    return tuple(_site(section) for section in package.of_type(TYPE))


def _site(section: Section) -> Site:
    found = dict.fromkeys(name for name in _listed(section, "name") if is_set_name(name))
    paired = section.options.get(FAMILY_OPTION) == "any" and len(found) == 2
    if paired:
        sets = tuple(zip(found, (Family.IPV4, Family.IPV6), strict=True))
    else:
        sets = tuple((name, _family(section, name)) for name in found)
    domains = tuple(dict.fromkeys(name.lower() for name in _listed(section, "domain") if _is_domain(name)))
    return Site(section.name, section.anonymous, sets, domains, _seconds(section.options.get(TIMEOUT_OPTION)), paired)


def _listed(section: Section, option: str) -> tuple[str, ...]:
    """The entries of a list. dnsmasq's init script does not see an ``option`` of that name."""
    value = section.options.get(option, ())
    return () if isinstance(value, str) else value


def _family(section: Section, name: str) -> Family:
    """As the init script finds it, which from 23.05 on needs it for nftables; IPv4 where nothing says."""
    for option in (FAMILY_OPTION, "table_family", "family"):
        value = section.options.get(option)
        if isinstance(value, str) and value in _WORD:
            return _WORD[value]
    hint = _HINT.fullmatch(name)
    return _WORD[next(filter(None, hint.groups()))] if hint else Family.IPV4


def _seconds(value: object) -> int | None:
    try:
        return timeout(value) if isinstance(value, str) else None
    except UsageError:
        return None


def findings(package: Package) -> Iterator[Finding]:
    """What dnsmasq does not do although the sections seem to say so."""
    owners: dict[str, str] = {}
    for section in package.of_type(TYPE):
        place = f"{PACKAGE}.{label(section.name)}"
        yield from _bad_values(section, place)
        site = _site(section)
        for option, held in (("name", site.sets), ("domain", site.domains)):
            if not held:
                why = f"nothing to read in list {option}: the section has no effect"
                remedy = f"give it entries, as 'list {option}', not 'option {option}'"
                yield Finding(Severity.ERROR, "missing-option", f"{place}.{option}", why, remedy)
        for domain in site.domains:
            owner = owners.setdefault(domain, place)
            if owner != place:
                why = f"{label(domain)} is in {owner} too, and dnsmasq heeds only one of them"
                yield Finding(Severity.ERROR, "duplicate-domain", f"{place}.domain", why,
                              "name both sets in one section, or take the domain out of one")  # fmt: skip


def _bad_values(section: Section, place: str) -> Iterator[Finding]:
    checks = (("name", is_set_name, "is no name of a set"), ("domain", _is_domain, "is no domain"))
    for option, check, why in checks:
        for value in _listed(section, option):
            if not check(value):
                yield Finding(Severity.ERROR, "bad-value", f"{place}.{option}", f"{shown(value)} {why}", "correct it")
    told = section.options.get(TIMEOUT_OPTION)
    if told is not None and _seconds(told) is None and told not in ("0", "none"):
        yield Finding(Severity.ERROR, "bad-value", f"{place}.{TIMEOUT_OPTION}",
                      f"{shown(str(told))} is no timeout", "give seconds, or 30m, 12h, 7d")  # fmt: skip


# --- what the plan needs to know ------------------------------------------------------------------------------------


def declared(dhcp: Package | None, firewall: Package | None = None) -> dict[str, SetDeclaration]:
    """Every set that the two packages speak of, by name.

    dnsmasq fills the sets of ``dhcp``. ``firewall`` may have a section for the same set, with its family, type and
    timeout: these hold where ``dhcp`` is silent. Sets that only ``firewall`` has are its own to make and fill.
    """
    found = {one.name: one for one in _of_firewall(firewall)} if firewall is not None else {}
    for section in dhcp.of_type(TYPE) if dhcp is not None else ():
        site = _site(section)
        silent = not {FAMILY_OPTION, "family", "table_family"} & section.options.keys()
        for name, family in site.sets:
            other = found.get(name)
            if other is not None and other.filled:
                continue  # a second section for the set: the first says how to make it
            twin = site.sets[1][0] if site.paired and name == site.name else ""
            found[name] = SetDeclaration(
                name,
                other.type if other is not None else "hash:ip",
                other.family if other is not None and silent else family,
                site.timeout or (other.timeout if other is not None else None),
                f"{PACKAGE}.{label(site.section)}",
                twin=twin,
            )
    return found


def _of_firewall(package: Package) -> Iterator[SetDeclaration]:
    """Those that are a hash of addresses or of networks: other types, nobody but the firewall can fill."""
    for section, name in firewall_sets(package):
        options = section.options
        family = options.get("family", "ipv4")
        matches = options.get("match", ())
        parts = words(matches) if isinstance(matches, str) else [part for one in matches for part in words(one)]
        kind = {"ip": "hash:ip", "net": "hash:net"}.get(parts[0].rpartition("_")[2]) if len(parts) == 1 else None
        if not is_set_name(name) or family not in ("ipv4", "ipv6") or kind is None:
            continue
        if options.get("storage", "hash") == "hash":
            place = f"{FIREWALL}.{label(section.name)}"
            yield SetDeclaration(name, kind, _WORD[str(family)], _seconds(options.get("timeout")), place, filled=False)


# --- values from the command line ------------------------------------------------------------------------------------


def is_set_name(text: str) -> bool:
    """Whether ``text`` can be the name of a set, and stands for itself in a line of dnsmasq's configuration."""
    return len(text) <= MAX_SET and _SET.fullmatch(text) is not None


def set_name(text: str, family: str = "ipv4") -> str:
    """``text`` as the name of a set to make. UsageError where it cannot be one."""
    room = MAX_NAME - len(TWIN) if family == "any" else MAX_NAME
    if not is_set_name(text) or len(text) > room:
        why = f"give 1 to {room} characters: letters, digits and . _ : + -, no . : + - first, no - last"
        raise UsageError(f"{shown(text)} is no name for a set; {why}")
    if text.startswith(RESERVED):
        raise UsageError(f"{shown(text)}: names that begin with {RESERVED} are for sets that connbal makes by itself")
    return text


def domain(text: str) -> str:
    """A domain as it goes on the wire: lower case, without the last dot, other scripts in their ASCII form (xn--).

    UsageError where it is none, with the likely remedy.
    """
    name = trim(text)
    if "/" in name:
        rest = name.partition("://")[2] or name
        raise UsageError(f"{shown(text)} is no domain; give the host's name alone, {shown(rest.partition('/')[0])}")
    if name.startswith(("*.", ".")):
        bare = shown(name.lstrip("*."))
        raise UsageError(f"{shown(text)} is no domain; give {bare}: everything below it is meant too")
    name = _ascii(name.removesuffix("."), text).lower()
    if not _is_domain(name):
        why = "give labels of letters, digits and - with dots between them, 63 characters each, 253 in all"
        if re.fullmatch(r"[0-9.]+|.*:.*", name):
            why = "for an address, use dest_ip in the rule"
        raise UsageError(f"{shown(text)} is no domain; {why}")
    return name


def _ascii(name: str, text: str) -> str:
    if name.isascii():
        return name
    if any(character in _DISPUTED for character in name):
        raise UsageError(f"{shown(text)}: it depends on the registry which name that is; give its form with xn--")
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        raise UsageError(f"{shown(text)} is no domain, and none in another script either; check the letters") from None


def _is_domain(text: str) -> bool:
    labels = text.lower().split(".")
    return len(text) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def timeout(text: str) -> int | None:
    """A timeout in seconds: a whole number, with s, m, h or d behind it where wanted; None for 0 and ``none``."""
    number = trim(text).lower()
    unit = number[-1:] if number[-1:] in ("s", "m", "h", "d") else ""
    try:
        seconds = 0 if number == "none" else digits(number.removesuffix(unit)) * _SECONDS_IN[unit]
    except BadValue:
        seconds = -1
    if not 0 <= seconds <= MAX_TIMEOUT:
        limits = f"give seconds up to {MAX_TIMEOUT}, or 30m, 12h, 7d; 0 or none: no timeout"
        raise UsageError(f"{shown(text)} is no timeout; {limits}")
    return seconds or None


def assignment(text: str) -> str:
    """The domain of ``domain=NAME``, or of NAME alone. UsageError for anything else."""
    option, equals, value = text.partition("=")
    if not equals:
        return domain(text)
    if option.strip() != "domain":
        raise UsageError(f"{shown(option)} is no list of an ipset section that can be changed; give domain=NAME")
    return domain(value)


def nearest(name: str, known: Sequence[str]) -> str:
    """``; did you mean NAME?``, or nothing."""
    import difflib

    return "".join(f"; did you mean {one}?" for one in difflib.get_close_matches(name[:64], known, 1))
