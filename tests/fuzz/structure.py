"""Changes to inputs that keep their form: what a fuzzer that knows bytes alone needs long to hit upon."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[bytes, random.Random], bytes]

#: What stands in for a value.
_VALUES: tuple[Any, ...] = (
    "", "x", " ", "1", "0", "-1", "--json", "a\nb", "a\0b", "\udcff", "\ud800", "\u0663", "x" * 2000, "0.0.0.0", "::",
    "%", "=",
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**64, 1.5, 1e300, [], {}, [""], [[]], {"": None},
)  # fmt: skip


def of_json(prefix: int = 0) -> Change:
    """Changes of a JSON document that begins after ``prefix`` bytes. What is none stays as it is."""

    def change(data: bytes, chance: random.Random) -> bytes:
        try:
            value = json.loads(data[prefix:].decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            return data
        value = _changed(value, chance)
        head = bytes((chance.randrange(32),)) if prefix and chance.randrange(8) == 0 else data[:prefix]
        return head + json.dumps(value).encode()

    return change


def every_value(value: Any) -> Iterator[Any]:
    """A JSON value with one place in it, each in its turn, taken by each of ``_VALUES``."""
    yield from _VALUES
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: new} for new in every_value(inner))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], new, *value[at + 1 :]] for new in every_value(inner))


def _changed(value: Any, chance: random.Random) -> Any:
    """Go down at random, and change what is there."""
    if isinstance(value, dict) and value and chance.randrange(5):
        key = chance.choice(list(value))
        if chance.randrange(4):
            return {**value, key: _changed(value[key], chance)}
        rest = {name: one for name, one in value.items() if name != key}
        return rest if chance.randrange(2) else {**rest, chance.choice([*value, "x", "name", "options"]): value[key]}
    if isinstance(value, list) and value and chance.randrange(5):
        at = chance.randrange(len(value))
        new = chance.choice(([], [value[at]] * 2, [_changed(value[at], chance)], [_changed(value[at], chance)]))
        return [*value[:at], *new, *value[at + 1 :]]
    if isinstance(value, str) and value and chance.randrange(2):
        at = chance.randrange(len(value))
        return value[:at] + chance.choice(("", " ", "-", ".", ":", "/", "0", "\n", "'", value[:at])) + value[at + 1 :]
    return chance.choice(_VALUES)


def of_parts(data: bytes, chance: random.Random) -> bytes:
    """Changes of an input that NULs divide: parts go, come twice, change places, or get the value of another."""
    parts = data.split(b"\0")
    one, two = chance.randrange(len(parts)), chance.randrange(len(parts))
    kind = chance.randrange(5)
    if kind == 0:
        del parts[one]
    elif kind == 1:
        parts.insert(two, parts[one])
    elif kind == 2:
        parts[one], parts[two] = parts[two], parts[one]
    elif kind == 3:
        parts[one] = parts[one].partition(b"=")[0] + b"=" + parts[two].partition(b"=")[2]
    else:
        parts[one] = parts[two].partition(b"=")[0] + b"=" + parts[one].partition(b"=")[2]
    return b"\0".join(parts)
