"""Packages in the notation of ``uci show``, and what differs between two of them. Pure."""

from __future__ import annotations

from collections.abc import Collection

from connbal.uci.package import Package, Section, Value


def show(section: Section, package: str) -> list[str]:
    """A section as lines, as ``uci -X show`` prints it."""
    place = f"{package}.{section.name}"
    return [
        f"{place}={_plain(section.type)}",
        *(f"{place}.{option}={_value(value)}" for option, value in section.options.items()),
    ]


def difference(before: Package, after: Package, moved: Collection[str] = ()) -> list[str]:
    """What became of ``before``: lines that went with ``-``, lines that came with ``+``.

    Sections that stand elsewhere among those of their type have a line for their old and their new place, from 1.
    moved: those that are known to have been moved; of two that changed places either may have been.
    """
    old = {section.name: section for section in before.sections}
    new = {section.name: section for section in after.sections}
    lines = []
    for name in dict.fromkeys([*old, *new]):
        gone = show(old[name], before.name) if name in old else []
        come = show(new[name], after.name) if name in new else []
        lines += [f"- {line}" for line in gone if line not in come]
        lines += [f"+ {line}" for line in come if line not in gone]
    return lines + _moves(before, after, moved)


def _moves(before: Package, after: Package, moved: Collection[str]) -> list[str]:
    """The sections whose place among those of their type has changed, where that is not because others went or came."""
    lines = []
    for type_ in dict.fromkeys(section.type for section in after.sections):
        old = [section.name for section in before.of_type(type_)]
        new = [section.name for section in after.of_type(type_)]
        both = set(old) & set(new)
        was, now = [name for name in old if name in both], [name for name in new if name in both]
        stayed = [name for name in now if name not in moved]
        known = [name for name in now if name in moved and old.index(name) != new.index(name)]
        told = known if stayed == [name for name in was if name not in moved] else _moved(was, now)
        for name in told:
            lines.append(f"- {type_} {old.index(name) + 1}: {name}")
            lines.append(f"+ {type_} {new.index(name) + 1}: {name}")
    return lines


def _moved(was: list[str], now: list[str]) -> list[str]:
    """The fewest names that have to be moved to make ``now`` of ``was``: those not in the longest kept order."""
    from bisect import bisect_left

    position = {name: index for index, name in enumerate(was)}
    tails: list[int] = []
    chosen: list[str] = []
    before: dict[str, str | None] = {}
    for name in now:
        at = bisect_left(tails, position[name])
        before[name] = chosen[at - 1] if at else None
        tails[at : at + 1] = [position[name]]
        chosen[at : at + 1] = [name]
    kept, last = set(), chosen[-1] if chosen else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return [name for name in now if name not in kept]


def _value(value: Value) -> str:
    return " ".join(_quoted(item) for item in ((value,) if isinstance(value, str) else value))


def _quoted(text: str) -> str:
    return "'{}'".format(_plain(text).replace("'", "'\\''"))


def _plain(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text)
