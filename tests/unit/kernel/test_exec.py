"""Starting programs: what they get, and what becomes of those that fail or hang."""

from __future__ import annotations

import errno
import functools
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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
    # Not by >&: some shells know no descriptors above 9.
    body = f'echo "$LC_ALL/$LANGUAGE"; cat; [ -e /proc/$$/fd/1 ] && [ ! -e /proc/$$/fd/{writer} ] && echo closed'
    result = programs.run([script(tmp_path, body)])
    os.close(writer)
    os.close(reader)
    assert result.stdout == "C/\nclosed\n"


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


@pytest.mark.parametrize("body", [
    "kill -9 $$", "echo 'iptables-restore: line 4 failed: Memory allocation problem.' >&2; exit 1",
    "echo 'ipset v7.17: Error in line 2: Kernel error received: Cannot allocate memory' >&2; exit 1",
])  # fmt: skip
def test_what_was_killed_or_had_no_memory_may_do_better_next_time(tmp_path: Path, body: str) -> None:
    with pytest.raises(TransientError):
        programs.run([script(tmp_path, body)])


@pytest.mark.parametrize("body", ["kill -11 $$", "echo 'rule in chain mwan3_policy_memory' >&2; exit 1"])
def test_what_crashes_or_says_no_may_not(tmp_path: Path, body: str) -> None:
    with pytest.raises(KernelError) as caught:
        programs.run([script(tmp_path, body)])
    assert not isinstance(caught.value, TransientError)


def test_where_there_is_no_memory_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(programs.subprocess, "Popen", none)
    with pytest.raises(TransientError, match="cannot be started: Cannot allocate memory"):
        programs.run(["/bin/true"])


def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"no answer within 0\.3 s"):
        programs.run([script(tmp_path, "sleep 1000 & wait")], timeout=0.3)
    until(lambda: not alive(programs.own_pids[-1]))


def test_one_that_cannot_even_be_killed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that hangs in the kernel: it must not take the daemon with it."""
    reap, waited = subprocess.Popen.wait, []

    def wait(process: subprocess.Popen[str], timeout: float | None = None) -> int:
        waited.append(process)
        assert timeout is not None, "waited for without limit"
        raise subprocess.TimeoutExpired("sleep", timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    for said in (None, "x" * (1 << 20)):  # more than a pipe holds
        with pytest.raises(TransientError, match="no answer within"):
            programs.run(["sleep", "60"], said, timeout=0.1)
    for process in waited:
        assert all(stream is None or stream.closed for stream in (process.stdin, process.stdout, process.stderr))
        reap(process)


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


# -- programs that are not waited for


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that in 30 s")


def alive(session: int) -> list[int]:
    """The processes of a session, without those that only wait to be reaped."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found


def test_what_a_spawned_program_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    process = programs.spawn(["sleep", "1000"], {"ACTION": "ifup", "DEVICE": ""})
    directory = Path(f"/proc/{process.pid}")

    def descriptors() -> list[str]:
        try:
            return [os.readlink(one) for one in (directory / "fd").iterdir()]
        except FileNotFoundError:
            return []

    try:
        # Popen is back before the kernel has put the new program together, and its loader opens files of its own.
        until(lambda: (directory / "environ").read_bytes() == b"ACTION=ifup\0DEVICE=\0")
        until(lambda: descriptors() == ["/dev/null"] * 3)
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid != os.getsid(0)
    finally:
        programs.kill_group(process)
        os.close(reader)
        os.close(writer)


def test_programs_are_counted_and_known_by_their_numbers(tmp_path: Path) -> None:
    before = programs.executions
    assert programs.run([script(tmp_path, "echo $$")]).stdout == f"{programs.own_pids[-1]}\n"
    process = programs.spawn([script(tmp_path, "exit 3")], {})
    assert process.wait(60) == 3
    assert programs.own_pids[-1] == process.pid
    assert programs.executions == before + 2
    assert programs.own_pids.maxlen == 64


def test_one_that_cannot_be_spawned(tmp_path: Path) -> None:
    rubbish = tmp_path / "program"
    rubbish.write_bytes(b"\x7fELF rubbish")
    rubbish.chmod(0o755)
    known = list(programs.own_pids)
    with pytest.raises(KernelError, match="program: cannot be started: Exec format error"):
        programs.spawn([str(rubbish)], {})
    with pytest.raises(KernelError, match="cannot be started: embedded null byte"):
        programs.spawn(["sleep", "\0"], {})
    with pytest.raises(KernelError, match="not installed"):
        programs.spawn([str(tmp_path / "nothing")], {})
    with pytest.raises(KernelError, match="not installed"):
        programs.spawn(["no-such-program"], {})
    assert list(programs.own_pids) == known


def test_a_killed_one_takes_its_session_with_it(tmp_path: Path) -> None:
    own_group = f"{sys.executable} -c \"import os, time; os.setpgid(0, 0); open('ready', 'w'); time.sleep(1000)\""
    process = programs.spawn([script(tmp_path, f"cd {tmp_path}; sleep 1000 & {own_group} & wait")], {})
    until((tmp_path / "ready").exists)
    assert len(alive(process.pid)) == 3
    programs.kill_group(process)
    assert process.returncode == -9
    until(lambda: not alive(process.pid))


def test_the_number_of_one_that_was_reaped_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    process = programs.spawn(["true"], {})
    process.wait(60)
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("somebody else may have that number now"))
    programs.kill_group(process)


def test_one_that_ended_unseen_is_reaped() -> None:
    process = programs.spawn(["true"], {})
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    programs.kill_group(process)
    assert process.returncode == 0


def test_jobs_at_once_return_in_their_order() -> None:
    meet = threading.Barrier(3, timeout=60)

    def job(number: int) -> int:
        meet.wait()  # all of them are under way
        return number

    assert programs.at_once([functools.partial(job, number) for number in range(3)]) == [0, 1, 2]
    assert programs.at_once([]) == []


def test_what_a_job_raises_is_raised_when_all_are_done() -> None:
    done: list[int] = []

    def job(number: int) -> None:
        if number < 2:
            raise KernelError(f"job {number}", None, "no")
        done.append(number)

    with pytest.raises(KernelError, match="job 0"):
        programs.at_once([functools.partial(job, number) for number in range(3)])
    assert done == [2]
