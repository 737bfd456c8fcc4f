"""The unit for systemd: systemd's own checks, and that it says what the daemon and the documentation say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from connbal.kernel.oom import OURS
from connbal.track.notify import HUNG
from tests.unit.files.unit import FILE, capabilities, settings

ROOT = Path(__file__).parents[3]
TEXT = FILE.read_text("utf-8")
UNIT = settings(TEXT)
#: How exposed it may be by ``systemd-analyze security``, in tenths: of 10, and what needs the network cannot be at 0.
EXPOSED = 38

analyzed = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd: apt-get install systemd")


def one(key: str) -> str:
    """The only value of a key."""
    (value,) = UNIT[key]
    return value


@analyzed
def test_systemd_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    """Every key is known, every value is one. What it starts is not here, so something else stands for that."""
    unit = tmp_path / "connbal.service"
    unit.write_text(TEXT.replace(one("ExecStart"), "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@analyzed
def test_it_is_exposed_no_more_than_it_has_to_be() -> None:
    argv = ["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={EXPOSED}", str(FILE)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]


def test_it_is_the_daemon_that_the_readme_installs() -> None:
    """The README links the command; the unit starts it from there, and may not change it."""
    readme = (ROOT / "README.md").read_text("utf-8")
    program, *words = one("ExecStart").split()
    venv, target = re.findall(r"^\$ ln -sf (\S+)/bin/connbal (\S+)$", readme, re.MULTILINE)[0]
    assert (program, words) == (f"{target}connbal", ["daemon"])
    assert one("ReadOnlyPaths") == f"-{venv}"
    assert f"systemctl enable --now {venv}/lib/systemd/system/{FILE.name}" in readme


def test_its_numbers_are_the_daemons() -> None:
    assert one("Type") == "notify"
    assert 0 < int(one("WatchdogSec")) < HUNG
    assert int(one("OOMScoreAdjust")) == OURS
    assert one("KillMode") == "mixed", "it ends its programs itself, and tells them apart from what they have started"
    assert one("OOMPolicy") == "continue", "a script that eats the memory is not the daemon"


def test_what_must_not_be_left() -> None:
    """No capability by which a process gets out of what the unit holds it in."""
    assert {"net_admin", "net_raw"} <= set(capabilities())
    assert not {"sys_admin", "sys_module", "sys_ptrace", "sys_rawio", "mknod", "setpcap", "bpf"} & set(capabilities())
    assert one("NoNewPrivileges") == "yes"


def test_it_comes_with_every_way_of_installing() -> None:
    """pip puts it below the prefix; an sdist has it."""
    text = (ROOT / "setup.cfg").read_text("utf-8")
    assert f"lib/systemd/system =\n    {FILE.relative_to(ROOT)}" in text


def test_the_documentation_says_its_numbers() -> None:
    text = (ROOT / "docs/linux.md").read_text("utf-8")
    assert f"OOMScoreAdjust={one('OOMScoreAdjust')}" in text
    assert f"{one('MemoryMax').removesuffix('M')} MB" in text
    assert "every 30 seconds" in text
    assert int(one("WatchdogSec")) == 2 * 30
