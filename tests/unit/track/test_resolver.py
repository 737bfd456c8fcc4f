"""Names: whom is asked when, and answers of any bytes. On a clock that jumps, with servers that do as told."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Family, IPAddress
from connbal.track import resolver as module
from connbal.track.probes import dnswire
from connbal.track.probes.dnswire import AAAA, CNAME, A, Answer, BadMessage
from connbal.track.probes.way import Way
from connbal.track.resolver import Cache, Entry, NotResolved, Resolver, servers_in, usable
from tests.unit.track.test_probes_round import JumpingLoop

T = TypeVar("T")
NAME = "www.example.com"

# -- messages


def name(*labels: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in labels) + b"\0"


def record(owner: bytes, kind: int, data: bytes, ttl: int = 300) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def response(*records: bytes, ident: int = 7, flags: int = 0x8180, asked: str = NAME, kind: int = A) -> bytes:
    question = dnswire.query(ident, asked, kind)[12:]
    return struct.pack("!6H", ident, flags, 1, len(records), 0, 0) + question + b"".join(records)


HERE = b"\xc0\x0c"  # the question's name
ADDRESS = record(HERE, A, bytes((203, 0, 113, 10)))


@given(st.binary(max_size=120))
def test_no_bytes_upset_the_reading_of_answers(data: bytes) -> None:
    for whole in (data, response(data), response(data, data), response()[:12] + data):
        with contextlib.suppress(BadMessage):
            assert isinstance(dnswire.parse(whole, 7, NAME, A), Answer)
    assert dnswire.response_code(data, 7) in (None, *range(16))


@given(st.integers(0, 2**32))
def test_no_damage_to_a_good_answer_upsets_its_reading(seed: int) -> None:
    alias = record(HERE, CNAME, name("edge", "example", "net"))
    good = bytearray(response(alias, record(name("edge", "example", "net"), A, b"\1\2\3\4"), ADDRESS))
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 6)):
        good[chance.randrange(2, len(good))] = chance.randrange(256)
    cut = bytes(good[: chance.randint(12, len(good))])
    for data in (bytes(good), cut):
        with contextlib.suppress(BadMessage):
            dnswire.parse(data, 7, NAME, A)


def test_an_answer_is_read() -> None:
    assert dnswire.parse(response(ADDRESS), 7, NAME, A) == Answer(0, ("203.0.113.10",), 300)
    six = record(HERE, AAAA, bytes.fromhex("20010db8000000000000000000000001"), 60)
    assert dnswire.parse(response(six, kind=AAAA), 7, NAME, AAAA) == Answer(0, ("2001:db8::1",), 60)
    assert dnswire.parse(response(flags=0x8183), 7, NAME, A) == Answer(3)
    assert dnswire.parse(response(ADDRESS, flags=0x8380), 7, NAME, A).truncated


def test_aliases_are_followed_and_the_shortest_ttl_counts() -> None:
    far = name("edge", "example", "net")
    other = record(name("other", "net"), A, b"\x09\x09\x09\x09")
    alias = record(HERE, CNAME, far, 20)
    found = dnswire.parse(response(other, record(far.upper(), A, b"\1\2\3\4"), alias), 7, NAME, A)
    assert found == Answer(0, ("1.2.3.4",), 20)
    assert dnswire.parse(response(record(HERE, A, b"\1\2\3\4", 0x80000001)), 7, NAME, A).ttl == 0


def test_loops_end() -> None:
    itself = record(HERE, CNAME, HERE)
    assert dnswire.parse(response(itself), 7, NAME, A).addresses == ()
    far = name("far", "net")
    there_and_back = (record(HERE, CNAME, far), record(far, CNAME, HERE))
    assert dnswire.parse(response(*there_and_back), 7, NAME, A).addresses == ()
    place = len(response())
    for pointer in (place, place + 2, 0x3FFF):
        with pytest.raises(BadMessage, match="forward"):
            dnswire.parse(response(record(struct.pack("!H", 0xC000 | pointer), A, b"\1\2\3\4")), 7, NAME, A)
    long = b"\x3f" + b"a" * 63
    with pytest.raises(BadMessage, match="too long"):
        dnswire.parse(response(record(long * 5 + b"\0", A, b"\1\2\3\4")), 7, NAME, A)


def test_answers_to_other_questions_are_refused() -> None:
    for data in (
        response(ADDRESS, ident=8),
        response(ADDRESS, flags=0x0100),
        response(ADDRESS, asked="www.example.net"),
        response(ADDRESS, kind=AAAA),
        response(ADDRESS)[:40],
        response(ADDRESS)[:4] + b"\0\2" + response(ADDRESS)[6:],
    ):
        with pytest.raises(BadMessage):
            dnswire.parse(data, 7, NAME, A)


@given(st.text(max_size=300))
def test_a_query_is_for_host_names_only(text: str) -> None:
    try:
        data = dnswire.query(1, text, A)
    except ValueError:
        return
    assert len(data) <= 12 + 255 + 4
    assert dnswire.parse(data[:2] + b"\x81\x80" + data[4:], 1, text, A) == Answer(0)


@pytest.mark.parametrize("bad", ["", ".", "a..b", "-a.example", "a b", "a\n", "x" * 64, "a." * 130, "café.example"])
def test_what_is_no_host_name(bad: str) -> None:
    with pytest.raises(ValueError):
        dnswire.labels(bad)


# -- servers


def test_servers_are_those_beyond_this_machine() -> None:
    text = "# Interface wan\nnameserver 192.0.2.53\nnameserver 127.0.0.1\nnameserver ::1\nnameserver fe80::1%e-wan\n"
    text += "search lan\nnameserver\nnameserver x\nnameserver 192.0.2.53\n"
    assert servers_in(text) == ["192.0.2.53", "fe80::1"]
    assert usable(["0.0.0.0", "ff02::1", "127.0.0.53"]) == []


@given(st.text(max_size=200))
def test_no_text_upsets_the_reading_of_servers(text: str) -> None:
    servers_in(text)


def test_the_interfaces_own_servers_come_first_then_the_first_file_that_names_any(tmp_path: Path) -> None:
    auto, usual = tmp_path / "resolv.conf.auto", tmp_path / "resolv.conf"
    usual.write_text("nameserver 2001:db8::53\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n")
    way = Way("e-wan", Family.IPV4)

    def servers(own: Sequence[str] = ()) -> list[str]:
        return [str(one) for one in Resolver(way, own, files=(auto, usual)).whom()]

    assert servers() == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]  # its own family first, three at most
    auto.write_text("nameserver 127.0.0.1\n")
    assert len(servers()) == 3
    auto.write_text("nameserver 198.51.100.53\n")
    assert servers() == ["198.51.100.53"]
    assert servers(["2001:db8::1"]) == ["2001:db8::1"]
    assert servers(["127.0.0.1"]) == ["198.51.100.53"]


# -- questions

Told = Callable[[str], Awaitable[Answer]]


class Rigged(Resolver):
    """With servers that do as they are told."""

    def __init__(self, loop: JumpingLoop, servers: Mapping[str, Told], cache: Cache | None = None) -> None:
        super().__init__(Way("e-wan", Family.IPV4), list(servers), cache, files=(), clock=loop.time)
        self.servers, self.loop = servers, loop
        self.asked: list[tuple[str, float]] = []

    async def _ask_server(self, server: IPAddress, name: str) -> Answer:
        self.asked.append((str(server), self.loop.time()))
        return await self.servers[str(server)](name)


def says(*addresses: str, ttl: int = 300, code: int = 0, after: float = 0.01) -> Told:
    async def told(name: str) -> Answer:
        await asyncio.sleep(after)
        return Answer(code, addresses, ttl)

    return told


def fails(after: float = 0.01) -> Told:
    async def told(name: str) -> Answer:
        await asyncio.sleep(after)
        raise NotResolved("server failure")

    return told


def run(main: Callable[[JumpingLoop], Awaitable[T]]) -> T:
    loop = JumpingLoop()

    async def whole() -> T:
        found = await main(loop)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "something is still under way"
        return found

    try:
        return loop.run_until_complete(whole())
    finally:
        loop.close()


def test_one_question_serves_all_who_want_to_know() -> None:
    async def main(loop: JumpingLoop) -> None:
        one = Rigged(loop, {"192.0.2.1": says("1.2.3.4")})
        told: list[int] = []
        assert one.known(NAME) == ()
        one.wait(NAME, lambda: told.append(1))
        forget = one.wait(NAME, lambda: told.append(2))
        forget()
        assert set(await asyncio.gather(one.resolve(NAME), one.resolve(NAME))) == {("1.2.3.4",)}
        assert one.known(NAME) == ("1.2.3.4",)
        assert told == [1]
        assert len(one.asked) == 1

    run(main)


@pytest.mark.parametrize(("ttl", "holds"), [(0, module.MIN_TTL), (300, 300), (10**9, module.MAX_TTL)])
def test_an_answer_holds_for_its_ttl_within_bounds(ttl: int, holds: int) -> None:
    async def main(loop: JumpingLoop) -> None:
        one = Rigged(loop, {"192.0.2.1": says("1.2.3.4", ttl=ttl, after=0.0)})
        await one.resolve(NAME)
        await asyncio.sleep(holds - 1)
        assert one.known(NAME)
        await asyncio.sleep(0)
        assert len(one.asked) == 1
        await asyncio.sleep(1.1)
        assert one.known(NAME) == ("1.2.3.4",)  # at once; the question goes on behind
        await one.resolve(NAME)
        await asyncio.sleep(module.LIMIT)
        assert len(one.asked) == 2

    run(main)


@pytest.mark.parametrize("now", [fails(), says(code=3), says(), says("9.9.9.9", after=1000)])
def test_an_expired_answer_is_better_than_none(now: Told) -> None:
    async def main(loop: JumpingLoop) -> None:
        cache = Cache()
        cache.put(NAME, Entry(("1.2.3.4",), "", loop.time() - 10_000))
        one = Rigged(loop, {"192.0.2.1": now}, cache)
        for _ in range(5):
            assert one.known(NAME) == ("1.2.3.4",)
            assert await one.resolve(NAME) == ("1.2.3.4",)
            await asyncio.sleep(20)

    run(main)


def test_an_expired_answer_gives_way_to_a_new_one() -> None:
    async def main(loop: JumpingLoop) -> None:
        cache = Cache()
        cache.put(NAME, Entry(("1.2.3.4",), "", loop.time()))
        one = Rigged(loop, {"192.0.2.1": says("5.6.7.8")}, cache)
        assert one.known(NAME) == ("1.2.3.4",)
        await asyncio.sleep(1)
        assert one.known(NAME) == ("5.6.7.8",)

    run(main)


def test_failures_are_remembered_briefly() -> None:
    async def main(loop: JumpingLoop) -> None:
        for told, reason, again, asked in (
            (fails(0.0), "server failure", module.RETRY, module.ROUNDS),
            (says(code=3, after=0.0), "no such name", module.RETRY_NONE, 1),
            (says(after=0.0), "no ipv4 address", module.RETRY_NONE, 1),
        ):
            one = Rigged(loop, {"192.0.2.1": told})
            with pytest.raises(NotResolved, match=reason):
                await one.resolve(NAME)
            await asyncio.sleep(again - 0.1)
            with pytest.raises(NotResolved, match=reason):
                one.known(NAME)
            assert len(one.asked) == asked
            await asyncio.sleep(0.2)
            assert one.known(NAME) == ()
            await asyncio.sleep(module.LIMIT)
            assert len(one.asked) == 2 * asked
            one.cache.ask_again()
            assert one.known(NAME) == ()
            one.close()
            await asyncio.sleep(0)

    run(main)


def test_a_server_that_hangs_is_passed_over() -> None:
    async def main(loop: JumpingLoop) -> None:
        one = Rigged(loop, {"192.0.2.1": says("1.1.1.1", after=1000), "192.0.2.2": says("1.2.3.4", after=0.1)})
        began = loop.time()
        assert await one.resolve(NAME) == ("1.2.3.4",)
        assert loop.time() - began == pytest.approx(module.PATIENCE + 0.1)

    run(main)


def test_a_slow_server_may_still_win() -> None:
    async def main(loop: JumpingLoop) -> None:
        one = Rigged(loop, {"192.0.2.1": says("1.2.3.4", after=1.5), "192.0.2.2": fails(0.1)})
        assert await one.resolve(NAME) == ("1.2.3.4",)

    run(main)


def test_with_every_server_hanging_it_ends_at_the_limit() -> None:
    async def main(loop: JumpingLoop) -> None:
        one = Rigged(loop, dict.fromkeys(("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"), says(after=1000)))
        began = loop.time()
        with pytest.raises(NotResolved, match="timeout"):
            await one.resolve(NAME)
        assert loop.time() - began == pytest.approx(module.LIMIT)
        assert {server for server, _ in one.asked} == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}

    run(main)


def test_without_servers_and_for_bad_names_it_says_so() -> None:
    async def main(loop: JumpingLoop) -> None:
        one = Rigged(loop, {})
        with pytest.raises(NotResolved, match="no DNS server known"):
            await one.resolve(NAME)
        with pytest.raises(NotResolved, match="no host name"):
            await one.resolve("a b")

    run(main)


def test_close_gives_up_and_keeps_what_is_known() -> None:
    async def main(loop: JumpingLoop) -> None:
        cache = Cache()
        cache.put(NAME, Entry(("1.2.3.4",), "", 0.0))
        one = Rigged(loop, {"192.0.2.1": says(after=1000)}, cache)
        assert one.known(NAME) == ("1.2.3.4",)
        waiting = asyncio.ensure_future(one.resolve("other.example"))
        await asyncio.sleep(1)
        one.close()
        with pytest.raises(NotResolved):
            await waiting
        assert Rigged(loop, {}, cache).cache.get(NAME) == Entry(("1.2.3.4",), "", 0.0)

    run(main)


def test_the_cache_has_bounds() -> None:
    cache = Cache()
    for number in range(module.MAX_NAMES + 10):
        cache.put(f"h{number}", Entry())
    assert cache.get("h9") is None
    assert cache.get("h10") is not None
