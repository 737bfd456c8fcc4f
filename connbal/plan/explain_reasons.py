"""Why a rule did not match a packet, in the words of its section. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from connbal.model.config import AddressMatch, PortRange, Rule
from connbal.plan.explain import Packet, Step
from connbal.plan.values import Address, InDevice, InSet, Match, Ports, Protocol, SourceMac

#: Names of the protocols that people type; others are numbers.
PROTOCOL_NAMES: Mapping[int, str] = {
    1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
    58: "icmpv6", 132: "sctp", 136: "udplite",
}  # fmt: skip
#: How many values of an option are shown.
_SHOWN = 3
#: What the names of sets that hold a rule's addresses begin with (plan.matching).
_ADDRESSES = "mwan3_addr_"


def misses(steps: Iterable[Step]) -> int:
    """How many matches failed in the line of a rule that came nearest."""
    return min((len(step.failed) for step in steps), default=0)


def reasons(rule: Rule, steps: Sequence[Step], packet: Packet) -> tuple[str, ...]:
    """Why none of a rule's lines matched: the options that failed in all of them, else those of the nearest line."""
    failed = [dict.fromkeys(_option(match, rule) for match in step.failed) for step in steps]
    common = [option for option in failed[0] if all(option in other for other in failed)]
    fewest = min(map(len, failed))
    options = common or list(next(one for one in failed if len(one) == fewest))
    unknown = {_option(match, rule) for step in steps for match in step.unknown}
    matches = [match for step in steps for match in step.failed]
    return tuple(_reason(option, rule, packet, matches, option in unknown) for option in options)


def _option(match: Match, rule: Rule) -> str:
    """The option of a rule's section that a match stands for."""
    if isinstance(match, InSet) and not match.negated:
        option, named = ("ipset", rule.ipset) if match.direction == "dst" else ("ipset_src", rule.ipset_src)
        # Another name than the rule's is that of the set that belongs to it in this family.
        if named is not None and (match.name == named or not match.name.startswith(_ADDRESSES)):
            return option
    if isinstance(match, Address | InSet):
        return "src_ip" if match.direction == "src" else "dest_ip"
    if isinstance(match, Ports):
        return "src_port" if match.direction == "src" else "dest_port"
    return {Protocol: "proto", SourceMac: "src_mac", InDevice: "src_iface"}.get(type(match), "other")


def _reason(option: str, rule: Rule, packet: Packet, matches: Sequence[Match], unknown: bool) -> str:
    if option in ("src_ip", "dest_ip"):
        wanted, value = (rule.src, packet.source) if option == "src_ip" else (rule.dest, packet.destination)
        assert wanted is not None
        return f"{option} {value} {_networks(wanted, packet)}"
    if option in ("src_port", "dest_port"):
        ranges, port = (
            (rule.src_ports, packet.source_port) if option == "src_port" else (rule.dest_ports, packet.destination_port)
        )
        return _unless(option, port, [ports_text(item) for item in ranges])
    if option == "proto":
        own = None if packet.protocol is None else protocol_text(packet.protocol)
        numbers = dict.fromkeys(match.number for match in matches if isinstance(match, Protocol))
        return _unless(option, own, [protocol_text(number) for number in numbers])
    if option == "src_mac":
        return _unless(option, "none, the router sends it itself," if packet.local else packet.mac, rule.src_mac)
    if option == "src_iface":
        devices = dict.fromkeys(match.name for match in matches if isinstance(match, InDevice))
        wanted_here = [f"{', '.join(rule.src_iface)} ({', '.join(devices)})"]
        return _unless(option, "none, the router sends it itself," if packet.local else packet.device, wanted_here)
    value = packet.destination if option == "ipset" else packet.source
    name = next(match.name for match in matches if isinstance(match, InSet) and _option(match, rule) == option)
    return f"{option} {value} is not {'known to be ' if unknown else ''}in set {name}"


def _unless(option: str, value: object, wanted: Sequence[str]) -> str:
    return f"{option} {'is not given: not taken for' if value is None else f'{value} is not'} {some(wanted)}"


def _networks(wanted: AddressMatch, packet: Packet) -> str:
    found = [_network(str(network)) for network in wanted.of(packet.family)]
    if wanted.negated:
        return f"is one of those left out: !{some(found)}"
    return f"is not {'in ' if len(found) > 1 or '/' in found[0] else ''}{some(found)}"


def _network(text: str) -> str:
    """A single address without its prefix length."""
    address, _, bits = text.partition("/")
    return address if bits == ("128" if ":" in address else "32") else text


def some(values: Sequence[str]) -> str:
    """The first few of them."""
    shown = " or ".join(values[:_SHOWN]) if len(values) <= _SHOWN else ", ".join(values[:_SHOWN])
    return shown if len(values) <= _SHOWN else f"{shown} or {len(values) - _SHOWN} more"


def ports_text(item: PortRange) -> str:
    return str(item.first) if item.first == item.last else f"{item.first}-{item.last}"


def protocol_text(number: int) -> str:
    return PROTOCOL_NAMES.get(number, str(number))
