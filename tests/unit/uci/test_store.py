"""The contract of a store, for each of them: what is read, what is written, and what is left alone."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from connbal.errors import ConfigError, UsageError
from connbal.uci import Editor, open_store
from connbal.uci.libuci import available
from connbal.uci.store import FileStore
from tests.unit.uci.stores import KINDS, make_store

TEXT = """# a comment
config interface 'wan'
	option enabled "1"
	list track_ip 1.1.1.1

config rule
	option use_policy 'p'

config rule 'r'
"""
CANONICAL = """
config interface 'wan'
	option enabled '1'
	list track_ip '1.1.1.1'

config rule
	option use_policy 'p'

config rule 'r'

"""


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    directory = tmp_path / "config"
    directory.mkdir()
    (directory / "mwan3").write_text(TEXT)
    return make_store(request.param, directory)


def path_of(store: FileStore) -> Path:
    return store.config_dir / "mwan3"


def left_behind(store: FileStore) -> list[str]:
    return [name for name in os.listdir(store.config_dir) if name.startswith(".")]


def test_load(store: FileStore) -> None:
    sections = store.load("mwan3").sections
    assert [(s.name, s.type, s.anonymous) for s in sections] == [
        ("wan", "interface", False),
        ("cfg0292bd", "rule", True),
        ("r", "rule", False),
    ]
    assert sections[0].options == {"enabled": "1", "track_ip": ("1.1.1.1",)}


def test_bytes_that_are_not_utf8_survive(store: FileStore) -> None:
    path_of(store).write_bytes(b"config rule 'r'\n\toption x '\xff\xfe'\n\tlist y '\xc3'\n\toption z 'gr\xc3\xbcn'\n")
    with store.transaction("mwan3") as edit:
        edit.set("r", "w", edit.sections()[0].options["x"])
    assert b"\toption w '\xff\xfe'\n" in path_of(store).read_bytes()
    assert store.load("mwan3").sections[0].options["z"] == "grün"


@pytest.mark.parametrize(
    "value", ["a\nb", 'it\'s "x"', "a\\", "\\\n", "#no", "$(reboot)", " lead", "x\r\ny", "ü☂", "'", "''", "\t"]
)
def test_values_survive(store: FileStore, value: str) -> None:
    with store.transaction("mwan3") as edit:
        edit.set("wan", "x", value)
        edit.set("r", "l", [value, "", value])
    package = store.load("mwan3")
    assert package.sections[0].options["x"] == value
    assert package.sections[2].options["l"] == (value, "", value)


def test_a_missing_file_is_an_error_that_tells_the_way_out(store: FileStore) -> None:
    with pytest.raises(ConfigError, match=r"^nope: there is no /.*/nope; connbal init makes one$"):
        store.load("nope")


def test_a_malformed_file_is_an_error_with_its_line(store: FileStore) -> None:
    path_of(store).write_text("config rule 'a'\n\toption x-y '1'\n")
    for attempt in (lambda: store.load("mwan3"), lambda: store.transaction("mwan3").__enter__()):
        with pytest.raises(ConfigError, match="line 2: 'x-y' is no option name"):
            attempt()
    assert path_of(store).read_text() == "config rule 'a'\n\toption x-y '1'\n"


@pytest.mark.parametrize("package", ["", "..", "a/b", ".hidden", "a b", "x\n"])
def test_a_package_name_cannot_lead_elsewhere(store: FileStore, package: str) -> None:
    with pytest.raises(ConfigError, match="no package name"):
        store.load(package)


def test_a_directory_is_no_package(store: FileStore) -> None:
    (store.config_dir / "sub").mkdir()
    os.mkfifo(store.config_dir / "pipe")
    for name in ("sub", "pipe"):
        with pytest.raises(ConfigError, match="regular file"):
            store.load(name)
        with pytest.raises(ConfigError, match="regular file"), store.transaction(name):
            pass


def test_nothing_changed_is_nothing_written(store: FileStore) -> None:
    before = os.stat(path_of(store))
    with store.transaction("mwan3") as edit:
        edit.set("wan", "enabled", "1")
        edit.set("wan", "track_ip", ["1.1.1.1"])
        edit.delete("nope")
    after = os.stat(path_of(store))
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert path_of(store).read_text() == TEXT


def test_a_change_writes_the_canonical_form(store: FileStore) -> None:
    with store.transaction("mwan3") as edit:
        edit.set("r", "use_policy", "it's")
    assert path_of(store).read_text() == CANONICAL[:-1] + "\toption use_policy 'it'\\''s'\n\n"
    assert not left_behind(store)


def test_every_operation(store: FileStore) -> None:
    with store.transaction("mwan3") as edit:
        name = edit.add("rule")
        edit.set(name, "use_policy", "new")
        edit.reorder(name, 0)
        edit.reorder("r", 1)
        edit.rename("r", "second")
        edit.rename_option("wan", "enabled", "on")
        edit.delete("wan", "track_ip")
        edit.set("p", "policy")
        edit.set("p", "use_member", ["a", "b"])
        edit.set("second", "member")
        wanted = edit.package
    assert path_of(store).read_text() == (
        "\nconfig rule\n\toption use_policy 'new'\n\nconfig member 'second'\n"
        "\nconfig interface 'wan'\n\toption on '1'\n"
        "\nconfig rule\n\toption use_policy 'p'\n\nconfig policy 'p'\n\tlist use_member 'a'\n\tlist use_member 'b'\n\n"
    )
    assert [dict(s.options) for s in store.load("mwan3").sections] == [dict(s.options) for s in wanted.sections]


def test_retyping_an_anonymous_section(store: FileStore) -> None:
    with store.transaction("mwan3") as edit:
        edit.set("cfg0292bd", "host")
    assert "config host\n" in path_of(store).read_text()
    with store.transaction("mwan3") as edit:
        edit.set(edit.sections()[1].name, "policy")
    assert "config policy 'cfg02" in path_of(store).read_text()


def test_an_exception_rolls_back(store: FileStore) -> None:
    def delete_and_then(action: Callable[[Editor], object]) -> None:
        with store.transaction("mwan3") as edit:
            edit.delete("wan")
            action(edit)

    with pytest.raises(ZeroDivisionError):
        delete_and_then(lambda edit: 1 // 0)
    assert path_of(store).read_text() == TEXT
    with pytest.raises(ConfigError):
        delete_and_then(lambda edit: edit.set("a b", "rule"))
    assert path_of(store).read_text() == TEXT
    assert not left_behind(store)


def test_an_os_error_of_the_block_is_not_ours(store: FileStore) -> None:
    with pytest.raises(FileNotFoundError), store.transaction("mwan3"):
        raise FileNotFoundError


def test_a_new_file_is_private(store: FileStore) -> None:
    with store.transaction("fresh") as edit:
        assert edit.sections() == ()
    assert not (store.config_dir / "fresh").exists()
    with store.transaction("fresh") as edit:
        edit.set("globals", "globals")
    assert (store.config_dir / "fresh").read_text() == "\nconfig globals 'globals'\n\n"
    assert (store.config_dir / "fresh").stat().st_mode & 0o7777 == 0o600


def test_mode_and_owner_stay(store: FileStore) -> None:
    os.chmod(path_of(store), 0o640)
    owner = (12345, 23456) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(path_of(store), *owner)
    os.chmod(path_of(store), 0o640)
    with store.transaction("mwan3") as edit:
        edit.delete("wan")
    found = path_of(store).stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, *owner)


def test_a_symbolic_link_stays_one(store: FileStore, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    os.rename(path_of(store), target)
    path_of(store).symlink_to(target)
    with store.transaction("mwan3") as edit:
        edit.delete("wan")
    assert path_of(store).is_symlink()
    assert "wan" not in target.read_text()


def test_another_name_of_the_replaced_file_keeps_its_content(store: FileStore, tmp_path: Path) -> None:
    os.link(path_of(store), tmp_path / "backup")
    with store.transaction("mwan3") as edit:
        edit.delete("wan")
    assert (tmp_path / "backup").read_text() == TEXT


def test_a_held_lock_is_waited_for_and_then_reported(store: FileStore) -> None:
    impatient = make_store(store.kind, store.config_dir, patience=0.2)
    with open(path_of(store)) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        started = time.monotonic()
        with (
            pytest.raises(ConfigError, match=r"has kept .*/mwan3 locked for 0\.2 seconds"),
            impatient.transaction("mwan3"),
        ):
            pass
        assert time.monotonic() - started < 5
        assert impatient.load("mwan3").sections  # reading goes on
    with impatient.transaction("mwan3") as edit:
        edit.delete("wan")


def test_a_writer_that_minds_no_lock_is_not_overwritten(store: FileStore) -> None:
    with store.transaction("mwan3") as edit:
        edit.set("r", "use_policy", "ours")
        beside = store.config_dir / "beside"
        beside.write_text(TEXT.replace("1.1.1.1", "9.9.9.9"))
        os.rename(beside, path_of(store))
    package = store.load("mwan3")
    assert package.sections[0].options["track_ip"] == ("9.9.9.9",)
    assert package.sections[2].options["use_policy"] == "ours"


def test_one_who_waited_with_the_old_file_in_hand_finds_the_new_content(store: FileStore) -> None:
    """``uci commit`` opens, waits for the lock, and reads what it opened, replaced or not."""
    with open(path_of(store)) as other:
        with store.transaction("mwan3") as edit:
            edit.delete("wan")
        fcntl.flock(other, fcntl.LOCK_EX)
        assert other.read() == path_of(store).read_text()


def test_leftovers_of_a_crash_are_removed(store: FileStore) -> None:
    (store.config_dir / ".mwan3.connbal-0123456789ab").write_text("half")
    old = store.config_dir / ".mwan3.uci-Abc123"
    old.write_text("not ours to remove, and too old to wait for")
    os.utime(old, (1, 1))
    started = time.monotonic()
    with store.transaction("mwan3"):
        pass
    assert time.monotonic() - started < 0.9
    assert left_behind(store) == [old.name]


def test_staged_changes_are_neither_read_nor_committed_nor_lost(
    store: FileStore, request: pytest.FixtureRequest
) -> None:
    """libuci's own directory for them is compiled in, so this test has to use it: under a name of its own."""
    name = f"connbal_test_{uuid.uuid4().hex}"
    (store.config_dir / name).write_text(TEXT)
    staging = Path("/tmp/.uci")
    staging.mkdir(mode=0o700, exist_ok=True)
    staged = staging / name
    request.addfinalizer(staged.unlink)
    staged.write_text(f"{name}.wan.enabled='0'\n{name}.wan.staged='1'\n")
    assert store.load(name).sections[0].options == {"enabled": "1", "track_ip": ("1.1.1.1",)}
    with store.transaction(name) as edit:
        edit.set("wan", "ours", "1")
    assert store.load(name).sections[0].options == {"enabled": "1", "track_ip": ("1.1.1.1",), "ours": "1"}
    assert staged.read_text() == f"{name}.wan.enabled='0'\n{name}.wan.staged='1'\n"


