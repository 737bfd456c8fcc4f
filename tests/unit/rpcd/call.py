"""A call as rpcd makes it: the script, run by BusyBox's shell, with one JSON object on standard input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "files/usr/libexec/rpcd"
#: Seconds in which rpcd gives up.
RPCD = 30


def shell() -> list[str]:
    """BusyBox's shell."""
    program = shutil.which("busybox")
    assert program, "busybox is missing"
    return [program, "sh"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


def call(object_: str, method: str, said: bytes | object, variables: Mapping[str, str]) -> Any:
    """The one object that a script answers."""
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    done = subprocess.run(
        [*shell(), str(SCRIPTS / object_), "call", method], input=text, capture_output=True, check=False,
        env=environment(**variables), timeout=RPCD,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    return only(done.stdout)


def only(said: bytes) -> Any:
    """The object that is all of an output."""
    found = json.loads(said)
    assert isinstance(found, dict)
    return found
