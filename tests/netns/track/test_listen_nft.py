"""What the daemon hears on a real kernel: who changed the mangle table, and whose routes and rules were deleted."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import shlex
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from connbal.kernel import exec as programs
from connbal.kernel.routing import SystemRouting
from connbal.model.config import Family
from connbal.plan.values import IpRoute, IpRule
from connbal.track.listen import Happened, Netlink, Nftables
from tests.netns.kernel.isolation import isolated, run, veth

pytestmark = pytest.mark.netns

NEWTABLE, DELTABLE, NEWSET, NEWSETELEM = 0, 2, 9, 12  # enum nf_tables_msg_types
INET = 1  # NFPROTO_INET


@dataclass
class Ear:
    """What was heard so far, and the pids of children."""

    heard: list[Happened]
    own: set[int]

    async def causes(self) -> list[str]:
        """What came since this was last asked. The kernel tells all before the program that did it has ended."""
        for _ in range(50):
            await asyncio.sleep(0)
        found = [event.cause for event in self.heard]
        self.heard.clear()
        return found

    async def told(self, command: str, stdin: str = "", *, is_own: bool = False) -> None:
        """Run a program that changes the mangle table: one event, with its name, or none if it is a child's."""
        pid = program(command, stdin)
        if is_own:
            self.own.add(pid)
        name = shlex.split(command)[0][:15]  # as much as the kernel keeps
        expected = [] if is_own else [f"rules of table mangle changed by {name} (process {pid})"]
        assert await self.causes() == expected, command

    async def nothing(self, command: str, stdin: str = "", *, fails: bool = False) -> None:
        """Run a program that leaves the mangle table as it is: no event."""
        program(command, stdin, fails=fails)
        assert await self.causes() == [], command


