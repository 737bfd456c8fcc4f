"""Whose locks count: real processes of root and of another user, at the same files."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from connbal import locks
from connbal.errors import ConfigError, KernelError
from connbal.kernel import files
from connbal.kernel.api import TransientError
from connbal.kernel.rundir import RunDir
from connbal.uci import files as uci_files
from connbal.uci.embedded import EmbeddedStore
from connbal.uci.staging import staged
from tests.netns.locks.nobody import UID, child, keeping, kept

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("lab_available")]

#: Seconds in which what nobody may hold up is done, on a machine that does much else.
SOON = 3.0
LOCKS = ("lock", "force.lock", "daemon.pid")
TEXT = "config rule 'r'\n\toption use_policy 'all'\n"


@pytest.fixture(autouse=True)
def open_to_all(tmp_path: Path) -> None:
    """pytest's directories are for root alone; these are to be as /var/run and /etc/config are."""
    top = Path(tempfile.gettempdir()).resolve()
    for directory in (tmp_path, *tmp_path.parents):
        if directory.resolve() != top and directory.resolve().is_relative_to(top):
            directory.chmod(0o755)


@contextmanager
def soon(limit: float = SOON) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def of_an_older_version(root: Path) -> Path:
    """A run directory as a version made it that did not mind who may look into it."""
    own = root / "connbal"
    own.mkdir(0o755)
    own.chmod(0o755)
    for name in (*LOCKS, "ledger.json", "forced.json", "stopped"):
        (own / name).write_text("1\n" if name in LOCKS else "{}")
        (own / name).chmod(0o644)
    return own


# --- the run directory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_nobody_but_root_may_look_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        run = RunDir(tmp_path / "var")
        with run.lock():
            run.force("wan", "up")
            run.steer(True)
            run.stopped(True)
    finally:
        os.umask(before)
    own = tmp_path / "var" / "connbal"
    assert mode(own) == 0o700
    assert {path.name: mode(path) for path in own.iterdir()} == dict.fromkeys(
        ("lock", "force.lock", "forced.json", "steer", "stopped"), 0o600
    )


@pytest.mark.parametrize("how", [fcntl.LOCK_EX, fcntl.LOCK_SH], ids=["exclusive", "shared"])
def test_what_others_opened_before_holds_nobody_up(tmp_path: Path, how: int) -> None:
    own = of_an_older_version(tmp_path)
    run = RunDir(tmp_path)
    with keeping(own, *(own / name for name in LOCKS), how=how):
        with soon(), run.lock():
            assert mode(own) == 0o700
        with soon():
            run.force("wan", "down")
        with soon():
            assert run.daemon() is None
            with run.daemon_lock("connbald"):
                assert run.daemon() == os.getpid()
        assert {path.name: mode(path) for path in own.iterdir()} == dict.fromkeys(os.listdir(own), 0o600)
        with keeping(own, *own.iterdir(), all_of_them=False) as other:
            opened = [os.readlink(f"/proc/{other}/fd/{one}") for one in os.listdir(f"/proc/{other}/fd")]
            assert not [one for one in opened if one.startswith(str(own))]


def test_who_has_a_lock_open_cannot_take_it_later(tmp_path: Path) -> None:
    """Taking the lock file away from others does not take away what they have opened."""
    own = of_an_older_version(tmp_path)
    with keeping(own / "lock", how=fcntl.LOCK_UN), RunDir(tmp_path).lock():
        pass
    opened: list[int] = []

    def later(ready: Callable[[], None]) -> None:
        opened.extend(kept([own / "lock"], fcntl.LOCK_UN))
        ready()
        while True:  # whenever it is free
            for descriptor in opened:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            time.sleep(0.001)

    (own / "lock").chmod(0o644)
    own.chmod(0o755)
    with child(later):
        for _ in range(20):
            with soon(), RunDir(tmp_path).lock():
                time.sleep(0.001)


def left_to_a_child(path: Path) -> Callable[[Callable[[], None]], None]:
    """The process that took the lock has ended: /proc/locks names nobody who could be asked."""

    def work(ready: Callable[[], None]) -> None:
        first = os.fork()
        if first == 0:
            kept([path])
            if os.fork():
                os._exit(0)
            ready()
            time.sleep(60)
        os.waitpid(first, 0)
        ready()

    return work


