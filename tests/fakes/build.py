"""Configurations and machines in a few words.

An interface is written ``wan`` or, for IPv6, ``wan6:6``; with ``-`` before it, it is disabled. The n-th of a machine
has the device ``eth<n>``, the address 10.n.0.2/24 or 2001:db8:n::2/64, and the gateway 10.n.0.1 or fe80::n.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from connbal.kernel.api import RoutingState
from connbal.model.config import (
    Affinity,
    Config,
    Family,
    Globals,
    Interface,
    IPInterface,
    IPNetwork,
    Member,
    Policy,
    Rule,
)
from connbal.model.facts import (
    DefaultRoute,
    Facts,
    Health,
    Link,
    MainRoute,
    Network,
    RouteHop,
    SetDeclaration,
    SetFacts,
)
from connbal.plan.state import SetState

V4, V6 = Family.IPV4, Family.IPV6
LAN = ipaddress.ip_network("192.168.1.0/24")
LAN6 = ipaddress.ip_network("fd00:1::/64")


def network(text: str) -> IPNetwork:
    return ipaddress.ip_network(text)


def interfaces(words: str, **options: Any) -> tuple[Interface, ...]:
    """Interfaces in the order of the words, with the ids that follow from it; ``options`` are for all of them."""
    found = []
    for number, word in enumerate(words.split(), 1):
        name, _, family = word.lstrip("-").partition(":")
        found.append(Interface(
            name, number, enabled=not word.startswith("-"), family=V6 if family == "6" else V4, **options
        ))  # fmt: skip
    return tuple(found)


def config(
    words: str = "wan wan1",
    members: Mapping[str, tuple[str, int, int]] | None = None,
    policies: Iterable[Policy] | Mapping[str, str] | None = None,
    rules: Sequence[Rule] | None = None,
    flush: Iterable[str] = (),
    **globals_: Any,
) -> Config:
    """A configuration. ``members``: name -> (interface, metric, weight); by default one per interface, equal, with its
    name. ``policies``: values, or name -> members; by default ``all``. ``rules``: by default one that sends everything
    to the first policy.
    """
    made = interfaces(words, flush_conntrack=frozenset(flush))
    if members is None:
        members = {one.name: (one.name, 1, 1) for one in made}
    if policies is None:
        policies = {"all": " ".join(members)}
    if isinstance(policies, Mapping):
        policies = [Policy(name, tuple(names.split())) for name, names in policies.items()]
    policies = tuple(policies)
    if rules is None:
        rules = [Rule("everything", policies[0].name)]
    return Config(
        Globals(**globals_), made, tuple(Member(name, *rest) for name, rest in members.items()), policies, tuple(rules)
    )


def with_affinity(config_: Config, affinity: Affinity) -> Config:
    return replace(config_, globals=replace(config_.globals, affinity=affinity))


@dataclass
class Uplink:
    """What a machine knows of one network in one family."""

    name: str
    family: Family
    device: str
    address: IPInterface
    gateway: str | None
    up: bool = True
    health: Health | None = None

    @property
    def network(self) -> Network:
        if not self.up:
            return Network(self.name, self.family, False, None, reason="no carrier")
        gateway = None if self.gateway is None else ipaddress.ip_address(self.gateway)
        return Network(self.name, self.family, True, self.device, (self.address,), (DefaultRoute(gateway),))


@dataclass
class Machine:
    """A router: its uplinks, and what facts follow from them. Change the uplinks to make things happen."""

    uplinks: dict[str, Uplink] = field(default_factory=dict)
    extra_connected: tuple[IPNetwork, ...] = ()
    custom: tuple[IPNetwork, ...] = ()
    declared: dict[str, SetDeclaration] = field(default_factory=dict)
    ip6: bool = True
    bpf: bool = True
    steer: bool = False  #: connbal use was used

    @property
    def links(self) -> dict[str, Link]:
        devices = ["br-lan", *dict.fromkeys(one.device for one in self.uplinks.values() if one.up)]
        return {name: Link(name, index, True, True) for index, name in enumerate(devices, 2)}

    @property
    def connected(self) -> dict[Family, tuple[IPNetwork, ...]]:
        return {family: tuple(route.destination for route in routes) for family, routes in self.main.items()}

    @property
    def main(self) -> dict[Family, tuple[MainRoute, ...]]:
        """The main table without default routes: the networks of all devices; further ones are behind the LAN."""
        found: dict[Family, list[MainRoute]] = {V4: [], V6: []}
        ups = [(one.address.network, one.device) for one in self.uplinks.values() if one.up]
        inner = ((net, "br-lan") for net in (LAN, LAN6, *self.extra_connected))
        for net, device in (*inner, *ups):
            found[Family.of(net)].append(MainRoute(Family.of(net), net, (RouteHop(device),)))
        return {family: tuple(routes) for family, routes in found.items()}

    def facts(self, sets: Mapping[str, SetFacts] | None = None) -> Facts:
        networks = {(one.name, one.family): one.network for one in self.uplinks.values()}
        networks["lan", V4] = Network(
            "lan", V4, True, "br-lan", (ipaddress.IPv4Interface("192.168.1.1/24"),), reason="up"
        )
        return Facts(
            networks=networks,
            links=self.links,
            main=self.main,
            custom={family: tuple(net for net in self.custom if net.version == family.version) for family in (V4, V6)},
            health={one.name: one.health for one in self.uplinks.values() if one.health is not None},
            sets=sets or {},
            declared=self.declared,
            ip6=self.ip6,
            bpf=self.bpf, steer=self.steer,
        )

    def source(self, config_: Config, routing: RoutingState, headers: Mapping[str, SetState]) -> Facts:
        """Facts in the form the reconciler asks for them."""
        return self.facts({name: SetFacts(name, state.type, state.family) for name, state in headers.items()})


def machine(words: str = "wan wan1") -> Machine:
    """A machine on which everything works."""
    made = Machine()
    for number, one in enumerate(interfaces(words), 1):
        if one.family is V4:
            address: IPInterface = ipaddress.IPv4Interface(f"10.{number}.0.2/24")
            gateway = f"10.{number}.0.1"
        else:
            address = ipaddress.IPv6Interface(f"2001:db8:{number:x}::2/64")
            gateway = f"fe80::{number:x}"
        made.uplinks[one.name] = Uplink(one.name, one.family, f"eth{number}", address, gateway)
    return made


def facts(words: str = "wan wan1", *, down: str = "", offline: str = "") -> Facts:
    """Facts of a machine with these uplinks, some of which have no link or do not answer."""
    made = machine(words)
    for name in down.split():
        made.uplinks[name].up = False
    for name in offline.split():
        made.uplinks[name].health = Health(False, "3 rounds lost")
    return made.facts()
