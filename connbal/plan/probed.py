"""Hosts to probe that are this router itself, or no single host: what answers there says nothing of the source."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator

from connbal.errors import Finding, Severity
from connbal.model import names
from connbal.model.config import PACKAGE, Config, IPAddress
from connbal.model.facts import Facts
from connbal.model.hosts import no_host

CODE = "track-host"


def address(host: str) -> IPAddress | None:
    """A host that is an address, without its scope; None for a host name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]) if host[-1:].isdigit() or ":" in host else None
    except ValueError:
        return None


def fault(host: str, own: Collection[IPAddress]) -> str:
    """Why a host cannot be probed, as far as that can be known beforehand; empty: it can.

    ``own``: addresses of this router. Link-local ones are not looked for there: each link has its own.
    """
    if host.rstrip(".").lower().rpartition(".")[2] == "localhost":  # RFC 6761, 6.3
        return "a name of this router itself"
    found = address(host)
    if found is None:
        return ""
    is_own = found in own and not (found.version == 6 and found.is_link_local)
    return no_host(found) or ("an address of this router" if is_own else "")


def words(interface: str, host: str, why: str) -> tuple[str, str]:
    """What is wrong with a host, and the remedy."""
    message = f"{host} is {why}: whether it answers says nothing of the source, so it is left out"
    return message, f"connbal interface set {interface} --remove track_ip={host}, and add a host of the Internet"


def findings(config: Config, facts: Facts) -> Iterator[Finding]:
    """Those of enabled interfaces, with the addresses that the router's networks have now."""
    own = {one.ip for network in facts.networks.values() for one in network.addresses}
    for interface in config.interfaces:
        for host in interface.track_ip if interface.enabled else ():
            why = fault(host, own)
            if why:
                place = f"{PACKAGE}.{names.label(interface.name)}.track_ip"
                yield Finding(Severity.ERROR, CODE, place, *words(interface.name, host, why))
