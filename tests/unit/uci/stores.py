"""The stores that tests run against: every test of the contract takes ``kind`` from KINDS."""

from __future__ import annotations

from pathlib import Path

import pytest

from connbal.uci.embedded import EmbeddedStore
from connbal.uci.libuci import LibuciStore, available
from connbal.uci.store import FileStore

WITHOUT_LIBUCI = "libuci is not here: import uci (pyuci) fails"
KINDS = ["embedded", pytest.param("libuci", marks=pytest.mark.skipif(not available(), reason=WITHOUT_LIBUCI))]

_CLASSES: dict[str, type[FileStore]] = {"embedded": EmbeddedStore, "libuci": LibuciStore}


def make_store(kind: str, directory: Path, *, patience: float = 20.0) -> FileStore:
    """A store of that kind on the files of ``directory``."""
    return _CLASSES[kind](directory, patience=patience)
