"""Holds values against the shapes of ``connbal.cli.shapes``, and writes the shapes down for docs/json.md."""

from __future__ import annotations

import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from connbal.cli.shapes import DOCUMENTS, Document

_UNIONS = (Union, types.UnionType)


# --- checking -----------------------------------------------------------------------------------------------------


def faults(value: object, shape: Any, place: str = "") -> list[str]:
    """What keeps a value, as JSON gives it, from having a shape; nothing where it has it."""
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is Annotated:
        return faults(value, arguments[0], place)
    if origin in _UNIONS:
        return _union(value, arguments, place)
    if is_typeddict(shape):
        return _object(value, shape, place)
    if origin is Literal:
        fits = any(type(value) is type(one) and value == one for one in arguments)
    elif origin is list:
        if isinstance(value, list):
            return [fault for i, one in enumerate(value) for fault in faults(one, arguments[0], f"{place}[{i}]")]
        fits = False
    elif origin is dict:
        if isinstance(value, dict):
            return [fault for key, one in value.items() for fault in faults(one, arguments[1], f"{place}.{key}")]
        fits = False
    elif shape is float:
        fits = type(value) in (int, float)
    else:
        fits = type(value) is shape
    return [] if fits else [f"{place or 'the document'}: {value!r:.80} is not {kind_of(shape)}"]


def _union(value: object, shapes: tuple[Any, ...], place: str) -> list[str]:
    found = [faults(value, shape, place) for shape in shapes]
    return [] if [] in found else min(found, key=len)


def _object(value: object, shape: Any, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place or 'the document'}: {value!r:.80} is no object"]
    hints = get_type_hints(shape, include_extras=True)
    found = [f"{place}.{key}: is missing" for key in sorted(shape.__required_keys__ - value.keys())]
    found += [f"{place}.{key}: is not in {shape.__name__}" for key in value.keys() - hints.keys()]
    return found + [
        fault for key in hints if key in value for fault in faults(value[key], hints[key], f"{place}.{key}")
    ]


def check(document: dict[str, Any]) -> None:
    """Fail where a document is not what its form says. Its first key has to be its form."""
    assert next(iter(document)) == "schema"
    form = document["schema"]
    assert form in DOCUMENTS, f"{form}: not in connbal.cli.shapes.DOCUMENTS"
    found = faults(document, DOCUMENTS[form].shape)
    assert not found, "\n".join([form, *found])


# --- writing down -------------------------------------------------------------------------------------------------


def kind_of(shape: Any) -> str:
    """A type in words, as the page has it."""
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is Annotated:
        return kind_of(arguments[0])
    if origin in _UNIONS:
        return " or ".join(kind_of(one) for one in arguments)
    if origin is Literal:
        return ", ".join(f'`"{one}"`' for one in arguments)
    if origin is list:
        return f"array of {kind_of(arguments[0])}"
    if origin is dict:
        return f"object, by name: {kind_of(arguments[1])}"
    if is_typeddict(shape):
        return f"[{shape.__name__}](#{shape.__name__.lower()})"
    names = {str: "string", bool: "true or false", int: "integer", float: "number", type(None): "null"}
    return names[shape]


def alternatives(shape: Any) -> tuple[Any, ...]:
    return get_args(shape) if get_origin(shape) in _UNIONS else (shape,)


def meanings(shape: Any) -> Iterator[tuple[str, Any, str, bool]]:
    """Key, type, meaning, and whether it is always there; ``schema`` first."""
    hints = get_type_hints(shape, include_extras=True)
    for key in sorted(hints, key=lambda key: key != "schema"):
        assert get_origin(hints[key]) is Annotated, f"{shape.__name__}.{key} says no meaning"
        kind, meaning = get_args(hints[key])
        yield key, kind, meaning, key in shape.__required_keys__


def parts(shape: Any) -> Iterator[Any]:
    """The TypedDicts that a type leads to, itself first, depth first; a part may come again."""
    if is_typeddict(shape):
        yield shape
        for _, kind, _, _ in meanings(shape):
            yield from parts(kind)
    else:
        for one in get_args(shape):
            yield from parts(one)


def page() -> str:
    """All forms, then all objects that they hold."""
    lines: list[str] = ["## Documents", ""]
    for form, document in DOCUMENTS.items():
        lines += [f"### {form}", "", *_printed_by(document)]
        for shape in alternatives(document.shape):
            lines += [_text(shape), "", *_table(shape, form)]
    lines += ["## Objects", ""]
    for name, shape in sorted(objects().items()):
        lines += [f"### {name}", "", _text(shape), "", *_table(shape)]
    return "".join(f"{line}\n" for line in lines[:-1])


def objects() -> dict[str, Any]:
    """The objects within documents, by name."""
    tops = {one for document in DOCUMENTS.values() for one in alternatives(document.shape)}
    found: dict[str, Any] = {}
    for top in tops:
        for shape in parts(top):
            if shape not in tops:
                assert found.setdefault(shape.__name__, shape) is shape, f"two shapes are called {shape.__name__}"
    return found


def _printed_by(document: Document) -> list[str]:
    if not document.commands:
        return []
    names = ", ".join(f"`connbal {command}`".replace(" ", "\0") for command in document.commands)
    text = f"Printed with `--json` by {names}{', one a line' if document.stream else ''}."
    return [*(line.replace("\0", " ") for line in textwrap.wrap(text, 116)), ""]


def _text(shape: Any) -> str:
    assert shape.__doc__, shape
    return "\n".join(line.rstrip() for line in inspect.cleandoc(shape.__doc__).splitlines())


def _table(shape: Any, form: str = "") -> list[str]:
    rows = ["| Key | Value | Meaning |", "| --- | --- | --- |"]
    for key, kind, meaning, always in meanings(shape):
        optional = "" if always else " (may be absent)"
        value = f'`"{form}"`' if key == "schema" else kind_of(kind)
        rows.append(f"| `{key}`{optional} | {value} | {meaning} |")
    return [*rows, ""]
