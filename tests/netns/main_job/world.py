"""A configuration that changes at random, and what it means for traffic: a second opinion, not connbal's code.

The world always holds a few promises that traffic can be checked by: the TV goes by wan2, one network by wan, and
every policy that traffic can meet has a member that is never taken away.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.demo.config import TV, TV6, section
from tests.lab import Lab

PC, PC6 = "192.168.1.20", "fd01::20"
FIXED = ("198.51.100.0/24", "2001:db8:ffff:a::/64")
#: Sources that nothing happens to, and those that come and go.
STEADY, SHAKY = ("wan", "wan2"), ("wan1", "wwan")
SOURCES = ("wan", "wan1", "wan2", "wwan")
#: Some share bits, so that a mark of one means something under another.
MASKS = (0x3F00, 0xFC00, 0x3F0000, 0x7E00, 0xFF000000, 0x7E)

#: Where the other device's connections go, by family.
SITES = {4: [f"203.0.113.{n}" for n in range(1, 25)], 6: [f"2001:db8:ffff::{n:x}" for n in range(1, 25)]}


@dataclass(frozen=True)
class Flow:
    """One kind of traffic: connections of a client of one protocol and port, to some destinations."""

    name: str
    client: str
    family: int
    proto: str
    port: int
    sites: tuple[str, ...]

    @property
    def src(self) -> str:
        return {("tv", 4): TV, ("tv", 6): TV6, ("pc", 4): PC, ("pc", 6): PC6}[self.client, self.family]


FLOWS = (
    Flow("TV, TCP", "tv", 4, "tcp", 443, tuple(f"203.0.113.{n}" for n in range(201, 209))),
    Flow("TV, UDP", "tv", 6, "udp", 5000, tuple(f"2001:db8:ffff::20{n}" for n in range(8))),
    Flow("PC, TCP", "pc", 4, "tcp", 443, tuple(SITES[4])),
    Flow("PC, HTTP", "pc", 6, "tcp", 80, tuple(SITES[6])),
    Flow("fixed, UDP", "pc", 4, "udp", 5000, ("198.51.100.10",)),
    Flow("fixed, TCP", "pc", 6, "tcp", 853, ("2001:db8:ffff:a::10",)),
)


@dataclass
class Interface:
    """A section `interface`; without a source it is a name that has no network."""

    name: str
    family: int
    source: str | None
    enabled: bool = True
    flush: tuple[str, ...] = ("disconnected", "ifdown")


@dataclass
class Policy:
    """A policy with members of its own: source -> (metric, weight), for both families."""

    name: str
    members: dict[str, tuple[int, int]]
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class Rule:
    name: str
    policy: str
    src: tuple[str, ...] = ()
    dest: tuple[str, ...] = ()
    proto: str = ""
    ports: tuple[int, ...] = ()
    sticky: bool = False
    enabled: bool = True

    def matches(self, flow: Flow, site: str) -> bool:
        return (
            self.enabled
            and _within(flow.src, self.src)
            and _within(site, self.dest)
            and self.proto in ("", flow.proto)
            and (not self.ports or flow.port in self.ports)
        )


def _within(address: str, networks: Sequence[str]) -> bool:
    one = ipaddress.ip_address(address)
    return not networks or any(one in ipaddress.ip_network(network) for network in networks)


@dataclass
class World:
    """The configuration, and which sources have a carrier."""

    mask: int = MASKS[0]
    options: dict[str, str] = field(default_factory=lambda: {"affinity": "pair", "weight_mode": "inverse"})
    interfaces: list[Interface] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    carrier: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(SOURCES, True))

    # --- what it means ---------------------------------------------------------------------------------------

    def usable(self, family: int) -> set[str]:
        """Sources that can be used in a family now."""
        return {
            one.source for one in self.interfaces
            if one.source and one.family == family and one.enabled and self.carrier[one.source]
        }  # fmt: skip

    def ways(self, flow: Flow, site: str) -> set[str]:
        """The sources that a new connection may use."""
        rule = next(rule for rule in self.rules if rule.matches(flow, site))
        policy = next(policy for policy in self.policies if policy.name == rule.policy)
        live = {source: policy.members[source] for source in self.usable(flow.family) if source in policy.members}
        if rule.sticky:
            return set(live)  # a client that is remembered stays, whatever the metric
        best = min(metric for metric, _ in live.values())
        return {source for source, (metric, _) in live.items() if metric == best}

    def marks(self, family: int) -> dict[str, str]:
        """The mark a source's connections carry, as `value/mask`."""
        return {
            one.source: f"{_spread(number, self.mask):#x}/{self.mask:#x}"
            for number, one in enumerate(self.interfaces, 1)
            if one.source and one.family == family
        }

    # --- as UCI text ---------------------------------------------------------------------------------------------

    def text(self, lab: Lab) -> str:
        globals_ = [("mmx_mask", f"{self.mask:#x}"), *self.options.items()]
        parts = [section("globals", "globals", *globals_)]
        parts += [self._interface(one) for one in self.interfaces]
        for policy in self.policies:
            parts += self._policy(policy, lab)
        parts += [self._rule(rule) for rule in self.rules]
        return "\n".join(parts)

    @staticmethod
    def _interface(one: Interface) -> str:
        options = [("enabled", str(int(one.enabled))), ("family", f"ipv{one.family}")]
        return section("interface", one.name, *options, *(("flush_conntrack", event) for event in one.flush))

    @staticmethod
    def _policy(policy: Policy, lab: Lab) -> list[str]:
        parts, names = [], []
        for source, (metric, weight) in policy.members.items():
            for interface in (source, lab.source(source).name6):
                names.append(f"{policy.name}_{interface}")
                parts.append(section("member", names[-1], ("interface", interface), ("metric", str(metric)),
                                     ("weight", str(weight))))  # fmt: skip
        options = [*(("use_member", name) for name in names), *policy.options.items()]
        return [*parts, section("policy", policy.name, *options)]

    @staticmethod
    def _rule(rule: Rule) -> str:
        options = [("use_policy", rule.policy), ("enabled", str(int(rule.enabled)))]
        options += [("src_ip", address) for address in rule.src] + [("dest_ip", address) for address in rule.dest]
        if rule.proto:
            options.append(("proto", rule.proto))
        if rule.ports:
            options.append(("dest_port", ",".join(map(str, rule.ports))))
        return section("rule", rule.name, *options, ("sticky", str(int(rule.sticky))))


