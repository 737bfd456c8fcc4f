"""Keeps the private copies that the libuci store makes out of /tmp: some tests kill their owners."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def temporary_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("private")))
