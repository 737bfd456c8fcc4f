"""Probes on a real kernel: each method and family answers, fails in time, and leaves by its own interface."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from connbal.model.config import Family, Interface, TrackMethod
from connbal.model.marks import MarkSpace
from connbal.track.api import HostResult, Round
from connbal.track.probes.prober import Prober
from tests.demo.config import interfaces, member, policy, section
from tests.lab import Lab
from tests.netns.daemon.service import Service

pytestmark = pytest.mark.netns

T = TypeVar("T")
Factory = Callable[..., Lab]
FAMILIES = (4, 6)
TIMEOUT = 0.5
HOSTS = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}
ON_LINK = (TrackMethod.ARPING, TrackMethod.NPING_ARP)
ALL = [(method, family) for method in TrackMethod for family in FAMILIES]
#: What a round may take beyond its limit on a machine that is busy with other things.
SLACK = 3.0


def balanced(lab: Factory, sources: Sequence[str] = ("wan", "wan1", "wan2")) -> Lab:
    """A lab with connbal applied. Its rules send everything by wan2, the main table by wan; wan1 is probed."""
    one = lab(sources)
    for name in one.spec.sources:
        # Else the gateway answers ARP for the whole Internet, and what is not routed at all arrives too.
        one.internet(name).sysctl({"net/ipv4/conf/router/arp_ignore": "1"})
        # As a host has it: what says "port unreachable" has the address that was asked.
        one.internet(name).ip(f"addr add {HOSTS[6]}/128 dev lo nodad")
    rules = (member("only", "wan2"), policy("by_wan2", "only"), section("rule", "all", ("use_policy", "by_wan2")))
    (one.config_dir / "mwan3").write_text("\n".join((*interfaces(one), *rules)))
    Service(one).connbal("apply")
    return one


def mark(lab: Lab, name: str, family: int) -> int:
    """The mark of a source's half: the lab's configuration has the two halves of each in turn."""
    return MarkSpace(0x3F00).mark(2 * lab.source(name).index - (1 if family == 4 else 0))


def prober(lab: Lab, name: str, family: int, **options: object) -> Prober:
    source = lab.source(name)
    values = {
        "device": source.device,
        "family": Family.IPV4 if family == 4 else Family.IPV6,
        "mark": mark(lab, name, family),
        "source": ipaddress.ip_address(source.address4 if family == 4 else source.address6),
    }
    return Prober(**{**values, **options})  # type: ignore[arg-type]


def gateway(lab: Lab, name: str, family: int) -> str:
    source = lab.source(name)
    return source.gateway4 if family == 4 else source.gateway6


def interface(method: TrackMethod = TrackMethod.PING, **options: object) -> Interface:
    return Interface("wan1", 3, track_method=method, **{"timeout": TIMEOUT, **options})  # type: ignore[arg-type]


def inside(lab: Lab, main: Callable[[], Awaitable[T]]) -> T:
    """Run in the router. Nothing may be left open or under way afterwards."""

    async def whole() -> T:
        before = set(os.listdir("/proc/self/fd"))
        found = await main()
        await asyncio.sleep(0.01)  # transports close in the next round of the loop
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert set(os.listdir("/proc/self/fd")) == before
        return found

    with lab.router.enter():
        return asyncio.run(whole())


def ask(lab: Lab, one: Prober, hosts: Sequence[str], asked: Interface) -> Round:
    """One round; it must end within its limit."""

    async def main() -> Round:
        began = time.monotonic()
        try:
            found = await one.run(asked, hosts)
        finally:
            one.close()
        assert time.monotonic() - began < asked.count * asked.timeout + SLACK
        return found

    return inside(lab, main)


def asked(lab: Lab, method: TrackMethod, family: int, **options: object) -> HostResult:
    """What comes of one host, probed by wan1."""
    host = gateway(lab, "wan1", family) if method in ON_LINK else HOSTS[family]
    return ask(lab, prober(lab, "wan1", family, **options), [host], interface(method)).results[0]


def test_each_method_leaves_by_its_own_interface_whatever_the_rules_say(lab: Factory) -> None:
    """Only what leaves by wan1 can be answered here, though nothing else in the router would leave by it."""
    one = balanced(lab)
    assert one.tcp("pc").names == {"wan2": 1}
    for name in ("wan", "wan2"):
        one.cut(name)
    for method, family in ALL:
        result = asked(one, method, family)
        assert result.answered, f"{method.value} IPv{family}: {result.reason}"
        assert result.latency is not None
        assert 0 < result.latency < TIMEOUT * 1000
        assert (result.loss, result.reason) == (0.0, "")
    one.cut("wan1")
    for name in ("wan", "wan2"):
        one.restore(name)
    for method, family in ALL:
        if method not in ON_LINK:
            result = asked(one, method, family)
            assert (result.answered, result.reason, result.loss) == (False, "timeout", 100.0), method


def test_a_dead_link_fails_in_time(lab: Factory) -> None:
    one = balanced(lab)
    one.carrier("wan1", False)
    for method, family in ALL:
        result = asked(one, method, family)
        assert not result.answered
        assert result.reason in ("timeout", "next hop does not answer", "network unreachable")


def test_the_mark_is_needed_and_the_interface_may_be_offline(lab: Factory) -> None:
    """A device to leave by is not enough: the rules mark the packet for another table."""
    one = balanced(lab)
    for family in FAMILIES:
        assert not asked(one, TrackMethod.PING, family, mark=0).answered
        assert not asked(one, TrackMethod.PING, family, mark=mark(one, "wan2", family)).answered
        # The main table is not needed, the interface's own is.
        one.router.run(["ip", f"-{family}", "route", "del", "default", "dev", one.source("wan1").device])
        assert asked(one, TrackMethod.PING, family).answered
        assert asked(one, TrackMethod.NPING_TCP, family).answered
        one.router.run(["ip", f"-{family}", "route", "flush", "table", str(3 if family == 4 else 4)])
        result = asked(one, TrackMethod.PING, family)
        assert not result.answered
        assert result.reason in ("timeout", "next hop does not answer", "network unreachable")


def test_hosts_are_asked_at_once_and_each_has_its_own_result(lab: Factory) -> None:
    one = balanced(lab)
    lost = [f"192.0.2.{number}" for number in range(1, 21)]  # documentation addresses that no Internet here has
    drop = "*filter\n-A INPUT -d 192.0.2.0/24 -j DROP\n-A FORWARD -d 192.0.2.0/24 -j DROP\nCOMMIT\n"
    one.internet("wan1").run(["iptables-restore", "--noflush"], input=drop)
    for method in (TrackMethod.PING, TrackMethod.NPING_TCP, TrackMethod.NPING_UDP, TrackMethod.HTTPING):
        hosts = [*lost, HOSTS[4], "203.0.113.2", "2001:db8::1"]
        began = time.monotonic()
        found = ask(one, prober(one, "wan1", 4), hosts, interface(method, timeout=1.0))
        assert time.monotonic() - began < 1.0 + SLACK < len(lost) * 1.0
        assert [result.host for result in found.results] == hosts
        assert [result.answered for result in found.results] == [False] * 20 + [True, True, False]
        assert found.results[0].reason == "timeout"
        assert found.results[-1].reason == "not an IPv4 address"
        assert began < found.at <= time.monotonic()


def test_wrong_device_and_missing_address_are_said(lab: Factory) -> None:
    one = balanced(lab)
    for method, family in ALL:
        assert asked(one, method, family, device="e-nosuch").reason == "no such device e-nosuch"
        assert asked(one, method, family, source=None).answered
    one.remove_address("wan1", 4)
    one.remove_address("wan1", 6)
    for method, family in ALL:
        source = one.source("wan1").address4 if family == 4 else one.source("wan1").address6
        assert asked(one, method, family).reason == f"no address {source} on e-wan1"
        assert asked(one, method, family, source=None).reason == "no address on e-wan1"


def test_a_device_that_was_replaced_is_found_again(lab: Factory) -> None:
    """A modem that is plugged in anew has a new device of the same name; so has PPP that dials again."""
    one = balanced(lab)

    async def main() -> list[bool]:
        probers = [prober(one, "wan1", 4, source=None), prober(one, "wan1", 4, source=None)]
        methods = (TrackMethod.PING, TrackMethod.ARPING)
        seen = []
        for step in range(3):
            for asking, method in zip(probers, methods, strict=True):
                seen.append((await asking.run(interface(method), [gateway(one, "wan1", 4)])).results[0].answered)
            if step == 0:
                one.router.ip("link set e-wan1 down", "link set e-wan1 name e-old")
            if step == 1:
                one.router.ip(
                    "link del e-old", f"link add e-wan1 type veth peer name router netns {one.prefix}-inet-wan1"
                )
                one.internet("wan1").ip(f"addr add {gateway(one, 'wan1', 4)}/24 dev router", "link set router up")
                one.router.ip("addr add 10.2.0.2/24 dev e-wan1", "link set e-wan1 up")
        for asking in probers:
            asking.close()
        return seen

    assert inside(one, main) == [True, True, False, False, True, True]


def test_late_answers_do_not_count_for_a_later_round(lab: Factory) -> None:
    """Every request is answered, but only in the middle of the next round."""
    one = balanced(lab)
    one.internet("wan1").sysctl({"net/ipv4/icmp_echo_ignore_all": "1"})
    with one.internet("wan1").enter():
        host = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        host.bind((HOSTS[4], 0))
    sent = []

    def answer_later() -> None:
        data, peer = host.recvfrom(2048)
        if data[20] == 8:
            # Type 8 becomes 0: the sum of the words is less by 0x800, its complement more, with the carry added in.
            checksum = int.from_bytes(data[22:24], "big") + 0x800
            checksum = (checksum & 0xFFFF) + (checksum >> 16)
            reply = bytes((0, 0)) + checksum.to_bytes(2, "big") + data[24:]
            asyncio.get_running_loop().call_later(1.5 * TIMEOUT, lambda: sent.append(host.sendto(reply, peer)))

    async def main() -> list[HostResult]:
        asyncio.get_running_loop().add_reader(host.fileno(), answer_later)
        asking = prober(one, "wan1", 4)
        results = [(await asking.run(interface(), [HOSTS[4]])).results[0] for _ in range(4)]
        # The same answers count where there is time for them.
        results.append((await asking.run(interface(timeout=10 * TIMEOUT), [HOSTS[4]])).results[0])
        asyncio.get_running_loop().remove_reader(host.fileno())
        asking.close()
        return results

    with host:
        *early, last = inside(one, main)
    assert [result.answered for result in early] == [False] * 4
    assert len(sent) == 5
    assert last.answered
    assert last.latency is not None
    assert last.latency >= 1.5 * TIMEOUT * 1000 - 1


@pytest.mark.parametrize("family", FAMILIES)
def test_size_and_ttl_are_as_asked(lab: Factory, family: int) -> None:
    one = balanced(lab)
    with one.internet("wan1").enter():
        if family == 4:
            sniffer = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        else:
            sniffer = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            sniffer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    with sniffer:
        sniffer.settimeout(SLACK)
        for size, ttl in ((0, 1), (56, 60), (1400, 255)):
            found = ask(one, prober(one, "wan1", family), [HOSTS[family]], interface(size=size, max_ttl=ttl, count=3))
            assert found.results[0].loss == 0.0
            for _ in range(3):
                assert heard(sniffer, family) == (size, ttl)


def heard(sniffer: socket.socket, family: int) -> tuple[int, int]:
    """Payload size and TTL of the next echo request."""
    for _ in range(100):
        data, ancillary, _, _ = sniffer.recvmsg(2048, 64)
        if family == 4 and data[20] == 8:
            return len(data) - 28, data[8]
        if family == 6 and data[0] == 128:
            return len(data) - 8, struct.unpack("=i", ancillary[0][2])[0]
    raise AssertionError("no echo request")


def test_routers_on_the_way_are_named(lab: Factory) -> None:
    """From the LAN, where the router is one hop: a TTL that ends there, and a destination it cannot reach."""
    one = balanced(lab)
    pc = one.spec.clients["pc"]

    async def main(family: int) -> list[str]:
        asking = Prober("eth0", Family.IPV4 if family == 4 else Family.IPV6)
        reasons = [(await asking.run(interface(max_ttl=1), [HOSTS[family]])).results[0].reason]
        refused = "192.0.2.1" if family == 4 else "2001:db8:dead::1"
        # Not a route of type unreachable: the kernel limits what it says about those to very few a second.
        tool, answer = ("iptables", "icmp-host-unreachable") if family == 4 else ("ip6tables", "icmp6-no-route")
        one.router.run([tool, "-I", "FORWARD", "-d", refused, "-j", "REJECT", "--reject-with", answer])
        for method in (TrackMethod.PING, TrackMethod.NPING_UDP):
            reasons.append((await asking.run(interface(method), [refused])).results[0].reason)
        reasons.append((await asking.run(interface(TrackMethod.NPING_TCP), [refused])).results[0].reason)
        asking.close()
        return reasons

    for family, router, unreachable in ((4, pc.gateway4, "host unreachable"), (6, pc.gateway6, "no route")):
        with one.node("pc").enter():
            reasons = asyncio.run(main(family))
        assert reasons == [f"TTL exceeded from {router}", *[f"{unreachable} from {router}"] * 3]


def test_a_refusal_counts_only_where_it_shows_the_host(lab: Factory) -> None:
    one = balanced(lab)
    for family in FAMILIES:
        # Nobody listens on the LAN client: RST, and "port unreachable" in its own name.
        client = one.spec.clients["pc"]
        own = client.ipv4 if family == 4 else client.ipv6
        address = one.spec.clients["tv"].ipv4 if family == 4 else one.spec.clients["tv"].ipv6
        for method, reason in (
            (TrackMethod.NPING_TCP, ""), (TrackMethod.NPING_UDP, ""),
            (TrackMethod.HTTPING, "refused"), (TrackMethod.NSLOOKUP, "refused"),
        ):  # fmt: skip
            with one.node("pc").enter():
                asking = Prober("eth0", Family.IPV4 if family == 4 else Family.IPV6, source=ipaddress.ip_address(own))

                async def main(asking: Prober, method: TrackMethod, address: str) -> HostResult:
                    found = await asking.run(interface(method), [address])
                    asking.close()
                    return found.results[0]

                result = asyncio.run(main(asking, method, address))
            assert (result.answered, result.reason) == (not reason, reason), method
        # A router that says so for others: the host was not reached.
        tool = "iptables" if family == 4 else "ip6tables"
        one.router.run([tool, "-I", "FORWARD", "-i", "br-lan", "-j", "REJECT"])
        for method in (TrackMethod.NPING_TCP, TrackMethod.NPING_UDP):
            with one.node("pc").enter():
                asking = Prober("eth0", Family.IPV4 if family == 4 else Family.IPV6)
                result = asyncio.run(main(asking, method, HOSTS[family]))
            assert not result.answered
            assert result.reason == f"port unreachable from {client.gateway4 if family == 4 else client.gateway6}"


@pytest.mark.parametrize("family", FAMILIES)
def test_http_over_tls(lab: Factory, family: int, tmp_path: Path) -> None:
    one = balanced(lab)
    context = tls_server(one, tmp_path)
    port = "*nat\n-A PREROUTING -p tcp --dport 443 -j REDIRECT --to-ports 8443\nCOMMIT\n"
    one.internet("wan1").run([f"{'ip' if family == 4 else 'ip6'}tables-restore", "--noflush"], input=port)
    with one.internet("wan1").enter():
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 8443))
    silent = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not silent.is_set():
            writer.write(b"HTTP/1.1 302 Found\r\n\r\n" if head.startswith(b"HEAD / ") else b"what?")
            await writer.drain()
        writer.close()

    async def main() -> list[HostResult]:
        server = await asyncio.start_server(answer, sock=listener, ssl=context)
        asking = prober(one, "wan1", family)
        https = interface(TrackMethod.HTTPING, httping_ssl=True, count=2, timeout=3.0)
        results = [(await asking.run(https, [HOSTS[family]])).results[0]]
        silent.set()
        results.append((await asking.run(https, [HOSTS[family]])).results[0])
        server.close()
        await server.wait_closed()
        results.append((await asking.run(https, [HOSTS[family]])).results[0])
        asking.close()
        await asyncio.sleep(0.1)
        return results

    with one.router.enter():
        up, quiet, closed = asyncio.run(main())
    assert up.answered, up.reason
    assert up.loss == 0.0
    assert (quiet.answered, quiet.reason) == (False, "connection closed without an answer")
    assert (closed.answered, closed.reason) == (False, "refused")


def tls_server(lab: Lab, directory: Path) -> ssl.SSLContext:
    """A server's half of TLS, with a certificate that nobody vouches for, of a name that nobody asked for."""
    key, certificate = directory / "key", directory / "certificate"
    lab.router.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=elsewhere.example", "-keyout", str(key), "-out", str(certificate)],
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_no_tls_where_plain_text_is_spoken(lab: Factory) -> None:
    one = balanced(lab)
    https = interface(TrackMethod.HTTPING, httping_ssl=True, timeout=3.0)
    result = ask(one, prober(one, "wan1", 4), [HOSTS[4]], https).results[0]
    assert not result.answered
    assert result.reason.startswith(("TLS: ", "timeout", "connection"))
