"""connbal's commands without the start of Python: a process that has everything imported, and forks for each command.

A fork that has entered the router's network namespace is as good as a new process, and ten times as fast. The tests
are thus able to run hundreds of commands; that the program starts by itself, test_cli and the demo show.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_CLONE_NEWNET = 0x40000000
#: Seconds a command may take.
LIMIT = 60

_process: subprocess.Popen[str] | None = None


def run(netns: str, arguments: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``connbal ARGUMENTS`` in the namespace whose file is ``netns``, with ``env`` added to the environment."""
    global _process
    if _process is None or _process.poll() is not None:
        _process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(_end, _process)
    assert _process.stdin is not None
    assert _process.stdout is not None
    _process.stdin.write(json.dumps([netns, list(arguments), dict(env)]) + "\n")
    _process.stdin.flush()
    code, stdout, stderr = json.loads(_process.stdout.readline())
    return subprocess.CompletedProcess(["connbal", *arguments], code, stdout, stderr)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()  # it ends when nobody can ask any more
    process.wait()


# --- the process itself -----------------------------------------------------------------------------------------------


def main() -> None:
    """Answer one job a line until there are no more."""
    _import_everything()
    for line in sys.stdin:
        netns, arguments, env = json.loads(line)
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            child = os.fork()
            if child == 0:
                _command(netns, arguments, env, stdout.fileno(), stderr.fileno())
            _, status = os.waitpid(child, 0)
            answer = [os.waitstatus_to_exitcode(status), *(_text(stream.fileno()) for stream in (stdout, stderr))]
        print(json.dumps(answer), flush=True)


def _import_everything() -> None:
    from connbal.cli.main import COMMANDS

    for module, _ in COMMANDS.values():
        importlib.import_module(f"connbal.cli.{module}")
    for name in ("reconcile", "uci.decode", "uci.store", "uci.embedded", "kernel.conntrack", "kernel.ipset",
                 "kernel.routing", "kernel.xtables", "kernel.facts", "kernel.ubus", "kernel.rundir"):  # fmt: skip
        importlib.import_module(f"connbal.{name}")


def _command(netns: str, arguments: list[str], env: dict[str, str], stdout: int, stderr: int) -> None:
    """Never returns."""
    code = 70
    try:
        signal.alarm(LIMIT)
        null = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((null, stdout, stderr)):
            os.dup2(descriptor, number)
        _enter(netns)
        os.environ.update(env)
        from connbal.cli.main import main as connbal

        connbal(arguments)
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _enter(netns: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns", netns)
    os.close(descriptor)


def _text(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as stream:
        return stream.read().decode("utf-8", "backslashreplace")


if __name__ == "__main__":
    main()
