"""Files that are damaged, or larger than a router can bear: nothing of them is used, and they are left as they are."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from connbal.errors import ConfigError
from connbal.uci import files
from connbal.uci import store as stores
from connbal.uci.exchange import transform
from connbal.uci.package import Package, Section
from connbal.uci.store import FileStore
from tests.unit.uci.stores import KINDS, make_store

RULE = "config rule 'rule_{0}'\n\toption src_ip '192.168.0.0/16'\n\toption proto 'tcp'\n\toption use_policy 'p'\n\n"

DAMAGED = {
    "all NUL": (bytes(1 << 20), "nothing but NUL bytes"),
    "a tail of NUL": (RULE.format(1).encode() + bytes(512), "NUL bytes"),
    "a head of NUL": (bytes(512) + RULE.format(1).encode(), "NUL bytes"),
    "one NUL": (b"config rule 'a\0b'\n", "NUL bytes"),
    "too large": (b"# much\n" * (1 << 20), f"more than {files.MAX_BYTES} bytes"),
    "too many lines": (b"\n" * (stores.MAX_LINES + 1), f"more than {stores.MAX_LINES} lines"),
    "too many sections": (b"config rule\n" * (stores.MAX_SECTIONS + 1), f"more than {stores.MAX_SECTIONS} sections"),
    "a long line": (b"#" * (stores.MAX_LINE + 1), f"more than {stores.MAX_LINE} bytes in one line"),
    "short commands": (b"c r\n" * (stores.MAX_SECTIONS + 1), f"more than {stores.MAX_SECTIONS} sections"),
}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    return make_store(request.param, tmp_path)


@pytest.mark.parametrize("package", ["mwan3", "network", "dhcp", "firewall"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_and_left_alone(store: FileStore, package: str, name: str) -> None:
    data, words = DAMAGED[name]
    path = store.config_dir / package
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        store.load(package)
    with pytest.raises(ConfigError, match=words), store.transaction(package) as edit:
        edit.set("wan", "interface")
    assert path.read_bytes() == data


def test_what_is_too_large_is_not_read(store: FileStore) -> None:
    """Nor what grows while it is read."""
    path = store.config_dir / "mwan3"
    with path.open("wb") as file:
        file.truncate(100 << 30)
    tracemalloc.start()
    with pytest.raises(ConfigError, match="bytes"):
        store.load("mwan3")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_ten_thousand_rules_fit(store: FileStore) -> None:
    (store.config_dir / "mwan3").write_text("".join(map(RULE.format, range(10_000))))
    assert len(store.load("mwan3").sections) == 10_000


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", " \n\t\n"])
def test_a_file_may_say_nothing(store: FileStore, text: str) -> None:
    (store.config_dir / "mwan3").write_text(text)
    assert not store.load("mwan3").sections


def test_nothing_is_written_that_could_not_be_read_again(store: FileStore) -> None:
    path = store.config_dir / "mwan3"
    path.write_text("config rule 'a'\n")
    many = Package("mwan3", tuple(Section(f"r{number}", "rule") for number in range(stores.MAX_SECTIONS + 1)))
    with pytest.raises(ConfigError, match="more than"), store.transaction("mwan3") as edit:
        transform(edit, many)
    with pytest.raises(ConfigError, match="in one line"), store.transaction("mwan3") as edit:
        edit.set("a", "src_ip", "1" * (stores.MAX_LINE + 1))
    assert path.read_text() == "config rule 'a'\n"
