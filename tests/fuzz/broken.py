"""A target with a fault, so that it is known that faults are found."""

from __future__ import annotations


def check(data: bytes) -> None:
    if data[:2] == b"ab" and data[-1:] == b"z":
        raise ValueError("found")
