"""What can go wrong with a source, as iptables-restore input for its Internet's namespace. No side effects."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.topology import Source


@dataclass(frozen=True)
class Fault:
    """How an Internet misbehaves. `loss` is 0..1, in both directions alike; 1 is silence.

    `families` are those concerned. With `gateway_answers` only what lies behind the gateway is lost, as
    when a modem is fine and its uplink is not.
    """

    loss: float = 0.0
    families: tuple[int, ...] = (4, 6)
    gateway_answers: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss <= 1.0:
            raise ValueError(f"loss: 0 to 1, not {self.loss}")


def restore_text(source: Source, fault: Fault, family: int) -> str:
    """The whole filter table of the Internet of `source`; replaces what an earlier fault left."""
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    if fault.loss and family in fault.families:
        lines += _dropping(source, fault, family)
    return "\n".join([*lines, "COMMIT"]) + "\n"


def _dropping(source: Source, fault: Fault, family: int) -> list[str]:
    lines = []
    if family == 6:
        # Neighbours stay known, as with ARP, which iptables does not see. Else the router would get errors
        # at once, and a silent loss would not be silent.
        for kind in ("neighbour-solicitation", "neighbour-advertisement"):
            lines += [f"-A {chain} -p icmpv6 --icmpv6-type {kind} -j ACCEPT" for chain in ("INPUT", "OUTPUT")]
    if fault.gateway_answers:
        gateway = source.gateway4 if family == 4 else source.gateway6
        lines += [f"-A INPUT -d {gateway} -j ACCEPT", f"-A OUTPUT -s {gateway} -j ACCEPT"]
    # Each direction loses so much that a round trip loses `loss`.
    each = 1.0 - (1.0 - fault.loss) ** 0.5
    chance = "" if fault.loss >= 1.0 else f" -m statistic --mode random --probability {each:.9f}"
    return [*lines, f"-A INPUT -i router{chance} -j DROP", f"-A OUTPUT -o router{chance} -j DROP"]
