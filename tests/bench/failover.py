"""How long new connections are lost when the source in use fails: many times, silently and with its carrier.

Most of the time of a failure nothing happens but waiting, so several labs run side by side, each in a process of its
own (``python -m tests.bench.failover KIND COUNT RATE LOCK`` is one). Of a carrier's loss every millisecond counts, and
that is over at once, so only one lab at a time may be in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import setting
from tests.bench.carrier import LIMIT, plug, pull
from tests.bench.results import Figure
from tests.bench.scene import Options, rest, scene
from tests.bench.silent import cut
from tests.netns.daemon.service import Service

SILENT, CARRIER = KINDS = ("silent", "carrier")
_ROOT = Path(__file__).resolve().parents[2]
#: Seconds that one failure may take with everything around it, and that a lab needs besides.
_EACH, _AROUND = 30.0, 60.0

#: New connections: one kind for each family. Part ``silent`` has all four.
_FLOWS = (("udp", 4), ("tcp", 6))

#: Samples by name, in seconds.
Found = dict[str, list[float]]


def failover(options: Options) -> Iterator[Figure | str]:
    """From the failure until new connections of each kind work again, with probes every 0.2 s."""
    effort = options.effort
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory(prefix="connbal-bench-") as scratch:
        for kind, count in zip(KINDS, effort.failures, strict=True):
            found[kind] = _side_by_side(kind, count, options, Path(scratch, "lock"))
    limits = {SILENT: setting.quick().silence, CARRIER: LIMIT}
    for kind, samples in found.items():
        for name, values in samples.items():
            limit = limits[kind] if name == "until new connections work" else None
            yield Figure(f"{_TITLES[kind]}, {name}", tuple(values), limit)


_TITLES = {SILENT: "source silent", CARRIER: "carrier lost"}


def _side_by_side(kind: str, count: int, options: Options, lock: Path) -> Found:
    labs = min(options.effort.side_by_side, count)
    counts = [count // labs + (number < count % labs) for number in range(labs)]
    found: Found = {}
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(kind, one, options, lock)) for one in counts]
        for worker in workers:
            said, complained = worker.communicate(timeout=_AROUND + _EACH * max(counts))
            assert worker.returncode == 0, f"failover, {kind}: {complained.strip()}"
            samples: Mapping[str, list[float]] = json.loads(said)
            for name, values in samples.items():
                found.setdefault(name, []).extend(values)
    return found


@contextlib.contextmanager
def _worker(kind: str, count: int, options: Options, lock: Path) -> Iterator[subprocess.Popen[str]]:
    """It ends with the block, and takes its lab away before."""
    argv = [sys.executable, "-m", "tests.bench.failover", kind, str(count), str(options.effort.failure_rate),
            str(int(options.effort.rested)), options.xtables, str(lock)]  # fmt: skip
    # Ctrl-C is for this process: told twice, a worker would leave its lab half taken away.
    process = subprocess.Popen(argv, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        if process.poll() is None:
            process.kill()
        process.communicate()


# --- one lab ----------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """What a worker does; it prints what it found."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kind, count, rate, rested, xtables, lock = argv
    work = _silent if kind == SILENT else _carrier
    with (
        scene(Options(xtables=xtables), ("wan1", "wan2"), setting.quick().text) as service,
        open(lock, "w", encoding="ascii") as turn,
    ):
        work(service, 1, float(rate), False, turn)  # all that is used for the first time
        print(json.dumps(work(service, int(count), float(rate), rested == "1", turn)))
    return 0


def _silent(service: Service, count: int, rate: float, rested: bool, _: Any) -> Found:
    interval = setting.quick().decoded(service.lab).interval
    cuts = [cut(service, interval, rate, rested, _FLOWS) for _ in range(count)]
    return {
        "until new connections work": [max(one.answered.values()) - one.begin for one in cuts],
        "of this, until it is found out": [max(one.found.values()) - one.begin for one in cuts],
    }


def _carrier(service: Service, count: int, rate: float, rested: bool, turn: Any) -> Found:
    took = []
    for _ in range(count):
        if rested:
            rest(service)
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            begin, answered = pull(service, rate, _FLOWS)
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)
        took.append(max(answered.values()) - begin)
        time.sleep(0.1)
        plug(service)
    return {"until new connections work": took}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
