"""What a rule matches by, whatever way it is written: addresses, ports, protocols have many spellings. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from connbal.model.config import FAMILIES, AddressMatch, PortRange
from connbal.uci.decode_rules import read_rule
from connbal.uci.package import Section, Value
from connbal.uci.values import words

#: Stands for the policy of a rule where it is only asked what it matches by.
ANY_POLICY = "default"
#: Options of a rule by which it matches, and the switch: whatever a scenario does not set goes.
MATCHES = (
    "family", "proto", "src_ip", "dest_ip", "src_port", "dest_port", "src_iface", "src_mac", "ipset", "ipset_src",
)  # fmt: skip


def meant(options: Mapping[str, Value | None]) -> tuple[object, ...] | None:
    """What the options of a rule match by, however they are written; None where they make no rule.

    Two that are equal take the same connections. Of destinations, everything is as good as nothing given.
    """
    told = {option: value for option, value in options.items() if option in MATCHES and value is not None}
    _, rule, _ = read_rule(Section("rule", "rule", options={**told, "use_policy": ANY_POLICY}), 1)
    if rule is None:
        return None
    dest = rule.dest
    if dest is not None and not dest.negated and all(network.prefixlen == 0 for network in dest.networks):
        dest = None
    ports = (_merged(rule.src_ports), _merged(rule.dest_ports)) if rule.src_ports or rule.dest_ports else ((), ())
    return (
        rule.family, frozenset(rule.protocols), _networks(rule.src), _networks(dest), *ports, frozenset(rule.src_iface),
        frozenset(rule.src_mac), rule.ipset, rule.ipset_src,
    )  # fmt: skip


def same(options: Mapping[str, Value | None], wanted: Mapping[str, Value | None]) -> bool:
    """Whether a rule matches by what is wanted, ``dest_ip`` as it is written: it says which families are covered."""
    found = meant(options)
    alike = {*entries(options.get("dest_ip"))} == {*entries(wanted.get("dest_ip"))}
    return alike and found is not None and found == meant(wanted)


def _networks(match: AddressMatch | None) -> tuple[object, ...]:
    """The fewest networks that say the same."""
    if match is None:
        return ()
    found: list[object] = [match.negated]
    for family in FAMILIES:
        networks: list[ipaddress.IPv4Network] = list(match.of(family))  # type: ignore[arg-type]  # or IPv6Network
        found += ipaddress.collapse_addresses(networks)
    return tuple(found)


def _merged(ranges: Iterable[PortRange]) -> tuple[tuple[int, int], ...]:
    """The fewest ranges of ports that say the same, in order."""
    found: list[tuple[int, int]] = []
    for one in sorted(ranges):
        if found and one.first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], one.last)
        else:
            found.append((one.first, one.last))
    return tuple(found)


def texts(value: Value | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def entries(value: Value | None) -> tuple[str, ...]:
    """The entries of a list, also where it is written as one option."""
    return tuple(word for text in texts(value) for word in words(text))
