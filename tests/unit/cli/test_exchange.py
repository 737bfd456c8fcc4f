"""``connbal export`` and ``connbal import``."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from connbal.uci import exchange, parse
from tests.unit.cli.run import CONFIG as CONFIG_OF_EDITS
from tests.unit.cli.run import router
from tests.unit.cli.test_edit_faults import CALLS, all_at_once, at_each, refuses

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
def one_router(tmp_path: Path) -> Router:
    return Router(tmp_path / "one")


def section(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["sections"] if one["name"] == name)
    return found


def test_the_import_of_an_export_writes_nothing(one_router: Router) -> None:
    before = one_router.print
    document = one_router.export()
    for text in (document, json.dumps(document, sort_keys=True).encode()):
        assert one_router.take(text) == "nothing to change\n"
        assert one_router.take(text, "--merge") == "nothing to change\n"
        assert one_router.take(text, "--diff") == "nothing to change\n"
    assert one_router.print == before


@pytest.mark.parametrize("there", [None, b"", b"config rule 'old'\n\toption use_policy 'default'\n"])
def test_another_router_becomes_the_same(one_router: Router, tmp_path: Path, there: bytes | None) -> None:
    other = Router(tmp_path / "two", there)
    one_router.take(one_router.export(), "--force")  # nothing, but canonical from here on
    other.take(one_router.export())
    assert other.export() == one_router.export()
    assert b"\xff\xfe" in other.file.read_bytes()


def test_uci_text(one_router: Router) -> None:
    done = one_router.run("export", "--uci")
    assert done.stdout.startswith(b"package mwan3\n")
    assert b"\toption raw '\xff\xfe it'\\''s'\n" in done.stdout
    assert one_router.run("export", "--uci", "--json").returncode == 2


def test_a_difference_is_shown_and_not_made(one_router: Router) -> None:
    before, document = one_router.print, one_router.export()
    section(document, "wan")["options"]["enabled"] = "0"
    document["sections"].insert(1, {"type": "rule", "name": None, "options": {"use_policy": "p"}})
    text = one_router.take(document, "--diff", code=1)
    assert "- mwan3.wan.enabled='1'\n+ mwan3.wan.enabled='0'\n" in text
    assert ".use_policy='p'\n" in text
    shown = json.loads(one_router.take(document, "--diff", "--json", code=1))
    assert (shown["schema"], shown["mode"], shown["changed"]) == ("edit/1", "dry-run", True)
    assert one_router.print == before
    assert "committed" in one_router.take(document)
    assert one_router.export() == document
    assert one_router.take(document) == "nothing to change\n"


def test_merging(one_router: Router) -> None:
    before = one_router.export()
    given = {
        "schema": "export/1", "package": "mwan3",
        "sections": [
            {"type": "rule", "name": "one", "options": {"proto": "udp", "use_policy": "p"}},
            {"type": "rule", "options": {"src_ip": "192.0.2.8", "use_policy": "p"}},
            {"type": "rule", "name": None, "options": {"use_policy": "p", "src_ip": "192.0.2.7"}},
        ],
    }  # fmt: skip
    one_router.take(given, "--merge")
    after = one_router.export()
    assert section(after, "one")["options"]["proto"] == "udp"
    assert len(after["sections"]) == len(before["sections"]) + 1
    assert [one for one in after["sections"] if one["name"] not in (None, "one")] == [
        one for one in before["sections"] if one["name"] not in (None, "one")
    ]
    assert one_router.take(given, "--merge") == "nothing to change\n"


def test_what_would_have_no_effect_is_refused_unless_forced(one_router: Router) -> None:
    before, document = one_router.print, one_router.export()
    section(document, "one")["options"]["use_policy"] = "nobody"
    text = one_router.take(document, code=1)
    assert "nobody" in text
    assert one_router.print == before
    one_router.take(document, "--force")
    assert section(one_router.export(), "one")["options"]["use_policy"] == "nobody"
    section(document, "wan")["options"]["down"] = "7"
    one_router.take(document)  # what is wrong already keeps nobody from changing something else
    assert section(one_router.export(), "wan")["options"]["down"] == "7"


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
def test_what_is_no_document_changes_nothing(one_router: Router, text: bytes, words: str) -> None:
    before = one_router.print
    said = one_router.take(text, code=1)
    assert words in said
    assert "\x1b" not in said
    document = json.loads(one_router.run("import", "--json", "-", stdin=text).stdout)
    assert (document["schema"], document["code"]) == ("error/1", "config")
    assert one_router.print == before


def test_files(one_router: Router, tmp_path: Path) -> None:
    kept = tmp_path / "backup.json"
    kept.write_bytes(one_router.run("export").stdout)
    assert one_router.run("import", str(kept)).stdout == b"nothing to change\n"
    missing = one_router.run("import", str(tmp_path / "missing"))
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert b"missing: No such file or directory" in missing.stderr


def test_staging(one_router: Router) -> None:
    before, document = one_router.print, one_router.export()
    section(document, "wan")["options"]["enabled"] = "0"
    assert "staged" in one_router.take(document, "--stage")
    assert one_router.print == before


# --- where something fails ----------------------------------------------------------------------------------------

OTHER = """
config interface 'wan'
	option enabled '1'

config rule 'rest'
	option use_policy 'default'

config rule 'new'
	option use_policy 'unreachable'
"""


@pytest.mark.parametrize(("module", "name"), CALLS, ids=[name for _, name in CALLS])
def test_an_import_that_fails_changes_nothing(module: Any, name: str, tmp_path: Path) -> None:
    kept = tmp_path / "other.json"
    package = parse(OTHER, "mwan3")
    kept.write_text(json.dumps({"schema": "export/1", **exchange.as_data(package)}))
    number, calls, codes = 0, [1], set()
    while number < calls[0]:
        number += 1
        root = tmp_path / str(number)
        root.mkdir()
        here = router(root)
        with at_each(module, name, number, refuses(errno.ENOSPC)) as calls:
            done = here.run("import", "--no-apply", "--json", str(kept))
        codes.add(done.code)
        if done.code == 0:
            assert exchange.alike(parse(here.file.read_bytes(), "mwan3"), package)
        else:
            assert done.data["schema"] == "error/1"
            assert here.file.read_text() == CONFIG_OF_EDITS
        assert os.listdir(here.file.parent) == ["mwan3"]
    assert codes <= {0, 1}


def test_many_imports_and_edits_at_once(tmp_path: Path) -> None:
    """An import with --merge takes away nothing that others add meanwhile."""
    here = router(tmp_path)
    documents = []
    for number in range(20):
        documents.append(tmp_path / f"{number}.json")
        rule = {"type": "rule", "name": f"imported{number}", "options": {"use_policy": "both"}}
        documents[-1].write_text(json.dumps({"schema": "export/1", "package": "mwan3", "sections": [rule]}))
    all_at_once(here, [
        *(["import", "--merge", "--no-apply", str(path)] for path in documents),
        *(["rule", "add", f"added{number}", "--use-policy", "both", "--no-apply"] for number in range(20)),
    ])  # fmt: skip
    names = {one.name for one in parse(here.file.read_bytes(), "mwan3").of_type("rule")}
    assert names >= {f"{how}{number}" for how in ("imported", "added") for number in range(20)}
