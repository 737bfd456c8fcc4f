"""The files of mwan3's tracker: their text, what is written and what is not, and what may lie in their way."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.errors import KernelError
from connbal.track.health import Forced, observe
from connbal.track.quality import Host, HostState
from connbal.track.statefiles import StateFiles, contents
from tests.unit.track.test_health import DOWN, settings
from tests.unit.track.test_report import ONE, after

#: The monotonic clock began this many seconds after the boot.
AHEAD = 1000.0
HOSTS = {"TRACK_a": "up\n", "LATENCY_a": "20\n", "LOSS_a": "0\n"}


def texts(words: str, now: float = 10.0) -> dict[str, str]:
    """File name -> text without its end."""
    found = contents(ONE, after(ONE, words), now, now + AHEAD, 77)
    assert all(text.endswith("\n") and len(text.splitlines()) == 1 for text in found.values())
    return {name: text.rstrip() for name, text in found.items()}


# --- what is in them ----------------------------------------------------------------------------------------------


def test_a_source_that_works() -> None:
    assert texts("++ +-") == {
        "STATUS": "online", "TIME": "1002", "ONLINE": "1000", "OFFLINE": "0", "SCORE": "6", "LOST": "0", "TURN": "2",
        "STARTED": "1", "PID": "77",
        "TRACK_1.1.1.1": "up", "LATENCY_1.1.1.1": "20", "LOSS_1.1.1.1": "0",
        "TRACK_9.9.9.9": "down", "LATENCY_9.9.9.9": "20", "LOSS_9.9.9.9": "50",
    }  # fmt: skip


def test_a_source_that_went_offline() -> None:
    found = texts("-- -- --")
    assert (found["STATUS"], found["ONLINE"], found["OFFLINE"], found["SCORE"]) == ("offline", "0", "1003", "0")
    assert (found["TRACK_1.1.1.1"], found["LATENCY_1.1.1.1"], found["LOSS_1.1.1.1"]) == ("down", "0", "100")


def test_the_state_is_written_last() -> None:
    """Who sees it change finds the other files changed."""
    assert [list(texts(words))[-1] for words in ("", "++", "-- -- --")] == ["STATUS"] * 3


def test_a_host_that_was_left_out_has_numbers() -> None:
    found = texts("+?")
    assert (found["TRACK_9.9.9.9"], found["LATENCY_9.9.9.9"], found["LOSS_9.9.9.9"]) == ("skipped", "0", "0")


def test_a_host_that_was_never_asked_has_no_file() -> None:
    found = texts("")
    assert (found["TIME"], found["ONLINE"], found["STARTED"]) == ("0", "1000", "1")
    assert not [name for name in found if "_" in name]


def test_while_it_is_not_probed_no_host_is_up() -> None:
    for observation in (DOWN, Forced(False)):
        state, _ = observe(ONE, after(ONE, "++"), observation, 3.0)
        found = contents(ONE, state, 4.0, 4.0 + AHEAD, 77)
        assert (found["STATUS"], found["STARTED"], found["OFFLINE"]) == ("disabled\n", "0\n", "1003\n")
        assert not [name for name in found if "_" in name]


def test_since_the_boot_is_not_never() -> None:
    found = contents(ONE, after(ONE), 0.2, 0.2, 77)
    assert (found["ONLINE"], found["OFFLINE"]) == ("1\n", "0\n")


@given(st.floats(0, 0.04), st.floats(0, 1e5))
def test_seconds_do_not_waver_with_the_clocks(late: float, now: float) -> None:
    state = replace(after(ONE, "++"), time=2.99, online_since=1.97)
    assert contents(ONE, state, now, now + late, 1) == contents(ONE, state, now, now, 1)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", "a..b", "", ".\0", "a b", "a\nb", "x" * 201, "é", "$(id)", "*", "\udcff"]
)
def test_a_name_that_makes_no_safe_file_has_none(name: str) -> None:
    state = replace(after(ONE, "++"), hosts=(Host(name, HostState.UP), Host("fd00::1%eth0.2", HostState.UP)))
    found = contents(settings(track_ip=(name,)), state, 3.0, 3.0, 1)
    hosts = {key for key in found if "_" in key}
    assert hosts == {"TRACK_fd00::1%eth0.2", "LATENCY_fd00::1%eth0.2", "LOSS_fd00::1%eth0.2"}


# --- writing them -------------------------------------------------------------------------------------------------


def on_disk(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def inodes(directory: Path) -> dict[str, int]:
    """A file that is replaced is another one. (A link to each keeps the number from being given again.)"""
    keep = directory.parent.parent / "keep"
    keep.mkdir(exist_ok=True)
    for path in directory.iterdir():
        if not (keep / str(path.stat().st_ino)).exists():
            os.link(path, keep / str(path.stat().st_ino))
    return {path.name: path.stat().st_ino for path in directory.iterdir()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "run" / "mwan3track"


@pytest.fixture
def directory(root: Path) -> Path:
    return root / "wan"


def test_only_what_changed_is_written(root: Path, directory: Path) -> None:
    files = StateFiles(root)
    first = {"STATUS": "online\n", "SCORE": "10\n", **HOSTS}
    files.write("wan", first)
    assert on_disk(directory) == first
    before = inodes(directory)
    files.write("wan", dict(first))
    assert inodes(directory) == before
    files.write("wan", {**first, "SCORE": "9\n"})
    changed = inodes(directory)
    assert {name for name in before if before[name] != changed[name]} == {"SCORE"}
    assert on_disk(directory) == {**first, "SCORE": "9\n"}


def test_nothing_at_all_happens_where_nothing_changed(root: Path, directory: Path) -> None:
    files = StateFiles(root)
    files.write("wan", HOSTS)
    root.rename(root.parent / "away")
    files.write("wan", HOSTS)
    assert not root.exists()


def test_hosts_that_are_gone_lose_their_files(root: Path, directory: Path) -> None:
    files = StateFiles(root)
    files.write("wan", {"STATUS": "online\n", **HOSTS})
    files.write("wan", {"STATUS": "online\n"})
    assert on_disk(directory) == {"STATUS": "online\n"}


def test_what_an_earlier_daemon_left_is_brought_right(root: Path, directory: Path) -> None:
    directory.mkdir(parents=True)
    for name in ("STATUS", "TURN", "TRACK_old", "LOSS_fd00::1", ".new"):
        (directory / name).write_text("old\n")
    others = {"note": "kept\n", "TRACK_a b": "kept\n", "STATUS.bak": "kept\n", "TRACK_": "kept\n"}
    for name, text in others.items():
        (directory / name).write_text(text)
    StateFiles(root).write("wan", HOSTS)
    assert on_disk(directory) == {**HOSTS, **others}


def test_fully_puts_right_what_others_wrote(root: Path, directory: Path) -> None:
    files = StateFiles(root)
    files.write("wan", {"STATUS": "online\n", "SCORE": "10\n"})
    (directory / "STATUS").write_text("disabled\n")
    (directory / "SCORE").unlink()
    (directory / "TRACK_b").write_text("up\n")
    files.write("wan", {"STATUS": "online\n", "SCORE": "10\n"})
    assert (directory / "STATUS").read_text() == "disabled\n"
    files.write("wan", {"STATUS": "online\n", "SCORE": "10\n"}, fully=True)
    assert on_disk(directory) == {"STATUS": "online\n", "SCORE": "10\n"}


def test_a_directory_that_somebody_removed_is_filled_again(root: Path, directory: Path) -> None:
    files = StateFiles(root)
    files.write("wan", {"STATUS": "online\n", "SCORE": "10\n"})
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    files.write("wan", {"STATUS": "online\n", "SCORE": "9\n"})
    assert on_disk(directory) == {"STATUS": "online\n", "SCORE": "9\n"}


def test_a_reader_never_meets_half_a_file(root: Path, directory: Path) -> None:
    files, texts_ = StateFiles(root), {"a\n" * 2000, "b\n" * 1000}
    files.write("wan", {"STATUS": "a\n" * 2000})
    read: set[str] = set()
    done = threading.Event()

    def reader() -> None:
        while not done.is_set():
            read.add((directory / "STATUS").read_text())

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for number in range(500):
            files.write("wan", {"STATUS": "b\n" * 1000 if number % 2 else "a\n" * 2000}, fully=True)
    finally:
        done.set()
        thread.join()
    assert read <= texts_


# --- what lies in the way -----------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Something of somebody else's, as it must still be after the test."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "STATUS").write_text("mine\n")
    (path / "TRACK_b").write_text("mine\n")
    return path


def untouched(outside: Path) -> bool:
    return on_disk(outside) == {"STATUS": "mine\n", "TRACK_b": "mine\n"}


def test_links_are_replaced_and_not_followed(root: Path, directory: Path, outside: Path) -> None:
    root.mkdir(parents=True)
    directory.symlink_to(outside)
    StateFiles(root).write("wan", HOSTS)
    assert not directory.is_symlink()
    assert on_disk(directory) == HOSTS
    for name in ("STATUS", ".new", "TRACK_b"):
        (directory / name).symlink_to(outside / "STATUS")
    StateFiles(root).write("wan", {"STATUS": "online\n"})
    assert on_disk(directory) == {"STATUS": "online\n"}
    assert not (directory / "STATUS").is_symlink()
    assert untouched(outside)


def test_a_file_or_pipe_is_replaced_and_not_waited_for(root: Path, directory: Path) -> None:
    root.mkdir(parents=True)
    directory.write_text("")
    StateFiles(root).write("wan", HOSTS)
    os.mkfifo(directory / "STATUS")
    os.mkfifo(directory / ".new")
    StateFiles(root).write("wan", {"STATUS": "online\n"})
    assert on_disk(directory) == {"STATUS": "online\n"}


def test_a_directory_in_the_way_of_a_file_keeps_nothing_else_from_it(root: Path, directory: Path) -> None:
    (directory / "STATUS" / "x").mkdir(parents=True)
    files = StateFiles(root)
    for score in ("1\n", "2\n", "2\n"):
        with pytest.raises(KernelError, match=f"write {directory}: STATUS: .*remove it"):
            files.write("wan", {"STATUS": "online\n", "SCORE": score})
        assert (directory / "SCORE").read_text() == score
    (directory / "STATUS" / "x").rmdir()
    (directory / "STATUS").rmdir()
    files.write("wan", {"STATUS": "online\n", "SCORE": "2\n"})
    assert on_disk(directory) == {"STATUS": "online\n", "SCORE": "2\n"}


def test_after_a_failure_the_memory_is_not_relied_on(root: Path, directory: Path) -> None:
    files = StateFiles(root)
    files.write("wan", {"SCORE": "1\n"})
    (directory / "STATUS").mkdir()
    with pytest.raises(KernelError, match="STATUS"):
        files.write("wan", {"SCORE": "2\n", "STATUS": "online\n"})
    (directory / "STATUS").rmdir()
    files.write("wan", {"SCORE": "1\n"})
    assert on_disk(directory) == {"SCORE": "1\n"}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_root_that_is_no_directory_is_named(root: Path, outside: Path, kind: str) -> None:
    root.parent.mkdir()
    if kind == "file":
        root.write_text("")
    else:
        root.symlink_to(outside)
    files = StateFiles(root)
    for act in (lambda: files.write("wan", HOSTS), lambda: files.retain(["wan"]), files.clear):
        with pytest.raises(KernelError, match=f"{root}.*remove it"):
            act()
    assert untouched(outside)


@pytest.mark.parametrize("interface", ["..", ".", "", "a/b", "a\0b", "wan.1", "x" * 256, "é", "a\n"])
def test_a_hostile_interface_is_refused(root: Path, interface: str) -> None:
    with pytest.raises(KernelError, match="no name"):
        StateFiles(root).write(interface, HOSTS)
    assert not root.exists()


@given(st.text(max_size=8) | st.sampled_from(["../STATUS", "TRACK_/x", "TRACK_..", "LOSS_a..b", ".new", "STATUS\n"]))
def test_a_file_of_another_name_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "never"
    with pytest.raises(KernelError, match="no name"):
        StateFiles(root).write("wan", {name: "x\n"})
    assert not root.exists()


# --- taking them away ---------------------------------------------------------------------------------------------


def test_interfaces_that_are_gone_lose_their_directories(root: Path) -> None:
    files = StateFiles(root)
    for name in ("wan", "wan1", "wan2"):
        files.write(name, HOSTS)
    (root / "wan2" / "note").write_text("")
    (root / "wan2" / ".new").write_text("")
    files.retain(iter(["wan"]))
    assert sorted(path.name for path in root.iterdir()) == ["wan", "wan2"]
    assert on_disk(root / "wan2") == {"note": ""}
    files.write("wan2", HOSTS)
    assert on_disk(root / "wan2") == {"note": "", **HOSTS}


def test_an_interface_that_comes_back_is_written_again(root: Path) -> None:
    files = StateFiles(root)
    files.write("wan", HOSTS)
    files.retain([])
    assert not (root / "wan").exists()
    files.write("wan", HOSTS)
    assert on_disk(root / "wan") == HOSTS


def test_clear_leaves_nothing_of_its_own(root: Path, outside: Path) -> None:
    files = StateFiles(root)
    files.clear()
    files.write("wan", HOSTS)
    StateFiles(root).clear()
    assert not root.exists()
    files.write("wan1", HOSTS)
    (root / "wan").symlink_to(outside)
    (root / "wan2").write_text("")
    (root / "a.b").mkdir()
    files.clear()
    assert sorted(path.name for path in root.iterdir()) == ["a.b", "wan", "wan2"]
    assert untouched(outside)


def test_no_descriptor_stays_open(root: Path) -> None:
    files = StateFiles(root)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        files.write("wan", {"SCORE": f"{number}\n"}, fully=number % 3 == 0)
        (root / "wan" / "TURN").mkdir(exist_ok=True)
        with pytest.raises(KernelError):
            files.write("wan", {"SCORE": "x\n", "TURN": "1\n"})
        (root / "wan" / "TURN").rmdir()
    files.clear()
    assert len(os.listdir("/proc/self/fd")) == before
