"""Checks of what luci-app-mwan3's pages refuse, cannot show, or lose when a section is saved there. Pure.

They look at the text of package ``mwan3``, because that is what the pages show. Facts: the pages of the openwrt/luci
tree of 2025. A name is checked when a section is made there, the fields when a section is saved. A select box offers
what it lists and nothing else. Fields that depend on another one are removed where that has another value. Sections
and options that the pages do not know stay.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator, Mapping

from connbal.errors import Finding, Severity
from connbal.model.checks import Check, Hit, Registry, listed
from connbal.model.names import label
from connbal.uci.declared import text
from connbal.uci.package import Package, Section, Value
from connbal.uci.schema import SECTIONS
from connbal.uci.values import BadValue, parse_seconds, shown

#: Longer names are refused there, and dropped by mwan3 itself.
MAX_NAME = 15
#: Seconds that sticky may remember there.
MAX_TIMEOUT = 1_000_000

_TYPES = ("interface", "member", "policy", "rule")
_SECONDS = frozenset(map(str, (1, 3, 5, 10, 20, 30, 60, 300, 600, 900, 1800, 3600)))
_TO_TEN = frozenset(map(str, range(1, 11)))
#: Options of an interface that are select boxes there.
_CHOICES: Mapping[str, frozenset[str]] = {
    "timeout": _TO_TEN, "interval": _SECONDS, "down": _TO_TEN, "up": _TO_TEN,
    "count": frozenset(map(str, range(1, 6))),
}  # fmt: skip
_PORTS = ("src_port", "dest_port")
#: Options of an interface whose default is 5 there, and interval here and in mwan3. LuCI since May 2026 removes what is
#: its default, as text. No other default there is another one here.
_FIVE = ("failure_interval", "recovery_interval")
#: Options of an interface that its page has for pings only.
_OF_PING = ("size", "max_ttl", "check_quality")

REGISTRY: Registry[Package] = Registry()
check = REGISTRY.add


@check("luci-name", Severity.INFO, "names that LuCI refuses for a new section, and mwan3 drops in silence")
def luci_name(package: Package) -> Iterator[Hit]:
    long = [
        one.name for one in package.sections
        if one.type in _TYPES and len(one.name) > MAX_NAME and not one.anonymous
    ]  # fmt: skip
    if long:
        message = f"{listed(long)}: over {MAX_NAME} characters; LuCI makes no such names, and mwan3 ignores them"
        yield Hit(long[0], "", message, "nothing here, where names may be longer")


@check("luci-choice", Severity.INFO, "values that LuCI's select boxes do not offer, and may replace on a save")
def luci_choice(package: Package) -> Iterator[Hit]:
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for section in package.of_type("interface"):
        for option, choices in _CHOICES.items():
            value = text(section.options.get(option))
            if value and value not in choices:
                found[option].append((section.name, value))
    for option, places in found.items():
        name, value = places[0]
        message = f"LuCI does not offer {shown(value)}{_others(places)}: saving the section there may replace it"
        yield Hit(name, option, message, f"it offers {', '.join(sorted(_CHOICES[option], key=int))}")


@check("luci-refused", Severity.INFO, "values that LuCI's pages call wrong, so that the section cannot be saved there")
def luci_refused(package: Package) -> Iterator[Hit]:
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for section in package.of_type("rule"):
        for option in ("src_ip", "dest_ip"):
            value = section.options.get(option)
            if value is not None and not _is_one_address(value):
                found[option].append((section.name, value if isinstance(value, str) else " ".join(value)))
        timeout = text(section.options.get("timeout"))
        if timeout and not (timeout.isdecimal() and 1 <= int(timeout[:20]) <= MAX_TIMEOUT):
            found["timeout"].append((section.name, timeout))
    for option, places in found.items():
        name, value = places[0]
        message = f"LuCI takes {_WANTED[option]}, not {shown(value)}{_others(places)}: the rule cannot be saved there"
        yield Hit(name, option, message, f"edit it with connbal rule set {label(name)}")


_WANTED = {
    "src_ip": "one address or network", "dest_ip": "one address or network", "timeout": f"1 to {MAX_TIMEOUT} seconds",
}  # fmt: skip


@check("luci-drops", Severity.INFO, "options that LuCI removes when the section is saved there")
def luci_drops(package: Package) -> Iterator[Hit]:
    yield from _dropped_ports(package)
    yield from _dropped_intervals(package)
    places = [
        (section.name, option)
        for section in package.of_type("interface")
        for option in _OF_PING
        if option in section.options and text(section.options.get("track_method")) not in ("", "ping")
    ]
    if places:
        name, option = places[0]
        message = f"LuCI knows this with track_method ping alone and removes it on a save{_others(places)}"
        yield Hit(name, option, message, "do not save it there")


def _dropped_ports(package: Package) -> Iterator[Hit]:
    places = [
        (section.name, option)
        for section in package.of_type("rule")
        for option in _PORTS
        if option in section.options and section.options.get("proto") not in ("tcp", "udp")
    ]
    if places:
        name, option = places[0]
        message = f"LuCI knows ports with proto tcp or udp alone and removes them on a save{_others(places)}"
        yield Hit(name, option, message, "make a rule for each protocol, or do not save it there")


def _dropped_intervals(package: Package) -> Iterator[Hit]:
    for option in _FIVE:
        places = [
            (section.name, option)
            for section in package.of_type("interface")
            if text(section.options.get(option)) == "5" and _interval(section) != 5
        ]
        if places:
            name = places[0][0]
            message = f"newer LuCI takes 5 for the default, removes it on a save, and interval holds{_others(places)}"
            same = f"connbal interface set {label(name)} --{option.replace('_', '-')} 05, which is the same and stays"
            yield Hit(name, option, message, same)


def _interval(section: Section) -> float:
    """Seconds, as connbal takes them."""
    spec = SECTIONS["interface"].options["interval"]
    try:
        return parse_seconds(text(section.options.get("interval")), spec)
    except BadValue:
        return float(str(spec.default))


def _others(places: list[tuple[str, str]]) -> str:
    names = list(dict.fromkeys(name for name, _ in places))[1:]
    return f" (also: {listed(names)})" if names else ""


def _is_one_address(value: Value) -> bool:
    """What its data type ``ipaddr`` takes: an address, with a prefix length or, in IPv4, a mask."""
    if isinstance(value, tuple):
        if len(value) != 1:
            return False
        value = value[0]
    try:
        ipaddress.ip_interface(value.strip())
    except ValueError:
        return not value.strip()
    return True


#: Every check by its code.
CHECKS: Mapping[str, Check[Package]] = REGISTRY.checks


def lint(package: Package) -> Iterator[Finding]:
    """What every check finds in package ``mwan3``."""
    for one in CHECKS.values():
        yield from one.findings(package)
