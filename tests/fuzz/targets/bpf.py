"""The programs for affinity: what the kernel runs, by an interpreter of its own, does what the arithmetic says."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from connbal.model.config import Affinity, Family
from connbal.plan import affinity, bpf
from connbal.plan.affinity import SPACE
from connbal.plan.values import HashShare
from tests.fakes.bpf import packet, run

LONGEST = 80


def seeds() -> Iterator[bytes]:
    yield bytes((0, 4)) + bytes(12) + bytes.fromhex("c0a801b2cb007107")
    yield bytes((1, 4)) + bytes.fromhex("00000007fffffff000000020c0a801b2cb007107")
    yield bytes((0,
    6)) + bytes.fromhex("12345678000000008000000020010db8") + bytes(12) + bytes.fromhex("fd00") + bytes(14)
    yield bytes((1, 6)) + bytes(4) + b"\xff" * 8 + bytes(32)


def check(data: bytes) -> None:
    data = data.ljust(46, b"\0")
    kind = Affinity.SOURCE if data[0] & 1 else Affinity.PAIR
    family = Family.IPV6 if data[1] & 2 else Family.IPV4
    seed, low, size = (int.from_bytes(data[at : at + 4], "big") for at in (2, 6, 10))
    share = HashShare(kind, seed, low, min(max(size, 1), SPACE - 1))
    code = bpf.program(share, family)
    assert len(code) <= 64
    assert all(0 <= number < limit for line in code for number, limit in zip(line, (1 << 16, 256, 256, SPACE),
    strict=True))
    length = 4 if family is Family.IPV4 else 16
    source, destination = (ipaddress.ip_address(data[at : at + length]) for at in (14, 14 + length))
    assert run(code, packet(source, destination, data[46:])) == affinity.matches(share, source, destination)
    for short in (0, 8, 19):
        run(code, packet(source, destination)[:short])
    words = bpf.bytecode(share, family).split(",")
    assert int(words[0]) == len(code)
    assert [tuple(map(int, word.split(" "))) for word in words[1:]] == code
