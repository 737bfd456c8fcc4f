"""Whom probes believe, by real packets: forged answers of every kind, which would pass by what is easily guessed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from connbal.model.config import TrackMethod
from connbal.track.api import HostResult
from connbal.track.probes.icmp import Echo
from tests.lab import Lab
from tests.netns.track.test_probes import (
    FAMILIES,
    HOSTS,
    SLACK,
    Factory,
    balanced,
    gateway,
    inside,
    interface,
    prober,
)

pytestmark = pytest.mark.netns

#: A host of the Internet that is there only as far as a test answers in its name.
ABSENT = {4: "203.0.113.99", 6: "2001:db8:ffff::99"}
PORT = 40125


def forged(
    lab: Lab, ask: Callable[[], object], host: str, family: int, method: TrackMethod, timeout: float = 1.0
) -> HostResult:
    """One round of one host, while ``ask`` is called again and again."""

    async def main() -> HostResult:
        asking = prober(lab, "wan1", family)

        async def repeat() -> None:
            while True:
                ask()
                await asyncio.sleep(0.02)

        task = asyncio.ensure_future(repeat())
        try:
            return (await asking.run(interface(method, timeout=timeout), [host])).results[0]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            asking.close()

    return inside(lab, main)


def absent(lab: Lab) -> None:
    """Nobody answers at the addresses of ABSENT."""
    for family, tool in ((4, "iptables"), (6, "ip6tables")):
        lab.internet("wan1").run([tool, "-I", "INPUT", "-d", ABSENT[family], "-j", "DROP"])


def af(family: int) -> int:
    return socket.AF_INET if family == 4 else socket.AF_INET6


def own(lab: Lab, family: int) -> str:
    source = lab.source("wan1")
    return source.address4 if family == 4 else source.address6


# --- neighbours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hops", "flags", "code", "believed"),
    [(255, 0x60, 0, True), (64, 0x60, 0, False), (254, 0x60, 0, False), (255, 0x20, 0, False), (255, 0x60, 1, False)],
)
def test_an_advertisement_counts_only_from_the_link_and_as_an_answer(
    lab: Factory, hops: int, flags: int, code: int, believed: bool
) -> None:
    one = balanced(lab)
    nobody = gateway(one, "wan1", 6)[:-1] + "99"
    with one.internet("wan1").enter():
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    target = socket.inet_pton(socket.AF_INET6, nobody)
    packet = struct.pack("!BBHI16sBB6s", 136, code, 0, flags << 24, target, 2, 1, b"\2\0\0\0\0\1")
    with sender:
        result = forged(one, lambda: sender.sendto(packet, (own(one, 6), 0)), nobody, 6, TrackMethod.ARPING)
    assert result.answered is believed


@pytest.mark.parametrize("change", ["", "operation", "to hardware", "to address", "group", "sender"])
def test_an_arp_reply_counts_only_from_another_machine_and_for_us(lab: Factory, change: str) -> None:
    one = balanced(lab)
    nobody = gateway(one, "wan1", 4)[:-1] + "99"
    mac = bytes.fromhex(one.router.sh("cat /sys/class/net/e-wan1/address").strip().replace(":", ""))
    with one.internet("wan1").enter():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    theirs = {"group": b"\3\0\0\0\0\1", "sender": mac}.get(change, b"\2\0\0\0\0\1")
    packet = struct.pack(
        "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1 if change == "operation" else 2, theirs, socket.inet_aton(nobody),
        b"\2\0\0\0\0\2" if change == "to hardware" else mac,
        socket.inet_aton("10.2.0.77" if change == "to address" else own(one, 4)),
    )  # fmt: skip
    with sender:
        result = forged(
            one, lambda: sender.sendto(packet, ("router", 0x0806, 0, 1, mac)), nobody, 4, TrackMethod.ARPING
        )
    assert result.answered is (change == "")


def test_others_neighbours_never_reach_the_process(lab: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    one = balanced(lab)
    reads = counted(monkeypatch)
    nobody, other = (gateway(one, "wan1", 6)[:-1] + last for last in ("99", "98"))
    with one.internet("wan1").enter():
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    packet = struct.pack("!BBHI16s", 136, 0, 0, 0x60 << 24, socket.inet_pton(socket.AF_INET6, other))
    with sender:
        assert not forged(one, lambda: sender.sendto(packet, (own(one, 6), 0)), nobody, 6, TrackMethod.ARPING).answered
    assert not reads


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is read of the shared sockets of probes from now on."""
    from connbal.track.probes.arp import Arp
    from connbal.track.probes.neighbour import Neighbour

    reads: list[bytes] = []
    for kind in (Echo, Arp, Neighbour):

        def read(self: object, sock: socket.socket, real: Callable[..., None] = kind.read) -> None:
            with contextlib.suppress(BlockingIOError):
                sock.recv(1, socket.MSG_PEEK)
                reads.append(b"")
            real(self, sock)

        monkeypatch.setattr(kind, "read", read)
    return reads


