"""A thousand events in about a second, and something that matters at their end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from connbal.track import pace
from tests.bench import flows, setting
from tests.bench.carrier import LIMIT, plug
from tests.bench.flows import KINDS, Flows
from tests.bench.results import Figure
from tests.bench.scene import Options, scene
from tests.netns.daemon.service import Service

#: A second.
_EVENTS = 1000
#: Comes and goes all the time on the LAN, and each time what counts as local is different.
_ADDRESS = "192.168.77.1/24"


@dataclass(frozen=True)
class End:
    """What happens at the end of a storm, after which new connections have to use ``source``."""

    name: str
    happen: Callable[[], None]
    source: str
    families: tuple[int, ...]
    urgent: bool = False


def storm(options: Options) -> Iterator[Figure | str]:
    """Events of the kernel and of the hotplug hook, half of each, and at their end a source that goes or comes."""
    with scene(options, ("wan1", "wan2"), setting.quick().text) as service:
        lab = service.lab
        for end in (
            End("address gone", lambda: lab.remove_address("wan1", 4), "wan2", (4,)),
            End("address back", lambda: lab.add_address("wan1", 4), "wan1", (4,)),
            End("carrier lost", lambda: lab.carrier("wan1", False), "wan2", (4, 6), urgent=True),
        ):
            yield from _one(service, options, end)
        plug(service)
        yield Figure("still to change at the end", (_left(service),), 0, "")


def _one(service: Service, options: Options, what: End) -> Iterator[Figure]:
    last = service.last()
    with Flows(service.lab, options.effort.rate, [kind for kind in KINDS if kind[1] in what.families]) as running:
        begin = time.monotonic()
        _blow(service, options.effort.storm)
        end = time.monotonic()
        what.happen()
        answered = running.await_source(what.source, end)
    service.settled(1.3 * pace.PERIOD)
    runs = [record for record in service.events(last) if record["kind"] == "reconcile"]
    longest = max(run["seconds"] for run in runs)
    passed = runs[-1]["uptime"] - begin
    # A run may be under way; the one that counts follows it, at once only where it is urgent.
    limit = LIMIT + (0 if what.urgent else max(pace.PERIOD, pace.SHARE * longest)) + 2 * longest
    yield Figure(f"{what.name}: the storm itself", (end - begin,))
    yield from flows.figures(f"{what.name}: right again", [end], [answered], limit)
    yield Figure(f"{what.name}: runs", (len(runs),), pace.BURST + passed / pace.PERIOD + 1, "")
    yield Figure(f"{what.name}: the longest run", (longest,))


def _blow(service: Service, count: int) -> None:
    process = service.lab.router.popen(["ip", "-batch", "-"], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    device = service.lab.source("wan2").device
    begin = time.monotonic()
    steps = max(count // 4, 1) * 2  # as many additions as deletions, and an event of each kind at each step
    for number in range(steps):
        process.stdin.write(f"addr {'del' if number % 2 else 'add'} {_ADDRESS} dev br-lan\n")
        process.stdin.flush()
        service.hotplug("ifupdate", "wan2", device)
        time.sleep(max(begin + 2 * (number + 1) / _EVENTS - time.monotonic(), 0))
    process.stdin.close()
    assert process.wait(30) == 0, "ip could not do what the storm consists of"


def _left(service: Service) -> int:
    answer: dict[str, Any] = json.loads(service.connbal("plan", "--json").stdout)
    return len(answer["changes"])
