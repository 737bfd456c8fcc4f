"""Rules that are never reached: what the check says, against a small matcher of its own that looks at packets."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.model.config import AddressMatch, Family, IPAddress, IPNetwork, PortRange, Rule
from connbal.plan.lint_cover import Cover, coverage
from tests.fakes.work import calls

# --- the other opinion ----------------------------------------------------------------------------------------------

TCP, UDP, ICMP, ICMPV6, GRE = 6, 17, 1, 58, 47
WITH_PORTS = {TCP, UDP}


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection. ``device`` and ``mac`` None: the router itself sends it."""

    source: IPAddress
    destination: IPAddress
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    device: str | None = None
    mac: str | None = None
    sets: frozenset[tuple[str, str]] = frozenset()  #: (name, "src" or "dst")


def in_addresses(match: AddressMatch | None, address: IPAddress) -> bool:
    if match is None:
        return True
    own = [network for network in match.networks if network.version == address.version]
    return bool(own) and any(address in network for network in own) != match.negated


def in_ports(ranges: Sequence[PortRange], port: int) -> bool:
    return not ranges or any(one.first <= port <= one.last for one in ranges)


def numbers_in(rule: Rule, version: int) -> set[int]:
    """Those of a rule among packets of IPv4 or IPv6, where icmp has another number."""
    found = {ICMPV6 if number == ICMP and version == 6 else number for number in rule.protocols}
    return found - {ICMPV6} if version == 4 else found


def takes(rule: Rule, packet: Packet) -> bool:
    """Whether a rule matches a packet, as docs/configuration.md says."""
    return (
        rule.enabled
        and (rule.family is None or rule.family.version == packet.source.version)
        and (not rule.protocols or packet.protocol in numbers_in(rule, packet.source.version))
        and in_addresses(rule.src, packet.source)
        and in_addresses(rule.dest, packet.destination)
        and in_ports(rule.src_ports, packet.source_port)
        and in_ports(rule.dest_ports, packet.destination_port)
        and (not rule.src_iface or packet.device in rule.src_iface)
        and (not rule.src_mac or packet.mac in rule.src_mac)
        and (rule.ipset is None or (rule.ipset, "dst") in packet.sets)
        and (rule.ipset_src is None or (rule.ipset_src, "src") in packet.sets)
    )


def reached(rules: Sequence[Rule], packet: Packet) -> str | None:
    """The rule that a packet reaches."""
    return next((rule.name for rule in rules if takes(rule, packet)), None)


# --- rules and packets ----------------------------------------------------------------------------------------------


def network(text: str) -> IPNetwork:
    return ipaddress.ip_network(text)


def addresses(*texts: str, negated: bool = False) -> AddressMatch:
    return AddressMatch(tuple(map(network, texts)), negated)


NETWORKS = [
    network(text)
    for text in (
        "0.0.0.0/0", "128.0.0.0/1", "0.0.0.0/1", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.0.0.4/31",
        "10.0.0.4/32", "10.0.0.5/32", "255.255.255.255/32", "::/0", "8000::/1", "::/1", "2001:db8::/32",
        "2001:db8::/33", "2001:db8:8000::/33", "2001:db8::1/128",
    )
]  # fmt: skip
PORTS = [PortRange(80, 80), PortRange(0, 65535), PortRange(0, 1023), PortRange(1024, 65535), PortRange(79, 81)]
DEVICES, MACS, SETS = ("lan", "guest"), ("02:00:00:00:00:01", "02:00:00:00:00:02"), ("youtube", "netflix")

some_addresses = st.builds(
    lambda networks, negated: AddressMatch(tuple(networks), negated),
    st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3),
    st.booleans(),
)
some_ports = st.lists(st.sampled_from(PORTS), max_size=2).map(tuple)
protocols = st.sampled_from([(), (TCP,), (UDP,), (TCP, UDP), (ICMP,), (GRE, ICMPV6), (ICMP, ICMPV6)])


def without_nonsense(rule: Rule) -> Rule:
    """As decoding leaves it: ports only with protocols that have them."""
    if set(rule.protocols) and set(rule.protocols) <= WITH_PORTS:
        return rule
    return replace(rule, src_ports=(), dest_ports=())


rules = st.lists(
    st.builds(
        Rule,
        name=st.just(""),
        use_policy=st.just("default"),
        enabled=st.sampled_from([True, True, True, False]),
        family=st.sampled_from([None, None, Family.IPV4, Family.IPV6]),
        protocols=protocols,
        src=st.none() | some_addresses,
        dest=st.none() | some_addresses,
        src_ports=some_ports,
        dest_ports=some_ports,
        src_iface=st.lists(st.sampled_from(DEVICES), max_size=2, unique=True).map(tuple) | st.just(()),
        src_mac=st.lists(st.sampled_from(MACS), max_size=2, unique=True).map(tuple) | st.just(()),
        ipset=st.none() | st.none() | st.sampled_from(SETS),
        ipset_src=st.none() | st.none() | st.none() | st.sampled_from(SETS),
    ).map(without_nonsense),
    min_size=1,
    max_size=7,
).map(lambda found: [replace(rule, name=f"r{number}") for number, rule in enumerate(found)])


