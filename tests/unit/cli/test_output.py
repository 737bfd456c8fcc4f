"""Tables that fit, whatever stands in them; text that goes on below; a word while something takes long."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from connbal.cli.main import cli
from connbal.cli.output import STATE_COLUMNS, table, wrap

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("NAME", "STATE", "POLICY", "PACKETS", "REASON")

name = st.text("abcxyz_019", min_size=1, max_size=60)
row = st.tuples(
    name, st.sampled_from(["up", "disconnecting", "disabled"]), name, st.integers(0, 2**64 - 1).map(str),
    st.text(st.characters(codec="utf-8"), max_size=200),
)  # fmt: skip


def plain(lines: list[str]) -> list[str]:
    return [click.unstyle(line) for line in lines]


@given(st.lists(row, max_size=8), st.integers(80, 200))
def test_tables_fit(rows: list[tuple[str, ...]], width: int) -> None:
    lines = plain(table("Things", NAMES, rows, width=width))
    assert all(len(line) <= width for line in lines), lines


@given(st.lists(name, min_size=1, max_size=20, unique=True))
def test_names_that_differ_look_different(names: list[str]) -> None:
    lines = plain(table("", ("NAME", "POLICY", "REASON"), [(one, "p" * 40, "why " * 30) for one in names], width=60))
    shown = [line.split()[0] for line in lines[1:] if not line.startswith(" " * 5)]
    assert len(set(shown)) == len(names)


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=300), st.integers(5, 60))
def test_wrapped_text_is_all_there(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(len(line) <= width for line in lines)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)


def test_what_fits_is_left_as_it_is() -> None:
    lines = table("", ("NAME", "STATE", "REASON"), [("wan", "up", "3 of 3 hosts answered"), ("wan1", "down", "")])
    assert plain(lines) == [
        "  NAME  STATE  REASON",
        "  wan   up     3 of 3 hosts answered",
        "  wan1  down",
    ]


def test_the_last_column_goes_on_below_and_breaks_after_commas() -> None:
    shares = ", ".join(f"wan{number} 20 %" for number in range(5))
    assert plain(table("", ("NAME", "SHARES"), [("balanced", shares), ("x", "y")], width=40)) == [
        "  NAME      SHARES",
        "  balanced  wan0 20 %, wan1 20 %,",
        "            wan2 20 %, wan3 20 %,",
        "            wan4 20 %",
        "  x         y",
    ]  # fmt: skip


def test_long_names_keep_their_ends() -> None:
    lines = plain(table("", ("NAME", "REASON"), [("a" * 40 + "_v4", "why " * 20), ("a" * 40 + "_v6", "")], width=50))
    assert [line.split()[0][-3:] for line in (lines[1], lines[-1])] == ["_v4", "_v6"]
    assert all("~" in line.split()[0] for line in (lines[1], lines[-1]))


def test_names_with_the_same_ends_are_told_apart() -> None:
    names = [f"{'a' * 20}{number:03}{'z' * 20}" for number in range(50)]
    lines = plain(table("", ("NAME", "REASON"), [(one, "why " * 20) for one in names], width=40))
    shown = [line.split()[0] for line in lines if "~" in line]
    assert len(set(shown)) == 50
    assert max(map(len, lines)) <= 40


@given(st.lists(row, min_size=1, max_size=8))
def test_the_last_column_keeps_room_for_words_while_names_can_be_shortened(rows: list[tuple[str, ...]]) -> None:
    lines = plain(table("", ("NAME", "POLICY", "REASON"), [(r[0], r[2], "word " * 30) for r in rows], width=80))
    assert len(lines) <= 1 + len(rows) * 6


@pytest.mark.parametrize("noun", ["interface", "member", "policy", "rule"])
def test_lists_fit_80_columns_whatever_the_names(noun: str, tmp_path: Path) -> None:
    long = "very_long_name_of_something_that_goes_on_and_on"
    text = "".join(
        f"config interface '{long}{n}'\n\toption enabled '1'\n\tlist track_ip 'a-host.with-a-long-name.example.com'\n"
        f"config member '{long}_m{n}'\n\toption interface '{long}{n}'\n"
        for n in range(5)
    ) + f"config policy '{long}_p'\n" + "".join(f"\tlist use_member '{long}_m{n}'\n" for n in range(5))
    text += f"config rule '{long}_r'\n\toption src_ip '10.0.0.1 10.0.0.2 192.168.0.0/16'\n\toption proto 'tcp'\n"
    text += f"\toption dest_port '1,2,3,4,5,6,7,8,9,10,11,12,13'\n\toption use_policy '{long}_p'\n"
    (tmp_path / "mwan3").write_text(text)
    done = CliRunner().invoke(cli, ["--config-dir", str(tmp_path), "--run-dir", str(tmp_path), noun, "list"])
    assert done.exit_code == 0, done.output
    assert "very_lo" in done.output
    assert max(map(len, done.output.splitlines())) <= 80


def test_states_are_coloured() -> None:
    lines = table("", ("NAME", "STATE", "REASON"), [("up", "up", "up"), ("wan1", "offline", "x"), ("w", "odd", "x")])
    assert lines[1].count("\x1b[32m") == 1
    assert "\x1b[31moffline\x1b[0m" in lines[2]
    assert "\x1b" not in lines[3]
    assert "STATE" in STATE_COLUMNS


def test_nothing_reaches_the_terminal() -> None:
    assert "\x1b]" not in "".join(table("", ("NAME", "REASON"), [("a\x1b]0;x\x07", "\x9b31m")]))


# --- on a terminal ----------------------------------------------------------------------------------------------------


def on_terminal(program: str, **variables: str) -> str:
    """What a program of Python writes to a terminal of 60 columns."""
    parent, child = pty.openpty()
    prologue = "import fcntl, struct, sys, termios\n"
    prologue += "fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 60, 0, 0))\n"
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    done = subprocess.Popen([sys.executable, "-c", prologue + program], stdin=subprocess.DEVNULL, stdout=child,
                            stderr=child, cwd=ROOT, env={**environment, **variables})  # fmt: skip
    os.close(child)
    text = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:  # how Linux says that the other end has gone
            break
        if not piece:
            break
        text += piece
    os.close(parent)
    assert done.wait(timeout=30) == 0, text
    return text.decode()


def test_a_table_is_as_wide_as_the_terminal() -> None:
    text = on_terminal("from connbal.cli.output import table\n"
                       "print(*table('', ('NAME', 'REASON'), [('wan', 'because ' * 20)]), sep='\\n')")  # fmt: skip
    assert 50 < max(len(line.rstrip()) for line in text.splitlines()) <= 59


CHECK = "from connbal.cli.main import main\nmain(['--config-dir', {!r}, 'check'])"


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_colours_are_for_terminals_that_want_them(variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mwan3").write_text("config interface 'wan'\n\toption enabeld '1'\n")
    text = on_terminal(CHECK.format(str(tmp_path)), **variables)
    assert "did you mean enabled?" in text
    assert ("\x1b[" in text) == (not variables)


def test_waiting_says_so_and_then_not_any_more() -> None:
    text = on_terminal("import time\nfrom connbal.cli import output\noutput.PATIENCE = 0.05\n"
                       "with output.progress('waiting'): time.sleep(0.5)\nprint('done')")  # fmt: skip
    assert text.startswith("waiting ...\r\x1b[K")
    assert text.rstrip().endswith("done")


WAITING = """
import contextlib, fcntl, threading
from connbal.cli import editing, output
from connbal.cli.context import Session
output.PATIENCE = 0.05
session = Session({0!r}, {0!r})
session.observer = lambda memory: contextlib.nullcontext()
def hold(path):
    file = open(path, "a")
    fcntl.flock(file, fcntl.LOCK_EX)
    threading.Timer(0.5, file.close).start()
