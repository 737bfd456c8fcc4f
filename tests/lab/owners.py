"""Who owns which lab, and the removal of labs whose owner is dead.

Each lab has a state file /run/connbal-lab/PREFIX.json, written before its first namespace. It names the
owner by pid *and* start time, so that a pid used again is not taken for the owner. Only namespaces with
a state file's prefix, and only processes inside them, are ever removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.node import NETNS_DIR, LabError

STATE_DIR = Path("/run/connbal-lab")
TMP_PREFIX = "connbal-lab-"
_PREFIX = re.compile(r"cb[0-9a-f]{6}")


@dataclass(frozen=True)
class State:
    """One lab as its state file describes it. `pid` 0 means that its owner is not known yet or gone."""

    prefix: str
    pid: int
    start: int  # clock ticks from boot to the owner's start, /proc/PID/stat field 22
    tmp: str
    spec: dict[str, object]
    kept: bool = False  # outlives the program that built it; its owner is its server

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return STATE_DIR / f"{self.prefix}.json"

    @property
    def alive(self) -> bool:
        """True while the very process that owns the lab runs."""
        return self.pid > 0 and start_time(self.pid) == self.start

    def write(self) -> None:
        """Write the state file whole or not at all."""
        STATE_DIR.mkdir(mode=0o755, exist_ok=True)
        scratch = self.file.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(self)))
        scratch.rename(self.file)


def start_time(pid: int) -> int:
    """Start time of a process in clock ticks since boot; 0 if there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def states() -> list[State]:
    """Every lab that has a state file; a file that is not one of ours is passed over."""
    found = []
    for file in sorted(STATE_DIR.glob("cb*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            state = State(**json.loads(file.read_text()))
            if state.prefix == file.stem and _PREFIX.fullmatch(state.prefix):
                found.append(state)
    return found


def find(prefix: str) -> State:
    """The lab with this prefix. Raises LabError when there is none."""
    for state in states():
        if state.prefix == prefix:
            return state
    raise LabError(f"no lab {prefix!r}; there are: {', '.join(s.prefix for s in states()) or 'none'}")


def sweep() -> list[str]:
    """Remove every lab whose owner is dead; return their prefixes. Labs with a living owner stay."""
    removed = []
    with _lock():
        for state in states():
            if not state.alive:
                remove(state)
                removed.append(state.prefix)
    return removed


def remove(state: State) -> None:
    """Take one lab away: processes in its namespaces, the namespaces, its files. Harmless when repeated."""
    names = namespaces(state.prefix)
    end_processes(names)
    lines = "".join(f"netns del {name}\n" for name in names)
    if lines:
        subprocess.run(
            ["ip", "-force", "-batch", "-"], input=lines, text=True, capture_output=True, timeout=30, check=False
        )
    tmp = Path(state.tmp)
    if tmp.name == TMP_PREFIX + state.prefix and not tmp.is_symlink():
        shutil.rmtree(tmp, ignore_errors=True)
    state.file.unlink(missing_ok=True)


def namespaces(prefix: str) -> list[str]:
    """Names of the namespaces of one lab."""
    return sorted(path.name for path in NETNS_DIR.glob(f"{prefix}-*"))


def end_processes(names: list[str], patience: float = 1.0) -> None:
    """End the processes inside these namespaces: first asked, then, after `patience` seconds, killed.

    Programs that made daemons of themselves are found here, as no parent-death signal reaches them.
    """
    spaces = {os.stat(NETNS_DIR / name).st_ino for name in names if (NETNS_DIR / name).exists()}
    # Whatever the names say: never the namespace that this process runs in.
    spaces -= {os.stat(f"/proc/{task}/ns/net").st_ino for task in ("self", "thread-self")}
    if not _signal_all(spaces, signal.SIGTERM):
        return
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if not any(True for _ in _inside(spaces)):
            return
    _signal_all(spaces, signal.SIGKILL)


def _inside(spaces: set[int]) -> Iterator[int]:
    """Pids whose network namespace is one of `spaces`, this process and its ancestors excepted."""
    spared = _ancestors()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in spared:
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino in spaces and start_time(int(entry)):
                    yield int(entry)


def _signal_all(spaces: set[int], number: signal.Signals) -> int:
    """Signal every process inside; the pid is held by a pidfd and looked at again before."""
    count = 0
    for pid in list(_inside(spaces)):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                if os.stat(f"/proc/{pid}/ns/net").st_ino in spaces:
                    signal.pidfd_send_signal(fd, number)
                    count += 1
            finally:
                os.close(fd)
    return count


def _ancestors() -> set[int]:
    """This process, its parent, and so on up to init."""
    pids, pid = set(), os.getpid()
    while pid > 0 and pid not in pids:
        pids.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return pids


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One sweep at a time on this machine."""
    STATE_DIR.mkdir(mode=0o755, exist_ok=True)
    with open(STATE_DIR / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
