"""Every ``--json`` has a documented form, docs/json.md says what the shapes say, and documents are as they say."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import click
import pytest

from connbal.cli.output import VERSIONS
from connbal.cli.shapes import DOCUMENTS
from tests import shapes
from tests.unit.test_docs import ACCEPT, COMMANDS, ROOT, accept, accepted

PAGE = ROOT / "docs/json.md"


def with_json() -> list[str]:
    """The commands that have an option ``--json``, without ``connbal``."""
    return [
        name.removeprefix("connbal ")
        for name, command in COMMANDS
        if any("--json" in parameter.opts for parameter in command.params if isinstance(parameter, click.Option))
    ]


def printed() -> set[str]:
    """The forms whose names stand in the source: what is handed to ``emit`` and its like."""
    found = set()
    for path in (ROOT / "connbal").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in {"emit", "document", "show_report"} and isinstance(node.args[0].value, str):
                form = node.args[0].value
                found.add(f"{form}/{VERSIONS.get(form, 1)}")
    return found


def test_every_command_that_prints_json_has_a_form() -> None:
    told = {command for document in DOCUMENTS.values() for command in document.commands}
    missing = [command for command in with_json() if command not in told]
    assert not missing, f"add the shape of what these print to connbal.cli.shapes.DOCUMENTS: {missing}"


def test_every_form_that_is_printed_is_told_of() -> None:
    assert printed() <= set(DOCUMENTS)
    for document in DOCUMENTS.values():
        assert all(accepted(f"connbal {command}") for command in document.commands)


@pytest.mark.parametrize("form", DOCUMENTS)
def test_each_shape_says_its_form_and_every_meaning(form: str) -> None:
    for shape in shapes.alternatives(DOCUMENTS[form].shape):
        (_, kind, _, always), *_ = shapes.meanings(shape)
        assert always
        assert form in kind.__args__
    for shape in shapes.parts(DOCUMENTS[form].shape):
        assert shape.__doc__, shape
        assert all(meaning and not meaning.endswith(".") for _, _, meaning, _ in shapes.meanings(shape))


def test_the_page_says_what_the_shapes_say() -> None:
    text, begin, end = PAGE.read_text("utf-8"), "<!-- forms -->\n\n", "<!-- end -->"
    shown, wanted = text.split(begin)[1].split(end)[0], shapes.page() + "\n"
    if ACCEPT and shown != wanted:
        accept(PAGE, begin + shown + end, begin + wanted + end)
    else:
        assert shown == wanted, "docs/json.md is not what connbal.cli.shapes says (CONNBAL_DOCS=accept writes it)"


# --- the checker itself -------------------------------------------------------------------------------------------


class Inner(TypedDict):
    x: Annotated[int, "a number"]


class Perhaps(TypedDict, total=False):
    y: Annotated[str, "a text"]


class Outer(Perhaps):
    word: Annotated[Literal["a", "b"], "a word"]
    inner: Annotated[Inner | None, "one or none"]
    many: Annotated[list[Inner], "several"]
    named: Annotated[dict[str, float], "by name"]
    flag: Annotated[bool, "yes or no"]


GOOD: dict[str, Any] = {"word": "a", "inner": {"x": 1}, "many": [{"x": 2}], "named": {"k": 1}, "flag": True}


@pytest.mark.parametrize("change", [{}, {"y": "t"}, {"inner": None}, {"many": []}, {"named": {"k": 0.5}}])
def test_what_fits(change: dict[str, Any]) -> None:
    assert shapes.faults({**GOOD, **change}, Outer) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"word": "c"}, '.word: \'c\' is not `"a"`, `"b"`'),
        ({"inner": {"x": True}}, ".inner.x: True is not integer"),
        ({"inner": {"x": 1.0}}, ".inner.x: 1.0 is not integer"),
        ({"many": [{}]}, ".many[0].x: is missing"),
        ({"many": {}}, ".many: {} is not array of"),
        ({"named": {"k": None}}, ".named.k: None is not number"),
        ({"flag": 1}, ".flag: 1 is not true or false"),
        ({"z": 1}, ".z: is not in Outer"),
        ({"y": None}, ".y: None is not string"),
    ],
)
def test_what_does_not_fit(change: dict[str, Any], words: str) -> None:
    found = shapes.faults({**GOOD, **change}, Outer)
    assert len(found) == 1
    assert words in found[0]


# --- real output, where no kernel is needed -----------------------------------------------------------------------

CONFIG = """
config globals 'globals'
	option weight_mode 'inverse'

config interface 'wan'
	option enabled '1'
	list track_ip '192.0.2.1'

config interface 'wan1'

config member 'm'
	option interface 'wan'

config policy 'p'
	list use_member 'm'

config policy 'lost'
	list use_member 'nobody'

config rule 'r'
	option proto 'tcp'
	option other 'x'
	option use_policy 'p'

config rule
	list src_ip '192.0.2.1'
	option use_policy 'p'
