"""The record of a change that waits: what is there at each moment at which a process may be killed, and the clock."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from connbal.errors import ConfigError
from connbal.pending import inforce, record
from connbal.pending.record import MAX_BYTES, Moment, Waiting
from connbal.pending.store import Pending, Wish, now
from connbal.uci.edit import Editor
from tests.unit.uci.stores import KINDS, make_store

OLD = b"config rule 'old'   # with a comment\n\toption proto 'tcp'\n\n\n"
THEIRS = b"config rule 'theirs'\n"


class Clock:
    def __init__(self) -> None:
        self.moment = Moment("boot-1", 1000.0, 1.7e9)

    def __call__(self) -> Moment:
        return self.moment

    def later(self, seconds: float) -> None:
        self.moment = replace(self.moment, uptime=self.moment.uptime + seconds)


class Scene:
    def __init__(self, root: Path, kind: str) -> None:
        self.store = make_store(kind, root)
        self.clock = Clock()
        self.pending = Pending(root, self.clock)
        self.file = root / "mwan3"
        self.own = root / ".connbal"
        self.file.write_bytes(OLD)
        self.watched: list[int] = []

    def wish(self, **more: object) -> Wish:
        return replace(Wish(60, "a test", watch=self.watched.append), **more)

    @contextlib.contextmanager
    def edit(self, name: str, wish: Wish | None) -> Iterator[Editor]:
        with self.store.transaction(
            "mwan3", lambda old, new: self.pending.changing("mwan3", old, new, wish, (f"added {name}",))
        ) as editor:
            yield editor

    def add(self, name: str, wish: Wish | None = None) -> None:
        with self.edit(name, wish) as editor:
            editor.set(name, "rule")

    def names(self) -> list[str]:
        return [section.name for section in self.store.load("mwan3").sections]

    def take_back(self, *, due: bool = True) -> record.Back | None:
        claimed = self.pending.claim(due=due)
        return None if claimed is None else self.pending.put_back(claimed)


@pytest.fixture(params=KINDS)
def scene(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scene:
    (tmp_path / "config").mkdir()
    (tmp_path / "private").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "private"))
    return Scene(tmp_path / "config", request.param)


def test_without_a_wish_nothing_is_left_behind(scene: Scene) -> None:
    scene.add("one")
    assert not scene.own.exists()
    assert scene.pending.confirm() is None
    assert scene.pending.claim(due=False) is None
    assert not scene.own.exists()


def test_it_goes_back_byte_by_byte(scene: Scene) -> None:
    scene.file.chmod(0o640)
    scene.add("one", scene.wish())
    assert scene.watched == [60]
    assert scene.names() == ["old", "one"]
    assert stat.S_IMODE(scene.own.stat().st_mode) == 0o700
    assert stat.S_IMODE((scene.own / "waiting.json").stat().st_mode) == 0o600
    scene.clock.later(59.9)
    assert scene.take_back() is None
    scene.clock.later(0.1)
    assert scene.pending.confirm() is None  # too late
    told = scene.take_back()
    assert told is not None
    assert (told.why, told.what, told.foreign) == ("not confirmed in time", ("added one",), False)
    assert scene.file.read_bytes() == OLD
    assert stat.S_IMODE(scene.file.stat().st_mode) == 0o640
    assert scene.pending.following() is not None
    scene.pending.done()
    assert sorted(os.listdir(scene.own)) == ["last.json", "lock", "mwan3.unconfirmed"]
    assert scene.pending.last() == told


def test_confirmed_it_stays(scene: Scene) -> None:
    scene.add("one", scene.wish())
    kept = scene.pending.confirm()
    assert kept is not None
    assert kept.what == ("added one",)
    scene.clock.later(100)
    assert scene.take_back(due=False) is None
    assert scene.names() == ["old", "one"]
    assert os.listdir(scene.own) == ["lock"]


@pytest.mark.parametrize("boot", [Moment("boot-2", 1000.0, 1.7e9), Moment("boot-1", 3.0, 1.7e9)])
def test_after_a_boot_it_is_due(scene: Scene, boot: Moment) -> None:
    """The second: of a kernel that has no name for its lives."""
    scene.add("one", scene.wish(seconds=3600))
    assert not scene.pending.due()
    scene.clock.moment = boot
    assert scene.pending.due()
    assert scene.take_back() is not None
    assert scene.file.read_bytes() == OLD


@pytest.mark.parametrize("wall", [0.0, 4e9])
def test_the_clock_on_the_wall_says_nothing(scene: Scene, wall: float) -> None:
    scene.add("one", scene.wish())
    scene.clock.moment = replace(scene.clock.moment, wall=wall)
    assert not scene.pending.due()
    scene.clock.later(60)
    assert scene.pending.due()


def test_what_joins_goes_back_too_and_gains_no_time(scene: Scene) -> None:
    scene.add("one", scene.wish())
    scene.clock.later(30)
    scene.add("two", scene.wish(seconds=3600))
    assert scene.watched == [60]
    found = scene.pending.waiting()
    assert found is not None
    assert (found.what, scene.pending.left(found)) == (("added one", "added two"), 30.0)
    scene.clock.later(30)
    told = scene.take_back()
    assert told is not None
    assert not told.foreign
    assert scene.file.read_bytes() == OLD


def test_another_change_is_refused_meanwhile(scene: Scene) -> None:
    scene.add("one", scene.wish())
    before = scene.file.read_bytes()
    with pytest.raises(Waiting, match=r"until .* \(60 s\): added one; connbal confirm keeps it"):
        scene.add("two")
    scene.clock.later(60)
    with pytest.raises(Waiting, match="being taken back at this moment"):
        scene.add("two", scene.wish())
    assert scene.file.read_bytes() == before


def test_somebody_elses_change_is_kept_aside(scene: Scene) -> None:
    scene.add("one", scene.wish())
    scene.file.write_bytes(THEIRS)
    told = scene.take_back(due=False)
    assert told is not None
    assert told.foreign
    assert told.kept == (str(scene.own / "mwan3.unconfirmed"),)
    assert (scene.own / "mwan3.unconfirmed").read_bytes() == THEIRS
    assert scene.file.read_bytes() == OLD


def test_where_there_was_no_file_nothing_is_configured(scene: Scene) -> None:
    scene.file.unlink()
    scene.add("one", scene.wish())
    assert scene.take_back(due=False) is not None
    assert scene.names() == []


def test_what_was_in_force_comes_back_rather_than_what_the_file_said(scene: Scene) -> None:
    scene.add("one", scene.wish(in_force=THEIRS))
    scene.take_back(due=False)
    assert scene.file.read_bytes() == THEIRS


def test_a_file_as_it_is_in_force_needs_no_way_back(scene: Scene) -> None:
    assert not scene.pending.begin("mwan3", OLD, scene.wish(in_force=OLD))
    assert scene.pending.waiting() is None
    assert scene.pending.begin("mwan3", OLD, scene.wish(in_force=THEIRS))
    scene.take_back(due=False)
    assert scene.file.read_bytes() == THEIRS


def killed_at(call: str, number: int, action: Callable[[], object]) -> bool:
    """Have a process do it that ends, as by SIGKILL, at the ``number``-th call of a function of ``os``.

    False where there are not so many.
    """
    pid = os.fork()
    if pid == 0:
        real, count = getattr(os, call), 0

        def counted(*args: object, **given: object) -> object:
            nonlocal count
            count += 1
            if count > number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **given)

        setattr(os, call, counted)
        try:
            action()
        finally:
            os._exit(0)
    _, state = os.waitpid(pid, 0)
    return os.WIFSIGNALED(state)


@pytest.mark.parametrize("call", ["rename", "open", "write", "fsync", "unlink", "close"])
def test_a_process_that_ends_anywhere(scene: Scene, call: str) -> None:
    """Either nothing was changed and nothing waits, or all was changed and it waits. Each takes its turn."""
    seen = set()
    number = 0
    while killed_at(call, number, lambda: scene.add("one", scene.wish())):
        number += 1
        changed = scene.file.read_bytes() != OLD
        seen.add(changed)
        assert (scene.pending.waiting() is not None) == changed
        if changed:
            assert scene.take_back(due=False) is not None
            scene.pending.done()
        assert scene.file.read_bytes() == OLD
    assert number == 0 or False in seen
    assert scene.take_back(due=False) is not None
    assert scene.file.read_bytes() == OLD


@pytest.mark.parametrize("call", ["rename", "open", "fsync", "unlink", "close"])
def test_a_way_back_that_ends_anywhere(scene: Scene, call: str) -> None:
    number, killed = 0, True
    while killed:
        scene.add("one", scene.wish())
        killed = killed_at(call, number, lambda: scene.take_back(due=False))
        number += 1
        if scene.pending.waiting() is not None:  # it had not come to that
            assert scene.names() == ["old", "one"]
            scene.take_back(due=False)
        elif scene.pending.due():
            scene.take_back()
        assert scene.file.read_bytes() == OLD
        assert scene.pending.following() is not None
        scene.pending.done()
    assert number > 1


def test_killed_before_the_file_was_changed_it_takes_nobodys_change_along(scene: Scene) -> None:
    def add() -> None:
        with mock.patch(
            "connbal.uci.files.LockedFile.replace", side_effect=lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        ):
            scene.add("one", scene.wish())

    assert killed_at("nice", 0, add)
    assert (scene.own / "new.json").exists()
    scene.file.write_bytes(THEIRS)
    scene.clock.later(60)
    assert scene.pending.waiting() is None
    assert scene.take_back() is None
    assert scene.file.read_bytes() == THEIRS


def test_no_change_without_room_for_its_way_back(scene: Scene) -> None:
    scene.own.write_text("a file where the directory should be")
    with pytest.raises(ConfigError, match="nothing was changed, because its way back cannot be kept"):
        scene.add("one", scene.wish())
    assert scene.file.read_bytes() == OLD


def test_a_file_that_is_too_large_has_no_way_back(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="too much for a way back"):
        scene.add("one", scene.wish(in_force=b"#" * (MAX_BYTES + 1)))
    assert scene.file.read_bytes() == OLD


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("")], ids=["gone", "damaged"])
def test_a_copy_that_is_lost_holds_nobody_up(scene: Scene, damage: Callable[[Path], object]) -> None:
    scene.add("one", scene.wish())
    damage(scene.own / "mwan3.before")
    told = scene.take_back(due=False)
    assert told is not None
    assert "but not in the file" in told.why
    assert scene.names() == ["old", "one"]
    scene.add("two")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1}', '{"version": 1, "until": 1e999}', "[" * 5000])
def test_a_record_that_is_none(scene: Scene, text: str) -> None:
    scene.add("one", scene.wish())
    (scene.own / "waiting.json").write_text(text)
    assert scene.pending.waiting() is None
    assert not scene.pending.due()
    assert scene.pending.confirm() is None
    scene.add("two", scene.wish())
    assert scene.pending.waiting() is not None


def test_records_read_back_as_they_were_written(scene: Scene) -> None:
    scene.add("one", scene.wish(nothing=True, who="somebody \udc80"))
    found = scene.pending.waiting()
    assert found is not None
    assert record.record(record.as_json(found)) == found
    assert len(record.shortened(("x" * 1000,) * 100)) == record.WORDS


def test_now_is_of_this_boot() -> None:
    moment = now()
    assert moment.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert moment.uptime > 0


def test_what_is_in_force_is_known_only_as_it_was_read(tmp_path: Path) -> None:
    file = tmp_path / "mwan3"
    file.write_bytes(OLD)
    seen = inforce.look(file)
    inforce.remember(tmp_path, file, seen)
    assert inforce.recall(tmp_path) == OLD
    assert stat.S_IMODE((tmp_path / "connbal/applied.uci").stat().st_mode) == 0o600
    file.write_bytes(THEIRS)
    inforce.remember(tmp_path, file, seen)  # what was applied is not what is there by now
    assert inforce.recall(tmp_path) == OLD
    inforce.forget(tmp_path)
    assert inforce.recall(tmp_path) is None
