"""Editing commands where the disk is full, a lock cannot be had, or the process dies: all of an edit or nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connbal.uci import files
from connbal.uci.edit import parse_delta
from connbal.uci.store import FileStore
from connbal.uci.text import parse
from tests.unit.cli.run import CONFIG, Router, router

#: Every call by which an edit reaches the disk.
CALLS = [(os, "open"), (os, "write"), (os, "fsync"), (os, "rename"), (os, "fchmod"), (os, "mkdir"), (fcntl, "flock")]
EDITS = {
    "commit": ["rule", "add", "new", "--use-policy", "both", "--first", "--no-apply"],
    "stage": ["rule", "add", "new", "--use-policy", "both", "--first", "--stage"],
}
#: How often, at least, an edit calls them that nothing disturbs; the file and its directory are synced.
REACHED = {
    "commit": {"open": 2, "write": 1, "fsync": 2, "rename": 1, "fchmod": 1, "flock": 2},
    "stage": {"open": 1, "write": 1, "mkdir": 1, "flock": 1},
}
BEFORE = parse(CONFIG, "mwan3")


@contextmanager
def at_each(module: Any, name: str, number: int, do: Callable[[], object]) -> Iterator[list[int]]:
    """Do ``do`` in place of the ``number``-th call of a function; counts the calls."""
    real, calls = getattr(module, name), [0]

    def call(*args: Any, **given: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            do()
        return real(*args, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, call)
        yield calls


def state(here: Router, way: str) -> str:
    """``old`` or ``new``; fails where it is neither, or what was not asked for has changed as well."""
    package = parse(here.file.read_bytes(), "mwan3")
    names = [one.name for one in package.of_type("rule") if not one.anonymous]
    if way == "stage":
        assert here.file.read_text() == CONFIG
        known = here.staged.read_bytes() if here.staged.exists() else b""
        changes = parse_delta(known, "mwan3")
        assert known == b"" or known.endswith(b"\n")
        assert [one.kind for one in changes] in ([], ["", "", "^"])
        return "new" if changes else "old"
    if here.file.read_text() == CONFIG:
        return "old"
    assert names == ["new", "tv", "rest"]
    assert len(package.sections) == len(BEFORE.sections) + 1
    return "new"


def refuses(error: int) -> Callable[[], None]:
    def do() -> None:
        raise OSError(error, os.strerror(error))

    return do


@pytest.mark.parametrize("way", EDITS)
@pytest.mark.parametrize(("module", "name"), CALLS, ids=[name for _, name in CALLS])
def test_the_calls_that_are_made_to_fail_are_made(way: str, module: Any, name: str, tmp_path: Path) -> None:
    here = router(tmp_path)
    with at_each(module, name, 0, lambda: None) as calls:
        assert here.run(*EDITS[way]).code == 0
    least = REACHED[way].get(name, 0)
    assert calls[0] >= least
    assert least or not calls[0], "say in REACHED that it is called"


@pytest.mark.parametrize("way", EDITS)
@pytest.mark.parametrize(("module", "name"), CALLS, ids=[name for _, name in CALLS])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=["full", "broken", "read-only"])
def test_what_fails_changes_nothing(way: str, module: Any, name: str, error: int, tmp_path: Path) -> None:
    number, calls = 0, [1]
    while number < calls[0] and number < 50:
        number += 1
        root = tmp_path / str(number)
        root.mkdir()
        here = router(root)
        with at_each(module, name, number, refuses(error)) as calls:
            done = here.run(*EDITS[way])
        if done.code == 0:
            assert state(here, way) == "new"
        else:
            assert done.code == 1
            assert done.out == ""
            assert "mwan3" in done.err
            assert state(here, way) == "old"
        assert [one for one in os.listdir(here.file.parent) if one != "mwan3"] == []
        assert here.run("rule", "add", "again", "--use-policy", "both", "--no-apply").code == 0


@pytest.mark.parametrize("way", EDITS)
def test_half_a_write_is_no_write(way: str, tmp_path: Path) -> None:
    """The disk is full in the middle of it."""
    here, real = router(tmp_path), os.write
    written = []

    def write(descriptor: int, data: Any) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(real(descriptor, bytes(data)[: len(data) // 2]))
        return written[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        done = here.run(*EDITS[way])
    assert (done.code, written != []) == (1, True)
    assert "make room" in done.err
    assert state(here, way) == "old"


@pytest.mark.parametrize("way", EDITS)
@pytest.mark.parametrize(("module", "name"), CALLS, ids=[name for _, name in CALLS])
def test_who_dies_leaves_old_or_new(way: str, module: Any, name: str, tmp_path: Path) -> None:
    for number in range(1, 30):
        root = tmp_path / str(number)
        root.mkdir()
        here = router(root)
        child = os.fork()
        if child == 0:
            with at_each(module, name, number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                here.run(*EDITS[way])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert state(here, way) == "new"
            return
        assert state(here, way) in ("old", "new")
        assert here.run("rule", "add", "again", "--use-policy", "both", "--no-apply").code == 0
        assert os.listdir(here.file.parent) == ["mwan3"]
    pytest.fail("it is never done")


@pytest.mark.parametrize("way", EDITS)
def test_a_lock_that_is_never_given_up(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = router(tmp_path)
    monkeypatch.setattr(FileStore.__init__, "__kwdefaults__", {"patience": 0.1})
    monkeypatch.setattr("connbal.uci.staging.staged.__wrapped__.__defaults__", ("", 0.1))
    path = here.file if way == "commit" else here.staged
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = here.run(*EDITS[way])
    assert (done.code, done.out) == (1, "")
    assert "locked" in done.err
    assert state(here, way) == "old"


@pytest.mark.parametrize("way", EDITS)
def test_a_file_that_cannot_be_read_is_left_alone(way: str, tmp_path: Path) -> None:
    here = router(tmp_path, CONFIG + "\nconfig rule 'x\n")
    done = here.run(*EDITS[way])
    assert (done.code, done.out) == (1, "")
    assert "line" in done.err
    assert here.file.read_text() == CONFIG + "\nconfig rule 'x\n"


def test_a_directory_in_place_of_the_staged_file(tmp_path: Path) -> None:
    here = router(tmp_path)
    here.staged.mkdir(parents=True)
    assert here.run(*EDITS["stage"]).code == 1


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """The directory of staged changes is below /tmp."""
    here = router(tmp_path)
    here.staged.parent.mkdir()
    target = tmp_path / "target"
    target.write_text("precious")
    here.staged.symlink_to(target)
    assert here.run(*EDITS["stage"]).code == 1
    assert target.read_text() == "precious"


# --- many at once -------------------------------------------------------------------------------------------------

MANY = 100


def all_at_once(here: Router, commands: list[list[str]]) -> None:
    """Each command in a process of its own, all started before any is waited for."""
    children = []
    for command in commands:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = here.run(*command).code
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(commands)


@pytest.mark.parametrize("way", ["--no-apply", "--stage"])
def test_a_hundred_edits_at_once_lose_none(way: str, tmp_path: Path) -> None:
    here = router(tmp_path)
    all_at_once(here, [["rule", "add", f"r{number}", "--use-policy", "both", way] for number in range(MANY)])
    if way == "--stage":
        assert here.file.read_text() == CONFIG
        names = {one.section for one in parse_delta(here.staged.read_bytes(), "mwan3")}
    else:
        names = {one.name for one in parse(here.file.read_bytes(), "mwan3").of_type("rule")}
    assert names >= {f"r{number}" for number in range(MANY)}
    assert os.listdir(here.file.parent) == ["mwan3"]


def test_edits_of_all_kinds_at_once(tmp_path: Path) -> None:
    here = router(tmp_path)
    here.good("policy", "add", "p")
    commands = [["member", "add", f"m_{number}", "--interface", "wan", "--no-apply"] for number in range(20)]
    commands += [["rule", "add", "--use-policy", "both", "--first", "--no-apply"] for _ in range(20)]
    commands += [["rule", "move", "tv", "--up", "--no-apply"] for _ in range(10)]
    commands += [["policy", "set", "p", "--add", "use_member=m", "--no-apply"] for _ in range(10)]
    all_at_once(here, commands)
    package = parse(here.file.read_bytes(), "mwan3")
    assert len(package.of_type("member")) == 22
    assert len(package.of_type("rule")) == 23
    assert package.find("p").options == {"use_member": ("m",)}


def test_readers_see_old_or_new(tmp_path: Path) -> None:
    here = router(tmp_path)
    stop, looked, seen = threading.Event(), threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add(files.read(str(here.file)))
            looked.set()
        seen.add(files.read(str(here.file)))

    reader = threading.Thread(target=read)
    reader.start()
    assert looked.wait(30)
    for number in range(10):
        here.good("rule", "set", "tv", "--timeout", str(number + 1), "--no-apply")
    stop.set()
    reader.join(30)
    assert len(seen) >= 2
    for data in seen:
        assert len(parse(data, "mwan3").sections) == len(BEFORE.sections)