def _spread(number: int, mask: int) -> int:
    """Bits of a number onto the bits of a mask."""
    bits = [bit for bit in range(32) if mask >> bit & 1]
    return sum(1 << bit for at, bit in enumerate(bits) if number >> at & 1)


def first_world(lab: Lab) -> World:
    """Where the walk starts: the user's examples, and a network that always goes by wan."""
    world = World()
    for source in lab.spec.links.values():
        flush = ("disconnected",)
        world.interfaces.append(Interface(source.name, 4, source.name, flush=flush))
        world.interfaces.append(Interface(source.name6, 6, source.name, flush=flush))
    world.policies = [
        Policy("TV_Policy", {"wan2": (1, 1)}),
        Policy("Fixed_Policy", {"wan": (1, 1)}),
        Policy("Failover_Policy", {"wwan": (1, 1), "wan1": (2, 1), "wan": (3, 1)}),
        Policy("Split_Policy", {"wan": (1, 3), "wan1": (1, 1), "wan2": (1, 2), "wwan": (2, 1)}),
    ]
    world.rules = [
        Rule("SmartTV", "TV_Policy", src=(TV, TV6)),
        Rule("Fixed", "Fixed_Policy", dest=FIXED),
        Rule("Https", "Failover_Policy", src=(PC, PC6), proto="tcp", ports=(443,)),
        Rule("All_Traffic", "Split_Policy"),
    ]
    return world


