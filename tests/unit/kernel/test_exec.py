"""Starting programs: what they get, and what becomes of those that fail or hang."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel.api import TransientError


def script(directory: Path, body: str, name: str = "program") -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_input_output_and_the_count(tmp_path: Path) -> None:
    before = programs.executions
    result = programs.run([script(tmp_path, 'cat; echo "$1" >&2; exit 0'), "a b; c"], stdin="x\ny\n")
    assert (result.stdout, result.stderr, result.returncode) == ("x\ny\n", "a b; c\n", 0)
    assert programs.executions == before + 1


def test_messages_are_in_english_and_nothing_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    body = f'echo "$LC_ALL/$LANGUAGE"; cat; (echo leak >&{writer}) 2>/dev/null || echo closed'
    result = programs.run([script(tmp_path, body)])
    os.close(writer)
    assert result.stdout == "C/\nclosed\n"
    assert os.read(reader, 10) == b""
    os.close(reader)


def test_what_is_not_utf8_survives(tmp_path: Path) -> None:
    result = programs.run([script(tmp_path, "cat")], stdin="\udcff")
    assert result.stdout == "\udcff"


@pytest.mark.parametrize(
    ("body", "said"),
    [("echo out; echo err >&2; exit 3", "err"), ("echo out; exit 3", "out"), ("exit 3", "exit status 3"),
     ("kill -9 $$", "killed by signal 9")],
)  # fmt: skip
def test_a_failure_says_what_the_program_said(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(KernelError) as caught:
        programs.run([script(tmp_path, body), "-x"])
    assert caught.value.output == said
    assert caught.value.command == "program -x"
    assert programs.run([script(tmp_path, body)], check=False).returncode != 0


def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TransientError, match=r"no answer within 0\.3 s"):
        programs.run([script(tmp_path, f"(sleep 7; touch {tmp_path}/late) & wait")], timeout=0.3)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("name", "package"),
    [("ip6tables-legacy-restore", "ip6tables-zz-legacy"), ("iptables-restore", "iptables-nft"), ("ipset", "ipset")],
)
def test_a_missing_program_names_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SBIN", str(tmp_path))
    with pytest.raises(KernelError, match=package):
        programs.run([name])
    with pytest.raises(KernelError, match="not installed"):
        programs.run([str(tmp_path / "nothing")])


def test_one_that_cannot_be_started(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF rubbish")
    path.chmod(0o755)
    with pytest.raises(KernelError, match="cannot be started"):
        programs.run([str(path)])