def program(command: str, stdin: str = "", *, fails: bool = False) -> int:
    """Run a program to its end; its pid."""
    with subprocess.Popen(
        shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        _, said = process.communicate(stdin, timeout=30)
    assert (process.returncode != 0) is fails, f"{command}: {said}"
    return process.pid


def listening(main: Callable[[Ear], Awaitable[None]]) -> None:
    """Run a test's body, a coroutine function, with somebody listening. Nothing is left open."""

    async def whole() -> None:
        before = set(os.listdir("/proc/self/fd"))
        ear = Ear([], set())
        nftables = Nftables(ear.heard.append, ear.own.__contains__)
        assert nftables.available
        try:
            await main(ear)
        finally:
            nftables.close()
        assert set(os.listdir("/proc/self/fd")) == before

    asyncio.run(whole())


def need(*names: str) -> None:
    """Skip where a program is missing; with CONNBAL_REQUIRE_LAB set, go on and fail."""
    for name in names:
        if programs.find(name) is None and not os.environ.get("CONNBAL_REQUIRE_LAB"):
            pytest.skip(f"{name} is not installed")


def attribute(kind: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def transaction(*messages: tuple[int, int, bytes]) -> None:
    """Do as nft would, in this process: (type, family, attributes) in one batch. Raises OSError where it is refused."""

    def message(kind: int, flags: int, head: bytes, body: bytes = b"") -> bytes:
        return struct.pack("=IHHII", 20 + len(body), kind, flags, 1, 0) + head + body

    limit = struct.pack("!BBH", 0, 0, 10)
    flags = 0x1 | 0x400  # request, create
    *others, last = [(10 << 8 | kind, struct.pack("!BBH", family, 0, 0), body) for kind, family, body in messages]
    batch = message(16, 1, limit) + b"".join(message(kind, flags, *rest) for kind, *rest in others)
    batch += message(last[0], flags | 0x4, *last[1:]) + message(17, 1, limit)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        sock.settimeout(10)
        sock.send(batch)
        error = -struct.unpack_from("=i", sock.recv(4096), 16)[0]
        if error:
            raise OSError(error, os.strerror(error))


@pytest.mark.parametrize("tool", ["iptables-nft", "ip6tables-nft"])
@isolated
def test_each_change_of_mangle_is_heard_once(tool: str) -> None:
    need(tool)

    async def main(ear: Ear) -> None:
        mangle = f"{tool} -t mangle"
        for arguments in (
            "-A FORWARD -j ACCEPT", "-I FORWARD -j DROP", "-R FORWARD 1 -j ACCEPT", "-D FORWARD 1", "-P FORWARD DROP",
            "-N one", "-A one -j RETURN", "-F one", "-E one two", "-X two", "-F", "-A OUTPUT -j ACCEPT",
        ):  # fmt: skip
            await ear.told(f"{mangle} {arguments}")
        both = "*mangle\n:x - [0:0]\n-A x -j RETURN\nCOMMIT\n*filter\n-A FORWARD -j DROP\nCOMMIT\n"
        await ear.told(f"{tool}-restore --noflush", both)
        many = "".join(f"-A x -m mark --mark {number} -j RETURN\n" for number in range(3000))
        await ear.told(f"{tool}-restore --noflush", f"*mangle\n:x - [0:0]\n{many}COMMIT\n")
        await ear.told(f"{tool}-restore", "*mangle\nCOMMIT\n")

    listening(main)


@pytest.mark.parametrize("tool", ["iptables-nft", "ip6tables-nft"])
@isolated
def test_what_does_not_change_mangle_is_not_heard(tool: str) -> None:
    need(tool)

    async def main(ear: Ear) -> None:
        await ear.nothing(f"{tool} -t mangle -S")
        await ear.nothing(f"{tool}-save")
        await ear.nothing(f"{tool} -A FORWARD -j ACCEPT")
        await ear.nothing(f"{tool} -t raw -A OUTPUT -j ACCEPT")
        await ear.nothing(f"{tool} -F")
        await ear.nothing(f"{tool} -t mangle -F")
        await ear.nothing(f"{tool}-restore --test", "*mangle\n-A FORWARD -j DROP\nCOMMIT\n")
        await ear.nothing(f"{tool}-restore", "*mangle\n-A FORWARD -j NOSUCH\nCOMMIT\n", fails=True)

    listening(main)


@isolated
def test_what_children_do_is_no_news() -> None:
    need("iptables-nft")

    async def main(ear: Ear) -> None:
        await ear.told("iptables-nft -t mangle -A FORWARD -j ACCEPT", is_own=True)
        await ear.told("iptables-nft -t mangle -F")
        await ear.told("iptables-nft-restore", "*mangle\n-A FORWARD -j DROP\nCOMMIT\n", is_own=True)
        # What somebody else does at once after a child is told all the same.
        ear.own.add(program("iptables-nft -t mangle -A FORWARD -j ACCEPT"))
        await ear.told("iptables-nft -t mangle -A FORWARD -j DROP")

    listening(main)


@isolated
def test_a_flushed_ruleset_is_heard_once() -> None:
    """What ``nft flush ruleset`` and ``nft delete table ip mangle`` send, without nft."""
    need("iptables-nft", "ip6tables-nft")

    async def main(ear: Ear) -> None:
        for delete in ((DELTABLE, socket.AF_UNSPEC, b""), (DELTABLE, socket.AF_INET, attribute(1, b"mangle\0"))):
            for tool in ("iptables-nft", "ip6tables-nft"):
                await ear.told(f"{tool} -t mangle -A FORWARD -j ACCEPT")
            await ear.nothing("iptables-nft -A FORWARD -j ACCEPT")
            Path("/proc/self/comm").write_bytes(b"od\x1b\nd")
            transaction(delete)
            assert await ear.causes() == [f"rules of table mangle changed by od??d (process {os.getpid()})"]

    listening(main)


@isolated
def test_nft_is_heard() -> None:
    need("iptables-nft", "nft")

    async def main(ear: Ear) -> None:
        for command in ("flush table ip mangle", "delete table ip mangle", "flush ruleset"):
            await ear.told("iptables-nft -t mangle -A FORWARD -j ACCEPT")
            await ear.told(f"nft {command}")
        await ear.nothing("nft add table inet mangle")
        await ear.nothing("nft flush ruleset")

    listening(main)


@isolated
def test_set_elements_and_other_families_pass() -> None:
    def element(number: int) -> bytes:
        key = attribute(1 | 0x8000, attribute(1, struct.pack("!I", number)))
        return attribute(1 | 0x8000, key)

    def elements(family: int, first: int) -> tuple[int, int, bytes]:
        added = attribute(3 | 0x8000, *(element(first + number) for number in range(10)))
        return NEWSETELEM, family, attribute(1, b"mangle\0") + attribute(2, b"s\0") + added

    async def main(ear: Ear) -> None:
        for family, heard in ((INET, 0), (socket.AF_INET, 1)):
            name = attribute(1, b"mangle\0")
            numbers = (attribute(kind, struct.pack("!I", value)) for kind, value in ((3, 0), (4, 7), (5, 4), (10, 1)))
            transaction(
                (NEWTABLE, family, name), (NEWSET, family, name + attribute(2, b"s\0") + b"".join(numbers)),
                elements(family, 0),
            )  # fmt: skip
            assert len(await ear.causes()) == heard
            for first in range(10, 110, 10):
                transaction(elements(family, first))
            assert await ear.causes() == []

    listening(main)


@isolated
def test_events_that_were_lost_are_one() -> None:
    need("iptables-nft")

    async def main(ear: Ear) -> None:
        # More than twice what the socket asks to hold.
        many = "".join(f"-A x -m comment --comment {number:0>250} -j RETURN\n" for number in range(10000))
        program("iptables-nft-restore --noflush", f"*mangle\n:x - [0:0]\n{many}COMMIT\n")
        assert await ear.causes() == ["netfilter events were lost"]
        await ear.told("iptables-nft -t mangle -A x -j ACCEPT")

    listening(main)


@isolated
def test_any_bytes_are_survived() -> None:
    """Nobody without rights can send any, but who can need not be right."""
    source = random.Random(7)

    def datagram() -> bytes:
        body = source.randbytes(source.randrange(60))
        kind = source.choice([10 << 8 | number for number in (0, 2, 6, 15)])
        length = source.choice([16 + len(body)] * 3 + [0, 15, 17 + len(body), 1 << 31])
        return struct.pack("=IHHII", length, kind, 0, 0, 0) + body

    async def main() -> None:
        heard: list[Happened] = []
        nftables = Nftables(heard.append, lambda pid: False)
        for _ in range(3000):
            nftables._take(datagram())
            nftables._take(datagram() + datagram())
        nftables.close()
        assert all(event.cause.isprintable() for event in heard)

    asyncio.run(main())


@isolated
def test_without_the_right_to_listen_nothing_is_heard() -> None:
    os.setuid(65534)

    async def main() -> None:
        before = set(os.listdir("/proc/self/fd"))
        nftables = Nftables(lambda event: None, lambda pid: False)
        assert not nftables.available
        assert set(os.listdir("/proc/self/fd")) == before
        nftables.close()

    asyncio.run(main())


@isolated
def test_iptables_legacy_is_not_heard() -> None:
    need("iptables-legacy")

    async def main(ear: Ear) -> None:
        await ear.nothing("iptables-legacy -t mangle -A FORWARD -j ACCEPT")

    listening(main)


@isolated
def test_own_deletions_are_no_news_but_anybody_elses_are() -> None:
    veth("w0", "192.0.2.2/24", "2001:db8::2/64")
    things = [
        (family, IpRoute(family, 4711, ipaddress.ip_network(every), "w0"),
         IpRule(family.value, 2004, "lookup", 4711, mark=0x400, mask=0x3F00))
        for family, every in ((Family.IPV4, "0.0.0.0/0"), (Family.IPV6, "::/0"))
    ]  # fmt: skip
    routing = SystemRouting()

    async def main() -> None:
        ear = Ear([], set())
        netlink = Netlink(ear.heard.append, lambda port: port == routing.port)

        async def gone() -> list[str]:
            # New links have more to tell in their own time, but nothing of theirs goes.
            return [cause for cause in await ear.causes() if cause.endswith(" gone")]

        for family, route, rule in things:
            routing.replace_route(route)
            routing.add_rule(rule)
            routing.delete_route(route)
            routing.delete_rule(rule)
            assert await gone() == []
            routing.replace_route(route)
            routing.add_rule(rule)
            ip = f"ip -{family.version}"
            run(f"{ip} route flush table 4711", f"{ip} rule del priority 2004")
            assert await gone() == ["route gone", "rule gone"]
        for _, route, _ in things:
            routing.replace_route(route)
        await ear.causes()
        run("ip link set w0 down")
        # IPv4 routes go without a word, their link's is enough.
        assert {"link w0", "route gone"} <= set(await ear.causes())
        netlink.close()
        routing.close()

    asyncio.run(main())
