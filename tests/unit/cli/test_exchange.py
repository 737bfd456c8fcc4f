"""``connbal export`` and ``connbal import``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONFIG = b"""
config globals 'globals'
	option mmx_mask '0x3F00'
	option theirs 'kept'

config interface 'wan'
	option enabled '1'
	list track_ip '192.0.2.1'

config member 'm'
	option interface 'wan'

config policy 'p'
	list use_member 'm'

config rule 'one'
	option proto 'tcp'
	option use_policy 'p'

config rule
	option src_ip '192.0.2.7'
	option use_policy 'p'

config other_tool 'x'
	option raw '\xff\xfe it'\\''s'
"""


class Router:
    """A directory of configuration, and commands for it."""

    def __init__(self, directory: Path, config: bytes | None = CONFIG) -> None:
        self.directory, self.file = directory, directory / "mwan3"
        directory.mkdir(exist_ok=True)
        if config is not None:
            self.file.write_bytes(config)

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        own = {"CONNBAL_CONFIG_DIR": str(self.directory), "CONNBAL_RUN_DIR": str(self.directory / "run"),
               "CONNBAL_UCI": "embedded", "CONNBAL_STAGE_DIR": str(self.directory / "stage")}  # fmt: skip
        argv = [sys.executable, "-m", "connbal.cli.main", *arguments]
        return subprocess.run(
            argv, cwd=ROOT, env={**os.environ, **own}, input=stdin, capture_output=True, check=False, timeout=60
        )

    def export(self) -> dict[str, Any]:
        done = self.run("export")
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def take(self, document: object, *options: str, code: int = 0) -> str:
        """Import a document; returns what is printed, on standard output and standard error."""
        text = document if isinstance(document, bytes) else json.dumps(document).encode()
        done = self.run("import", *options, "-", stdin=text)
        assert done.returncode == code, (done.stdout, done.stderr)
        return (done.stdout + done.stderr).decode()

    @property
    def print(self) -> tuple[int, int, bytes]:
        """Of the file: another one where it was written again."""
        found = self.file.stat()
        return found.st_ino, found.st_mtime_ns, self.file.read_bytes()


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path / "one")


def section(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["sections"] if one["name"] == name)
    return found


def test_the_import_of_an_export_writes_nothing(router: Router) -> None:
    before = router.print
    document = router.export()
    for text in (document, json.dumps(document, sort_keys=True).encode()):
        assert router.take(text) == "nothing to change\n"
        assert router.take(text, "--merge") == "nothing to change\n"
        assert router.take(text, "--diff") == "nothing to change\n"
    assert router.print == before


@pytest.mark.parametrize("there", [None, b"", b"config rule 'old'\n\toption use_policy 'default'\n"])
def test_another_router_becomes_the_same(router: Router, tmp_path: Path, there: bytes | None) -> None:
    other = Router(tmp_path / "two", there)
    router.take(router.export(), "--force")  # nothing, but canonical from here on
    other.take(router.export())
    assert other.export() == router.export()
    assert b"\xff\xfe" in other.file.read_bytes()


def test_uci_text(router: Router) -> None:
    done = router.run("export", "--uci")
    assert done.stdout.startswith(b"package mwan3\n")
    assert b"\toption raw '\xff\xfe it'\\''s'\n" in done.stdout
    assert router.run("export", "--uci", "--json").returncode == 2


def test_a_difference_is_shown_and_not_made(router: Router) -> None:
    before, document = router.print, router.export()
    section(document, "wan")["options"]["enabled"] = "0"
    document["sections"].insert(1, {"type": "rule", "name": None, "options": {"use_policy": "p"}})
    text = router.take(document, "--diff", code=1)
    assert "- mwan3.wan.enabled='1'\n+ mwan3.wan.enabled='0'\n" in text
    assert ".use_policy='p'\n" in text
    shown = json.loads(router.take(document, "--diff", "--json", code=1))
    assert (shown["schema"], shown["mode"], shown["changed"]) == ("edit/1", "dry-run", True)
    assert router.print == before
    assert "committed" in router.take(document)
    assert router.export() == document
    assert router.take(document) == "nothing to change\n"


def test_merging(router: Router) -> None:
    before = router.export()
    given = {
        "schema": "export/1", "package": "mwan3",
        "sections": [
            {"type": "rule", "name": "one", "options": {"proto": "udp", "use_policy": "p"}},
            {"type": "rule", "options": {"src_ip": "192.0.2.8", "use_policy": "p"}},
            {"type": "rule", "name": None, "options": {"use_policy": "p", "src_ip": "192.0.2.7"}},
        ],
    }  # fmt: skip
    router.take(given, "--merge")
    after = router.export()
    assert section(after, "one")["options"]["proto"] == "udp"
    assert len(after["sections"]) == len(before["sections"]) + 1
    assert [one for one in after["sections"] if one["name"] not in (None, "one")] == [
        one for one in before["sections"] if one["name"] not in (None, "one")
    ]
    assert router.take(given, "--merge") == "nothing to change\n"


def test_what_would_have_no_effect_is_refused_unless_forced(router: Router) -> None:
    before, document = router.print, router.export()
    section(document, "one")["options"]["use_policy"] = "nobody"
    text = router.take(document, code=1)
    assert "nobody" in text
    assert router.print == before
    router.take(document, "--force")
    assert section(router.export(), "one")["options"]["use_policy"] == "nobody"
    section(document, "wan")["options"]["down"] = "7"
    router.take(document)  # what is wrong already keeps nobody from changing something else
    assert section(router.export(), "wan")["options"]["down"] == "7"


def one(text: str) -> bytes:
    return f'{{"schema": "export/1", "package": "mwan3", "sections": [{text}]}}'.encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no JSON"),
        (b"config rule 'r'\n", "no JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b" " * (5 << 20), "more than 4194304 bytes"),
        (b'{"schema": "status/1", "package": "mwan3", "sections": []}', "'status/1', not export/1"),
        (one('{"type": "rule", "name": "a;b", "options": {}}'), "'a;b' is no section name"),
        (one('{"type": "rule", "name": "a", "options": {"x": "a\\u0000b"}}'), "control character"),
        (one('{"type": "rule", "name": "a", "options": {"x": "\\u001b[31m"}}'), "control character"),
    ],
    ids=range(8),
)  # fmt: skip
def test_what_is_no_document_changes_nothing(router: Router, text: bytes, words: str) -> None:
    before = router.print
    said = router.take(text, code=1)
    assert words in said
    assert "\x1b" not in said
    document = json.loads(router.run("import", "--json", "-", stdin=text).stdout)
    assert (document["schema"], document["code"]) == ("error/1", "config")
    assert router.print == before


def test_files(router: Router, tmp_path: Path) -> None:
    kept = tmp_path / "backup.json"
    kept.write_bytes(router.run("export").stdout)
    assert router.run("import", str(kept)).stdout == b"nothing to change\n"
    missing = router.run("import", str(tmp_path / "missing"))
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert b"missing: No such file or directory" in missing.stderr


def test_staging(router: Router) -> None:
    before, document = router.print, router.export()
    section(document, "wan")["options"]["enabled"] = "0"
    assert "staged" in router.take(document, "--stage")
    assert router.print == before
