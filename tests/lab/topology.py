"""What a lab consists of, as values, and the `ip -batch` input that builds it. No side effects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

DEFAULT_SOURCES = ("wan", "wan1", "wan2", "wwan")
MAX_SOURCES = 200

# Answered by every Internet alike: two small networks and a large one for many-destination tests.
TEST_NETWORKS4 = ("203.0.113.0/24", "198.51.100.0/24", "100.64.0.0/10")
TEST_NETWORKS6 = ("2001:db8:ffff::/48",)
TCP_PORTS = (80, 443, 853, 5000, 8080)
UDP_PORTS = (53, 123, 443, 5000)

_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")


@dataclass(frozen=True)
class Source:
    """One Internet source. `index` counts from 1 and is the N of 10.N.0.0/24 and fd00:N::/64."""

    name: str
    index: int

    @property
    def device(self) -> str:
        """Name of its device in the router, at most 15 characters."""
        plain = f"e-{self.name}"
        return plain if len(plain) <= 15 else f"e{self.index}-{self.name}"[:15]

    @property
    def name6(self) -> str:
        """Name of its IPv6 half as a network of its own, in ROOter's way: wan6, wan1_6."""
        return f"{self.name}{'_' if self.name[-1].isdigit() else ''}6"

    @property
    def node(self) -> str:
        """Name of the namespace that is its Internet."""
        return f"inet-{self.name}"

    @property
    def gateway4(self) -> str:
        """The Internet's address on the link, IPv4."""
        return f"10.{self.index}.0.1"

    @property
    def address4(self) -> str:
        """The router's address on the link, IPv4; the prefix is /24."""
        return f"10.{self.index}.0.2"

    @property
    def gateway6(self) -> str:
        """The Internet's address on the link, IPv6."""
        return f"fd00:{self.index}::1"

    @property
    def address6(self) -> str:
        """The router's address on the link, IPv6; the prefix is /64."""
        return f"fd00:{self.index}::2"

    @property
    def metric(self) -> int:
        """Metric of its default routes in the router's main table: 10, 20, 30, ..."""
        return 10 * self.index


@dataclass(frozen=True)
class Client:
    """One device on the LAN. `index` counts from 1 and numbers the block routed behind it."""

    name: str
    lan: str  # "lan" or "guest"
    host: int
    index: int

    @property
    def bridge(self) -> str:
        """The router's bridge it hangs on."""
        return f"br-{self.lan}"

    @property
    def port(self) -> str:
        """The bridge port in the router."""
        return f"{self.lan}-{self.name}"[:15]

    @property
    def _net(self) -> int:
        return 1 if self.lan == "lan" else 2

    @property
    def ipv4(self) -> str:
        """Its own IPv4 address; the prefix is /24."""
        return f"192.168.{self._net}.{self.host}"

    @property
    def ipv6(self) -> str:
        """Its own IPv6 address; the prefix is /64."""
        return f"fd0{self._net}::{self.host}"

    @property
    def gateway4(self) -> str:
        """The router's IPv4 address on its LAN."""
        return f"192.168.{self._net}.1"

    @property
    def gateway6(self) -> str:
        """The router's IPv6 address on its LAN."""
        return f"fd0{self._net}::1"

    @property
    def block4(self) -> str:
        """/16 that the router sends to this client once many source addresses are asked for."""
        return f"172.{15 + self.index}.0.0/16"

    @property
    def block6(self) -> str:
        """/64 likewise."""
        return f"fd0{self._net}:{self.index}::/64"


@dataclass(frozen=True)
class Spec:
    """What to build. `xtables` ("nft" or "legacy") is the iptables that holds the router's own NAT."""

    sources: tuple[str, ...] = DEFAULT_SOURCES
    guest: bool = False
    xtables: str = "nft"
    nat: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.sources) <= MAX_SOURCES or len(set(self.sources)) != len(self.sources):
            raise ValueError(f"sources: 1 to {MAX_SOURCES} different names, not {self.sources!r}")
        for name in self.sources:
            if not _NAME.fullmatch(name):
                raise ValueError(f"source {name!r}: letters, digits and _ only")
        if self.xtables not in ("nft", "legacy"):
            raise ValueError(f"xtables: nft or legacy, not {self.xtables!r}")

    @cached_property
    def links(self) -> dict[str, Source]:
        """The sources by name."""
        return {name: Source(name, index) for index, name in enumerate(self.sources, 1)}

    @cached_property
    def clients(self) -> dict[str, Client]:
        """The LAN devices by name: `tv` and `pc`, and `visitor` on the guest LAN."""
        found = [Client("tv", "lan", 178, 1), Client("pc", "lan", 20, 2)]
        if self.guest:
            found.append(Client("visitor", "guest", 50, 3))
        return {client.name: client for client in found}

    @cached_property
    def nodes(self) -> list[str]:
        """The namespaces, without the lab's prefix."""
        return ["router", *self.clients, *(source.node for source in self.links.values())]


