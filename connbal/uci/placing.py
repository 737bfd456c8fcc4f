"""Where a rule belongs: below those that are more special, above those that would take its connections. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connbal.model.config import Family, Rule
from connbal.model.overlap import covers, families, overlaps, source_of
from connbal.uci.edit import Editor


@dataclass(frozen=True)
class Placed:
    """What came of it, for the user.

    before: the rule that it was moved in front of; empty where it was left, or moved to the end.
    moved: whether it was moved at all.
    hidden: rules that no connection reaches any more because this one stands above them.
    """

    before: str = ""
    moved: bool = False
    hidden: tuple[str, ...] = ()


def place(editor: Editor, name: str, rules: Sequence[Rule]) -> Placed:
    """Move the section of rule ``name`` to where it belongs among ``rules``, all that are decoded, in file order.

    It stays where it is if that is right: after each rule that is more special, and before the first enabled one
    that is not and could match the same connection. Where no place is both, the second counts. Else it is put before
    that one, or last.
    """
    rule = next(one for one in rules if one.name == name)
    others = [one for one in rules if one.name != name and one.enabled]
    general = [other for other in others if _shared(rule, other) and not is_special(other, rule)]
    first = general[0] if general else None
    above = others[: others.index(first)] if first else others
    special = [other.name for other in above if _shared(rule, other)]
    order = [one.name for one in rules]
    at = order.index(name)
    right = all(order.index(other) < at for other in special) and (first is None or at < order.index(first.name))
    if not right:
        _move(editor, name, first.name if first else None)
    return Placed(first.name if first and not right else "", not right, _hidden(rule, others[len(above) :]))


def is_special(one: Rule, other: Rule) -> bool:
    """Whether ``one`` belongs above ``other`` where both could match a connection.

    That is so if all it takes there is a part of what the other takes, or if it names a device more narrowly: "the
    television" goes before "the web".
    """
    shared = _shared(one, other)
    if all(covers(other, one, family) and not covers(one, other, family) for family in shared):
        return True
    if any(covers(one, other, family) for family in shared):
        return False
    mine, its = source_of(one), source_of(other)
    return all(covers(its, mine, family) and not covers(mine, its, family) for family in shared)


def _shared(one: Rule, other: Rule) -> list[Family]:
    """The families in which both could match one connection."""
    common = families(one) & families(other)
    return [family for family in Family if family in common and overlaps(one, other, family)]


def _hidden(rule: Rule, below: Sequence[Rule]) -> tuple[str, ...]:
    """The rules of ``below`` of which ``rule`` takes everything."""
    return tuple(
        other.name
        for other in below
        if (its := families(other)) and all(family in families(rule) and covers(rule, other, family) for family in its)
    )


def _move(editor: Editor, name: str, before: str | None) -> None:
    """Put a section in front of another one, or at the end of the package."""
    order = [section.name for section in editor.sections()]
    order.remove(name)
    editor.reorder(name, order.index(before) if before else len(order))
