"""Host names on a real kernel: resolved through the interface, kept when DNS is gone, by TCP where UDP is too small."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest

from connbal.model.config import Family, TrackMethod
from connbal.track.api import HostResult
from connbal.track.resolver import Cache, Entry
from tests.lab.agents import dns
from tests.netns.track.test_probes import FAMILIES, HOSTS, Factory, balanced, gateway, inside, interface, prober

pytestmark = pytest.mark.netns

NAME = "www.example.com"
ANSWERS = {4: dns.ANSWER4, 6: dns.ANSWER6}


@pytest.mark.parametrize("family", FAMILIES)
def test_names_resolve_through_the_interface_and_outlive_dns(lab: Factory, family: int) -> None:
    one = balanced(lab)
    for name in ("wan", "wan2"):
        one.cut(name)
    cache = Cache()

    async def ask(server: str, host: str = NAME) -> HostResult:
        asking = prober(one, "wan1", family, servers=(server,), cache=cache)
        try:
            # Not to wait for an answer is what most of this is about; the limit is long, so that none is missed.
            return (await asking.run(interface(timeout=2.0), [host, HOSTS[family]])).results[0]
        finally:
            asking.close()

    async def main() -> None:
        result = await ask(HOSTS[family])
        assert result.answered, result.reason
        entry = cache.get(NAME)
        assert entry is not None
        assert entry.addresses == (ANSWERS[family],)
        # Long expired, and nobody to ask: it is used at once.
        cache.put(NAME, Entry(entry.addresses, "", 0.0))
        gone = gateway(one, "wan1", family)[:-1] + "99"
        result = await ask(gone)
        assert result.answered, result.reason
        result = await ask(gone, "other.example.com")
        assert not result.answered
        assert result.reason.startswith("name not resolved: ")

    inside(one, main)
    one.cut("wan1")
    one.restore("wan2")

    async def cut() -> None:
        result = await ask(HOSTS[family], "third.example.com")
        assert result.reason == "name not resolved: timeout"

    inside(one, cut)


def test_dns_that_appears_later_is_found(lab: Factory) -> None:
    """As after power-on: names cannot be resolved at first."""
    one = balanced(lab)
    one.cut("wan1")

    async def main() -> list[bool]:
        asking = prober(one, "wan1", 4, servers=(HOSTS[4],))
        seen = [(await asking.run(interface(timeout=0.3), [NAME])).results[0].answered]
        one.restore("wan1")
        for _ in range(60):
            seen.append((await asking.run(interface(timeout=0.3), [NAME])).results[0].answered)
            if seen[-1]:
                break
            await asyncio.sleep(0.2)
        asking.close()
        return seen

    seen = inside(one, main)
    assert not seen[0]
    assert seen[-1]


def test_a_hanging_name_delays_no_other_host(lab: Factory) -> None:
    one = balanced(lab)
    # It takes the question and says nothing.
    with one.internet("wan1").enter():
        hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind(("203.0.113.53", 53))

    async def main() -> None:
        asking = prober(one, "wan1", 4, servers=("203.0.113.53",))
        found = await asking.run(interface(timeout=1.0), [NAME, HOSTS[4]])
        assert [result.answered for result in found.results] == [False, True]
        assert found.results[0].reason == "name not resolved: timeout"
        assert found.results[1].latency is not None
        assert found.results[1].latency < 1000
        asking.close()

    with hole:
        inside(one, main)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_does_not_fit_is_asked_for_by_tcp(lab: Factory, family: int) -> None:
    one = balanced(lab)
    server = "203.0.113.53" if family == 4 else "2001:db8:ffff::53"
    af = Family.IPV4.af if family == 4 else Family.IPV6.af
    with one.internet("wan1").enter():
        datagrams = socket.socket(af, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        datagrams.bind((server, 53))
        datagrams.setblocking(False)
        listener = socket.socket(af, socket.SOCK_STREAM)
        listener.bind((server, 53))

    def truncated() -> None:
        with contextlib.suppress(BlockingIOError):
            query, peer = datagrams.recvfrom(512)
            datagrams.sendto(b"what is this?", peer)
            datagrams.sendto(query[:2] + struct.pack("!5H", 0x8380, 1, 0, 0, 0) + query[12:], peer)

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        answer = dns.reply(await reader.readexactly(size), "wan1")
        assert answer is not None
        data = struct.pack("!H", len(answer)) + answer
        for byte in data:  # in as many pieces as there are
            writer.write(bytes((byte,)))
            await writer.drain()
        writer.close()

    async def main() -> HostResult:
        loop = asyncio.get_running_loop()
        loop.add_reader(datagrams.fileno(), truncated)
        tcp = await asyncio.start_server(whole, sock=listener)
        asking = prober(one, "wan1", family, servers=(server,))
        result = (await asking.run(interface(timeout=5.0), [NAME])).results[0]
        asking.close()
        loop.remove_reader(datagrams.fileno())
        tcp.close()
        await tcp.wait_closed()
        return result

    with datagrams, one.router.enter():
        result = asyncio.run(main())
    assert result.answered, result.reason


def test_a_server_of_the_other_family_will_do(lab: Factory) -> None:
    one = balanced(lab)

    async def main() -> HostResult:
        asking = prober(one, "wan1", 4, servers=(gateway(one, "wan1", 6),))
        result = (await asking.run(interface(TrackMethod.HTTPING, timeout=5.0), [NAME])).results[0]
        asking.close()
        return result

    result = inside(one, main)
    assert result.answered, result.reason
