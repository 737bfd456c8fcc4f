"""The reader of tallies; that it reads what the kernel sends is shown in tests/netns/machines/test_metrics.py."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from connbal.kernel.conntrack import Tally, counted
from tests.unit.kernel.test_messages import attribute

COUNTERS = attribute(1, (5).to_bytes(8, "big")) + attribute(2, (1 << 40).to_bytes(8, "big"))
HEADER = struct.pack("=BBH", 2, 0, 0)


def test_mark_and_bytes() -> None:
    other = attribute(1 | 0x8000, attribute(8, b"\xff" * 4)) + attribute(3, b"\0\0\0\1")
    data = b"before" + HEADER + other + attribute(9 | 0x8000, COUNTERS) + attribute(10 | 0x8000, COUNTERS[-12:])
    data += attribute(8, b"\0\0\x01\x02")
    assert counted(data + b"after", 6, len(data)) == {"mark": 0x102, "original": 1 << 40, "reply": 1 << 40}


def test_a_kernel_that_counts_nothing() -> None:
    assert counted(HEADER, 0, len(HEADER)) == {"mark": 0}


@given(st.binary(max_size=200))
def test_any_bytes_end_somewhere(data: bytes) -> None:
    counted(HEADER + data, 0, len(HEADER) + len(data))


def test_tallies_add_up() -> None:
    assert Tally(1, 2, 3) + Tally(4, 5, 6, accounted=True) == Tally(5, 7, 9, accounted=True)