def test_a_lock_that_was_left_to_another_process(tmp_path: Path) -> None:
    own = of_an_older_version(tmp_path)
    with child(left_to_a_child(own / "lock")):
        with open(own / "lock") as stream, pytest.raises(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with soon(), RunDir(tmp_path).lock():
            pass


def test_roots_locks_count_however_the_file_looks(tmp_path: Path) -> None:
    """A daemon of an older version lives on: it has the file that others could open."""
    own = of_an_older_version(tmp_path)
    with keeping(own / "lock", own / "daemon.pid", uid=0) as holder:
        inode = (own / "lock").stat().st_ino
        lock = files.Lock(own / "lock", wait=0.3)
        with pytest.raises(TransientError, match=rf"held by process {holder} \(\S+\) for more than 0\.3 s"), lock:
            pytest.fail("two have it")
        assert (own / "lock").stat().st_ino == inode
        assert RunDir(tmp_path).daemon() == holder
        with pytest.raises(KernelError, match=rf"held by process {holder} "), RunDir(tmp_path).daemon_lock("connbald"):
            pytest.fail("two have it")


def test_who_asks_without_waiting_is_answered_at_once(tmp_path: Path) -> None:
    own = of_an_older_version(tmp_path)
    with keeping(own / "lock", uid=0), soon(0.5), pytest.raises(TransientError):
        files.Lock(own / "lock", wait=0).__enter__()


def test_what_a_file_says_of_a_daemon_is_not_believed(tmp_path: Path) -> None:
    own = of_an_older_version(tmp_path)
    (own / "daemon.pid").write_text("1\n")
    run = RunDir(tmp_path)
    assert run.daemon() is None
    with keeping(own / "daemon.pid"):
        assert run.daemon() is None
    with keeping(own / "daemon.pid", uid=0) as holder:
        assert run.daemon() == holder


ROUNDS, RACERS = 25, 12


def test_many_who_put_the_same_lock_aside_are_one_at_a_time(tmp_path: Path) -> None:
    """Of those who come to a lock that somebody keeps, and to one that others have open, one has it at any moment."""
    own = of_an_older_version(tmp_path)
    total = tmp_path / "total"
    total.write_text("0")

    def race() -> None:
        for _ in range(ROUNDS):
            with files.Lock(own / "lock", wait=60):
                value = int(total.read_text())
                time.sleep(0.0005)
                total.write_text(str(value + 1))

    with keeping(own / "lock"):
        children = []
        for _ in range(RACERS):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    race()
                    code = 0
                finally:
                    os._exit(code)
            children.append(pid)
        time.sleep(0.05)
        for _ in range(5):  # somebody makes it loose again and again meanwhile
            own.chmod(0o755)
            (own / "lock").chmod(0o644)
            with keeping(own / "lock", all_of_them=False):
                time.sleep(0.05)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * RACERS
    assert int(total.read_text()) == ROUNDS * RACERS
    assert sorted(os.listdir(own)) == sorted([*LOCKS, "ledger.json", "forced.json", "stopped"])


# --- what is not ours -----------------------------------------------------------------------------------------------


def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "connbal"
    own.mkdir()
    os.chown(own, UID, UID)
    with pytest.raises(KernelError) as told, RunDir(tmp_path).lock():
        pytest.fail("taken")
    for words in (str(own), f"belongs to user {UID}", "remove it"):
        assert words in str(told.value)
    assert os.listdir(own) == []


@pytest.mark.parametrize("which", ["connbal", "connbal/lock"])
def test_a_link_is_refused_and_not_followed(tmp_path: Path, which: str) -> None:
    aim = tmp_path / "aim"
    if which == "connbal":
        aim.mkdir(0o755)
        (aim / "precious").write_text("as it was")
        (aim / "precious").chmod(0o644)
    else:
        (tmp_path / "connbal").mkdir()
        aim.write_text("as it was")
        aim.chmod(0o644)
    (tmp_path / which).symlink_to(aim)
    with pytest.raises(KernelError, match=rf"{tmp_path}/{which}: it is a link, which is not followed; remove it"):
        RunDir(tmp_path).lock().__enter__()
    found = aim / "precious" if aim.is_dir() else aim
    assert (found.read_text(), mode(found)) == ("as it was", 0o644)


def test_a_lock_of_another_user_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "connbal" / "lock"
    lock.parent.mkdir()
    lock.touch()
    os.chown(lock, UID, UID)
    with pytest.raises(KernelError, match=f"lock {lock}: it belongs to user {UID}, .*remove it"):
        RunDir(tmp_path).lock().__enter__()


def test_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    of_an_older_version(tmp_path)
    run = RunDir(tmp_path)
    with run.lock():
        pass

    def ask(ready: Callable[[], None]) -> None:
        for question in (run.load, run.forced, run.daemon, run.lock().__enter__):
            try:
                question()
            except KernelError as error:
                if "Permission denied" in str(error):
                    continue
            os._exit(1)
        ready()

    with child(ask) as pid:
        time.sleep(0.05)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)


