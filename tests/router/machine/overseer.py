"""Imported by every Python of a router that is watched: writes down which programs it starts and which files it writes.

One JSON array a line: how the process was started, the event, its words. See :mod:`tests.router.watch`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

LOG = "/tmp/log/overseer.log"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FILES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod",
          "os.chown", "shutil.rmtree"}  # fmt: skip
_PROGRAMS = {"subprocess.Popen", "os.exec", "os.system", "os.posix_spawn", "os.spawn"}


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        if not isinstance(args[2], int) or not args[2] & _WRITING or isinstance(args[0], int):
            return
        words: list[Any] = [args[0]]
    elif event in _FILES:
        words = [one for one in args if isinstance(one, str | bytes | os.PathLike)]
    elif event in _PROGRAMS:
        words = [args[0], *args[1]] if len(args) > 1 and isinstance(args[1], list | tuple) else list(args[:2])
    else:
        return
    line = json.dumps([sys.orig_argv, event, [one if isinstance(one, str) else repr(one) for one in words]])
    os.write(_log, line.encode() + b"\n")


_log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
sys.addaudithook(_hook)
