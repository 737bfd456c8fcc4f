"""Which of the kernel's announcements count as a change."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.bench.changes import Changes, kinds
from tests.bench.execs import Execs
from tests.lab import Lab


def _message(kind: int, table: int = 0) -> bytes:
    body = struct.pack("=4B2I", 2, 0, 0, 0, table, 0)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_rules_tables_of_sources_and_nftables_count() -> None:
    assert list(kinds(_message(32) + _message(33), False)) == [True, True]
    assert list(kinds(_message((10 << 8) | 15), True)) == [True]
    assert list(kinds(b"\x01\x00", False)) == []
    assert list(kinds(bytes(32), False)) == []


@pytest.mark.parametrize(("table", "counted"), [(1, [False]), (60, [False]), (254, []), (255, [])])
def test_routes_count_where_they_are_of_a_source(table: int, counted: list[bool]) -> None:
    message = bytearray(_message(24))
    message[20] = table
    assert list(kinds(bytes(message), False)) == counted


@pytest.mark.netns
def test_the_last_change_is_found(lab: Callable[..., Lab]) -> None:
    router = lab(["wan"]).router
    with Changes(router) as changes:
        begin = time.monotonic()
        router.ip("rule add from 192.0.2.1 lookup 7", "route add 192.0.2.0/24 dev e-wan table 7")
        router.run(["iptables-nft", "-t", "mangle", "-N", "some"])
        end = time.monotonic()
        router.ip("route add 198.51.100.0/24 dev e-wan")  # of the network's own table
        assert begin < changes.settled(begin, lambda: False, 0.2) < end


@pytest.mark.netns
@pytest.mark.usefixtures("lab_available")
def test_programs_below_a_process_are_counted() -> None:
    with Execs() as execs:
        if not execs.works:  # in a container; then nothing is counted, and the benchmark says so
            return
        begin = time.monotonic()
        with subprocess.Popen(["sh", "-c", "read line; true; /bin/true; /bin/true; true"], stdin=-1) as process:
            process.communicate(b"\n")
        assert execs.below(process.pid, begin) == 2
