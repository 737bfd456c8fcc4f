"""A policy of blackhole lets nothing out, whatever it is dressed up as; and the link goes on working under it."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab import Lab
from tests.lab.node import Node
from tests.netns.main_job.bench import Bench, interfaces, section

Benches = Callable[..., Bench]

pytestmark = pytest.mark.netns

#: Router and neighbour discovery: solicitations, advertisements, redirect.
DISCOVERY = range(133, 138)
SITE6, SITE4 = "2001:db8:ffff::7", "203.0.113.7"
ROUTER6, PC6 = "fd01::1", "fd01::20"
PAYLOAD = bytes(1024)
#: Nothing may leave, by rules that take everything.
SHUT = (
    section("rule", "Sites", ("dest_ip", SITE4), ("dest_ip", SITE6), ("use_policy", "blackhole")),
    section("rule", "All", ("use_policy", "blackhole")),
)


def shut(make: Benches) -> Bench:
    one = make(("wan", "wan1"))
    one.apply(interfaces(one.lab), *SHUT)
    return one


def left(lab: Lab, send: Callable[[], None], family: int = 6) -> int:
    """How many packets leave the router by a source while ``send`` runs, link scope left aside."""
    tool = "iptables" if family == 4 else "ip6tables"
    link = ("224.0.0.0/24",) if family == 4 else ("fe80::/10", "ff02::/16")
    lab.router.sh("; ".join(
        [f"{tool} -t mangle -N seen", f"{tool} -t mangle -A POSTROUTING -o e-+ -j seen",
         *(f"{tool} -t mangle -A seen -d {net} -j RETURN" for net in link), f"{tool} -t mangle -A seen -j RETURN"]
    ))  # fmt: skip
    send()
    time.sleep(0.1)
    text = lab.router.sh(f"{tool}-save -c -t mangle")
    lab.router.sh(f"{tool} -t mangle -F seen; {tool} -t mangle -D POSTROUTING -o e-+ -j seen; {tool} -t mangle -X seen")
    (count,) = (line for line in text.splitlines() if line.endswith("-A seen -j RETURN"))
    return int(count[1:].partition(":")[0])


def icmp6(
    node: Node, type_: int, destination: str, hop_limit: int, payload: bytes = PAYLOAD, device: int = 0
) -> None:
    with node.enter(), socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as one:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hop_limit)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hop_limit)
        # The kernel drops what it is told to send where a rule forbids it, and says so.
        with contextlib.suppress(OSError):
            one.sendto(struct.pack("!BBHI", type_, 0, 0, 0) + payload, (destination, 0, 0, device))


def test_no_neighbour_discovery_is_forwarded(bench: Benches) -> None:
    """Types 133 to 137 with a payload of 1 KB, of any hop limit: a device of the LAN can send 255 as well."""
    lab = shut(bench).lab
    pc = lab.node("pc")

    def send() -> None:
        for type_ in DISCOVERY:
            for hop_limit in (2, 64, 254, 255):
                icmp6(pc, type_, SITE6, hop_limit)

    assert left(lab, send) == 0
    lab.router.sh("ip -6 rule add priority 1 lookup main")  # the packets are such that would have left
    assert left(lab, send) == len(DISCOVERY) * 4


def test_what_the_router_sends_is_discovery_only_with_hop_limit_255(bench: Benches) -> None:
    lab = shut(bench).lab

    def send() -> None:
        for type_ in DISCOVERY:
            for hop_limit in (1, 64, 254):
                icmp6(lab.router, type_, SITE6, hop_limit)

    assert left(lab, send) == 0


@pytest.mark.parametrize("destination", ["239.1.2.3", "224.0.1.1", "255.255.255.255", SITE4])
def test_no_multicast_no_broadcast_and_no_igmp_leaves(bench: Benches, destination: str) -> None:
    lab = shut(bench).lab
    pc = lab.node("pc")

    def send() -> None:
        with pc.enter(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 64)
            one.sendto(b"\x16\0\0\0" + PAYLOAD, (destination, 0))

    assert left(lab, send, 4) == 0


# --- and the link works -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["local", "not local"])
def strange(request: pytest.FixtureRequest, bench: Benches) -> Lab:
    """A lab that is shut; in the second case no network at all counts as local."""
    lab = shut(bench).lab
    if request.param == "not local":
        lab.router.run(["ipset", "flush", "mwan3_connected_ipv6"])
    return lab


def until(holds: Callable[[], bool], seconds: float = 2.5) -> bool:
    """Less than the three seconds in which the kernel gives up the unicast probes and asks everybody."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


def test_neighbours_are_found(strange: Lab) -> None:
    """By the router in the LAN and behind each source; the router by a device of the LAN and by each provider."""
    router, pc = strange.router, strange.node("pc")
    met = [(pc, router, PC6, "br-lan"), (router, pc, ROUTER6, "eth0")]
    for source in strange.spec.links.values():
        internet = strange.node(source.node)
        met += [(internet, router, source.gateway6, source.device)]
    for _, asking, address, device in met:
        lladdr = known(asking, address, device)
        asking.run(["ip", "-6", "neigh", "replace", address, "dev", device, "lladdr", lladdr, "nud", "probe"])
        assert until(lambda a=asking, d=device, to=address: "REACHABLE" in a.sh(f"ip -6 neigh show {to} dev {d}"))


def known(node: Node, address: str, device: str) -> str:
    """The Ethernet address of a neighbour, which the kernel has to find out first."""
    node.run(["ping", "-6", "-c", "1", "-W", "1", "-I", device, address], check=False)
    words = node.sh(f"ip -6 neigh show {address} dev {device}").split()
    return words[words.index("lladdr") + 1]


@contextlib.contextmanager
def hearing(node: Node, type_: int) -> Iterator[Callable[[], bool]]:
    """Whether ICMPv6 of a type, with the payload ``hello``, comes."""
    with node.enter():
        one = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with one:
        one.settimeout(2)

        def heard() -> bool:
            with contextlib.suppress(TimeoutError):
                while True:
                    data = one.recv(2048)
                    if data[0] == type_ and data.endswith(b"hello"):
                        return True
            return False

        yield heard


@pytest.mark.parametrize(("type_", "group"), [(133, "ff02::2"), (134, "ff02::1"), (135, "ff02::1"), (136, "ff02::1")])
def test_solicitations_and_advertisements_come_and_go(strange: Lab, type_: int, group: str) -> None:
    router = strange.router
    ends = [(strange.node("pc"), "eth0", "br-lan")]
    ends += [(strange.node(one.node), "router", one.device) for one in strange.spec.links.values()]
    for node, device, here in ends:
        for sender, out, receiver in ((node, device, router), (router, here, node)):
            with hearing(receiver, type_) as heard:
                icmp6(sender, type_, group if receiver is router else "ff02::1", 255, b"hello", index(sender, out))
                assert heard(), (type_, sender.name, receiver.name)


def index(node: Node, device: str) -> int:
    return int(node.sh(f"ip -o link show {device}").partition(":")[0])


def test_duplicate_addresses_are_detected(strange: Lab) -> None:
    router, pc = strange.router, strange.node("pc")
    for node, device, taken in ((router, "br-lan", PC6), (pc, "eth0", ROUTER6)):
        node.sh(f"sysctl -qw net.ipv6.conf.{device}.accept_dad=1 net.ipv6.conf.{device}.dad_transmits=1")
        node.run(["ip", "addr", "add", f"{taken}/64", "dev", device])
        assert until(lambda n=node, d=device, t=taken: "dadfailed" in n.sh(f"ip -6 addr show dev {d} to {t}"), 4)

