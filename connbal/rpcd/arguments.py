"""What a caller sends, as values that can be relied on: types, sizes, and no argument that nobody knows. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from connbal.errors import UsageError
from connbal.rpcd.methods import Argument, Method

#: Bytes of a request; characters of a text; entries of a table or an array.
REQUEST_MAX, TEXT_MAX, ENTRIES_MAX = 64 << 10, 1024, 256
#: What LuCI's HTTP server adds to the arguments of each call.
SESSION = "ubus_rpc_session"

Given = dict[str, Any]


def parse(said: bytes) -> Given:
    """A request as an object; nothing said is an empty one. UsageError for anything else."""
    if len(said) > REQUEST_MAX:
        raise UsageError(f"the arguments are longer than {REQUEST_MAX} bytes")
    if not said.strip():
        return {}
    try:
        value = json.loads(said.decode("utf-8", "surrogateescape"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError("the arguments are no JSON object") from error
    if not isinstance(value, dict):
        raise UsageError("the arguments are no JSON object")
    return value


def _no_number(_: str) -> NoReturn:
    raise ValueError


def check(method: Method, given: Given) -> Given:
    """The arguments of a call, with those only that were given: null and an empty text are as none.

    Raises UsageError: an argument is missing, unknown or of another type, or too long.
    """
    known = {one.name: one for one in method.arguments}
    refuse_unknown(given.keys() - {SESSION}, known, f"method {method.name} has no argument")
    found: Given = {}
    for name, argument in known.items():
        value = _value(argument, given.get(name))
        if value is not None:
            found[name] = value
        elif argument.required:
            raise UsageError(f"argument {name} is missing: {argument.doc}")
    return found


def _value(argument: Argument, value: object) -> Any:
    if value is None or value == "":
        return None
    name = f"argument {argument.name}"
    if argument.kind == "flag":
        return flag(value, name)
    if argument.kind == "table":
        return table(value, name)
    if argument.kind == "array":
        return texts(value, name)
    if argument.number and type(value) is int:
        return str(value) if abs(value) < 1 << 32 else text("", name)
    found = text(value, name)
    if argument.words and found not in argument.words:
        raise UsageError(f"{name}: {found!a} is none of {', '.join(argument.words)}{_nearest(found, argument.words)}")
    return found


# --- values of one kind ---------------------------------------------------------------------------------------------


def text(value: object, name: str) -> str:
    """A text that can be handed on: of bounded length, without NUL, and such that bytes can be made of it."""
    if not isinstance(value, str):
        raise UsageError(f"{name} is no string")
    if not value or len(value) > TEXT_MAX:
        raise UsageError(f"{name} has to have 1 to {TEXT_MAX} characters")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(f"{name} has characters that do not exist") from error
    if "\0" in value:
        raise UsageError(f"{name} has a NUL character")
    return value


def flag(value: object, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} is neither true nor false")
    return value


def texts(value: object, name: str) -> list[str]:
    """An array of texts."""
    if not isinstance(value, list) or len(value) > ENTRIES_MAX:
        raise UsageError(f"{name} is no array of at most {ENTRIES_MAX} strings")
    return [text(one, f"{name}[{number}]") for number, one in enumerate(value)]


def one_or_more(value: object, name: str) -> list[str]:
    """A text, or an array of them."""
    return texts(value, name) if isinstance(value, list) else [text(value, name)]


def table(value: object, name: str) -> dict[str, Any]:
    """An object; what is in it is not looked at. An empty array is one, too: some make that of an empty table."""
    if value == []:
        return {}
    if not isinstance(value, dict) or len(value) > ENTRIES_MAX:
        raise UsageError(f"{name} is no object of at most {ENTRIES_MAX} entries")
    return value


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """UsageError for the first of ``given`` that is not known, with the nearest that is."""
    names = list(known)
    for name in sorted(given):
        if name not in names:
            shown = name if len(name) <= 40 else f"{name[:40]}..."
            raise UsageError(f"{what} {shown!a}{_nearest(name, names)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name[:100], list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def whole(values: Mapping[str, object], name: str) -> dict[str, int]:
    """An object of whole numbers from 1 on."""
    for key, value in values.items():
        text(key, f"a name in {name}")
        if type(value) is not int or not 1 <= value < 10**7:
            raise UsageError(f"{name}: the share of {key!a} is no whole number from 1 on")
    return {key: value for key, value in values.items() if type(value) is int}
