"""The process that takes a change back where nobody else does: a shell that sleeps, and then becomes connbal.

A shell, since it may wait for an hour beside little memory. It has a session of its own and passes over SIGHUP, so that
a lost connection does not end it. What it starts looks whether there still is anything to take back.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from connbal.errors import KernelError

#: Words of the shell: the number of seconds, then the program.
_SCRIPT = """trap '' HUP; { sleep "$1"; shift; exec "$@"; } </dev/null >/dev/null 2>&1 &"""
#: Finds connbal where this process has found it, wherever it is started.
_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from connbal.cli.main import main; main()"
#: Seconds for the shell to leave its child alone.
_PATIENCE = 5.0

log = logging.getLogger(__name__)


def start(seconds: int, config_dir: str, run_dir: str) -> None:
    """Have ``connbal confirm --overdue`` run after so many seconds. Where that cannot be, others have to do it."""
    from connbal.kernel import exec as programs

    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    flags = ["-I"] if sys.flags.isolated else []
    argv = [
        "sh", "-c", _SCRIPT, "connbal", str(seconds), sys.executable, *flags, "-c", _PROGRAM, home,
        "--config-dir", os.path.abspath(config_dir), "--run-dir", os.path.abspath(run_dir), "confirm", "--overdue",
    ]  # fmt: skip
    try:
        process = programs.spawn(argv, os.environ)
        process.wait(_PATIENCE)
    except (KernelError, subprocess.TimeoutExpired) as error:
        log.warning("nobody waits for the confirmation beside the daemon: %s", error)