# --- UDP --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def speaking(lab: Lab, family: int, port: int = PORT) -> Iterator[socket.socket]:
    """A socket of the host that is not there otherwise."""
    with lab.internet("wan1").enter():
        sock = socket.socket(af(family), socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ABSENT[family], port))
    sock.setblocking(False)
    with sock:
        yield sock


@pytest.mark.parametrize("family", FAMILIES)
def test_no_flood_of_datagrams_makes_a_host_answer(lab: Factory, family: int) -> None:
    """To every port that the probe may have, again and again."""
    one = balanced(lab)
    absent(one)
    router = own(one, family)
    ports = range(32768, 61000)
    place = iter(())

    def some() -> None:
        nonlocal place
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            port = next(place, 0)
            if not port:
                place = iter(ports)
                continue
            with contextlib.suppress(BlockingIOError):
                sock.sendto(b"here", (router, port))

    with speaking(one, family) as sock:
        for method in (TrackMethod.NPING_UDP, TrackMethod.NSLOOKUP):
            result = forged(one, some, ABSENT[family], family, method, timeout=2.0)
            assert (result.answered, result.reason) == (False, "timeout")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [0, 56, 1200])
def test_a_host_that_repeats_the_datagram_is_there(lab: Factory, family: int, size: int) -> None:
    one = balanced(lab)
    lengths = []

    async def main(change: bool) -> HostResult:
        def answer() -> None:
            data, peer = sock.recvfrom(2048)
            lengths.append(len(data))
            sock.sendto(data[:-1] + bytes((data[-1] ^ change,)), peer)

        asyncio.get_running_loop().add_reader(sock.fileno(), answer)
        asking = prober(one, "wan1", family)
        found = await asking.run(interface(TrackMethod.NPING_UDP, size=size), [ABSENT[family]])
        asking.close()
        asyncio.get_running_loop().remove_reader(sock.fileno())
        return found.results[0]

    with speaking(one, family) as sock:
        assert inside(one, lambda: main(False)).answered
        assert not inside(one, lambda: main(True)).answered
    assert lengths == [max(size, 16)] * 2


def unreachable(lab: Lab, family: int, port: int, content: bytes) -> bytes:
    """The host's ICMP message that nobody is at PORT, about a datagram from a port of ours."""
    udp = struct.pack("!4H", port, PORT, 8 + len(content), 0) + content
    ours, theirs = (socket.inet_pton(af(family), one) for one in (own(lab, family), ABSENT[family]))
    if family == 6:
        return struct.pack("!BBHI", 1, 4, 0, 0) + struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + ours + theirs + udp
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, ours, theirs)
    message = struct.pack("!BBHI", 3, 3, 0, 0) + ip + udp
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + message[4:]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("content", [b"", b"\0" * 16])
def test_no_refusal_counts_that_does_not_quote_the_datagram(lab: Factory, family: int, content: bytes) -> None:
    one = balanced(lab)
    absent(one)
    one.router.sysctl({"net/ipv4/ip_local_port_range": "40000 40003"})
    with one.internet("wan1").enter():
        protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
        sender = socket.socket(af(family), socket.SOCK_RAW, protocol)
        sender.bind((ABSENT[family], 0))
    messages = [unreachable(one, family, port, content) for port in range(40000, 40004)]

    def all_ports() -> None:
        for message in messages:
            sender.sendto(message, (own(one, family), 0))

    with sender:
        result = forged(one, all_ports, ABSENT[family], family, TrackMethod.NPING_UDP)
        assert (result.answered, result.reason) == (False, "timeout")


