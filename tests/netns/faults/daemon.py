"""connbal with a fault in one of its calls, or a clock that jumps: ``python daemon.py …`` in place of connbal.

Variables say what: FAULT_AT and FAULT_MODE as for :class:`tests.netns.faults.seam.Seam`, CALLS a file for the calls
of this process, CLOCK a seed for a wall clock that jumps by years between any two looks at it.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

#: Seconds.
_YEAR = 366 * 86400


def jumping(seed: int) -> None:
    """From now on the wall clock of this process says anything; the others go on."""
    chance, real, real_ns = random.Random(seed), time.time, time.time_ns

    def jump() -> int:
        return chance.randint(-10 * _YEAR, 10 * _YEAR)

    time.time = lambda: real() + jump()
    time.time_ns = lambda: real_ns() + jump() * 10**9


def main() -> None:
    from connbal.cli.main import main as connbal
    from tests.netns.faults.seam import Seam

    if "CLOCK" in os.environ:
        jumping(int(os.environ["CLOCK"]))
    if "daemon" in sys.argv:
        seam = Seam(int(os.environ.get("FAULT_AT", "-1")), os.environ.get("FAULT_MODE", ""))
        seam.install()
        if "CALLS" in os.environ:
            atexit.register(lambda: Path(os.environ["CALLS"]).write_text(json.dumps(seam.calls)))
    connbal()


if __name__ == "__main__":
    main()