# --- the configuration ----------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "mwan3"
    path.parent.mkdir()
    path.write_text(TEXT)
    path.chmod(0o644)
    return path


def edit(path: Path, number: int) -> None:
    with EmbeddedStore(path.parent, patience=20).transaction(path.name) as editor:
        editor.set("r", "rule")
        editor.set("r", f"o{number}", "1")


@pytest.mark.parametrize("how", [fcntl.LOCK_EX, fcntl.LOCK_SH], ids=["exclusive", "shared"])
def test_nobody_holds_up_an_edit(config: Path, how: int) -> None:
    with keeping(config, config.parent, how=how):
        for number in range(3):
            with soon():
                edit(config, number)
    assert set(EmbeddedStore(config.parent).load("mwan3").sections[0].options) == {"use_policy", "o0", "o1", "o2"}
    assert mode(config) == 0o600
    assert os.listdir(config.parent) == ["mwan3"]


def test_nobody_holds_up_who_makes_the_file(tmp_path: Path) -> None:
    config = tmp_path / "config" / "mwan3"
    config.parent.mkdir()
    with keeping(config.parent), soon():
        edit(config, 0)
    assert mode(config) == 0o600
    assert os.listdir(config.parent) == ["mwan3"]


def test_nobody_holds_up_who_reads(config: Path) -> None:
    with keeping(config), soon(0.9):
        assert uci_files.read(str(config)) == TEXT.encode()
    assert mode(config) == 0o644


def test_the_mode_is_the_users_own_while_nobody_abuses_it(config: Path) -> None:
    with keeping(config, how=fcntl.LOCK_UN):
        edit(config, 0)
    assert mode(config) == 0o644


def test_roots_lock_on_the_file_counts(config: Path) -> None:
    inode = config.stat().st_ino
    with (
        keeping(config, uid=0),
        pytest.raises(ConfigError, match=r"locked for 0\.5 seconds"),
        EmbeddedStore(config.parent, patience=0.5).transaction("mwan3"),
    ):
        pytest.fail("two have it")
    assert (config.stat().st_ino, mode(config)) == (inode, 0o644)


def test_many_edits_at_once_lose_none_while_others_keep_the_file(config: Path) -> None:
    children = []
    with ExitStack() as stack:
        stack.enter_context(keeping(config, config.parent))
        for number in range(20):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    edit(config, number)
                    code = 0
                finally:
                    os._exit(code)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 20
    options = EmbeddedStore(config.parent).load("mwan3").sections[0].options
    assert set(options) == {"use_policy", *(f"o{number}" for number in range(20))}


def test_many_who_make_the_file_at_once_lose_no_edit(tmp_path: Path) -> None:
    config = tmp_path / "config" / "mwan3"
    config.parent.mkdir()
    with keeping(config.parent):
        children = []
        for number in range(10):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    edit(config, number)
                    code = 0
                finally:
                    os._exit(code)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 10
    assert len(EmbeddedStore(config.parent).load("mwan3").sections[0].options) == 10


def test_nobody_holds_up_what_is_staged(config: Path, tmp_path: Path) -> None:
    place = tmp_path / "stage" / "mwan3"
    for number in range(2):
        with staged(EmbeddedStore(config.parent), "mwan3", str(place.parent)) as editor:
            editor.set("r", f"o{number}", "1")
        if number == 0:
            stack = ExitStack()
            stack.enter_context(keeping(place))
    with stack, soon(), staged(EmbeddedStore(config.parent), "mwan3", str(place.parent)) as editor:
        editor.set("r", "o2", "1")
    assert place.read_text().count("=") == 3
    os.chown(place.parent, UID, UID)
    with pytest.raises(ConfigError, match=f"belongs to user {UID}; remove it"):
        staged(EmbeddedStore(config.parent), "mwan3", str(place.parent)).__enter__()


def test_who_keeps_a_lock_is_named_as_the_kernel_has_it(config: Path) -> None:
    descriptor = os.open(config, os.O_RDWR)
    try:
        with keeping(config) as stranger:
            found = locks.keeper(descriptor)
            assert (found.pid, found.counts) == (stranger, False)
        with keeping(config, uid=0) as holder:
            found = locks.keeper(descriptor)
            assert (found.pid, found.counts) == (holder, True)
    finally:
        os.close(descriptor)


def test_a_new_configuration_is_for_root_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for force in ([], ["--force"]):
            argv = ["--config-dir", str(tmp_path), "init", *force]
            assert subprocess.run([sys.executable, "-m", "connbal.cli.main", *argv], check=False).returncode == 0
    finally:
        os.umask(before)
    assert {name: mode(tmp_path / name) for name in os.listdir(tmp_path)} == {"mwan3": 0o600, "mwan3.old": 0o600}
