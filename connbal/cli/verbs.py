"""The verbs that change sections: each a click command made from the verb, the section type and the schema."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from connbal.cli import complete, editing
from connbal.errors import UsageError
from connbal.uci import operations
from connbal.uci.places import After, Before, Down, First, Last, Place, To, Up
from connbal.uci.schema import SECTIONS, Kind, OptionSpec
from connbal.uci.values import expected

if TYPE_CHECKING:
    from connbal.cli.context import Session
    from connbal.uci import Editor, Value

#: What the examples of each type are about: options for add and set, a name, a new name.
_EXAMPLES: Mapping[str, tuple[str, str, str, str]] = {
    "interface": ("wan1", "--enabled --track-ip 1.1.1.1", "--interval 5 --down 3", "modem1"),
    "member": ("Primary", "--interface wwan --metric 1", "--metric 2 --weight 3", "Hotspot"),
    "policy": ("All_Policy", "--use-member Primary --use-member Secondary", "--add use_member=Third", "Everything"),
    "rule": ("SmartTV", "--src-ip 192.168.1.178 --use-policy TV_Policy", "--proto tcp --dest-port 443", "Television"),
    "globals": ("", "", "--weight-mode inverse", ""),
}


def command(type_: str, verb: str) -> click.Command:
    """``connbal TYPE VERB``."""
    makers: Mapping[str, Callable[[str], click.Command]] = {
        "add": _add, "set": _set, "delete": _delete, "rename": _rename,
        "enable": lambda one: _switch(one, True), "disable": lambda one: _switch(one, False), "move": lambda _: _move(),
    }  # fmt: skip
    return makers[verb](type_)


# --- add and set ----------------------------------------------------------------------------------------------------


def _add(type_: str) -> click.Command:
    anonymous = type_ in operations.MAY_BE_ANONYMOUS
    name, example, _, _ = _EXAMPLES[type_]
    networks = complete.sections("interface", package="network")

    @click.argument("name", required=not anonymous, shell_complete=networks if type_ == "interface" else None)
    @_options_of(type_)
    @editing.options
    @click.pass_obj
    def add(
        session: Session, /, name: str | None, flags: editing.Flags, place: Place | None = None, **given: Any
    ) -> None:
        with editing.change(session, flags) as editor:
            made = operations.add(editor, type_, name, _values(given))
            if place is not None:
                operations.move(editor, made, place)
            shown = _reference(editor, type_, made)
            flags.done = f"added {type_} {shown}"
            flags.data = {"name": made, "reference": shown}

    if type_ == "rule":
        add = _placing(add, needed=False)
    where = "" if type_ != "rule" else " It becomes the last rule, unless another place is given."
    nameless = " Without a NAME it is anonymous." if anonymous else ""
    text = f"Add a {type_} called NAME.{nameless}{where} Options left out have their defaults."
    if type_ == "interface":
        text = "Add an interface for the network NAME. Options left out have their defaults."
    lines = [f"connbal {type_} add {name} {example}"]
    if type_ == "rule":
        lines.append(f"connbal rule add {name} {example} --first")
    else:
        lines.append(f"connbal {type_} add {name} {example} --dry-run")
    return _made("add", add, text, lines)


def _set(type_: str) -> click.Command:
    example, change = _EXAMPLES[type_][0], _EXAMPLES[type_][2]
    lists = [spec.name for spec in SECTIONS[type_].options.values() if spec.is_list]

    @_options_of(type_)
    @editing.options
    @click.pass_obj
    def set_(
        session: Session,
        /,
        flags: editing.Flags,
        name: str = "globals",
        to_add: Sequence[str] = (),
        to_remove: Sequence[str] = (),
        to_unset: Sequence[str] = (),
        **given: Any,
    ) -> None:
        values, added, removed = _values(given), _entries(to_add, "--add"), _entries(to_remove, "--remove")
        unset = [_option_name(option) for option in to_unset]
        if not (values or added or removed or unset):
            raise UsageError(f"nothing is asked for; connbal {type_} set --help shows the options")
        with editing.change(session, flags) as editor:
            if type_ == "globals" and editor.package.get(name) is None:
                editor.set(name, type_)
            flags.notes += operations.change(editor, type_, name, values, added, removed, unset)
            flags.done = f"changed {_title(editor, type_, name)}"

    if type_ != "globals":
        set_ = click.argument("name", shell_complete=complete.sections(type_))(set_)
    wrapped: Callable[..., Any] = set_
    wrapped = click.option(
        "--unset", "to_unset", multiple=True, metavar="OPTION",
        help="Take an option out, so that its default holds. May be given more than once.",
    )(wrapped)  # fmt: skip
    if lists:
        for flag, parameter, what in (
            ("--remove", "to_remove", "Take an entry off a list."),
            ("--add", "to_add", "Put an entry at the end of a list."),
        ):
            help_ = f"{what} May be given more than once. Lists: {', '.join(lists)}."
            wrapped = click.option(flag, parameter, multiple=True, metavar="OPTION=VALUE", help=help_)(wrapped)
    text = f"Change options of {'the globals' if type_ == 'globals' else f'{type_} NAME'}. What is not named stays."
    if lists:
        text += " A list option that is given sets the whole list; --add and --remove change it."
    line = f"connbal {type_} set {example}".rstrip()
    return _made("set", wrapped, text, [f"{line} {change}", f"{line} {change} --dry-run"])


def _options_of(type_: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for each that the schema has."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for spec in reversed(list(SECTIONS[type_].options.values())):
            function = _option(spec)(function)
        return function

    return decorate


def _option(spec: OptionSpec) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = f"--{spec.name.replace('_', '-')}"
    if spec.kind is Kind.BOOL:
        return click.option(f"{flag}/--no-{flag[2:]}", spec.name, default=None, help=_help(spec))
    kind: click.ParamType[Any] | None = None
    if spec.kind is Kind.CHOICE:
        kind = click.Choice(list(spec.choices), case_sensitive=False)
    metavar = None if kind else _METAVARS.get(spec.kind, "NAME" if spec.refers_to else "VALUE")
    names = complete.sections(spec.refers_to, *_VERDICTS.get(spec.refers_to, ())) if spec.refers_to else None
    return click.option(
        flag, spec.name, type=kind, multiple=spec.is_list, metavar=metavar, help=_help(spec), shell_complete=names
    )


#: What may stand for the name of a section.
_VERDICTS = {"policy": ("unreachable", "blackhole", "default")}


_METAVARS = {
    Kind.INT: "NUMBER", Kind.SECONDS: "TIME", Kind.WHOLE_SECONDS: "TIME", Kind.MILLISECONDS: "TIME",
    Kind.PERCENT: "PERCENT", Kind.MASK: "MASK", Kind.TABLE: "NUMBER", Kind.HOST: "HOST", Kind.ADDRESS: "ADDRESS",
    Kind.PORT: "PORT", Kind.PROTOCOL: "PROTOCOL", Kind.NETWORK: "NETWORK", Kind.MAC: "MAC", Kind.SET: "SET",
}  # fmt: skip


def _help(spec: OptionSpec) -> str:
    """Meaning, values, unit, range and default, as a sentence or two."""
    parts = [f"{spec.doc[0].upper()}{spec.doc[1:]}."]
    about = []
    if spec.kind not in (Kind.BOOL, Kind.CHOICE, Kind.REFERENCE):
        about.append(expected(spec).rstrip(",").replace(", ,", ","))
    if spec.is_list:
        about.append("may be given more than once")
    if spec.required:
        about.append("a new one needs it")
    if spec.default is not None:
        default = {"0": "no", "1": "yes"}[spec.default] if spec.kind is Kind.BOOL else spec.default
        unit = f" {spec.unit}" if spec.unit and spec.kind is not Kind.MASK else ""
        about.append(f"default: {default}{unit}")
    elif spec.default_from:
        about.append(f"default: as {spec.default_from}")
    if about:
        sentence = "; ".join(about)
        parts.append(f"{sentence[0].upper()}{sentence[1:]}.")
    return " ".join(parts)


def _values(given: Mapping[str, Any]) -> dict[str, Value]:
    """What was given on the command line, as UCI values."""
    values: dict[str, Value] = {}
    for option, value in given.items():
        if isinstance(value, bool):
            values[option] = "1" if value else "0"
        elif isinstance(value, tuple):
            if value:
                values[option] = tuple(entry for entry in value if entry)
        elif value is not None:
            values[option] = value
    return values


def _entries(given: Sequence[str], flag: str) -> dict[str, list[str]]:
    """``OPTION=VALUE`` words by option."""
    found: dict[str, list[str]] = {}
    for word in given:
        option, equals, value = word.partition("=")
        if not equals or not value:
            raise UsageError(f"{flag} {word!a} is not OPTION=VALUE; write {flag} use_member=NAME, for example")
        found.setdefault(_option_name(option), []).append(value)
    return found


def _option_name(text: str) -> str:
    return text.strip("-").replace("-", "_")


# --- delete, rename, enable, disable --------------------------------------------------------------------------------


def _delete(type_: str) -> click.Command:
    name = _EXAMPLES[type_][0]

    @click.argument("name", shell_complete=complete.sections(type_))
    @editing.options
    @click.pass_obj
    def delete(session: Session, name: str, flags: editing.Flags, cascade: bool = False) -> None:
        with editing.change(session, flags) as editor:
            flags.done = f"deleted {_title(editor, type_, name)}"
            flags.notes += operations.delete(editor, type_, name, cascade=cascade)

    text = f"Delete {type_} NAME."
    lines = [f"connbal {type_} delete {name}"]
    if operations.REFERRING[type_]:
        text += " One that is in use is refused, with the names of who uses it."
        help_ = "Delete what cannot do without it, and take it off the lists of the others."
        return _made(
            "delete", click.option("--cascade", is_flag=True, help=help_)(delete), text,
            [*lines, f"connbal {type_} delete {name} --cascade --dry-run"],
        )  # fmt: skip
    return _made("delete", delete, text, [*lines, f"connbal {type_} delete @{type_}[-1]"])


def _rename(type_: str) -> click.Command:
    name, _, _, new = _EXAMPLES[type_]

    @click.argument("name", shell_complete=complete.sections(type_))
    @click.argument("new")
    @editing.options
    @click.pass_obj
    def rename(session: Session, name: str, new: str, flags: editing.Flags) -> None:
        with editing.change(session, flags) as editor:
            old = _title(editor, type_, name)
            flags.notes += operations.rename(editor, type_, name, new)
            flags.done = f"renamed {old} to {new}"

    text = f"Give {type_} NAME the name NEW. What refers to it follows."
    return _made("rename", rename, text, [f"connbal {type_} rename {name} {new}"])


def _switch(type_: str, on: bool) -> click.Command:
    verb, name = ("enable" if on else "disable"), _EXAMPLES[type_][0]

    @click.argument("name", shell_complete=complete.sections(type_))
    @editing.options
    @click.pass_obj
    def switch(session: Session, name: str, flags: editing.Flags) -> None:
        with editing.change(session, flags) as editor:
            operations.change(editor, type_, name, {"enabled": "1" if on else "0"})
            flags.done = f"{verb}d {_title(editor, type_, name)}"

    text = f"Set option enabled of {type_} NAME to {'1' if on else '0'}."
    return _made(verb, switch, text, [f"connbal {type_} {verb} {name}"])


# --- move -----------------------------------------------------------------------------------------------------------


def _move() -> click.Command:
    @click.argument("name", shell_complete=complete.sections("rule"))
    @editing.options
    @click.pass_obj
    def move(session: Session, name: str, flags: editing.Flags, place: Place) -> None:
        with editing.change(session, flags) as editor:
            title, section = _title(editor, "rule", name), operations.find(editor, "rule", name)
            operations.move(editor, name, place)
            number = [one.name for one in editor.package.of_type("rule")].index(section.name) + 1
            flags.done = f"{title} is rule {number} now"
            flags.data = {"number": number}

    text = "Move rule NAME to another place among the rules."
    lines = ["connbal rule move SmartTV --first", "connbal rule move SmartTV --before All_Traffic"]
    return _made("move", _placing(move, needed=True), text, [*lines, "connbal rule move SmartTV --to 3"])


def _placing(function: Callable[..., Any], *, needed: bool) -> Callable[..., Any]:
    """Give a command the options for places; it gets ``place``. needed: one has to be given."""

    @functools.wraps(function)
    def placed(*args: Any, **given: Any) -> Any:
        place = _place({name: given.pop(f"at_{name}", None) for name in _PLACES}, needed)
        return function(*args, place=place, **given)

    wrapped: Callable[..., Any] = placed
    for name in reversed(_PLACES):
        flag, parameter = f"--{name}", f"at_{name}"
        if name in ("before", "after"):
            help_ = f"Immediately {'before' if name == 'before' else 'behind'} another rule."
            wrapped = click.option(
                flag, parameter, metavar="NAME", help=help_, shell_complete=complete.sections("rule")
            )(wrapped)
        elif name == "to":
            help_ = "To a number, as rule list counts, from 1."
            wrapped = click.option(flag, parameter, type=int, metavar="NUMBER", help=help_)(wrapped)
        elif needed or name == "first":
            wrapped = click.option(flag, parameter, is_flag=True, help=_PLACES[name])(wrapped)
    return wrapped


_PLACES = {
    "first": "To the top of the list.", "last": "To the bottom of the list.", "up": "One place up.",
    "down": "One place down.", "before": "", "after": "", "to": "",
}  # fmt: skip


def _place(given: Mapping[str, Any], needed: bool) -> Place | None:
    asked = [name for name, value in given.items() if value is not None and value is not False]
    if len(asked) > 1 or (needed and not asked):
        what = " and ".join(f"--{name}" for name in asked) or "no place"
        raise UsageError(f"{what} given; give one of {', '.join(f'--{name}' for name in _PLACES)}")
    if not asked:
        return None
    value = given[asked[0]]
    makers: Mapping[str, Callable[[], Place]] = {
        "first": First, "last": Last, "up": Up, "down": Down,
        "before": lambda: Before(value), "after": lambda: After(value), "to": lambda: To(value),
    }  # fmt: skip
    return makers[asked[0]]()


# --- all of them ----------------------------------------------------------------------------------------------------


def _made(name: str, function: Callable[..., Any], text: str, examples: Sequence[str]) -> click.Command:
    shown = "\n".join(f"  {line}" for line in examples)
    title = "Example" if len(examples) == 1 else "Examples"
    return click.command(name, help=f"{text}\n\n\b\n{title}:\n{shown}\n")(function)


def _title(editor: Editor, type_: str, reference: str) -> str:
    """A section as messages call it; ``globals`` is its own name."""
    found = operations.find(editor, type_, reference)
    return type_ if type_ == "globals" else f"{type_} {_reference(editor, type_, found.name)}"


def _reference(editor: Editor, type_: str, name: str) -> str:
    """The name of a section, or the place of one that has none."""
    section = operations.find(editor, type_, name)
    if not section.anonymous:
        return name
    return f"@{type_}[{[one.name for one in editor.package.of_type(type_)].index(name)}]"
