"""The man page: all that --help says, in a form that no formatter complains about."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.cli.main import cli
from connbal.cli.manpage import ENVIRONMENT, commands, page

ROOT = Path(__file__).resolve().parents[3]
PAGE = page(cli, "2026-01-31")
ALL = list(commands(cli, click.Context(cli, info_name="connbal")))


def shown(text: str, width: int = 500) -> str:
    """The page as mandoc prints it, with single blanks."""
    argv = ["mandoc", "-Tutf8", f"-Owidth={width}"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
    return re.sub(r"\s+", " ", re.sub(".\b", "", done.stdout))


@pytest.fixture(scope="module")
def text() -> str:
    return shown(PAGE)


def test_mandoc_has_nothing_to_say() -> None:
    done = subprocess.run(["mandoc", "-Tlint"], input=PAGE, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(("context", "command"), ALL, ids=[context.command_path for context, _ in ALL])
def test_every_command_is_there_with_all_its_options(context: click.Context, command: click.Command, text: str) -> None:
    _, heading, below = text.partition(f" {context.command_path} {' '.join(command.collect_usage_pieces(context))} ")
    assert heading
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            record = parameter.get_help_record(context)
            assert record is not None
            for part in record:
                assert " ".join(part.split()) in below
    examples = [line.strip() for line in (command.help or "").splitlines() if line.strip().startswith("connbal ")]
    assert examples
    for example in examples:
        assert " ".join(example.split()) in below


def test_the_sections_that_pages_have(text: str) -> None:
    titles = re.findall(r'^\.SH "?([A-Z ]+)"?$', PAGE, re.MULTILINE)
    assert titles == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "FILES", "ENVIRONMENT", "EXIT STATUS",
                      "SEE ALSO"]  # fmt: skip
    assert "/etc/config/mwan3 The configuration" in text


def test_every_variable_is_described() -> None:
    table = (ROOT / "docs/testing.md").read_text("utf-8")
    assert {*re.findall(r"^\| `(\w+)` \| connbal \|", table, re.MULTILINE), "NO_COLOR"} == set(ENVIRONMENT)


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=70))
def test_any_text_comes_out_as_it_went_in(help_: str) -> None:
    """Dots and quotes at the beginning, backslashes, hyphens, carets: roff takes none of them for its own."""
    wanted = " ".join(f"{help_} end".split())
    root = click.Group("connbal", help="Text.")
    root.add_command(click.Command("x", help=f"{wanted}\n\n\b\nBlock:\n  {wanted}\n"))
    found = page(root, "2026-01-31")
    assert shown(found).count(wanted) == 2, found


def test_it_is_a_program_and_the_same_each_time() -> None:
    def made() -> str:
        return subprocess.run([sys.executable, "-m", "connbal.cli.manpage"], cwd=ROOT, capture_output=True, text=True,
                              check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1769817600"}).stdout  # fmt: skip

    assert made() == made() == PAGE
