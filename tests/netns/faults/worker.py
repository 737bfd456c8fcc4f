"""connbal in a router, a fork for each command: ``python -m tests.netns.faults.worker``, started in the namespace.

A job is a line of JSON on standard input, an answer one on standard output. Everything is imported once; what a
command leaves in its process ends with it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from typing import Any

from connbal.cli.main import main as connbal_main
from connbal.kernel import exec as programs
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
            "traced": seam.traced}  # fmt: skip


def forked(job: dict[str, Any]) -> dict[str, Any]:
    """Run connbal in a fork; code -9, and nothing else, where it was killed."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)
        answer = command(job)
        with open(there, "w", encoding="utf-8") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(there)
    with open(here, encoding="utf-8") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if said:
        answer = json.loads(said)
        return dict(answer)
    return {"code": os.waitstatus_to_exitcode(status), "stdout": "", "stderr": "", "calls": [], "traced": []}


def shell(job: dict[str, Any]) -> dict[str, Any]:
    """Run a script in the router."""
    done = subprocess.run(["sh", "-c", job["script"]], capture_output=True, text=True, timeout=60, check=False)
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def main() -> None:
    warm_up()
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(shell(job) if "script" in job else forked(job)), flush=True)


if __name__ == "__main__":
    main()
