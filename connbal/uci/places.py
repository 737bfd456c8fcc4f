"""Places among the rules, as ``rule move`` names them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from connbal.errors import UsageError


class Place:
    """Where a rule is to go."""


class First(Place):
    """Before all others."""


class Last(Place):
    """Behind all others."""


class Up(Place):
    """One place nearer to the top."""


class Down(Place):
    """One place nearer to the bottom."""


class _Beside(Place):
    """Beside another rule. ``reference``: which, as for :func:`connbal.uci.operations.find`."""

    def __init__(self, reference: str) -> None:
        self.reference = reference


class Before(_Beside):
    """Immediately before another rule."""


class After(_Beside):
    """Immediately behind another rule."""


class To(Place):
    """To a position from 1, as ``rule list`` numbers them."""

    def __init__(self, number: int) -> None:
        self.number = number


def place_among(place: Place, rules: Sequence[str], rule: str, beside: str | None = None) -> int:
    """The index, from 0, that ``rule`` has among ``rules`` once it is at ``place``; ``beside``: what that refers to.

    Raises UsageError where there is no such place.
    """
    last, index = len(rules) - 1, rules.index(rule)
    if isinstance(place, To):
        if not 1 <= place.number <= len(rules):
            raise UsageError(f"there is no place {place.number} among {len(rules)} rules; places are 1 to {len(rules)}")
        return place.number - 1
    if isinstance(place, Before | After):
        if beside is None or beside == rule:
            raise UsageError(f"rule {rule} cannot stand before or after itself; name another rule")
        others = [name for name in rules if name != rule]
        return others.index(beside) + isinstance(place, After)
    moves = {First: 0, Last: last, Up: max(index - 1, 0), Down: min(index + 1, last)}
    return moves[type(place)]
