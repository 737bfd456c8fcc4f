"""What ``connbal explain`` is asked: options of the command line as values, checked without the machine."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from connbal.errors import UsageError
from connbal.model.config import IPAddress

_ICMP, _ICMPV6 = 1, 58
_MAC = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}\Z")


@dataclass(frozen=True)
class Asked:
    """What the command line says of the packet, checked as far as it goes without the machine."""

    destination: IPAddress
    source: IPAddress | None = None
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None
    incoming: str | None = None  #: network or device
    outgoing: str | None = None
    mac: str | None = None
    local: bool = False


def question(
    src: str | None,
    dst: str,
    proto: str | None = None,
    dport: int | None = None,
    sport: int | None = None,
    iif: str | None = None,
    mac: str | None = None,
    local: bool = False,
    oif: str | None = None,
) -> Asked:
    """Options as values. UsageError where they make no sense."""
    destination = _address("--dst", dst)
    source = None if src is None else _address("--src", src)
    if source is None and not local:
        raise UsageError("--src is missing: give the address of the device that sends it, or --local for the router")
    if source is not None and source.version != destination.version:
        raise UsageError(f"--src {source} and --dst {destination} are of different families")
    if local and (iif or mac):
        raise UsageError("what the router itself sends (--local) comes in by no device: leave out --iif and --mac")
    if oif and not local:
        raise UsageError("--oif is for what the router itself sends: add --local")
    protocol = None if proto is None else _protocol(proto, destination)
    _check_ports(protocol, dport, sport)
    if mac is not None:
        mac = mac.lower()
        if not _MAC.match(mac):
            raise UsageError(f"--mac {mac}: not an Ethernet address such as 02:00:00:00:00:01")
        mac = mac.replace("-", ":")
    return Asked(destination, source, protocol, sport, dport, iif, oif, mac, local)


def _address(option: str, text: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        name = text if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text) else "NAME"  # somebody may paste it
        remedy = f"look it up first (nslookup {name}), as the device that asks would"
        raise UsageError(f"{option} {text}: not an address; a name may have several: {remedy}") from None


def _protocol(text: str, destination: IPAddress) -> int:
    from connbal.uci.decode_match import PROTOCOLS

    word = text.lower()
    number = int(word) if word.isascii() and word.isdigit() and len(word) <= 3 else PROTOCOLS.get(word, -1)
    if not 0 < number <= 255:
        raise UsageError(f"--proto {text}: no protocol of that name or number{nearest(word, PROTOCOLS)}")
    return _ICMPV6 if number == _ICMP and destination.version == 6 else number


def _check_ports(protocol: int | None, dport: int | None, sport: int | None) -> None:
    from connbal.uci.decode_match import PORT_PROTOCOLS

    given = "--dport" if dport is not None else "--sport" if sport is not None else ""
    if given and protocol is None:
        raise UsageError(f"{given} needs a protocol with ports: add --proto tcp or --proto udp")
    if given and protocol not in PORT_PROTOCOLS:
        raise UsageError(f"{given}: this protocol has no ports; tcp and udp have")


def nearest(word: str, names: Iterable[str]) -> str:
    """``; did you mean X?`` where some name is near."""
    found = difflib.get_close_matches(word, list(names), 1)
    return f"; did you mean {found[0]}?" if found else ""
