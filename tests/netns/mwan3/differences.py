"""Where connbal marks or routes a packet otherwise than mwan3 2.12.2 did, on purpose: all of it, with the reason."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tests.netns.mwan3.packets import ICMPV6, LOCAL, TCP, Probe
from tests.netns.mwan3.vector import Vector

Marks = frozenset[int]


@dataclass(frozen=True)
class Case:
    """A packet that fared differently in the two routers. ``answer``: it replies to one that came in."""

    vector: Vector
    probe: Probe
    marks: Marks  #: with mwan3
    answer: bool = False

    @property
    def default(self) -> int:
        """The mark that means "as the main table says": all bits of the mask."""
        return self.vector.mask

    def to(self, network: str) -> bool:
        net = ipaddress.ip_network(network)
        return net.version == self.probe.version and ipaddress.ip_address(self.probe.dst) in net

    @property
    def entered_outside(self) -> bool:
        return self.probe.enters.startswith("wan")


@dataclass(frozen=True)
class Difference:
    """``marks``: those right for connbal, of which a packet must have one. ``device``: the one to leave by, if any.

    ``vectors``: the only ones where it occurs, and there it does; none: in all.
    """

    reason: str
    applies: Callable[[Case], bool]
    marks: Callable[[Case], Collection[int]]
    device: Callable[[Case], str] | None = None
    vectors: tuple[str, ...] = ()

    def concerns(self, vector: Vector) -> bool:
        return not self.vectors or vector.name in self.vectors


# --- 08 and 10b: mwan3 lost every rule of a family to one that iptables refused --------------------------------------

WAN, WANB = 0x100, 0x200


def _lists(case: Case) -> Collection[int]:
    """08: lists in rules, written out."""
    probe = case.probe
    if probe.version == 6:
        return {0x3E00} if probe.proto == TCP and 8000 <= probe.dport <= 8100 else {0}
    if probe.src in ("192.168.1.10", "192.168.1.20"):
        return {WAN}
    if case.to("198.51.100.1/32") or case.to("203.0.113.0/24"):
        return {WAN}
    if probe.src in ("192.168.1.30", "192.168.1.31") or not case.to("10.0.0.0/8"):
        return {WANB}
    return {WAN, WANB}


def _missing_set(case: Case) -> Collection[int]:
    """10b: the rule of the set that nobody made matches nothing, the next ones do what they say."""
    return {WAN} if case.to("198.51.100.1/32") else {WAN, WANB}


_LOST = {"08-rules-lists": _lists, "10b-ipset-missing": _missing_set}


# --- 19c: five interfaces in a mask that has room for four ------------------------------------------------------------

_FIFTH = 0x500


def _without_fifth(case: Case) -> Collection[int]:
    if case.answer and case.probe.src.startswith(("192.168.", "10.")):
        return {case.default}  # what came in was for an exempt network
    return {0x100, 0x200, 0x300, 0x400}


#: The mark that the rules of IPv6 give, and the device it leads to: in the other vectors they take no ICMPv6.
_BY_RULES = {"09-family": (0x200, "wan1"), "11-src-iface": (0x3E00, "")}

# --- everywhere -------------------------------------------------------------------------------------------------------


def _other_source(case: Case) -> str:
    """The device of the source whose own network the packet is for."""
    return f"wan{case.probe.dst.split('.')[1]}"


DIFFERENCES = (
    Difference(
        "ICMPv6 of discovery's types that would have to be forwarded goes by the rules; mwan3 exempts it",
        lambda case: case.probe.proto == ICMPV6 and case.probe.type in range(133, 138) and case.to("2000::/3"),
        lambda case: {_BY_RULES[case.vector.name][0]},
        lambda case: _BY_RULES[case.vector.name][1],
        vectors=tuple(_BY_RULES),
    ),
    Difference(
        "mwan3 gave the fifth interface of a mask for four the mark that means blackhole; connbal leaves it out",
        lambda case: _FIFTH in case.marks,
        _without_fifth,
        vectors=("19c-mask-7",),
    ),
    Difference(
        "IPv6 multicast is never a source's business; mwan3 says so of IPv4 only (224.0.0.0/3)",
        lambda case: case.to("ff00::/8"),
        lambda case: {case.default},
    ),
    Difference(
        "the router's own IPv6 addresses are local, ::1 too; mwan3 says so of IPv4 only",
        lambda case: case.to("::1/128"),
        lambda case: {case.default},
    ),
    Difference(
        "mwan3 applied none of the family's rules, because one named a list, a port range with a dash or a set that "
        "iptables does not take; connbal applies them all",
        lambda case: case.marks == {0},
        lambda case: _LOST[case.vector.name](case),
        vectors=tuple(_LOST),
    ),
    Difference(
        "from one source to a neighbour on another source's network: connbal looks in the main table first, so it is "
        "delivered; mwan3 sent it back to where it came from",
        lambda case: case.entered_outside and case.to("10.0.0.0/8") and _other_source(case) != case.probe.enters,
        lambda case: {case.default},
        _other_source,
    ),
)


def stated(case: Case) -> Difference | None:
    """The difference that a case is one of."""
    return next((one for one in DIFFERENCES if one.concerns(case.vector) and one.applies(case)), None)


def expected_device(case: Case, difference: Difference, mark: int) -> str | None:
    """The device a packet must leave by; None where that is not the mark's to say."""
    if difference.device is not None:
        return difference.device(case)
    if case.probe.bound or case.probe.enters == LOCAL:
        return None
    return {0x100: "wan1", 0x200: "wan2", 0x300: "wan3", 0x400: "wan4", 0x3E00: ""}.get(mark)
