"""docs/contract.md: each line has its tests, and each test that names the contract has its line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs/contract.md").read_text("utf-8")
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")
#: Where a test says in its first words that it holds a line of the contract.
FILES = sorted(TESTS.rglob("test_*.py"))


def functions(file: Path) -> Iterator[tuple[str, str]]:
    """The tests of a file with their docstrings."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def test_every_line_has_tests_that_exist() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("|") and not re.match(r"\| (What|---) \|", line)]
    assert len(lines) > 40
    for line in lines:
        named = NAMED.findall(line)
        assert named, f"no test is named: {line}"
        for file, name in named:
            assert name in dict(functions(TESTS / file)), f"{file} has no {name}"


def test_every_test_that_names_the_contract_has_its_line() -> None:
    named = set(NAMED.findall(TEXT))
    found = {(str(file.relative_to(TESTS)), name) for file in FILES for name, said in functions(file)
             if said.startswith("Contract:")}  # fmt: skip
    assert len(found) > 40
    assert found <= named, f"docs/contract.md does not name {found - named}"
