"""UCI packages: values, text, and the stores that keep them in files.

    store = open_store(Path("/etc/config"))
    package = store.load("mwan3")
    with store.transaction("mwan3") as edit:
        edit.set("wan", "enabled", "1")

``text`` and ``package`` are pure; ``store`` has the contract, ``embedded`` and ``libuci`` keep it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connbal.uci.edit import Editor
    from connbal.uci.package import Package, Section, Value
    from connbal.uci.store import Store, open_store
    from connbal.uci.text import export, parse

__all__ = ["Editor", "Package", "Section", "Store", "Value", "export", "open_store", "parse"]

_HOMES = {
    "Editor": "edit", "Package": "package", "Section": "package", "Value": "package", "Store": "store",
    "open_store": "store", "export": "text", "parse": "text",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Each name from its module, when it is asked for: a command that reads needs no editor."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