def creation(spec: Spec, prefix: str) -> list[str]:
    """Namespaces and cables. A veth is made inside its two namespaces, so none appears in the host's."""
    lines = [f"netns add {prefix}-{node}" for node in spec.nodes]
    router = f"{prefix}-router"
    for client in spec.clients.values():
        lines.append(cable(router, client.port, f"{prefix}-{client.name}", "eth0"))
    for source in spec.links.values():
        lines.append(cable(router, source.device, f"{prefix}-{source.node}", "router"))
    return lines


def cable(here: str, device: str, there: str, far_device: str) -> str:
    """One veth pair between two namespaces."""
    return f"link add name {device} netns {here} type veth peer name {far_device} netns {there}"


def router(spec: Spec) -> list[str]:
    """The router's bridges, addresses and default routes."""
    lines = ["link set lo up"]
    for bridge, net in (("br-lan", 1), ("br-guest", 2))[: 2 if spec.guest else 1]:
        lines += [
            f"link add name {bridge} type bridge",
            f"link set {bridge} up",
            f"addr add 192.168.{net}.1/24 brd + dev {bridge}",
            f"addr add fd0{net}::1/64 dev {bridge} nodad",
        ]
    for client in spec.clients.values():
        lines.append(f"link set {client.port} master {client.bridge} up")
    for source in spec.links.values():
        lines += [f"link set {source.device} up", *addresses(source), *default_routes(source)]
    return lines


def addresses(source: Source, verb: str = "replace", families: tuple[int, ...] = (4, 6)) -> list[str]:
    """The router's addresses on one source; `verb` is replace or del."""
    lines = []
    if 4 in families:
        lines.append(f"addr {verb} {source.address4}/24 brd + dev {source.device}")
    if 6 in families:
        lines.append(f"addr {verb} {source.address6}/64 dev {source.device} nodad")
    return lines


def default_routes(source: Source, verb: str = "replace", families: tuple[int, ...] = (4, 6)) -> list[str]:
    """The router's default routes over one source in the main table; `verb` is replace or del."""
    tail = f"dev {source.device} proto static metric {source.metric}"
    lines = []
    if 4 in families:
        lines.append(f"route {verb} 0.0.0.0/0 via {source.gateway4} {tail}")
    if 6 in families:
        lines.append(f"route {verb} ::/0 via {source.gateway6} {tail}")
    return lines


def client(spec: Spec, device: Client) -> list[str]:
    """One LAN client."""
    return [
        "link set lo up",
        "link set eth0 up",
        f"addr add {device.ipv4}/24 brd + dev eth0",
        f"addr add {device.ipv6}/64 dev eth0 nodad",
        f"route add 0.0.0.0/0 via {device.gateway4}",
        f"route add ::/0 via {device.gateway6}",
    ]


def internet(source: Source) -> list[str]:
    """One Internet: its end of the link, and every test address as its own (AnyIP)."""
    lines = ["link set lo up", *internet_link(source)]
    return lines + [f"route add local {net} dev lo" for net in (*TEST_NETWORKS4, *TEST_NETWORKS6)]


def internet_link(source: Source) -> list[str]:
    """The far end of a source's cable up, with what the kernel forgets when it goes down."""
    return [
        "link set router up",
        f"addr replace {source.gateway4}/24 brd + dev router",
        f"addr replace {source.gateway6}/64 dev router nodad",
        f"route replace 0.0.0.0/0 via {source.address4}",
        f"route replace ::/0 via {source.address6}",
    ]


def sysctls(node: str) -> dict[str, str]:
    """Namespaced sysctls, set before any device exists so that devices inherit them; "-" marks optional ones."""
    values: dict[str, str] = {}
    for scope in ("all", "default"):
        values |= {
            f"net/ipv4/conf/{scope}/rp_filter": "0",
            f"net/ipv6/conf/{scope}/disable_ipv6": "0",
            f"net/ipv6/conf/{scope}/accept_dad": "0",
            f"net/ipv6/conf/{scope}/dad_transmits": "0",
            f"net/ipv6/conf/{scope}/accept_ra": "0",
            f"net/ipv6/conf/{scope}/keep_addr_on_down": "1",
        }
    if node == "router":
        values |= {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
        values |= {"net/ipv6/conf/default/forwarding": "1"}
        # As on OpenWrt, what is bridged within the LAN does not meet iptables.
        values |= {f"-net/bridge/bridge-nf-call-{kind}tables": "0" for kind in ("ip", "ip6", "arp")}
    else:
        # Many source addresses without configuring each.
        values |= {"net/ipv4/ip_nonlocal_bind": "1", "net/ipv6/ip_nonlocal_bind": "1"}
    return values


def nat(spec: Spec) -> str:
    """The router's own firewall as iptables-restore input, in chains that belong to others than connbal."""
    devices = [source.device for source in spec.links.values()]
    lines = [
        "*nat",
        ":others_postrouting - [0:0]",
        "-A POSTROUTING -j others_postrouting",
        *(f"-A others_postrouting -o {device} -j MASQUERADE" for device in devices),
        "COMMIT",
        "*mangle",
        ":others_mangle - [0:0]",
        "-A PREROUTING -j others_mangle",
        "COMMIT",
        "*filter",
        ":others_forward - [0:0]",
        "-A FORWARD -j others_forward",
        "-A others_forward -i br-+ -j ACCEPT",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"
