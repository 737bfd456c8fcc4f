"""Several processes at one file, and processes that die at any moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from connbal.uci import files
from tests.unit.uci.stores import KINDS, make_store

WRITERS, EDITS = 8, 100


def start(work: Callable[[], None]) -> int:
    """Run ``work`` in a process of its own; its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exists", [True, False], ids=["file", "no file yet"])
def test_no_edit_is_lost(kind: str, exists: bool, tmp_path: Path) -> None:
    if exists:
        (tmp_path / "t").write_text("config rule 'r'\n")

    def write(writer: int) -> None:
        store = make_store(kind, tmp_path, patience=60)
        for number in range(writer, EDITS, WRITERS):
            with store.transaction("t") as edit:
                edit.set("r", "rule")
                edit.set("r", f"o{number}", "1")

    children = [start(partial(write, writer)) for writer in range(WRITERS)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * WRITERS
    options = make_store(kind, tmp_path).load("t").sections[0].options
    assert set(options) == {f"o{number}" for number in range(EDITS)}
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_sees_old_or_new_and_nothing_else(kind: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("config rule 'r'\n\toption a '0'\n\toption b '0'\n")
    store = make_store(kind, tmp_path)

    def write() -> None:
        for number in range(1, 60):
            with store.transaction("t") as edit:
                edit.set("r", "a", str(number))
                edit.set("r", "b", str(number))

    child = start(write)
    seen = set()
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        options = store.load("t").sections[0].options
        assert options["a"] == options["b"]
        seen.add(options["a"])
    assert seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_writer_leaves_the_old_file_or_the_new(kind: str, tmp_path: Path) -> None:
    padding = "".join(f"\tlist pad '{number:050}'\n" for number in range(200))
    (tmp_path / "t").write_text(f"config rule 'r'\n\toption a '0'\n\toption b '0'\n{padding}")
    store = make_store(kind, tmp_path)

    def write() -> None:
        while True:
            with store.transaction("t") as edit:
                number = str(int(str(edit.sections()[0].options["a"])) + 1)
                edit.set("r", "a", number)
                edit.set("r", "b", number)

    last = 0
    for attempt in range(25):
        child = start(write)
        time.sleep(0.02 + 0.0037 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        options = store.load("t").sections[0].options
        assert options["a"] == options["b"]
        assert len(options["pad"]) == 200
        assert int(str(options["a"])) >= last
        last = int(str(options["a"]))
        assert len(os.listdir(tmp_path)) <= 2  # at most one leftover, however often
    assert last > 0
    with store.transaction("t") as edit:
        edit.set("r", "a", "end")
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_edit_waits_for_a_commit_that_is_about_to_rename(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``uci commit`` lets go of the lock before it renames: what was written in between would be gone."""
    file, theirs = tmp_path / "t", tmp_path / ".t.uci-Abc123"
    file.write_text("config rule 'r'\n")
    renamed = []

    def begin() -> None:
        theirs.write_text("config rule 'r'\n\toption theirs '1'\n")

    def sleep(seconds: float) -> None:
        if theirs.exists():
            renamed.append(theirs.replace(file))

    monkeypatch.setattr(files.time, "sleep", sleep)
    if when == "before":
        begin()
    store = make_store("embedded", tmp_path)
    with store.transaction("t") as edit:
        edit.set("r", "ours", "1")
        if when == "meanwhile":
            begin()
    assert renamed == [file]
    assert store.load("t").sections[0].options == {"theirs": "1", "ours": "1"}
