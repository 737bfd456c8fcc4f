"""One target under atheris, in a process of its own: libFuzzer ends the process that it runs in.

``python -m tests.fuzz.child TARGET OPTIONS...``: the options are libFuzzer's.
"""

from __future__ import annotations

import random
import sys

import atheris

from tests.fuzz import target


def main(name: str, options: list[str]) -> None:
    with atheris.instrument_imports(include=["connbal", "tests.fuzz.targets", "tests.fuzz.broken"]):
        found = target.load(name)
    change = found.mutate

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if change is None or chance.randrange(2):
            return bytes(atheris.Mutate(data, longest))
        return change(data, chance)[:longest]

    atheris.Setup([sys.argv[0], *options], found.check, custom_mutator=mutate if change is not None else None)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
