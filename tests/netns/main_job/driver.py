"""connbal's command line, kept running: for each connection a fork that enters a router, then a command a line.

The same code as ``connbal`` runs for each command, without the half second that starting Python takes. With
``kill_at`` a fork of the fork does it and is killed as it is about to change something for that many-th time.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from connbal.cli.main import main as connbal_main
from connbal.kernel import exec as programs
from connbal.kernel.conntrack import SystemConntrack
from connbal.kernel.netlink import Channel

_CLONE_NEWNET = 0x40000000

#: (begin, end, mark, mask) of each flush of connections, begin and end in time.monotonic().
flushes: list[tuple[float, float, int, int]] = []
#: Programs started and not only to look.
writes: list[str] = []

#: Changes left until this process kills itself; 0: it does not.
fuse = 0

_flush, _run, _request = SystemConntrack.flush, programs.run, Channel.request


def burn() -> None:
    """Something is about to be changed."""
    global fuse
    if fuse:
        fuse -= 1
        if not fuse:
            os.kill(os.getpid(), signal.SIGKILL)


def request(self: Channel, *args: Any, **options: Any) -> Any:
    burn()
    return _request(self, *args, **options)


def flush(self: SystemConntrack, mark: int, mask: int) -> None:
    begin = time.monotonic()
    try:
        _flush(self, mark, mask)
    finally:
        flushes.append((begin, time.monotonic(), mark, mask))


def run(argv: Any, *args: Any, **options: Any) -> Any:
    if not (argv[0].endswith("-save") or argv[0] == "ubus"):
        burn()
        writes.append(" ".join(argv))
    return _run(argv, *args, **options)


def command(argv: list[str]) -> dict[str, Any]:
    """Run connbal once."""
    flushes.clear()
    writes.clear()
    stdout, stderr = io.StringIO(), io.StringIO()
    code = 0
    begin = time.monotonic()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            connbal_main(argv)
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    return {
        "code": code, "stdout": stdout.getvalue(), "stderr": stderr.getvalue(), "begin": begin,
        "end": time.monotonic(), "flushes": flushes[:], "writes": writes[:],
    }  # fmt: skip


def killed(argv: list[str], changes: int) -> dict[str, Any]:
    """Run connbal in a fork that is killed at a change; code -9 where it was not done by then."""
    global fuse
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        fuse = changes
        command(argv)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "stdout": "", "stderr": "", "begin": begin, "end": time.monotonic(), "flushes": [],
            "writes": []}  # fmt: skip


def serve(connection: socket.socket) -> None:
    """Do the jobs that come in by one connection; the first line says in which router."""
    with connection.makefile("rw", encoding="utf-8") as stream:
        place = json.loads(stream.readline())
        os.environ.update(place["env"])
        with open(place["netns"], "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {place['netns']}")
        for line in stream:
            job = json.loads(line)
            answer = killed(job["argv"], job["kill_at"]) if job["kill_at"] else command(job["argv"])
            stream.write(json.dumps(answer) + "\n")
            stream.flush()


def warm_up() -> None:
    """Import now what connbal imports when it first needs it."""
    for verb in ("apply", "check", "interface", "plan", "status", "stop"):
        importlib.import_module(f"connbal.cli.{verb}")
    for module in ("kernel.ipset", "kernel.routing", "kernel.xtables", "kernel.facts", "reconcile", "uci.decode"):
        importlib.import_module(f"connbal.{module}")


def main(listener: socket.socket) -> None:
    """Fork a server for each connection, until standard input closes. Everything is imported by then."""
    SystemConntrack.flush = flush  # type: ignore[method-assign]
    programs.run = run
    Channel.request = request  # type: ignore[method-assign]
    warm_up()
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        with connection:
            # Twice, so that the server is an orphan and leaves no zombie.
            child = os.fork()
            if child == 0:
                if os.fork() == 0:
                    listener.close()
                    serve(connection)
                os._exit(0)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