def edges(networks: Sequence[IPNetwork], version: int) -> list[IPAddress]:
    """The addresses in and just outside networks, and the first and last of the family."""
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    last = (1 << (32 if version == 4 else 128)) - 1
    numbers = {0, last}
    for one in networks:
        if one.version == version:
            low, high = int(one.network_address), int(one.broadcast_address)
            numbers |= {low, high, max(low - 1, 0), min(high + 1, last)}
    return [make(number) for number in sorted(numbers)]


PORT_EDGES = (0, 78, 79, 80, 81, 82, 1023, 1024, 65535)
ANY_SETS = st.frozensets(st.tuples(st.sampled_from(SETS), st.sampled_from(["src", "dst"])))


def packets(version: int) -> st.SearchStrategy[Packet]:
    address = st.sampled_from(edges(NETWORKS, version)) | st.ip_addresses(v=4 if version == 4 else 6)
    port = st.sampled_from(PORT_EDGES) | st.integers(0, 65535)
    return st.builds(
        Packet, address, address, st.sampled_from([TCP, UDP, ICMP, ICMPV6, GRE, 50, 0, 255]), port, port,
        st.none() | st.sampled_from((*DEVICES, "other")), st.none() | st.sampled_from((*MACS, "02:00:00:00:00:ff")),
        ANY_SETS,
    )  # fmt: skip


def boundary(rule: Rule) -> Iterator[Packet]:
    """Packets at the edges of what a rule takes."""
    sets = frozenset((name, side) for name, side in ((rule.ipset, "dst"), (rule.ipset_src, "src")) if name)
    for version in (4, 6):
        sources = edges(rule.src.networks if rule.src else (), version)
        targets = edges(rule.dest.networks if rule.dest else (), version)
        kinds = [*rule.protocols, *((ICMPV6,) if ICMP in rule.protocols else ())] or [TCP, GRE]
        ports = [port for one in rule.dest_ports for port in (one.first, one.last)] or [0, 80, 65535]
        origins = [port for one in rule.src_ports for port in (one.first, one.last)] or [0, 65535]
        for source, target, kind, port, origin in itertools.product(sources, targets, kinds, ports, origins):
            for device, mac in itertools.product(rule.src_iface or (None, "other"), rule.src_mac or (None,)):
                yield Packet(source, target, kind, origin, port, device, mac, sets)


@settings(max_examples=400, deadline=None)
@given(rules, st.lists(packets(4) | packets(6), max_size=30))
def test_no_packet_reaches_what_is_called_shadowed(rules: list[Rule], packets: list[Packet]) -> None:
    found = coverage(rules)
    shadowed = {name for name, cover in found.covers.items() if cover.is_shadowed}
    halves = {
        (name, family.version)
        for name, cover in found.covers.items()
        for family, above in cover.above.items()
        if above is not None
    }
    near = itertools.chain.from_iterable(itertools.islice(boundary(rule), 500) for rule in rules)
    for packet in (*packets, *near):
        rule = reached(rules, packet)
        assert rule not in shadowed
        assert (rule, packet.source.version) not in halves
        if rule is None:
            assert found.unmatched[Family.of(packet.source)]


@settings(max_examples=300, deadline=None)
@given(rules)
def test_what_a_cover_names_is_enough(rules: list[Rule]) -> None:
    """The rules a finding names take all of it by themselves, without the others."""
    by_name = {rule.name: rule for rule in rules}
    for name, cover in coverage(rules).covers.items():
        if cover.is_shadowed:
            assert name not in {rule.name for rule in cover.rules_above}
            assert coverage([*cover.rules_above, by_name[name]]).covers[name].is_shadowed


# --- small worlds, all of it ----------------------------------------------------------------------------------------

SMALL_NETWORKS = [network(f"10.0.0.{rest}") for rest in ("0/30", "0/31", "2/31", "0/32", "1/32")]
SMALL_PORTS = [PortRange(0, 32767), PortRange(32768, 65535), PortRange(7, 7)]


def small_world() -> list[Packet]:
    """One packet of every kind that rules made of the small networks and ports can tell apart."""
    near = [ipaddress.IPv4Address(f"10.0.0.{last}") for last in range(4)]
    hosts = [*near, ipaddress.IPv4Address("10.0.0.4")]
    return [
        Packet(source, target, protocol, 0, port, device)
        for source, target in itertools.product(hosts, hosts)
        for protocol, port in ((TCP, 0), (TCP, 7), (TCP, 40000), (UDP, 0), (UDP, 7), (UDP, 40000), (GRE, 0))
        for device in (None, "lan", "guest")
    ]


