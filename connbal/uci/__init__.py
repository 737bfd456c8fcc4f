"""UCI packages: values, text, and the stores that keep them in files.

    store = open_store(Path("/etc/config"))
    package = store.load("mwan3")
    with store.transaction("mwan3") as edit:
        edit.set("wan", "enabled", "1")

``text`` and ``package`` are pure; ``store`` has the contract, ``embedded`` and ``libuci`` keep it.
"""

from __future__ import annotations

from connbal.uci.edit import Editor
from connbal.uci.package import Package, Section, Value
from connbal.uci.store import Store, open_store
from connbal.uci.text import export, parse

__all__ = ["Editor", "Package", "Section", "Store", "Value", "export", "open_store", "parse"]
