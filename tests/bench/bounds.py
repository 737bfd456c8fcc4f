"""What a crowd costs: events without a daemon, calls of a page, those who follow, and far too large a configuration.

None of it is a matter of time. A small router has little memory, and whatever may be asked for again and again by
others has to have a bound.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from connbal.track import client
from tests.bench import setting
from tests.bench.results import Figure
from tests.bench.scene import SHORT, Options, scene
from tests.lab import Lab
from tests.router.configs import balanced
from tests.router.crowd import CALLS, EVENTS, HOOK, Crowd, blow, calls, held
from tests.router.router import Router, stage

#: One works, and may be about to start a program; the next may begin while it ends.
PROCESSES = 3
#: Two at once, each with its worker, each of which may be about to start a program.
CALL_PROCESSES = 6
#: MB of 1,000,000 bytes: of those; and of a command that refuses what is too large.
MEMORY, CALL_MEMORY, REFUSED = 40, 80, 60
#: Clients that follow, and seconds for an answer to somebody else.
FOLLOWERS, SHORT_ANSWER = 32, 0.1
#: Bytes of a configuration that nobody means.
LARGE = 4 << 20
_RULE = "config rule 'r{0}'\n\toption dest_ip '10.{1}.{2}.0/24'\n\toption use_policy 'balanced'\n\n"
# Runs a command, and says how much memory it had at most, in kB.
_PEAK = """
import os, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def bounds(options: Options) -> Iterator[Figure | str]:
    """What a crowd costs."""
    repetitions = 1 if options.effort is SHORT else 3
    yield from _router(options, repetitions)
    yield from _followed(options)
    yield from _refused(repetitions)


def _router(options: Options, repetitions: int) -> Iterator[Figure]:
    with (
        tempfile.TemporaryDirectory(prefix="connbal-bench-") as scratch,
        Lab(("wan", "wan1"), xtables=options.xtables) as lab,
    ):
        staged = Path(scratch, "root")
        stage(staged)
        with Router(lab, staged) as router:
            router.configure(balanced({"wan": True, "wan1": True}))
            router.run(["/usr/bin/connbal", "apply"])
            for locked in (False, True):
                found = [_events(router, locked) for _ in range(repetitions)]
                what = f"{EVENTS} events without a daemon{', lock held' if locked else ''}"
                yield Figure(f"{what}: processes", tuple(one.processes for one in found), PROCESSES, "")
                yield Figure(f"{what}: memory", tuple(one.memory for one in found), MEMORY, "MB")
            crowds = []
            for _ in range(repetitions):
                with _crowd(router) as one:
                    calls(router, "connbal", "diagnose", {}, CALLS)
                crowds.append(one)
            what = f"{CALLS} calls of diagnose"
            yield Figure(f"{what}: processes", tuple(one.processes for one in crowds), CALL_PROCESSES, "")
            yield Figure(f"{what}: memory", tuple(one.memory for one in crowds), CALL_MEMORY, "MB")


def _crowd(router: Router) -> Crowd:
    return Crowd(router, Crowd(router).now())


def _events(router: Router, locked: bool) -> Crowd:
    with _crowd(router) as one:
        with held(router) if locked else contextlib.nullcontext():
            blow(router, f". {HOOK}", EVENTS)
            time.sleep(1.0 if locked else 0.2)
        router.wait(lambda: not one.now(), "what the events began to end")
    return one


def _followed(options: Options) -> Iterator[Figure]:
    """How long a short question takes while others follow the journal, and while others say nothing."""
    with scene(options, ("wan1", "wan2"), setting.quick().text) as service, contextlib.ExitStack() as stack:
        path = str(client.control_path(service.lab.run_dir))
        for said in (b'{"ask": "events", "follow": true}\n', b""):
            for _ in range(FOLLOWERS):
                one = stack.enter_context(socket.socket(socket.AF_UNIX))
                one.connect(path)
                with contextlib.suppress(BrokenPipeError):
                    one.sendall(said)
        taken = []
        for _ in range(max(options.effort.hooks, 10)):
            begin = time.monotonic()
            answer = client.status(service.lab.run_dir)
            assert answer is not None, "no answer"
            assert "interfaces" in answer, "the daemon was busy"
            taken.append(time.monotonic() - begin)
        yield Figure(f"question while {FOLLOWERS} follow", tuple(taken), SHORT_ANSWER)


def _refused(repetitions: int) -> Iterator[Figure]:
    """What a command takes that refuses a configuration."""
    with tempfile.TemporaryDirectory(prefix="connbal-bench-") as scratch:
        text = "".join(_RULE.format(number, number >> 8 & 255, number & 255) for number in range(LARGE // 60))
        Path(scratch, "mwan3").write_text(text[:LARGE])
        argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", scratch, "--run-dir", scratch, "check"]
        taken = []
        for _ in range(repetitions):
            done = subprocess.run(
                [sys.executable, "-c", _PEAK, *argv], stdout=subprocess.PIPE, text=True, check=True,
                cwd=Path(__file__).parents[2], env={**os.environ, "CONNBAL_UCI": "embedded"},
            )  # fmt: skip
            taken.append(int(done.stdout.split()[1]) * 1024 / 1e6)
        yield Figure("configuration of 4 MB: memory", tuple(taken), REFUSED, "MB")
