"""Changes to a package: the strict editor, and the notation libuci keeps changes in.

:class:`Editor` refuses what libuci would drop in silence or write as a file it cannot read again. What it did is
recorded as :class:`Change` values, in the terms of libuci's delta files, so that it can be done again on a newer
version of the file, handed to libuci, or one day be staged.

Long, because a change, its notation and what carries it out are of one piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn, overload

from connbal.errors import ConfigError
from connbal.frozen import dataclass
from connbal.uci.package import Package, Section, Value, anonymous_name
from connbal.uci.text import NAME

#: Printable ASCII but quotes, comment, separator and escape: libuci reads those in a type, but not what it writes then.
TYPE = re.compile(r"[!$-&(-:<-\[\]-~]+")
#: What libuci takes no value with: control characters but tab, newline and carriage return (and so no NUL).
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]+)", re.ASCII)


@dataclass(frozen=True)
class Change:
    """One elementary change.

    kind: libuci's character for it: ``+`` new anonymous section (value: type), ``-`` remove section or option, nothing:
    set option, or create or retype section (value: type), ``@`` rename, ``^`` move section to an index, ``|`` append
    to list, ``~`` remove from list (read from others' files only).
    """

    kind: str
    section: str
    option: str | None = None
    value: str | None = None


def delta(package: str, changes: Iterable[Change]) -> str:
    """``changes`` as the text of a libuci delta file for ``package``, as ``uci set`` and others leave in /tmp/.uci."""
    lines = []
    for change in changes:
        place = ".".join(part for part in (package, change.section, change.option) if part is not None)
        value = "" if change.value is None else "='{}'".format(change.value.replace("'", "'\\''"))
        lines.append(f"{change.kind}{place}{value}\n")
    return "".join(lines)


def parse_delta(data: bytes, package: str) -> list[Change]:
    """The changes in a libuci delta file for ``package``. As libuci does, this passes over lines that are none."""
    from connbal.uci.buffer import arguments

    changes = []
    for line in arguments(data):
        change = _parse_change(line, package)
        if change is not None:
            changes.append(change)
    return changes


def _parse_change(line: str, package: str) -> Change | None:
    """One line of a delta file, its quotes taken away: libuci's uci_parse_ptr, without ``@type[0]``."""
    kind = line[:1] if line[:1] in "+-@^|~" else ""
    place, equals, value = line[len(kind) :].partition("=")
    parts = place.split(".")
    if parts[0] != package or not 2 <= len(parts) <= 3 or not all(NAME.fullmatch(part) for part in parts[1:]):
        return None
    option = parts[2] if len(parts) == 3 else None
    if (not equals and kind != "-") or (kind in ("|", "~") and option is None) or (kind == "^" and option is not None):
        return None
    return Change(kind, parts[1], option, value if equals else None)


def same_content(one: Package, other: Package) -> bool:
    """Whether two packages say the same, in the same order, leaving aside the passing names of anonymous sections."""
    return _content(one) == _content(other)


def _content(package: Package) -> list[tuple[object, ...]]:
    return [
        (section.type, None if section.anonymous else section.name, list(section.options.items()))
        for section in package.sections
    ]


class _Draft:
    """A section that can change."""

    __slots__ = ("anonymous", "gone", "name", "options", "type")

    def __init__(self, name: str, type_: str, anonymous: bool, options: dict[str, Value] | None = None) -> None:
        self.name, self.type, self.anonymous, self.gone = name, type_, anonymous, False
        self.options: dict[str, Value] = {} if options is None else options


class Editor:
    """Changes one package in memory; the transaction it came from writes the result.

    Sections are meant by name, that of an anonymous one included; ``Package.find`` turns ``@rule[0]`` into a name.
    Every refusal is a :class:`ConfigError` that says what is allowed, and leaves the package as it was.
    """

    def __init__(self, package: Package) -> None:
        self._name = package.name
        self._arrange([_Draft(s.name, s.type, s.anonymous, dict(s.options)) for s in package.sections])
        self._created = len(self._drafts)
        self._changes: list[Change] = []

    def _arrange(self, drafts: list[_Draft]) -> None:
        """Let these be the sections, found by name at once: an import asks for thousands."""
        self._drafts, self._removed = drafts, False
        self._by_name = {draft.name: draft for draft in reversed(drafts)}
        self._unique = len(self._by_name) == len(drafts)

    @property
    def _sections(self) -> list[_Draft]:
        """The sections in order. Those that were deleted are taken out together, when somebody looks."""
        if self._removed:
            self._drafts, self._removed = [draft for draft in self._drafts if not draft.gone], False
        return self._drafts

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was done so far; empty where nothing made a difference."""
        return tuple(self._changes)

    @property
    def package(self) -> Package:
        """The package as it is now."""
        sections = (Section(s.name, s.type, s.anonymous, dict(s.options)) for s in self._sections)
        return Package(self._name, tuple(sections))

    def sections(self) -> tuple[Section, ...]:
        """The sections as they are now, in file order."""
        return self.package.sections

    @contextmanager
    def as_a_whole(self) -> Iterator[None]:
        """What is done in the block is done as a whole: an exception takes it back."""
        sections = [_Draft(s.name, s.type, s.anonymous, dict(s.options)) for s in self._sections]
        created, changes = self._created, list(self._changes)
        try:
            yield
        except BaseException:
            self._arrange(sections)
            self._created, self._changes = created, changes
            raise

    @overload
    def set(self, section: str, option: str, /) -> None: ...

    @overload
    def set(self, section: str, option: str, value: str | Sequence[str], /) -> None: ...

    def set(self, section: str, option: str, value: str | Sequence[str] | None = None, /) -> None:
        """``set(section, type)``: make a named section, or change the type of one. ``set(section, option, value)``:
        give an option a value, or a list where ``value`` is a sequence.

        An option that exists keeps its place, but one that becomes a list or gets another list goes to the end of its
        section, as with libuci. UCI has no empty values: ``""`` and an empty sequence delete the option (an empty
        string *in* a list is possible).

        Raises
        ------
        ConfigError: a name, type or value that UCI cannot hold, or no such section to set the option in.
        """
        if value is None:
            self._set_type(section, option)
        elif not value:
            self._named(section)
            self._check_name(option, section, option, "option name")
            self.delete(section, option)
        elif isinstance(value, str):
            self._set_value(section, option, value)
        else:
            self._set_list(section, option, tuple(value))

    def add(self, kind: str, /) -> str:
        """Append an anonymous section of type ``kind``; its name, valid within this transaction.

        Raises ConfigError where ``kind`` is no type.
        """
        self._check_type(None, kind)
        while True:
            self._created += 1
            name = anonymous_name(self._created, kind)
            if self._lookup(name) is None:
                break
        self._append(_Draft(name, kind, anonymous=True))
        self._record("+", name, value=kind)
        return name

    def delete(self, section: str, option: str | None = None, /) -> bool:
        """Remove a section, or one option of it. False where there was none: that is no error."""
        draft = self._lookup(section)
        if draft is None or (option is not None and option not in draft.options):
            return False
        if option is None:
            draft.gone = self._removed = True
            del self._by_name[section]
            if not self._unique:
                self._arrange(self._sections)
        else:
            del draft.options[option]
        self._record("-", section, option)
        return True

    def rename(self, section: str, new: str, /) -> None:
        """Give a section another name; an anonymous one becomes a named one.

        Raises ConfigError where there is no such section, or ``new`` is no name or is taken.
        """
        draft = self._named(section)
        self._check_name(new, section, None, "section name")
        if draft.name == new and not draft.anonymous:
            return
        taken = self._lookup(new)
        if taken not in (None, draft):
            self._refuse(section, None, f"cannot be renamed to {new!r}, which exists; choose another name")
        draft.name, draft.anonymous = new, False
        del self._by_name[section]
        self._by_name[new] = draft
        if not self._unique:
            self._arrange(self._sections)
        self._record("@", section, value=new)

    def rename_option(self, section: str, option: str, new: str, /) -> None:
        """Give an option another name; value and place stay.

        Raises ConfigError where there is no such option, or ``new`` is no name or is taken.
        """
        draft = self._named(section)
        self._check_name(new, section, option, "option name")
        if option not in draft.options:
            self._refuse(section, option, f"there is no such option; the section has {_listed(draft.options)}")
        if option == new:
            return
        if new in draft.options:
            self._refuse(section, option, f"cannot be renamed to {new!r}, which exists; choose another name")
        draft.options = {new if name == option else name: value for name, value in draft.options.items()}
        self._record("@", section, option, new)

    def reorder(self, section: str, index: int, /) -> None:
        """Move a section to ``index``, from 0, among *all* sections of the package, whatever their types.

        Raises ConfigError where there is no such section or index.
        """
        draft = self._named(section)
        last = len(self._sections) - 1
        if not 0 <= index <= last:
            self._refuse(section, None, f"cannot move to place {index}; places are 0 to {last}")
        if self._sections[index] is draft:
            return
        self._sections.remove(draft)
        self._sections.insert(index, draft)
        self._record("^", section, value=str(index))

    def redo(self, changes: Iterable[Change]) -> None:
        """Do ``changes``, which another editor recorded, here.

        Raises ConfigError where they no longer fit, because what they are about has gone or changed its name.
        """
        for change in changes:
            self._redo(change)

    def adopt(self, changes: Iterable[Change]) -> None:
        """Begin with ``changes`` that somebody has staged: as libuci, each by itself, passing over what does not fit.

        They do not count as changes of this editor.
        """
        for change in changes:
            with suppress(ConfigError, ValueError):
                self._adopt(change)
        self._changes.clear()

    def _adopt(self, change: Change) -> None:
        section, option, value = change.section, change.option, change.value or ""
        if change.kind == "+" and option is None:
            self._set_type(section, value)
            self._named(section).anonymous = True
        elif change.kind == "+" and option is not None:
            self.set(section, option, value)
        elif change.kind == "~" and option is not None:
            self._take_from_list(section, option, value)
        elif change.kind == "^":
            self.reorder(section, min(_place(value), len(self._sections) - 1))
        else:
            self._redo(change)

    def _redo(self, change: Change) -> None:
        section, option, value = change.section, change.option, change.value or ""
        if change.kind == "+":
            if self.add(value) != section:
                self._refuse(section, None, "another program changed the sections at the same time; try again")
        elif change.kind == "-":
            self.delete(section, option)
        elif change.kind == "^":
            self.reorder(section, min(int(value), len(self._sections) - 1))
        elif change.kind == "|" and option is not None:
            self._add_to_list(section, option, value)
        elif change.kind == "@" and option is None:
            self.rename(section, value)
        elif change.kind == "@" and option is not None:
            self.rename_option(section, option, value)
        elif option is None:
            self.set(section, value)
        else:
            self.set(section, option, value)

    def _set_type(self, section: str, kind: str) -> None:
        self._check_name(section, section, None, "section name")
        self._check_type(section, kind)
        draft = self._lookup(section)
        if draft is None:
            self._created += 1
            self._append(_Draft(section, kind, anonymous=False))
        elif draft.type == kind:
            return
        else:
            if len(draft.type) != len(kind):
                draft.anonymous = False  # as libuci: its passing name becomes the section's name for good
            draft.type = kind
        self._record("", section, value=kind)

    def _set_value(self, section: str, option: str, value: str) -> None:
        draft = self._named(section)
        self._check_name(option, section, option, "option name")
        self._check_value(section, option, value)
        if draft.options.get(option) != value:
            draft.options[option] = value
            self._record("", section, option, value)

    def _set_list(self, section: str, option: str, items: tuple[str, ...]) -> None:
        draft = self._named(section)
        self._check_name(option, section, option, "option name")
        for item in items:
            self._check_value(section, option, item)
        if draft.options.get(option) == items:
            return
        self.delete(section, option)
        draft.options[option] = items
        self._changes.extend(Change("|", section, option, item) for item in items)

    def _add_to_list(self, section: str, option: str, item: str) -> None:
        """As libuci adds to a list: the option keeps its place."""
        draft = self._named(section)
        self._check_name(option, section, option, "option name")
        self._check_value(section, option, item)
        present = draft.options.get(option, ())
        draft.options[option] = (*((present,) if isinstance(present, str) else present), item)
        self._record("|", section, option, item)

    def _take_from_list(self, section: str, option: str, item: str) -> None:
        """As libuci takes from a list: each entry that is the same."""
        draft = self._named(section)
        present = draft.options.get(option, ())
        if isinstance(present, str) or item not in present:
            return
        kept = tuple(one for one in present if one != item)
        if kept:
            draft.options[option] = kept
        else:
            del draft.options[option]
        self._record("~", section, option, item)

    def _record(self, kind: str, section: str, option: str | None = None, value: str | None = None) -> None:
        self._changes.append(Change(kind, section, option, value))

    def _append(self, draft: _Draft) -> None:
        """A section whose name is free."""
        self._drafts.append(draft)
        self._by_name[draft.name] = draft

    def _lookup(self, name: str) -> _Draft | None:
        """The section of that name, the first where there are two."""
        return self._by_name.get(name)

    def _named(self, name: str) -> _Draft:
        draft = self._lookup(name)
        if draft is None:
            self._refuse(name, None, "there is no such section; make it first, or check the name")
        return draft

    def _check_name(self, name: str, section: str, option: str | None, what: str) -> None:
        if not NAME.fullmatch(name):
            self._refuse(section, option, f"{name!r} is no {what}; allowed are letters, digits and _, at least one")

    def _check_type(self, section: str | None, kind: str) -> None:
        if not TYPE.fullmatch(kind):
            allowed = "printable ASCII without spaces, quotes, backslash, # and ;"
            self._refuse(section, None, f"{kind!r} is no section type; allowed are {allowed}")

    def _check_value(self, section: str, option: str, value: str) -> None:
        if not isinstance(value, str):
            self._refuse(section, option, f"{value!r} is no value; a value is text")
        if _CONTROL.search(value):
            why = "it has a control character; tab, newline and carriage return are the only ones allowed"
            self._refuse(section, option, f"{value!r} is no value: {why}")
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            self._refuse(section, option, f"{value!r} is no value: it has characters that cannot be written as UTF-8")

    def _refuse(self, section: str | None, option: str | None, why: str) -> NoReturn:
        raise ConfigError(self._name, section, option, why) from None


def _place(text: str) -> int:
    """A place in a delta file as C's strtoul reads it into an int: what is no number is 0, and so is one below it."""
    found = _NUMBER.match(text)
    number = min(int(found[2][:20]), (1 << 64) - 1) if found else 0
    number = (-number if found and found[1] == "-" else number) & 0xFFFFFFFF
    return number if number < 1 << 31 else 0


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
