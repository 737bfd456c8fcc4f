"""A fuzzer that looks at nothing: for a Python without atheris. The same inputs for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.fuzz.target import Target


def inputs(target: Target, runs: int, seed: int) -> Iterator[bytes]:
    """``runs`` inputs, each made of a kept one by a few changes."""
    chance = random.Random(f"{target.name} {seed}")
    kept = target.inputs()
    for _ in range(runs):
        data = bytearray(chance.choice(kept))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            if target.mutate is not None and chance.randrange(2):
                data = bytearray(target.mutate(bytes(data), chance))
            else:
                _change(data, target, kept, chance)
        yield bytes(data[: target.longest])


def _change(data: bytearray, target: Target, kept: list[bytes], chance: random.Random) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 64)))
    kind = chance.randrange(6)
    if kind == 0:
        del data[at:end]
    elif kind == 1:
        data[at:end] = chance.randbytes(end - at or 1)
    elif kind == 2 and target.tokens:
        data[at:at] = chance.choice(target.tokens)
    elif kind == 3:
        data[at:at] = data[at:end] * chance.choice((1, 2, 20))
    elif kind == 4:
        other = chance.choice(kept)
        begin = chance.randint(0, len(other))
        data[at:end] = other[begin : begin + 64]
    else:
        data[at:end] = bytes((chance.choice((0, 1, 9, 10, 32, 34, 39, 44, 46, 47, 58, 92, 127, 128, 255)),))
