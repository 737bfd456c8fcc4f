"""Hosts that are this router itself, or no host: neither an answer nor a loss, whatever the kernel makes of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

import pytest

from connbal.track.api import HostResult, Miss
from tests.lab import Lab
from tests.netns.daemon.conftest import MakeService, service
from tests.netns.daemon.service import PATIENCE, Service, tracked
from tests.netns.daemon.test_transitions import until
from tests.netns.track.test_probes import (
    ALL,
    FAMILIES,
    HOSTS,
    Factory,
    ask,
    balanced,
    inside,
    interface,
    prober,
)

__all__ = ["service"]
pytestmark = pytest.mark.netns

NOBODY = {
    4: ("127.0.0.1", "127.8.9.10", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.1.1", "255.255.255.255"),
    6: ("::1", "::", "ff02::1", "ff0e::1", "::ffff:127.0.0.1", "::ffff:203.0.113.1"),
}


def left_out(results: Sequence[HostResult]) -> list[str]:
    """The hosts that were left out, and said why."""
    return [one.host for one in results if one.miss is Miss.LEFT_OUT and not one.answered and one.reason]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_this_router_is_left_out_by_every_method(lab: Factory, family: int) -> None:
    """With the source alive and dead: the answer would come from here either way."""
    one = balanced(lab)
    if family == 4:
        hosts = ["10.2.0.2", "10.3.0.2", "192.168.1.1", "10.2.0.255", "198.51.100.77"]
    else:
        hosts = [one.source("wan1").address6, one.source("wan2").address6, "fd01::1", "2001:db8:ffff::77"]
    # A whole network that is local, and which no address shows.
    one.router.ip("route add local 198.51.100.0/24 dev lo", "route add local 2001:db8:ffff::70/124 dev lo")
    hosts += NOBODY[family]
    for _ in range(2):
        for method, of in ALL:
            if of == family:
                found = ask(one, prober(one, "wan1", family), hosts, interface(method)).results
                assert left_out(found) == hosts, method
        one.cut("wan1")


def test_a_link_local_address_is_own_only_on_its_link(lab: Factory) -> None:
    """fe80::1 may be the LAN's address of this router, and a provider's gateway."""
    one = balanced(lab)
    one.router.ip("addr add fe80::1/64 dev br-lan nodad")
    one.internet("wan1").ip("addr add fe80::1/64 dev router nodad")
    for host, out in (("fe80::1", False), ("fe80::1%e-wan1", False)):
        (found,) = ask(one, prober(one, "wan1", 6), [host], interface(timeout=2.0)).results
        assert (found.answered, found.miss is Miss.LEFT_OUT) == (not out, out)
    one.router.ip("addr add fe80::2/64 dev e-wan1 nodad")
    (found,) = ask(one, prober(one, "wan1", 6), ["fe80::2"], interface()).results
    assert left_out([found]) == ["fe80::2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_that_becomes_own_while_its_answer_is_awaited_is_not_lost(lab: Factory, family: int) -> None:
    one = balanced(lab)
    one.cut("wan1")

    async def main() -> HostResult:
        asking = prober(one, "wan1", family)
        task = asyncio.ensure_future(asking.run(interface(count=2, timeout=0.5), [HOSTS[family]]))
        await asyncio.sleep(0.6)
        one.router.ip(f"addr add {HOSTS[family]}/{'32' if family == 4 else '128'} dev e-wan2 nodad")
        found = (await task).results[0]
        asking.close()
        return found

    assert left_out([inside(one, main)]) == [HOSTS[family]]


@pytest.mark.parametrize("answer", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "192.168.1.1"])
def test_a_name_whose_answer_is_no_host_is_left_out(lab: Factory, answer: str) -> None:
    one = balanced(lab)
    with one.internet("wan1").enter():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("203.0.113.53", 53))
    server.setblocking(False)
    answers = [answer]

    def reply() -> None:
        with contextlib.suppress(BlockingIOError):
            query, peer = server.recvfrom(512)
            head = query[:2] + b"\x81\x80\0\1" + bytes((0, len(answers))) + b"\0\0\0\0"
            records = (b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(one) for one in answers)
            server.sendto(head + query[12:] + b"".join(records), peer)

    async def main() -> list[HostResult]:
        asyncio.get_running_loop().add_reader(server.fileno(), reply)
        asking = prober(one, "wan1", 4, servers=("203.0.113.53",))
        found = [(await asking.run(interface(timeout=2.0), ["first.example"])).results[0]]
        answers.append(HOSTS[4])
        found.append((await asking.run(interface(timeout=2.0), ["second.example"])).results[0])
        asking.close()
        asyncio.get_running_loop().remove_reader(server.fileno())
        return found

    with server:
        alone, beside = inside(one, main)
    assert left_out([alone]) == ["first.example"]
    assert answer in alone.reason
    assert beside.answered, beside.reason


def test_a_name_server_that_is_this_router_is_not_asked(lab: Factory) -> None:
    one = balanced(lab)

    async def main() -> HostResult:
        asking = prober(one, "wan1", 4, servers=("192.168.1.1",))
        found = (await asking.run(interface(), ["www.example.com"])).results[0]
        asking.close()
        return found

    found = inside(one, main)
    assert left_out([found]) == ["www.example.com"]
    assert "192.168.1.1 is an address of this router" in found.reason


# --- the daemon -------------------------------------------------------------------------------------------------------

LEASES = ("203.0.113.1", "203.0.113.2", "198.51.100.1")


def test_a_lease_of_the_hosts_addresses_takes_no_source_offline(lab: Callable[..., Lab], service: MakeService) -> None:
    """A hotspot that hands out, one after the other, the addresses by which another source is probed."""
    one = lab(("wan", "wan1"))
    daemon = service(one)
    daemon.configure(tracked(one, down=2, more=(("reliability", "2"),)))
    daemon.start()
    daemon.wait_for(["wan", "wan1"], "online")
    last = daemon.last()
    for count, address in enumerate(LEASES, 1):
        one.router.ip(f"addr add {address}/32 dev e-wan1")
        for host in LEASES[:count]:
            tracked_as(daemon, host, "skipped")
        status = daemon.wait(lambda status: "left out" in status["interfaces"]["wan"]["reason"], "the reason")
        assert status["interfaces"]["wan"]["online"]
    text = daemon.connbal("check", "--live", check=False)
    assert text.returncode == 1
    assert "[track-host]" in text.stdout + text.stderr
    status = daemon.wait(lambda status: (status["interfaces"]["wan"]["round"] or 2.0) > 1.0, "rounds that say nothing")
    assert "its state stays" in status["interfaces"]["wan"]["reason"]
    assert [event for event in daemon.events(last) if event.get("interface") == "wan"] == []
    # With one host left, that one decides.
    one.router.ip(f"addr del {LEASES[0]}/32 dev e-wan1")
    tracked_as(daemon, LEASES[0], "up")
    one.cut("wan")
    daemon.wait_for("wan", "offline")


def tracked_as(daemon: Service, host: str, state: str) -> None:
    """Wait until the file of one of wan's hosts says so."""
    file = daemon.mwan3track("wan") / f"TRACK_{host}"
    until(lambda: file.exists() and file.read_text() == f"{state}\n", daemon.said)


def test_own_addresses_keep_no_dead_source_alive(lab: Callable[..., Lab], service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = service(one)
    text = tracked(one, down=2)
    for host, own in (("203.0.113.2", "0.0.0.0"), ("198.51.100.1", one.source("wan").address4)):
        text = text.replace(f"'{host}'", f"'{own}'")
    daemon.configure(text)
    daemon.start()
    daemon.wait_for(["wan", "wan1"], "online", PATIENCE)
    one.cut("wan")
    daemon.wait_for("wan", "offline")
