"""The ubus object ``uci`` as rpcd has it: each session stages changes of its own, and applies them with a way back."""

from __future__ import annotations

import fcntl
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from connbal.errors import ConfigError
from connbal.uci.edit import Change, Editor, parse_delta
from connbal.uci.embedded import EmbeddedStore
from connbal.uci.package import Package, Section, Value
from connbal.uci.staging import look, staged

OK, INVALID, NO_METHOD, NOT_FOUND, NO_DATA, DENIED = 0, 2, 3, 4, 5, 6
#: Seconds of an apply without a word on them.
ROLLBACK = 60.0
Reply = tuple[int, dict[str, Any] | None]
#: Names of changes as ``uci changes`` of ubus gives them.
_KINDS = {"+": "add", "-": "remove", "": "set", "@": "rename", "^": "order", "|": "list-add", "~": "list-del"}
READS = ("get", "changes", "configs")


class UciObject:
    """For the router whose root is given. ``changed`` is told each package whose file is another one now."""

    def __init__(self, root: Path, session: str, changed: Callable[[str], None]) -> None:
        self._config, self._changed = root / "etc/config", changed
        self._store = EmbeddedStore(str(self._config))
        self._staging = root / f"tmp/run/rpcd/uci-{session}"
        self._staging.mkdir(parents=True, exist_ok=True)
        self._kept = root / "tmp/run/rpcd/kept"
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()

    def call(self, method: str, args: dict[str, Any]) -> Reply:
        """Status and answer."""
        known: dict[str, Callable[[dict[str, Any]], Reply]] = {
            "get": self._get, "add": self._add, "set": self._set, "delete": self._delete, "rename": self._rename,
            "order": self._order, "changes": self._pending, "revert": self._revert, "commit": self._commit_one,
            "apply": self._apply, "confirm": self._confirm, "rollback": self._give_back, "configs": self._configs,
        }  # fmt: skip
        if method not in known:
            return NO_METHOD, None
        with self._lock:
            try:
                return known[method](args)
            except (LookupError, FileNotFoundError):
                return NOT_FOUND, None
            except (ConfigError, ValueError):
                return INVALID, None

    # -- reading

    def _editor(self, package: str) -> Editor:
        if not (self._config / package).is_file():
            raise LookupError
        editor = Editor(self._store.load(package))
        editor.adopt(look(str(self._staging), package))
        return editor

    def _get(self, args: dict[str, Any]) -> Reply:
        package = self._editor(args["config"]).package
        if "section" not in args:
            wanted = [one for one in package.sections if args.get("type") in (None, one.type)]
            return OK, {"values": {one.name: _shown(package, one) for one in wanted}}
        section = package.find(args["section"])
        if section is None:
            raise LookupError
        if "option" in args:
            return OK, {"value": _plain(section.options[args["option"]])}
        return OK, {"values": _shown(package, section)}

    def _configs(self, args: dict[str, Any]) -> Reply:
        return OK, {"configs": sorted(file.name for file in self._config.iterdir())}

    def _pending(self, args: dict[str, Any]) -> Reply:
        names = [args["config"]] if "config" in args else [file.name for file in self._staging.iterdir()]
        found = {name: [_words(one) for one in look(str(self._staging), name)] for name in sorted(names)}
        if "config" in args:
            return OK, {"changes": found[args["config"]]}
        return OK, {"changes": {name: changes for name, changes in found.items() if changes}}

    # -- staging

    def _add(self, args: dict[str, Any]) -> Reply:
        with staged(self._store, args["config"], str(self._staging)) as editor:
            name = args.get("name")
            if name:
                editor.set(name, args["type"])
            else:
                name = editor.add(args["type"])
            _give(editor, name, args.get("values", {}))
        return OK, {"section": name}

    def _set(self, args: dict[str, Any]) -> Reply:
        with staged(self._store, args["config"], str(self._staging)) as editor:
            _give(editor, _existing(editor, args["section"]), args["values"])
        return OK, None

    def _delete(self, args: dict[str, Any]) -> Reply:
        options = args.get("options") or ([args["option"]] if "option" in args else [])
        with staged(self._store, args["config"], str(self._staging)) as editor:
            section = _existing(editor, args["section"])
            if not options:
                editor.delete(section)
            for option in options:
                editor.delete(section, option)
        return OK, None

    def _rename(self, args: dict[str, Any]) -> Reply:
        with staged(self._store, args["config"], str(self._staging)) as editor:
            editor.rename(_existing(editor, args["section"]), args["name"])
        return OK, None

    def _order(self, args: dict[str, Any]) -> Reply:
        with staged(self._store, args["config"], str(self._staging)) as editor:
            for index, name in enumerate(args["sections"]):
                editor.reorder(_existing(editor, name), index)
        return OK, None

    def _revert(self, args: dict[str, Any]) -> Reply:
        (self._staging / args["config"]).unlink(missing_ok=True)
        return OK, None

    # -- applying

    def _commit_one(self, args: dict[str, Any]) -> Reply:
        self._commit(args["config"])
        return OK, None

    def _commit(self, package: str) -> None:
        path = self._staging / package
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            changes = parse_delta(file.read(), package)
            with self._store.transaction(package) as editor:
                _redo(editor, changes)
            file.truncate(0)

    def _apply(self, args: dict[str, Any]) -> Reply:
        if self._timer is not None:
            return DENIED, None
        packages = [file.name for file in sorted(self._staging.iterdir()) if file.stat().st_size]
        if args.get("rollback") and not packages:
            return NO_DATA, None
        if args.get("rollback"):
            shutil.rmtree(self._kept, ignore_errors=True)
            shutil.copytree(self._config, self._kept)
            self._timer = threading.Timer(float(args.get("timeout", ROLLBACK)), self._late)
            self._timer.daemon = True
            self._timer.start()
        for package in packages:
            self._commit(package)
            self._changed(package)
        return OK, None

    def _confirm(self, args: dict[str, Any]) -> Reply:
        if self._timer is None:
            return NO_DATA, None
        self._timer.cancel()
        self._timer = None
        return OK, None

    def _late(self) -> None:
        with self._lock:
            self._give_back({})

    def _give_back(self, args: dict[str, Any]) -> Reply:
        """Files as they were before the apply, and everybody told of them again."""
        if self._timer is None:
            return NO_DATA, None
        self._timer.cancel()
        self._timer = None
        for file in sorted(self._kept.iterdir()):
            if file.read_bytes() != (self._config / file.name).read_bytes():
                shutil.copy2(file, self._config / file.name)
                self._changed(file.name)
        return OK, None


def _existing(editor: Editor, reference: str) -> str:
    found = editor.package.find(reference)
    if found is None:
        raise LookupError
    return found.name


def _give(editor: Editor, section: str, values: dict[str, Any]) -> None:
    for option, value in values.items():
        if isinstance(value, list):
            editor.delete(section, option)
            editor.set(section, option, [str(one) for one in value])
        else:
            editor.set(section, option, str(int(value)) if isinstance(value, bool) else str(value))


def _redo(editor: Editor, changes: list[Change]) -> None:
    """As libuci commits: each change by itself, passing over what does not fit."""
    for change in changes:
        with suppress(ConfigError, ValueError):
            editor.redo([change])


def _shown(package: Package, section: Section) -> dict[str, Any]:
    index = [one.name for one in package.sections].index(section.name)
    about = {".anonymous": section.anonymous, ".type": section.type, ".name": section.name, ".index": index}
    return {**about, **{name: _plain(value) for name, value in section.options.items()}}


def _plain(value: Value) -> str | list[str]:
    return value if isinstance(value, str) else list(value)


def _words(change: Change) -> list[str]:
    parts = (_KINDS[change.kind], change.section, change.option, change.value)
    return [part for part in parts if part is not None]