"""


def test_who_waits_for_another_command_is_told(tmp_path: Path) -> None:
    (tmp_path / "connbal").mkdir()
    text = on_terminal(WAITING.format(str(tmp_path)) + "hold(session.run_dir / 'connbal' / 'lock')\n"
                       "with session.reconciler(): print('done')")  # fmt: skip
    assert text.startswith("waiting for another command, or for the daemon, to be done ...\r\x1b[K")
    assert text.rstrip().endswith("done")


def test_who_waits_for_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "mwan3").write_text("config interface 'wan'\n")
    text = on_terminal(WAITING.format(str(tmp_path)) + "hold(session.config_file)\n"
                       "with editing.change(session, editing.Flags(apply=False)) as editor: pass")  # fmt: skip
    assert text.startswith("waiting for who is changing the file ...\r\x1b[K")
    assert text.rstrip().endswith("nothing to change")


def test_what_is_quick_says_nothing() -> None:
    text = on_terminal("from connbal.cli import output\nwith output.progress('waiting'): pass\nprint('done')")
    assert text.strip() == "done"


def test_progress_is_for_terminals_only() -> None:
    program = "import time\nfrom connbal.cli import output\noutput.PATIENCE = 0.01\n"
    program += "with output.progress('waiting'): time.sleep(0.1)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == done.stdout == ""


# --- nearest names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["aply"], "apply"),
        (["stauts"], "status"),
        (["interface", "forse"], "force"),
        (["status", "--jsn"], "--json"),
        (["--config-dri", "x", "check"], "--config-dir"),
        (["interface", "force", "wan", "dwon"], "'down'"),
    ],
)
def test_mistyped_words_name_the_nearest(words: list[str], meant: str) -> None:
    done = subprocess.run([sys.executable, "-m", "connbal.cli.main", *words], cwd=ROOT, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 2
    assert meant in done.stderr.splitlines()[-1]