@pytest.mark.parametrize(("asked", "answered"), [("www.google.com", True), ("www.goggle.com", False)])
def test_an_answer_of_dns_repeats_the_question(lab: Factory, asked: str, answered: bool) -> None:
    one = balanced(lab)
    from connbal.track.probes import dnswire

    async def main() -> HostResult:
        def answer() -> None:
            data, peer = sock.recvfrom(2048)
            query = dnswire.query(int.from_bytes(data[:2], "big"), asked, dnswire.A)
            sock.sendto(query[:2] + b"\x81\x80" + query[4:], peer)

        asyncio.get_running_loop().add_reader(sock.fileno(), answer)
        asking = prober(one, "wan1", 4)
        found = await asking.run(interface(TrackMethod.NSLOOKUP), [ABSENT[4]])
        asking.close()
        asyncio.get_running_loop().remove_reader(sock.fileno())
        return found.results[0]

    with speaking(one, 4, 53) as sock:
        assert inside(one, main).answered is answered


# --- ICMP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_an_echo_repeats_what_was_sent(lab: Factory, family: int) -> None:
    """The answer of one who knows identifier and number, and not what the request carried."""
    one = balanced(lab)
    absent(one)
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    with one.internet("wan1").enter():
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800 if family == 4 else 0x86DD))
        host = socket.socket(af(family), socket.SOCK_RAW, protocol)
        host.bind((ABSENT[family], 0))
    sniffer.setblocking(False)

    async def main(change: bool) -> HostResult:
        def answer() -> None:
            data = sniffer.recv(2048)[20 if family == 4 else 40 :]
            if data[0] == (8 if family == 4 else 128):
                token = bytes(byte ^ change for byte in data[8:24])
                reply = bytes((0 if family == 4 else 129, 0, 0, 0)) + data[4:8] + token + data[24:]
                total = sum(struct.unpack(f"!{len(reply) // 2}H", reply))
                total = (total & 0xFFFF) + (total >> 16)
                checksum = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
                host.sendto(reply[:2] + checksum + reply[4:], (own(one, family), 0))

        asyncio.get_running_loop().add_reader(sniffer.fileno(), answer)
        asking = prober(one, "wan1", family)
        found = await asking.run(interface(), [ABSENT[family]])
        asking.close()
        asyncio.get_running_loop().remove_reader(sniffer.fileno())
        return found.results[0]

    with sniffer, host:
        assert inside(one, lambda: main(False)).answered
        assert not inside(one, lambda: main(True)).answered


#: Sends echo replies that nobody asked for, for so many seconds, as fast as it can, and says how many.
FLOOD = """
import os, socket, struct, sys, time
family, target, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
kind, protocol = (socket.AF_INET, 1) if family == 4 else (socket.AF_INET6, 58)
sock = socket.socket(kind, socket.SOCK_RAW, protocol)
packets = []
for ident in range(0, 65536, 97):
    data = struct.pack("!BBHHH", 0 if family == 4 else 129, 0, 0, ident, 1) + bytes(56)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    packets.append(data[:2] + struct.pack("!H", ~total & 0xFFFF) + data[4:])
sent, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    for packet in packets:
        sock.sendto(packet, (target, 0))
    sent += len(packets)
print(sent)
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flood_of_echo_replies_costs_nothing_and_loses_nothing(
    lab: Factory, family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = balanced(lab)
    reads = counted(monkeypatch)
    flood = one.internet("wan1").popen(
        [sys.executable, "-c", FLOOD, str(family), own(one, family), "2.5"], stdout=subprocess.PIPE
    )

    async def main() -> tuple[list[HostResult], float]:
        asking = prober(one, "wan1", family)
        results = []
        began = time.process_time()
        for _ in range(10):
            results.append((await asking.run(interface(timeout=2.0), [HOSTS[family]])).results[0])
            await asyncio.sleep(0.15)
        asking.close()
        return results, time.process_time() - began

    results, busy = inside(one, main)
    sent = int(flood.communicate(timeout=SLACK + 10)[0])
    print(f"IPv{family}: {sent} echo replies of others; {len(reads)} packets read, {busy:.2f} s of processor time")
    assert sent > 10_000
    assert [result.answered for result in results] == [True] * 10
    assert len(reads) <= 3 * len(results), "what is for others was read here"