def test_open_store_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONNBAL_UCI", raising=False)
    assert open_store(tmp_path).kind == ("libuci" if available() else "embedded")
    assert open_store(tmp_path, prefer="embedded").kind == "embedded"
    monkeypatch.setenv("CONNBAL_UCI", "embedded")
    assert open_store(tmp_path, prefer="libuci").kind == "embedded"
    monkeypatch.setenv("CONNBAL_UCI", "sqlite")
    with pytest.raises(UsageError, match="'sqlite' is no configuration store"):
        open_store(tmp_path)
    monkeypatch.setenv("CONNBAL_UCI", "libuci")
    monkeypatch.setitem(sys.modules, "uci", None)
    with pytest.raises(UsageError, match="install python3-uci"):
        open_store(tmp_path)


def test_importing_a_store_imports_nothing_heavy() -> None:
    heavy = {"asyncio", "subprocess", "tempfile", "urllib", "json", "logging", "pyroute2", "socket", "click", "uci"}
    code = "import sys; before = set(sys.modules); import connbal.uci, connbal.uci.embedded, connbal.uci.libuci; "
    code += "print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def test_a_type_that_libuci_cannot_write_is_read_but_never_written(store: FileStore) -> None:
    text = "config \"it's\" 'a'\nconfig \"x;y\" 'b'\n\toption c '1'\n"
    path_of(store).write_text(text)
    assert [(s.name, s.type) for s in store.load("mwan3").sections] == [("a", "it's"), ("b", "x;y")]
    with pytest.raises(ConfigError, match="Look for quotes in types"):
        delete_option(store, "b", "c")
    assert path_of(store).read_text() == text
    assert not left_behind(store)


def delete_option(store: FileStore, section: str, option: str) -> None:
    with store.transaction("mwan3") as edit:
        edit.delete(section, option)
