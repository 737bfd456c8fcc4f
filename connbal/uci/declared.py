"""What other UCI packages say that the checks of package ``mwan3`` need: declared ipsets, networks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from connbal.uci.package import Package, Section, Value

#: Packages that may declare ipsets.
DHCP, FIREWALL = "dhcp", "firewall"


def declared_sets(packages: Iterable[Package]) -> dict[str, str]:
    """The ipsets that ``dhcp`` and ``firewall`` declare, with the package; where both do, ``dhcp``, which fills it.

    ``dhcp``: ``config ipset`` with ``list name``, and the entries ``/domain/set`` of ``list ipset`` in ``config
    dnsmasq`` (dnsmasq.init of OpenWrt reads both). ``firewall``: ``config ipset`` with ``option name``, unless
    ``enabled`` is 0.
    """
    found: dict[str, str] = {}
    for package in packages:
        names = _of_dnsmasq(package) if package.name == DHCP else (name for _, name in firewall_sets(package))
        for name in names:
            if package.name == DHCP or name not in found:
                found[name] = package.name
    return found


def _of_dnsmasq(package: Package) -> Iterator[str]:
    from connbal.uci.sites import sites  # only where a rule names a set

    for site in sites(package):
        yield from (name for name, _ in site.sets)
    for section in package.of_type("dnsmasq"):
        for word in _words(section, "ipset"):
            yield from filter(None, word.rpartition("/")[2].split(","))


def firewall_sets(package: Package) -> Iterator[tuple[Section, str]]:
    """The sections of ``firewall`` that make a set, with its name. Any text may be one."""
    for section in package.of_type("ipset"):
        if text(section.options.get("enabled")) not in ("0", "no", "off", "false", "disabled"):
            yield from ((section, name) for name in _words(section, "name"))


def _words(section: Section, option: str) -> list[str]:
    value = section.options.get(option, "")
    return " ".join([value] if isinstance(value, str) else value).split()


def text(value: Value | None) -> str:
    """An option's value as one word; a list's first entry."""
    if isinstance(value, tuple):
        value = value[0] if value else ""
    return (value or "").strip()
