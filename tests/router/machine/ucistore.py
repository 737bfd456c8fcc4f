"""The uci command, on connbal's own store, with libuci's staging in /tmp/.uci."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable

from answers import Answer

from connbal.errors import ConfigError
from connbal.uci.edit import Change, Editor, parse_delta
from connbal.uci.embedded import EmbeddedStore
from connbal.uci.package import Package, Section, Value
from connbal.uci.staging import DIRECTORY, look, staged
from connbal.uci.text import export, parse

CONFIG = "/etc/config"
_CHANGES = ("set", "add_list", "del_list", "delete", "rename", "reorder")


class Uci:
    """Commands of ``uci``; each by itself, as they are short."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._store = EmbeddedStore(CONFIG)

    def ask(self, words: list[str], text: str) -> Answer:
        """The command line of uci without its name; ``text`` is its standard input, for ``batch`` and ``import``."""
        quiet = False
        while words and words[0].startswith("-"):
            option, *words = words
            quiet = quiet or option == "-q"
            if option in ("-c", "-p", "-P", "-d", "-t"):
                words = words[1:]
        with self._lock:
            answer = self._run(words, text)
        return Answer(answer.status, answer.out) if quiet else answer

    def _run(self, words: list[str], text: str) -> Answer:
        if words[:1] == ["batch"]:
            return self._batch(text)
        verb, *args = words or [""]
        try:
            if verb in _CHANGES:
                return self._change(verb, args[0])
            return self._known()[verb](args, text) if verb in self._known() else Answer(255, "", "unknown command\n")
        except (ConfigError, LookupError, OSError, ValueError) as error:
            return Answer(1, "", f"uci: {error if isinstance(error, ConfigError) else 'Entry not found'}\n")

    def _known(self) -> dict[str, Callable[[list[str], str], Answer]]:
        return {
            "get": self._get, "show": self._show, "export": self._show, "add": self._add, "commit": self._commit,
            "revert": self._revert, "changes": self._pending, "import": self._import,
        }  # fmt: skip

    def _batch(self, text: str) -> Answer:
        import shlex

        out = ""
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                answer = self._run(words, "")
                out += answer.out
        return Answer(0, out)

    # -- reading

    def _current(self, package: str) -> Package:
        editor = Editor(self._store.load(package))
        editor.adopt(look(DIRECTORY, package))
        return editor.package

    def _get(self, args: list[str], text: str) -> Answer:
        package, section, option = _place(args[0])
        found = self._current(package).find(section)
        if found is None:
            raise LookupError
        value: Value = found.type if option is None else found.options[option]
        return Answer(0, (value if isinstance(value, str) else " ".join(value)) + "\n")

    def _show(self, args: list[str], text: str) -> Answer:
        if not args:
            return Answer(0, "".join(self._show([name], "").out for name in sorted(os.listdir(CONFIG))))
        package, _, rest = args[0].partition(".")
        current = self._current(package)
        section, _, option = rest.partition(".")
        if not rest:
            return Answer(0, "".join(_shown(current, one) for one in current.sections))
        found = current.find(section)
        if found is None or (option and option not in found.options):
            raise LookupError
        lines = _shown(current, found).splitlines(keepends=True)
        return Answer(0, "".join(line for line in lines if not option or f".{option}=" in line))

    # -- staging

    def _add(self, args: list[str], text: str) -> Answer:
        with staged(self._store, args[0]) as editor:
            name = editor.add(args[1])
        return Answer(0, name + "\n")

    def _change(self, verb: str, argument: str) -> Answer:
        """``set``, ``add_list``, ``del_list``, ``delete``, ``rename``, ``reorder`` of one place."""
        place, equals, value = argument.partition("=")
        package, reference, option = _place(place)
        with staged(self._store, package) as editor:
            found = editor.package.find(reference)
            section = found.name if found else reference
            present = found.options.get(option, ()) if found and option else ()
            listed = [present] if isinstance(present, str) else list(present)
            if verb == "set" and option is None:
                editor.set(section, value)
            elif found is None:
                raise LookupError
            elif verb == "delete":
                if not editor.delete(section, *([option] if option else [])):
                    raise LookupError
            elif verb == "rename":
                editor.rename_option(section, option, value) if option else editor.rename(section, value)
            elif verb == "reorder":
                editor.reorder(section, int(value))
            elif option is None or not equals:
                raise LookupError
            elif verb == "set":
                editor.set(section, option, value)
            elif verb == "add_list":
                editor.set(section, option, [*listed, value])
            else:
                editor.set(section, option, [one for one in listed if one != value])
        return Answer()

    def _pending(self, args: list[str], text: str) -> Answer:
        names = args or (sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else [])
        return Answer(0, "".join(_line(name, change) for name in names for change in look(DIRECTORY, name)))

    def _revert(self, args: list[str], text: str) -> Answer:
        path = os.path.join(DIRECTORY, args[0].partition(".")[0])
        if os.path.exists(path):
            os.truncate(path, 0)
        return Answer()

    def _import(self, args: list[str], text: str) -> Answer:
        package = parse(text, args[0])
        with open(os.path.join(CONFIG, args[0]), "w") as file:
            file.write(export(package, header=False))
        return Answer()

    def _commit(self, args: list[str], text: str) -> Answer:
        for package in args or (os.listdir(DIRECTORY) if os.path.isdir(DIRECTORY) else []):
            path = os.path.join(DIRECTORY, package)
            if not os.path.exists(path):
                continue
            with open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                changes = parse_delta(file.read(), package)
                with self._store.transaction(package) as editor:
                    _redo(editor, changes)
                file.truncate(0)
        return Answer()


def _redo(editor: Editor, changes: list[Change]) -> None:
    """Do what was staged, passing over what does not fit; a transaction writes only what its editor has recorded."""
    from contextlib import suppress

    for change in changes:
        with suppress(ConfigError, ValueError):
            if change.kind == "~" and change.option is not None:
                section = editor.package.get(change.section)
                present = section.options.get(change.option, ()) if section else ()
                if not isinstance(present, str):
                    left = [one for one in present if one != change.value]
                    editor.set(change.section, change.option, left)
            else:
                editor.redo([change])


def _place(text: str) -> tuple[str, str, str | None]:
    """``package.section[.option]``; raises LookupError for less."""
    parts = text.split(".", 2)
    if len(parts) < 2:
        raise LookupError
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def _shown(package: Package, section: Section) -> str:
    """The lines of ``uci show`` for a section."""
    name = section.name
    if section.anonymous:
        name = f"@{section.type}[{[one.name for one in package.of_type(section.type)].index(section.name)}]"
    lines = [f"{package.name}.{name}={section.type}"]
    for option, value in section.options.items():
        values = [value] if isinstance(value, str) else value
        quoted = " ".join("'{}'".format(one.replace("'", "'\\''")) for one in values)
        lines.append(f"{package.name}.{name}.{option}={quoted}")
    return "".join(f"{line}\n" for line in lines)


def _line(package: str, change: Change) -> str:
    place = ".".join(part for part in (package, change.section, change.option) if part is not None)
    return f"{change.kind}{place}" + ("" if change.value is None else f"='{change.value}'") + "\n"