class Walk:
    """Changes a world at random; each step returns what it did, in words."""

    #: Rules that stay, though they may change places (All_Traffic stays last).
    PINNED = ("SmartTV", "Fixed", "All_Traffic")

    def __init__(self, world: World, seed: str) -> None:
        self.world = world
        self.draw = random.Random(seed)
        self._number = 0

    def step(self) -> str:
        """One change. Every kind comes round about equally often."""
        kinds: list[Callable[[], str | None]] = [
            self.add_rule, self.add_rule, self.remove_rule, self.move_rule, self.change_rule, self.weigh, self.weigh,
            self.change_policy, self.switch_policy, self.switch_globals, self.enable, self.enable, self.swap_interfaces,
            self.insert_interface, self.remove_interface, self.mask, self.stick, self.carrier, self.carrier, self.flush,
        ]  # fmt: skip
        while True:
            done = self.draw.choice(kinds)()
            if done is not None:
                return done

    def _noise(self) -> Rule | None:
        found = [rule for rule in self.world.rules if rule.name not in self.PINNED]
        return self.draw.choice(found) if found else None

    def _some_sites(self) -> tuple[str, ...]:
        count = self.draw.choice((1, 2, 5, 12))
        return tuple(self.draw.sample(SITES[4], count) + self.draw.sample(SITES[6], count))

    def add_rule(self) -> str | None:
        if len(self.world.rules) > 12:
            return None
        self._number += 1
        rule = Rule(f"noise_{self._number}", self.draw.choice(("Failover_Policy", "Split_Policy")))
        self._vary(rule)
        at = self.draw.randrange(len(self.world.rules))
        self.world.rules.insert(at, rule)
        return f"rule {rule} added at {at}"

    def _vary(self, rule: Rule) -> None:
        rule.src, rule.dest, rule.proto, rule.ports = (), (), "", ()
        kind = self.draw.randrange(4)
        if kind == 0:
            rule.dest = self._some_sites()
        elif kind == 1:
            rule.src, rule.proto, rule.ports = (PC, PC6), "tcp", self.draw.choice(((443,), (80,), (80, 443, 8443)))
        elif kind == 2:
            rule.src, rule.dest, rule.proto = (PC, PC6), self._some_sites(), "tcp"
        else:  # what nobody sends
            rule.policy, rule.proto, rule.ports = "unreachable", "udp", (9, 1900)

    def remove_rule(self) -> str | None:
        rule = self._noise()
        if rule is None:
            return None
        self.world.rules.remove(rule)
        return f"rule {rule.name} removed"

    def move_rule(self) -> str | None:
        rules = self.world.rules
        at, to = (self.draw.randrange(len(rules) - 1) for _ in range(2))
        if at == to:
            return None
        rules.insert(to, rules.pop(at))
        return f"rule {rules[to].name} moved from {at} to {to}"

    def change_rule(self) -> str | None:
        rule = self._noise()
        if rule is None or rule.policy == "unreachable":
            return None
        what = self.draw.randrange(3)
        if what == 0:
            rule.enabled = not rule.enabled
        elif what == 1:
            rule.policy = "Split_Policy" if rule.policy == "Failover_Policy" else "Failover_Policy"
        else:
            rule.dest = self._some_sites()
        return f"rule changed: {rule}"

    def stick(self) -> str | None:
        found = [rule for rule in self.world.rules if rule.policy != "unreachable"]
        rule = self.draw.choice(found)
        rule.sticky = not rule.sticky
        return f"rule {rule.name} sticky: {rule.sticky}"

    def _policy(self) -> Policy:
        return self.draw.choice([one for one in self.world.policies if len(one.members) > 1])

    def weigh(self) -> str:
        policy = self._policy()
        source = self.draw.choice(sorted(policy.members))
        policy.members[source] = (self.draw.randint(1, 3), self.draw.randint(1, 5))
        return f"member {policy.name}/{source}: metric, weight {policy.members[source]}"

    def change_policy(self) -> str:
        """Some other members; one that is always there stays."""
        policy = self._policy()
        chosen = {self.draw.choice(STEADY), *self.draw.sample(SOURCES, self.draw.randint(1, 3))}
        if len(chosen) == 1:
            chosen.add(self.draw.choice(SHAKY))
        order = self.draw.sample(sorted(chosen), len(chosen))
        policy.members = {name: (self.draw.randint(1, 3), self.draw.randint(1, 5)) for name in order}
        return f"policy {policy.name}: {policy.members}"

    def switch_policy(self) -> str:
        policy = self.draw.choice(self.world.policies)
        policy.options = {
            key: value
            for key, value in (
                ("affinity", self.draw.choice(("", "pair", "source", "connection"))),
                ("weight_mode", self.draw.choice(("", "inverse", "proportional"))),
                ("last_resort", self.draw.choice(("", "unreachable", "blackhole", "default"))),
            )
            if value
        }
        return f"policy {policy.name}: {policy.options}"

    def switch_globals(self) -> str:
        self.world.options = {
            "affinity": self.draw.choice(("pair", "source", "connection")),
            "weight_mode": self.draw.choice(("inverse", "proportional")),
            "logging": self.draw.choice("01"),
        }
        return f"globals: {self.world.options}"

    def mask(self) -> str | None:
        mask = self.draw.choice(MASKS)
        if mask == self.world.mask:
            return None
        self.world.mask = mask
        return f"mask {mask:#x}"

    def enable(self) -> str:
        one = self.draw.choice([one for one in self.world.interfaces if one.source not in STEADY])
        one.enabled = not one.enabled
        return f"interface {one.name} {'enabled' if one.enabled else 'disabled'}"

    def swap_interfaces(self) -> str:
        found = self.world.interfaces
        at, to = self.draw.sample(range(len(found)), 2)
        found[at], found[to] = found[to], found[at]
        return f"interfaces {found[at].name} and {found[to].name} swapped"

    def insert_interface(self) -> str | None:
        if len(self.world.interfaces) > 14:
            return None
        self._number += 1
        one = Interface(f"spare_{self._number}", self.draw.choice((4, 6)), None, self.draw.random() < 0.5)
        at = self.draw.randrange(len(self.world.interfaces))
        self.world.interfaces.insert(at, one)
        return f"interface {one.name} inserted at {at}"

    def remove_interface(self) -> str | None:
        found = [one for one in self.world.interfaces if one.source is None]
        if not found:
            return None
        one = self.draw.choice(found)
        self.world.interfaces.remove(one)
        return f"interface {one.name} removed"

    def carrier(self) -> str:
        name = self.draw.choice(SHAKY)
        self.world.carrier[name] = not self.world.carrier[name]
        return f"carrier of {name}: {self.world.carrier[name]}"

    def flush(self) -> str:
        one = self.draw.choice([one for one in self.world.interfaces if one.source])
        events = ("ifup", "ifdown", "connected", "disconnected")
        one.flush = tuple(event for event in events if self.draw.random() < 0.5)
        return f"interface {one.name} flushes on {one.flush}"
