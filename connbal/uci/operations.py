"""What the editing commands do to a package: whole operations on sections, references kept. Pure: no files.

An operation is done as a whole or not at all: where it is refused, the editor is as it was. UsageError: what was asked
for makes no sense (no such section, no such option, a name that is taken). ConfigError: the configuration would not
work, or something still needs what is to go.

Sections are referred to by name, by ``cfg...`` for an anonymous one, or by place: ``@rule[0]``, ``@rule[-1]``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn

from connbal.errors import ConfigError, UsageError
from connbal.model.names import PACKAGE
from connbal.uci.edit import Editor
from connbal.uci.package import Package, Section, Value
from connbal.uci.places import Place, place_among
from connbal.uci.schema import SECTIONS, Kind, OptionSpec, SectionSpec
from connbal.uci.text import NAME
from connbal.uci.verify import cause, verify

__all__ = ["add", "change", "delete", "find", "list_words", "move", "rename", "users", "verify"]

#: Types whose sections mean something without a name. The others are referred to by theirs.
MAY_BE_ANONYMOUS = frozenset(("rule",))
#: What ``use_policy`` may say that is no policy.
VERDICTS = frozenset(SECTIONS["policy"].options["last_resort"].choices)

#: For each section type, the options that name sections of it: (type of the referring section, option).
REFERRING: Mapping[str, tuple[tuple[str, OptionSpec], ...]] = {
    type_: tuple(
        (section.type, spec)
        for section in SECTIONS.values()
        for spec in section.options.values()
        if spec.refers_to == type_
    )
    for type_ in SECTIONS
}


def find(editor: Editor, type_: str, reference: str) -> Section:
    """The section of a type that ``reference`` means.

    Raises UsageError where there is none, with the nearest name, or where the name is that of another type.
    """
    return find_in(editor.package, type_, reference)


def find_in(package: Package, type_: str, reference: str) -> Section:
    """As :func:`find`, in a package."""
    found = package.find(reference)
    if found is None:
        names = [section.name for section in package.of_type(type_) if not section.anonymous]
        raise UsageError(f"there is no {type_} {_quoted(reference)}{_or_nearest(reference, names)}")
    if found.type != type_:
        raise UsageError(f"{_quoted(reference)} is a section of type {_plain(found.type)}, not {type_}")
    return found


def add(editor: Editor, type_: str, name: str | None, options: Mapping[str, Value]) -> str:
    """Append a section with ``options``; its name, for an anonymous one the passing ``cfg...``."""
    spec = SECTIONS[type_]
    if name is None and type_ not in MAY_BE_ANONYMOUS:
        raise UsageError(f"a {type_} needs a name, because others refer to it by that; give one")
    if name is not None:
        _check_new_name(editor, type_, name)
    given = {option: value for option, value in options.items() if value}
    for option, value in given.items():
        _check_value(spec, name or type_, option, value)
    for missing in (one.name for one in spec.options.values() if one.required and one.name not in given):
        what = f"a {type_} needs --{missing.replace('_', '-')}"
        raise UsageError(f"{what}: {spec.options[missing].doc}")
    with editor.as_a_whole():
        if name is None:
            name = editor.add(type_)
        else:
            editor.set(name, type_)
        for option, value in given.items():
            editor.set(name, option, _stored(spec, option, value))
    return name


def change(
    editor: Editor,
    type_: str,
    reference: str,
    set: Mapping[str, Value] | None = None,
    add: Mapping[str, Sequence[str]] | None = None,
    remove: Mapping[str, Sequence[str]] | None = None,
    unset: Collection[str] = (),
) -> list[str]:
    """Give options values, add entries to lists and remove them, and unset options; what had no effect, in words.

    An option may be in one of the four only, or in ``add`` and ``remove``.
    """
    spec, section = SECTIONS[type_], find(editor, type_, reference)
    set, add, remove = set or {}, add or {}, remove or {}
    _check_options(spec, section, set, add, remove, unset)
    notes: list[str] = []
    wanted: dict[str, Value] = {}
    for option, value in set.items():
        if value:
            _check_value(spec, section.name, option, value)
        wanted[option] = _stored(spec, option, value)
    for option in dict.fromkeys([*remove, *add]):
        entries = _without(spec, section, option, remove.get(option, ()))
        wanted[option] = _with(spec, section, option, entries, add.get(option, ()), notes)
    for option in unset:
        if option not in section.options:
            notes.append(f"{_called(section)} has no {option}; there is nothing to unset")
        wanted[option] = ""
    with editor.as_a_whole():
        for option, value in wanted.items():
            if value != section.options.get(option, ""):
                editor.set(section.name, option, value)
    return notes


def delete(editor: Editor, type_: str, reference: str, *, cascade: bool = False) -> list[str]:
    """Delete a section; what else had to be deleted or changed, and what follows from it, in words.

    cascade: delete what cannot do without it (a policy's rules, an interface's members), and take it off the lists of
    the others. Without it a section that is in use is refused, with the names of who uses it.
    """
    section = find(editor, type_, reference)
    notes: list[str] = []
    with editor.as_a_whole():
        _delete(editor, section, cascade, notes)
    return notes


def rename(editor: Editor, type_: str, reference: str, new: str) -> list[str]:
    """Give a section another name, or an anonymous one its first. References follow: which, in words."""
    section = find(editor, type_, reference)
    if section.name == new and not section.anonymous:
        return [f"the {type_} is called {new} already"]
    _check_new_name(editor, type_, new)
    using = users(editor.package, section)
    notes = []
    with editor.as_a_whole():
        editor.rename(section.name, new)
        for user, spec in using:
            _replace(editor, user, spec, section.name, new)
            notes.append(f"{_called(user)}: {spec.name} follows")
    if type_ == "interface":
        notes.append(f"connbal looks for a network called {new}: an interface is named as its network")
    return notes


def move(editor: Editor, reference: str, place: Place) -> None:
    """Move a rule to another place among the rules. Sections of other types stay in their order.

    Raises UsageError where there is no such rule, or no such place.
    """
    section = find(editor, "rule", reference)
    rules = [one.name for one in editor.package.of_type("rule")]
    beside = getattr(place, "reference", None)
    if beside is not None:
        beside = find(editor, "rule", beside).name
    index = place_among(place, rules, section.name, beside)
    others = [name for name in rules if name != section.name]
    if rules.index(section.name) == index:
        return
    rest = [one.name for one in editor.package.sections if one.name != section.name]
    editor.reorder(section.name, rest.index(others[index]) if index < len(others) else rest.index(others[-1]) + 1)


def users(package: Package, section: Section) -> list[tuple[Section, OptionSpec]]:
    """The sections that name ``section``, each with the option that does, in file order."""
    referring = dict(REFERRING.get(section.type, ()))
    if not referring or (section.type == "policy" and section.name in VERDICTS):
        return []
    found = []
    for user in package.sections:
        spec = referring.get(user.type)
        if spec is not None and section.name in list_words(user.options.get(spec.name, ()), spec):
            found.append((user, spec))
    return found


def list_words(value: Value, spec: OptionSpec) -> tuple[str, ...]:
    """The entries of a value: those of a list, or of one string with blanks or commas between them."""
    texts = (value,) if isinstance(value, str) else value
    if not spec.is_list:
        return tuple(text.strip() for text in texts)
    from connbal.uci.values import words

    return tuple(word for text in texts for word in words(text.replace("! ", "!")))


# --- what the operations are made of ------------------------------------------------------------------------------


def _delete(editor: Editor, section: Section, cascade: bool, notes: list[str]) -> None:
    using = users(editor.package, section)
    if using and not cascade:
        names = _enumerated([f"{user.type} {_name(user)}" for user, _ in using])
        remedy = f"delete or change {'that' if len(using) == 1 else 'those'} first, or use --cascade"
        raise ConfigError(PACKAGE, section.name, None, f"the {section.type} is in use by {names}; {remedy}")
    for user, spec in using:
        if spec.required:
            _delete(editor, user, cascade, notes)
            notes.append(f"deleted {_called(user)}, which used {_called(section)}")
        else:
            left = tuple(word for word in list_words(user.options[spec.name], spec) if word != section.name)
            editor.set(user.name, spec.name, left)
            notes.append(f"took {section.name} out of {_called(user)}")
            if not left:
                notes.append(f"{_called(user)} has no {spec.refers_to} left: its last_resort decides")
    if section.type == "interface":
        _note_shift(editor, section, notes)
    editor.delete(section.name)


def _note_shift(editor: Editor, section: Section, notes: list[str]) -> None:
    names = [one.name for one in editor.package.of_type("interface")]
    behind = names[names.index(section.name) + 1 :]
    if behind:
        which = behind[0] if len(behind) == 1 else f"{behind[0]} to {behind[-1]}"
        verb = "gets another number" if len(behind) == 1 else "get other numbers"
        notes.append(f"{which} {verb}: marks and routing tables count interfaces from the top of the file")


def _replace(editor: Editor, user: Section, spec: OptionSpec, old: str, new: str) -> None:
    """Let an option name ``new`` where it names ``old``."""
    value = user.options[spec.name]
    words = [new if word == old else word for word in list_words(value, spec)]
    editor.set(user.name, spec.name, " ".join(words) if isinstance(value, str) else words)


def _check_new_name(editor: Editor, type_: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{_quoted(name)} is no name for a {type_}; use letters, digits and _ only")
    if type_ == "globals" and name != "globals":
        raise UsageError("there is one section of globals only, and it is called globals")
    taken = editor.package.get(name)
    if taken is None:
        return
    if taken.type == type_:
        raise UsageError(f"there is a {type_} {name} already; choose another name, or change it with {type_} set")
    kind = _plain(taken.type)
    raise UsageError(
        f"{name} is the name of a section of type {kind}, and a name is unique in the whole file, whatever the type; "
        "choose another"
    )


def _check_options(
    spec: SectionSpec,
    section: Section,
    set_: Mapping[str, Value],
    add_: Mapping[str, Sequence[str]],
    remove: Mapping[str, Sequence[str]],
    unset: Collection[str],
) -> None:
    """That every option exists and is asked for in one way only."""
    for option in [*set_, *add_, *remove, *unset]:
        if option not in spec.options and not (option in unset and option in section.options):
            _no_such_option(spec, option)
    for option in [*add_, *remove]:
        if not spec.options[option].is_list:
            raise UsageError(f"{option} has one value, not a list; use --{option.replace('_', '-')} to set it")
    for option in set_:
        if option in add_ or option in remove or option in unset:
            raise UsageError(f"{option} is to be set and changed at once; do one of them")
    for option in unset:
        if option in add_ or option in remove:
            raise UsageError(f"{option} is to be unset and changed at once; do one of them")


def _no_such_option(spec: SectionSpec, option: str) -> NoReturn:
    raise UsageError(f"a {spec.type} has no option {_quoted(option)}{_or_nearest(option, spec.options)}")


def _check_value(spec: SectionSpec, section: str, option: str, value: Value) -> None:
    """Refuse a value that the option does not take."""
    if option not in spec.options:
        _no_such_option(spec, option)
    from connbal.errors import Severity
    from connbal.uci.decode_reader import check_option

    for finding in check_option(spec.type, option, value):
        if finding.severity is Severity.ERROR:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            raise ConfigError(PACKAGE, section, option, f"{cause(finding.message)}{remedy} (nothing was changed)")


def _stored(spec: SectionSpec, option: str, value: Value) -> Value:
    """A value as it goes into the file: a list as a list, anything else as one text.

    What mwan3 and its pages read as ``option`` is one while it can be: a single value, or ports with commas.
    """
    known = spec.options[option]
    if not known.is_list:
        return value if isinstance(value, str) else " ".join(value)
    if not known.single:
        return (value,) if isinstance(value, str) and value else value
    if isinstance(value, str) or not value:
        return value
    return ",".join(value) if known.kind is Kind.PORT else value[0] if len(value) == 1 else value


def _without(spec: SectionSpec, section: Section, option: str, entries: Sequence[str]) -> list[str]:
    """The entries of a list without some. Raises UsageError for one that it does not have."""
    present = list(list_words(section.options.get(option, ()), spec.options[option]))
    for entry in entries:
        if entry not in present:
            has = ", ".join(present) or "no entries"
            raise UsageError(f"{option} of {_called(section)} has no entry {_quoted(entry)}; it has {_plain(has)}")
        present = [word for word in present if word != entry]
    return present


def _with(
    spec: SectionSpec, section: Section, option: str, present: list[str], entries: Sequence[str], notes: list[str]
) -> Value:
    """A list with further entries behind, those that it has already left where they are."""
    for entry in entries:
        if entry in present:
            notes.append(f"{_plain(entry)} is in {option} of {_called(section)} already")
        else:
            _check_value(spec, section.name, option, entry)
            present = [*present, entry]
    before = section.options.get(option, ())
    same = present == list(list_words(before, spec.options[option]))
    return before if same else _stored(spec, option, tuple(present))


def _called(section: Section) -> str:
    return f"{_plain(section.type)} {_name(section)}"


def _name(section: Section) -> str:
    return _plain(section.name)


def _enumerated(names: Sequence[str], limit: int = 10) -> str:
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _or_nearest(name: str, known: Collection[str]) -> str:
    from connbal.uci.decode_reader import MAX_COMPARED, close_match

    meant = close_match(name, known, 0.6) if len(name) <= MAX_COMPARED else None
    return f"; did you mean {meant}?" if meant else ""


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
