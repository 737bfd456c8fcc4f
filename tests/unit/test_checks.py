"""docs/checks.md lists every check there is, and every check's remedies are commands that exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from connbal.cli.linting import CODES, DECODING
from connbal.errors import Finding
from connbal.model.checks import Check
from connbal.plan import lint as plan_lint
from connbal.uci import luci
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.unit.test_docs import ACCEPT, ROOT, accept, accepted

PAGE = ROOT / "docs/checks.md"
CHECKS: dict[str, Iterable[Check[Any]]] = {"plan": plan_lint.CHECKS.values(), "luci": luci.CHECKS.values()}


def table(checks: Iterable[Check[Any]]) -> str:
    order = ("error", "warning", "info")
    rows = sorted(checks, key=lambda one: order.index(one.severity.value))
    lines = [f"| `{one.code}` | {one.severity.value} | {one.doc} |" for one in rows]
    return "\n".join(["| Code | Severity | Finds |", "| --- | --- | --- |", *lines]) + "\n"


@pytest.mark.parametrize("room", CHECKS)
def test_the_page_lists_every_check(room: str) -> None:
    text = PAGE.read_text("utf-8")
    marker = f"<!-- checks: {room} -->\n\n"
    assert marker in text
    begin = text.index(marker) + len(marker)
    found = re.match(r"(\|[^\n]*\n)*", text[begin:])
    assert found is not None
    if ACCEPT and found[0] != table(CHECKS[room]):
        old = marker + found[0]
        accept(PAGE, old, marker + table(CHECKS[room]) + ("" if found[0] else "\n"))
    else:
        assert found[0] == table(CHECKS[room])


def test_codes_are_told_apart() -> None:
    assert len(set(CODES)) == len(CODES)
    decoding = (ROOT / "connbal/uci/decode.py").read_text("utf-8").split('"""')[1]
    assert set(re.findall(r"^``([a-z-]+)`` ", decoding, re.MULTILINE)) == set(DECODING)


def test_every_check_is_one_line_of_plain_words() -> None:
    for check in (check for checks in CHECKS.values() for check in checks):
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", check.code)
        assert check.doc[0].islower() or check.doc.startswith("LuCI")
        assert not check.doc.endswith(".")
        assert check.run.__name__.strip("_") == check.code.replace("-", "_")


def commands(finding: Finding) -> list[str]:
    """The commands in a remedy."""
    return [f"connbal {found.strip()}" for found in re.findall(r"connbal ([^,;]*)", finding.remedy)]


def lint_of(path: Path) -> list[Finding]:
    package = parse(path.read_bytes(), "mwan3")
    stated = package.get("globals")
    subject = plan_lint.Subject(decode(package).config, frozenset(stated.options if stated else ()))
    return [*plan_lint.lint(subject), *luci.lint(package)]


SHIPPED = {
    "files/etc/config/mwan3": {"disabled-members", "unused-policy", "default-last-resort"},
    "tests/vectors/configs/mwan3-stock-default": {
        "slow-detection", "disabled-members", "unused-policy", "no-source-of-family",
    },
    "tests/vectors/configs/rooter-default": {
        "disabled-members", "unused-policy", "default-last-resort", "affinity-unstated", "luci-drops",
    },
}  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED)
def test_what_is_said_of_configurations_that_are_shipped(path: str) -> None:
    """No warning; and remarks that were looked at one by one."""
    found = lint_of(ROOT / path)
    assert {one.code for one in found} == SHIPPED[path], [str(one) for one in found]
    assert {one.severity.value for one in found} == {"info"}


def words_of(command: str) -> str:
    """The command without its explanation: up to the first word that can be none of a command line."""
    kept: list[str] = []
    for word in command.split():
        if word in ("keeps", "makes", "halves", "forgets", "spreads", "or", "to", "where"):
            break
        kept.append(word)
    return " ".join(kept)


def test_accepted_notices_nonsense() -> None:
    assert not accepted("connbal rule set a --no-such-option")


__all__ = ["commands", "lint_of", "words_of"]
