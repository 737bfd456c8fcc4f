"""Who is ended first where memory is short: the daemon last, what it starts no later than anybody else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from connbal.kernel.oom import OURS, values

FILE = "/proc/self/oom_score_adj"
#: Starts as many programs as it is told, side by side, and prints what this process has, and what each of them had.
#: Whoever runs the tests may not be allowed to have less than 0: so what is ours is 50, of 300.
CODE = f"""
import json, sys, threading
from connbal.kernel import exec as programs, oom
oom.OURS = 50
if sys.argv[1] == "daemon":
    oom.protect()
found = []
def start():
    for _ in range(int(sys.argv[3])):
        found.append(int(programs.run(["sh", "-c", "cat {FILE}"]).stdout))
threads = [threading.Thread(target=start) for _ in range(int(sys.argv[2]))]
for one in threads: one.start()
for one in threads: one.join()
print(json.dumps([int(open("{FILE}").read()), sorted(set(found))]))
"""


def run(who: str, given: int, *, threads: int = 1, times: int = 1) -> list[object]:
    """What the process has, and what the programs had that it started; ``given``: what it is started with."""
    shell = ["sh", "-c", f'echo {given} >{FILE} && exec "$@"', "sh"]
    argv = [*shell, sys.executable, "-c", CODE, who, str(threads), str(times)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    said: list[object] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize(
    ("found", "own", "others"), [(0, OURS, 0), (-200, OURS, 0), (OURS, OURS, 0), (-900, -900, 0), (300, OURS, 300)]
)
def test_values(found: int, own: int, others: int) -> None:
    """The daemon, and what it starts: also where whoever starts the daemon has seen to it already."""
    assert values(found) == (own, others)


def test_the_daemon() -> None:
    assert run("daemon", 300) == [50, [300]]


def test_a_command() -> None:
    """A command is nobody special."""
    assert run("command", 300) == [300, [300]]


def test_programs_started_side_by_side() -> None:
    """Threads start programs at the same time: none inherits what is the daemon's, and it has that in the end."""
    assert run("daemon", 300, threads=6, times=15) == [50, [300]]


def test_without_the_right_to_lower_it() -> None:
    """It stays as it is, and nobody minds."""
    code = f"from connbal.kernel import oom; oom.protect(); print(open({FILE!r}).read())"
    argv = ["setpriv", "--bounding-set", "-sys_resource", "--no-new-privs", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert (done.stdout.strip(), done.stderr) == (Path(FILE).read_text().strip(), "")