"""
#: Commands in turn, each with its exit code. Every command that needs no kernel for its document is here.
WITHOUT_KERNEL = {
    "check --json": 1,
    "export": 0,
    "export --json": 0,
    "interface list --json": 0,
    "member list --json": 0,
    "policy list --json": 0,
    "rule list --json": 0,
    "interface show wan --json": 0,
    "member show m --json": 0,
    "policy show p --json": 0,
    "rule show r --json": 0,
    "rule show @rule[1] --json": 0,
    "globals show --json": 0,
    "globals set --affinity pair --json": 0,
    "interface add wan2 --enabled --json": 0,
    "interface set wan2 --down 3 --json": 0,
    "interface rename wan2 wan3 --json": 0,
    "interface disable wan3 --json": 0,
    "interface enable wan3 --json": 0,
    "member add m3 --interface wan3 --no-apply --json": 0,
    "member set m3 --metric 2 --json": 0,
    "member rename m3 n3 --json": 0,
    "policy add q --use-member n3 --json": 0,
    "policy set q --add use_member=m --json": 0,
    "policy rename q q2 --json": 0,
    "rule add s --use-policy q2 --first --json": 0,
    "rule add --use-policy q2 --json": 0,
    "rule set s --proto udp --json": 0,
    "rule rename s t --json": 0,
    "rule move t --last --json": 0,
    "rule disable t --json": 0,
    "rule enable t --dry-run --json": 0,
    "rule delete t --json": 0,
    "rule delete @rule[-1] --json": 0,
    "policy delete q2 --json": 0,
    "member delete n3 --json": 0,
    "interface delete wan3 --json": 0,
    "setup device --ip 192.168.1.178 --use wan --name TV --dry-run --json": 0,
    "setup failover wan wan1 --no-apply --json": 0,
    "setup split wan=2 wan1=1 --json": 0,
    "ipset add youtube --domain youtube.com --timeout 1h --no-apply --json": 0,
    "ipset add other --domain example.com --family any --dry-run --json": 0,
    "ipset set youtube --add domain=ytimg.com --no-apply --json": 0,
    "ipset list --json": 0,
    "ipset delete youtube --no-apply --json": 0,
    "doctor --way-back --json": 0,
    "import --json -": 0,
    "import --json --diff -": 0,
}


def connbal(directory: Path, *arguments: str, stdin: str = "") -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, documents, and standard error of a command."""
    argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", str(directory), "--run-dir", str(directory / "r")]
    done = subprocess.run(
        [*argv, *arguments], cwd=ROOT, input=stdin, text=True, capture_output=True, check=False, timeout=60
    )
    text, documents = done.stdout.strip(), []
    while text:
        value, end = json.JSONDecoder().raw_decode(text)
        documents.append(value)
        text = text[end:].strip()
    return done.returncode, documents, done.stderr


def test_documents_are_as_documented(tmp_path: Path) -> None:
    (tmp_path / "mwan3").write_text(CONFIG)
    _, (exported,), _ = connbal(tmp_path, "export")
    for arguments, code in WITHOUT_KERNEL.items():
        returned, documents, errors = connbal(tmp_path, *arguments.split(), stdin=json.dumps(exported))
        assert returned == code, (arguments, errors)
        assert len(documents) == 1, arguments
        shapes.check(documents[0])
        assert_form_is_of(documents[0], arguments)


def assert_form_is_of(document: dict[str, Any], arguments: str) -> None:
    assert any(f"{arguments} ".startswith(f"{one} ") for one in DOCUMENTS[document["schema"]].commands), arguments


#: Commands whose documents need a kernel, or others that tests elsewhere hold against their shapes.
WITH_KERNEL = {"plan", "apply", "confirm", "status", "events", "ipset show", "explain", "diagnose"}


def test_every_command_is_tried() -> None:
    tried = {name for name in with_json() for arguments in WITHOUT_KERNEL if f"{arguments} ".startswith(f"{name} ")}
    assert tried | WITH_KERNEL == set(with_json()), "try the command in WITHOUT_KERNEL, or elsewhere"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code", "words"),
    [
        ("check --json", 1, "config", "there is no"),
        ("check --json --nonsense", 2, "usage", "--nonsense"),
        ("nonsense --json", 2, "usage", "nonsense"),
        ("events --json", 1, "kernel", "no daemon is running"),
        ("status --json --watch --interval nan", 2, "usage", "nan is no number"),
        ("stop --json", 2, "usage", "--json"),
    ],
)
def test_errors_are_documents_too(arguments: str, exit_code: int, code: str, words: str, tmp_path: Path) -> None:
    returned, (document,), errors = connbal(tmp_path, *arguments.split())
    assert (returned, document["schema"], document["code"]) == (exit_code, "error/1", code)
    assert words in document["error"]
    assert words in errors
    shapes.check(document)


def test_an_error_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "mwan3").write_text("config rule 'r'\n\toption x 'open\n")
    _, (document,), _ = connbal(tmp_path, "check", "--json")
    assert {key: document[key] for key in ("package", "section", "option", "line")} == {
        "package": "mwan3", "section": "r", "option": "x", "line": 2,
    }  # fmt: skip


@pytest.mark.parametrize("arguments", ["check", "check -- --json", "--nonsense"])
def test_nobody_gets_a_document_unasked(arguments: str, tmp_path: Path) -> None:
    returned, documents, errors = connbal(tmp_path, *arguments.split())
    assert returned != 0
    assert documents == []
    assert errors
