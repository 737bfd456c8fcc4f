"""Running a command as a user who is nobody: without root's rights, but able to start Python."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_SETPRIV = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
#: Of root's rights only that to read every file.
_MAY_READ = tuple(f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set"))


@functools.lru_cache(maxsize=1)
def nobody() -> tuple[str, ...]:
    """What to put before a command. Where Python or the checkout is below ``/root``, it may read all files."""
    for prefix in ((*_SETPRIV, "--inh-caps=-all", "--"), (*_SETPRIV, *_MAY_READ, "--")):
        start = [*prefix, sys.executable, "-c", "import connbal.cli.main"]
        done = subprocess.run(start, cwd=_ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return prefix
    raise AssertionError(f"nobody cannot start Python: {done.stderr}")
