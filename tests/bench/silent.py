"""Silent loss: the source in use no longer answers, and nothing says so."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from connbal.model.config import Interface
from connbal.track.health import detection_time
from tests.bench import flows, setting
from tests.bench.flows import Flows, Kind
from tests.bench.results import Figure
from tests.bench.scene import Options, await_status, both, rest, scene
from tests.bench.setting import Setting
from tests.netns.daemon.service import Service


@dataclass(frozen=True)
class Cut:
    """One cut. Times are of the monotonic clock, those of the daemon by version of IP."""

    begin: float  #: the first moment at which packets may have been lost
    answered: dict[Kind, float]  #: the first new connection by the other source
    found: dict[int, float]  #: the daemon says that the source is disconnected
    reconciled: dict[int, float]  #: the end of the run that this led to


def silent(options: Options) -> Iterator[Figure | str]:
    """From the cut until new connections work again, with each of the settings."""
    settings = (setting.quick(), setting.steady(), setting.shipped())
    for one, count in zip(settings, options.effort.cuts, strict=True):
        if count:
            yield from _with(options, one, count, options.effort.again if one is settings[0] else 0)


def _with(options: Options, one: Setting, count: int, again: int) -> Iterator[Figure]:
    with scene(options, ("wan1", "wan2"), one.text) as service:
        settings = one.decoded(service.lab)
        alone = [cut(service, settings.interval, options.effort.rate, options.effort.rested) for _ in range(count)]
        yield from _figures(f"{one.name}: cut", one, settings, alone)
        if again:
            cuts = [cut(service, settings.interval, options.effort.rate) for _ in range(again)]
            yield from _figures(f"{one.name}, without a rest: cut", one, settings, cuts)


def _figures(name: str, one: Setting, settings: Interface, cuts: Sequence[Cut]) -> Iterator[Figure]:
    yield from flows.figures(name, [cut.begin for cut in cuts], [cut.answered for cut in cuts], one.silence)
    found = tuple(max(cut.found.values()) - cut.begin for cut in cuts)
    yield Figure(f"{name} found out (by design {detection_time(settings):g} s)", found)
    yield Figure(f"{name} found out until answer", tuple(
        max(at - cut.found[family] for (_, family), at in cut.answered.items()) for cut in cuts
    ))  # fmt: skip
    yield Figure(f"{name} found out until end of run", tuple(
        max(at - cut.found[family] for family, at in cut.reconciled.items()) for cut in cuts
    ))  # fmt: skip


def cut(
    service: Service, interval: float, rate: float, rested: bool = False, kinds: Sequence[Kind] = flows.KINDS
) -> Cut:
    """Cut a source off at a random moment, and bring it back when everything is over."""
    lab = service.lab
    if rested:
        rest(service)
    with Flows(lab, rate, kinds, patient=False) as running:
        last = service.last()
        time.sleep(random.uniform(0, interval))
        begin = time.monotonic()
        lab.cut("wan1")
        await_status(service, ["wan1"], "offline")
        answered = running.await_source("wan2", begin)
    service.settled()
    records = service.events(last)
    lab.restore("wan1")
    await_status(service, ["wan1"], "online")
    service.settled()
    found, reconciled = {}, {}
    for family, name in zip((4, 6), both(lab, "wan1"), strict=True):
        found[family], reconciled[family] = _moments(records, name)
    return Cut(begin, answered, found, reconciled)


def _moments(records: list[dict[str, Any]], name: str) -> tuple[float, float]:
    """When an interface was found to be disconnected, and the end of the run because of it."""
    lost = next(one for one in records if one["kind"] == "disconnected" and one["interface"] == name)
    run = next(one for one in records if one["kind"] == "reconcile" and f"{name} disconnected" in one["causes"])
    return lost["uptime"], run["uptime"]
