"""The last answers of pure functions, for a process that asks much the same again and again. Everything here is pure.

Of a hundred rules one is edited, of sixty sources one goes: the others are what they were. Whoever works something out
section by section does so through an :class:`Ask`. For a command that is :func:`afresh`; the daemon has :class:`Kept`.
What was asked is compared in full, so an answer is never older than its question.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
V = TypeVar("V")


class Ask(Protocol):
    """Asks a pure function. ``of``: what it is asked about, such as the name of a section.

    Neither what is asked nor what is answered may be changed afterwards, and what is equal must mean the same: where
    an order counts, no mapping will do.
    """

    def __call__(self, of: Hashable, function: Callable[P, V], /, *asked: P.args, **named: P.kwargs) -> V: ...


def afresh(of: Hashable, function: Callable[P, V], /, *asked: P.args, **named: P.kwargs) -> V:
    """Work it out."""
    return function(*asked, **named)


class Kept:
    """Knows what each function answered last, of each thing it was asked about. For one thread at a time."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, _Answer] = {}
        self._turn = 0

    def __call__(self, of: Hashable, function: Callable[P, V], /, *asked: P.args, **named: P.kwargs) -> V:
        key = (function, of)
        held = self._answers.get(key)
        if held is None or held.asked != asked or held.named != named:
            held = self._answers[key] = _Answer(asked, named, function(*asked, **named))
        held.turn = self._turn
        answer: V = held.answer
        return answer

    def turn(self) -> None:
        """What was not asked since the last turn is forgotten: sections come and go."""
        for key in [key for key, held in self._answers.items() if held.turn != self._turn]:
            del self._answers[key]
        self._turn += 1


class _Answer:
    """And when it was last asked for."""

    __slots__ = ("answer", "asked", "named", "turn")

    def __init__(self, asked: tuple[object, ...], named: Mapping[str, object], answer: Any) -> None:
        self.asked, self.named, self.answer, self.turn = asked, named, answer, 0
