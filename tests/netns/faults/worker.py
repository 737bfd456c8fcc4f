"""connbal in a router, a fork for each command: ``python -m tests.netns.faults.worker``, started in the namespace.

Its argument is where ubusd may listen.
A job is a line of JSON on standard input, an answer one on standard output. Everything is imported once; what a
command leaves in its process ends with it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from connbal.cli.context import Session
from connbal.cli.daemon import SystemWorld
from connbal.cli.main import main as connbal_main
from connbal.errors import ConnbalError
from connbal.kernel import exec as programs
from connbal.kernel import ubusd
from connbal.kernel.rundir import PatientMemory
from tests.netns.faults.seam import Seam
from tests.netns.main_job.driver import warm_up

SAVES = {"4": "iptables-save", "6": "ip6tables-save"}


def mangle() -> dict[str, str]:
    """What both families have in the mangle table."""
    return {family: programs.run([name, "-t", "mangle"]).stdout for family, name in SAVES.items()}


def command(job: dict[str, Any]) -> dict[str, Any]:
    """Run connbal in this process, with a fault."""
    seam = Seam(job.get("at", -1), job.get("mode", ""), forever=job.get("forever", False),
                trace=mangle if job.get("trace") else None)  # fmt: skip
    seam.install()
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            connbal_main(job["argv"])
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    return {"code": code, "stdout": stdout.getvalue(), "stderr": stderr.getvalue(), "calls": seam.calls,
            "traced": seam.traced, "met": seam.met}  # fmt: skip


def forked(job: dict[str, Any]) -> dict[str, Any]:
    """Run connbal in a fork; code -9, and nothing else, where it was killed."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)
        if "group" in job:
            Path(job["group"], "cgroup.procs").write_text(str(os.getpid()))
        answer = command(job)
        with open(there, "w", encoding="utf-8") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(there)
    with open(here, encoding="utf-8") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        answer: dict[str, Any] = json.loads(said)
        return answer
    return {"code": code, "stdout": "", "stderr": "", "calls": [], "traced": [],
            "met": True}  # fmt: skip


def keep(channel: socket.socket) -> None:
    """Apply again and again in one process, as the daemon does: what it remembers meets every fault."""
    seam = Seam()
    seam.install()
    with channel.makefile("rw", encoding="utf-8") as stream:
        place = json.loads(stream.readline())
        session = Session(place["config"], place["run"])
        with session.machine() as machine:
            world = SystemWorld(session, machine, PatientMemory(session.run()))
            for line in stream:
                job = json.loads(line)
                seam.again(job.get("at", -1), job.get("mode", ""))
                stream.write(json.dumps({**_applied(world), "calls": seam.calls, "met": seam.met}) + "\n")
                stream.flush()


def _applied(world: SystemWorld) -> dict[str, Any]:
    answer: dict[str, Any] = {"code": 0, "stdout": "", "stderr": "", "traced": []}
    try:
        with world.lock(threading.Event()):
            report = world.apply(world.load().config, lambda config, facts: {}, afresh=True)
        answer["stderr"] = "\n".join(str(one) for one in report.findings if one.code == "refused")
    except ConnbalError as error:
        answer.update(code=1, stderr=str(error))
    except Exception as error:
        answer.update(code=1, stderr=f"Traceback: {error!r}")
    return answer


class Kept:
    """A process of :func:`keep`."""

    def __init__(self, config: str, run: str) -> None:
        ours, theirs = socket.socketpair()
        self.child = os.fork()
        if self.child == 0:
            ours.close()
            keep(theirs)
            os._exit(0)
        theirs.close()
        self._stream = ours.makefile("rw", encoding="utf-8")
        ours.close()
        self._ask({"config": config, "run": run})

    def _ask(self, data: dict[str, Any]) -> None:
        self._stream.write(json.dumps(data) + "\n")
        self._stream.flush()

    def apply(self, job: dict[str, Any]) -> dict[str, Any]:
        self._ask(job)
        answer: dict[str, Any] = json.loads(self._stream.readline())
        return answer

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.child}/fd"))

    def close(self) -> None:
        self._stream.close()
        os.waitpid(self.child, 0)


def shell(job: dict[str, Any]) -> dict[str, Any]:
    """Run a script in the router."""
    done = subprocess.run(["sh", "-c", job["script"]], capture_output=True, text=True, timeout=60, check=False)
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def main() -> None:
    warm_up()
    ubusd.SOCKETS = (sys.argv[1],)  # type: ignore[assignment]
    kept: Kept | None = None
    for line in sys.stdin:
        job = json.loads(line)
        if "script" in job:
            answer = shell(job)
        elif job.get("kept"):
            kept = kept or Kept(job["argv"][1], job["argv"][3])
            answer = {**kept.apply(job), "files": kept.open_files()}
        else:
            answer = forked(job)
        print(json.dumps(answer), flush=True)
    if kept is not None:
        kept.close()


if __name__ == "__main__":
    main()
