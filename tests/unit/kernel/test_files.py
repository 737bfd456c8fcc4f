"""Small files and locks."""

from __future__ import annotations

import json
import multiprocessing
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.errors import KernelError
from connbal.kernel import files
from connbal.kernel.api import TransientError


def test_written_whole_with_its_mode_and_its_directories(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "STATUS"
    files.write(path, "online\n")
    files.write(path, "offline\n")
    assert path.read_text() == "offline\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["STATUS"]


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(KernelError, match=f"write {tmp_path}/directory"):
        files.write(tmp_path / "directory", "x")
    (tmp_path / "file").write_text("old")
    with pytest.raises(KernelError):
        files.write(tmp_path / "file" / "below", "x")
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert files.read(path) is None
    assert files.read_json(path) is None
    files.write(path, json.dumps({"a": [1, None]}))
    assert files.read_json(path) == {"a": [1, None]}
    with pytest.raises(KernelError, match="larger than 3 bytes"):
        files.read(path, limit=3)
    with pytest.raises(KernelError, match="read "):
        files.read(tmp_path)
    path.write_bytes(b"\xff{")
    with pytest.raises(KernelError, match="no JSON"):
        files.read_json(path)


@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))))
def test_any_text_is_json_or_a_kernel_error(text: str) -> None:
    with suppress(KernelError):
        files.parse_json(text, "read x")


@pytest.mark.parametrize("text", ["[" * 200000, "1" * 20000, '{"a":' * 100000, "NaNa", ""])
def test_hostile_json(text: str) -> None:
    with pytest.raises(KernelError):
        files.parse_json(text, "read x")


def hold(path: str, taken: multiprocessing.synchronize.Event, release: multiprocessing.synchronize.Event) -> None:
    with files.Lock(path):
        taken.set()
        release.wait(30)


def test_a_lock_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    taken, release = multiprocessing.Event(), multiprocessing.Event()
    holder = multiprocessing.Process(target=hold, args=(str(path), taken, release))
    holder.start()
    assert taken.wait(30)
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    with (
        pytest.raises(TransientError, match=rf"held by process {holder.pid} \(python\w*\) for more than 2 s"),
        files.Lock(path, wait=2, now=lambda: clock[0], sleep=sleep),
    ):
        pytest.fail("two held it")
    assert 2 <= clock[0] < 2.2

    def sleep_until_released(_: float) -> None:
        release.set()
        holder.join()

    with files.Lock(path, wait=2, sleep=sleep_until_released):
        assert path.read_text() == f"{os.getpid()}\n"
    with files.Lock(path, wait=0):
        pass


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(KernelError, match="lock "), files.Lock(path):
            pytest.fail("taken")
