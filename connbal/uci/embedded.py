"""The store without libuci: the text is read and written by :mod:`connbal.uci.text`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connbal.uci import text
from connbal.uci.store import FileStore

if TYPE_CHECKING:
    from connbal.uci.edit import Editor
    from connbal.uci.package import Package


class EmbeddedStore(FileStore):
    """Pure Python, for development, tests, and every Linux without libuci."""

    kind = "embedded"

    def _parse(self, package: str, data: bytes) -> Package:
        return text.parse(data, package)

    def _render(self, package: str, data: bytes, editor: Editor) -> bytes:
        return text.encode(text.export(editor.package, header=False))
