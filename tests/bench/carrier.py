"""The cable of the source in use is pulled: the kernel says so, and nobody has to find out."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from tests.bench import flows, setting
from tests.bench.flows import Flows, Kind
from tests.bench.results import Figure, distribution
from tests.bench.scene import Options, await_status, forget_neighbours, scene
from tests.bench.watch import Watch
from tests.netns.daemon.service import Service

LIMIT = 0.1


def carrier(options: Options) -> Iterator[Figure | str]:
    """From the loss of the carrier until new connections work again."""
    begun: list[float] = []
    answered: list[dict[Kind, float]] = []
    told: list[float] = []
    with scene(options, ("wan1", "wan2"), setting.quick().text) as service, Watch(service.lab) as watch:
        for _ in range(options.effort.carriers):
            begin, answers = pull(service, options.effort.rate)
            begun.append(begin)
            answered.append(answers)
            told.append(watch.carrier(service.lab.source("wan1").device, False, begin) - begin)
            plug(service)
    yield from flows.figures("carrier lost", begun, answered, LIMIT)
    yield Figure("of this, until the kernel says so", tuple(told))
    worst = [max(one.values()) - begin for begin, one in zip(begun, answered, strict=True)]
    yield f"the slowest of the four each time: {distribution(worst)}"


def pull(service: Service, rate: float, kinds: Sequence[Kind] = flows.KINDS) -> tuple[float, dict[Kind, float]]:
    """Pull the cable at a random moment: that moment, and when new connections of each kind worked again."""
    with Flows(service.lab, rate, kinds, patient=False) as running:
        time.sleep(random.uniform(0, 0.2))
        begin = time.monotonic()
        service.lab.carrier("wan1", False)
        return begin, running.await_source("wan2", begin)


def plug(service: Service) -> None:
    """Put the cable back, and wait until everything is as before."""
    service.settled()
    forget_neighbours(service.lab, "wan1")
    service.lab.carrier("wan1", True)
    await_status(service, ["wan1"], "online")
    service.settled()
