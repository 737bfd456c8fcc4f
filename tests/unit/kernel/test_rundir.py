"""What the run directory remembers, and what a process does where it cannot be written to."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from connbal.errors import KernelError
from connbal.kernel.rundir import DOWN, HELD, UP, PatientMemory, RunDir
from connbal.plan.ledger import Ledger

#: Is killed just before what it has written gets its name.
KILLED = """
import os, pathlib, signal, sys
from connbal.kernel.rundir import RunDir
from connbal.plan.ledger import Ledger
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
RunDir(pathlib.Path(sys.argv[1])).save(Ledger())
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_forced_and_held(run: RunDir) -> None:
    for name, state in (("wan", HELD), ("wan1", DOWN), ("wan2", UP)):
        run.force(name, state)
    assert run.forced() == {"wan": False, "wan1": False, "wan2": True}
    assert run.held() == {"wan"}
    run.force("wan", None)
    assert run.forced() == {"wan1": False, "wan2": True}
    run.force("wan1", HELD)
    run.force("wan1", None)
    assert run.forced() == {"wan2": True}


def test_nothing_is_written_where_nothing_changes(run: RunDir) -> None:
    run.amend(lambda forced: None)
    assert not run.forced_file.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"wan": 1, "wan1": "sideways", "wan2": ["held"]}', "\0"])
def test_what_cannot_be_read_is_nothing(run: RunDir, text: str) -> None:
    run.forced_file.parent.mkdir()
    run.forced_file.write_text(text)
    assert (run.forced(), run.held()) == ({}, frozenset())


@pytest.mark.parametrize("uptime", ["1e999", "NaN", "-1", '"x"', "null", "9" * 400])
def test_health_of_no_known_time_is_none(run: RunDir, uptime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connbal.kernel.rundir._uptime", lambda: 20.0)  # a router that has just started
    run.forced_file.parent.mkdir()
    told = f'{{"uptime": {uptime}, "interfaces": {{"wan": {{"online": true, "reason": "up"}}}}}}'
    (run.forced_file.parent / "health.json").write_text(told)
    assert run.last_health() == {}


def test_what_a_killed_process_has_begun_goes_with_the_next_run(run: RunDir) -> None:
    """Nobody else would take it away before the next boot. What a living process writes is left to it."""
    own = run.forced_file.parent
    killed = subprocess.run([sys.executable, "-c", KILLED, str(run.root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = own.iterdir()
    assert left.name.startswith(".ledger.json.")
    others = [f".ledger.json.{os.getpid()}.0123456789ab", ".ledger.json.0123456789ab", ".keep", "x.1.0123456789ab"]
    for name in others:
        (own / name).touch()
    with run.lock():
        assert sorted(path.name for path in own.iterdir()) == sorted([*others, "lock"])


def test_steering_is_remembered(run: RunDir) -> None:
    assert not run.steers()
    for _ in range(2):
        run.steer(True)
        assert run.steers()
    for _ in range(2):
        run.steer(False)
        assert not run.steers()


def test_what_could_not_be_written_is_tried_again(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that changes nothing saves nothing, and yet the next process must know how things were."""
    memory, full = PatientMemory(run), [True]
    save = RunDir.save

    def saved(self: RunDir, ledger: Ledger) -> None:
        if full[0]:
            raise KernelError("write", errno.ENOSPC, "No space left on device")
        save(self, ledger)

    monkeypatch.setattr(RunDir, "save", saved)
    memory.save(Ledger(mask=0x3F00))
    assert (memory.load().mask, run.load().mask) == (0x3F00, 0)
    memory.load()
    assert len(caplog.records) == 1, "said once"
    full[0] = False
    assert memory.load().mask == run.load().mask == 0x3F00


def test_what_others_write_meanwhile_is_younger(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RunDir, ledger: Ledger) -> None:
        raise KernelError("write", errno.ENOSPC, "No space left on device")

    memory, save = PatientMemory(run), RunDir.save
    monkeypatch.setattr(RunDir, "save", full)
    memory.save(Ledger(mask=0x3F00))
    assert run.load().mask == 0
    save(run, Ledger(mask=0x7E00))
    assert memory.load().mask == 0x7E00
