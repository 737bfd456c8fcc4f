"""A source that was lost answers again, or its carrier is back."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from connbal.track.health import recovery_time
from tests.bench import flows, setting
from tests.bench.carrier import LIMIT
from tests.bench.flows import Flows, Kind
from tests.bench.results import Figure
from tests.bench.scene import Effort, Options, await_status, forget_neighbours, rest, scene
from tests.bench.setting import Setting
from tests.bench.watch import Watch
from tests.netns.daemon.service import Service


def recovery(options: Options) -> Iterator[Figure | str]:
    """Until new connections use the source again."""
    effort = options.effort
    for one, count in zip((setting.quick(), setting.steady(), setting.shipped()), effort.recoveries, strict=True):
        if count:
            with scene(options, ("wan1", "wan2"), one.text) as service:
                yield from _after_cut(service, one, effort.rate, count)
    with scene(options, ("wan1", "wan2"), setting.quick().text) as service:
        yield from _after_carrier(service, "carrier back", effort, effort.recoveries[0], effort.rested)
        yield from _after_carrier(service, "carrier back, without a rest", effort, effort.again, False)


def _after_cut(service: Service, one: Setting, rate: float, count: int) -> Iterator[Figure]:
    settings = one.decoded(service.lab)
    found = []
    for _ in range(count):
        service.lab.cut("wan1")
        await_status(service, ["wan1"], "offline")
        service.settled()
        found.append(_restored(service, settings.interval, rate))
    limit = recovery_time(settings) + LIMIT
    yield from flows.figures(f"{one.name}: answers again", [at for at, _ in found], [all for _, all in found], limit)


def _restored(service: Service, interval: float, rate: float) -> tuple[float, dict[Kind, float]]:
    with Flows(service.lab, rate) as running:
        time.sleep(random.uniform(0, interval))
        begin = time.monotonic()
        service.lab.restore("wan1")
        await_status(service, ["wan1"], "online")
        answered = running.await_source("wan1", begin)
    service.settled()
    return begin, answered


def _after_carrier(service: Service, what: str, effort: Effort, count: int, rested: bool) -> Iterator[Figure]:
    known, answered, told = [], [], []
    device = service.lab.source("wan1").device
    with Watch(service.lab) as watch:
        for _ in range(count):
            if rested:
                rest(service)
            service.lab.carrier("wan1", False)
            await_status(service, ["wan1"], "disabled")
            service.settled()
            forget_neighbours(service.lab, "wan1")
            begin, answers = _plugged(service, effort.rate)
            known.append(watch.carrier(device, True, begin))
            told.append(known[-1] - begin)
            answered.append(answers)
            service.settled()
    yield from flows.figures(f"{what}, from the kernel's word", known, answered, LIMIT)
    yield Figure(f"{what}: before that, until the kernel says so", tuple(told))


def _plugged(service: Service, rate: float) -> tuple[float, dict[Kind, float]]:
    with Flows(service.lab, rate) as running:
        time.sleep(random.uniform(0, 0.2))
        begin = time.monotonic()
        service.lab.carrier("wan1", True)
        return begin, running.await_source("wan1", begin)