WORLD = small_world()
small_addresses = st.builds(
    lambda networks, negated: AddressMatch(tuple(networks), negated),
    st.lists(st.sampled_from(SMALL_NETWORKS), min_size=1, max_size=2),
    st.booleans(),
)
small_rules = st.lists(
    st.builds(
        Rule,
        name=st.just(""),
        use_policy=st.just("default"),
        family=st.just(Family.IPV4),
        protocols=st.sampled_from([(), (TCP,), (UDP,), (TCP, UDP)]),
        src=st.none() | small_addresses,
        dest=st.none() | small_addresses,
        dest_ports=st.lists(st.sampled_from(SMALL_PORTS), max_size=2).map(tuple),
        src_iface=st.sampled_from([(), (), ("lan",), ("lan", "guest")]),
    ).map(without_nonsense),
    min_size=1,
    max_size=6,
).map(lambda found: [replace(rule, name=f"r{number}") for number, rule in enumerate(found)])


@settings(max_examples=500, deadline=None)
@given(small_rules)
def test_in_a_small_world_exactly_what_no_packet_reaches_is_shadowed(rules: list[Rule]) -> None:
    found = coverage(rules)
    hit = {reached(rules, packet) for packet in WORLD}
    for rule in rules:
        assert found.covers[rule.name].is_shadowed == (rule.name not in hit), rule
    assert found.unmatched[Family.IPV4] == (None in hit)


# --- cases ----------------------------------------------------------------------------------------------------------


def cover(*rules: Rule) -> Cover:
    """That of the last rule."""
    named = [replace(rule, name=f"r{number}") for number, rule in enumerate(rules)]
    return coverage(named).covers[named[-1].name]


def rule(**fields: object) -> Rule:
    return replace(Rule("", "default"), **fields)  # type: ignore[arg-type]  # whatever a rule has


ALL4 = rule(dest=addresses("0.0.0.0/0"))
TV = rule(src=addresses("192.168.1.178"), dest=addresses("0.0.0.0/0"))


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ([ALL4], TV),
        ([rule()], TV),
        ([TV], TV),
        ([rule(src=addresses("10.0.0.0/9")), rule(src=addresses("10.128.0.0/9"))], rule(src=addresses("10.0.0.0/8"))),
        ([rule(protocols=(TCP, UDP))], rule(protocols=(TCP,), dest_ports=(PortRange(1, 5), PortRange(9, 9)))),
        ([rule(src=addresses("10.0.0.0/8", negated=True))], rule(src=addresses("10.0.0.0/7", negated=True))),
        ([rule(src_iface=("lan", "guest"))], rule(src_iface=("lan",), src_mac=MACS)),
        ([rule(src_iface=("lan",)), rule(src_iface=("guest",))], rule(src_iface=("lan", "guest"))),
        ([rule(src_mac=MACS[:1]), rule(src_mac=MACS[1:])], rule(src_mac=MACS)),
        ([rule(ipset="youtube")], rule(ipset="youtube", protocols=(TCP,))),
        ([rule(family=Family.IPV4), rule(family=Family.IPV6)], rule(protocols=(ICMP,))),
        ([rule(protocols=(ICMPV6,), family=Family.IPV6)], rule(protocols=(ICMP,), family=Family.IPV6)),
    ],
)
def test_shadowed(above: list[Rule], below: Rule) -> None:
    assert cover(*above, below).is_shadowed


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ([TV], ALL4),
        ([ALL4], rule()),
        ([replace(ALL4, enabled=False)], TV),
        ([rule(src_iface=("lan",))], rule()),
        ([rule(src_mac=MACS)], rule(src_iface=("lan",))),
        ([rule(ipset="youtube")], rule(ipset="netflix")),
        ([rule(ipset="youtube")], rule(ipset_src="youtube")),
        ([rule(protocols=(TCP,), dest_ports=(PortRange(0, 79), PortRange(81, 65535)))], rule(protocols=(TCP,))),
        ([rule(src=addresses("10.0.0.0/8", negated=True))], rule(src=addresses("2001:db8::/32"))),
        ([rule(protocols=(1,), family=Family.IPV4)], rule(protocols=(ICMP,))),
    ],
)
def test_reached(above: list[Rule], below: Rule) -> None:
    assert not cover(*above, below).is_shadowed


def test_a_half_that_is_never_reached() -> None:
    found = cover(ALL4, rule())
    assert found.above[Family.IPV6] is None
    assert [one.name for one in found.above[Family.IPV4] or ()] == ["r0"]


HOST = "10.{}.{}.1"
MANY = {
    "hosts": lambda n: rule(src=addresses(HOST.format(n // 250, n % 250))),
    "ports of one host": lambda n: rule(src=addresses("10.0.0.1"), protocols=(TCP,), dest_ports=(PortRange(n, n),)),
    "wide ranges of ports": lambda n: rule(protocols=(TCP,), dest_ports=(PortRange(n * 30, n * 30 + 900),)),
    "sets": lambda n: rule(ipset=f"s{n}"),
    "the same": lambda n: rule(),
}


@pytest.mark.parametrize("kind", MANY)
def test_many_rules_cost_little(kind: str) -> None:
    """Ten times the rules take at most some ten times the work, not a hundred times."""

    def work(count: int) -> int:
        rules = [replace(MANY[kind](number), name=f"r{number}") for number in range(count)]
        return calls(lambda: coverage(rules))

    assert work(1000) < 30 * work(100)
