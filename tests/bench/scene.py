"""A lab with a daemon that is warm, and ways to wait for it that do not disturb it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from connbal.track import pace
from tests.lab import Lab
from tests.netns.daemon.service import Service

_PATIENCE = 60.0


@dataclass(frozen=True)
class Scale:
    """How large a configuration is."""

    interfaces: int
    rules: int

    def told(self) -> dict[str, int | str]:
        """As figures have it."""
        return {"interfaces": self.interfaces, "rules": self.rules}


#: Each dimension by itself: not every combination says something new.
SCALES = (Scale(2, 10), Scale(5, 10), Scale(20, 10), Scale(60, 10), Scale(20, 100), Scale(20, 1000))


@dataclass(frozen=True)
class Effort:
    """How much is measured: how often what happens, for cuts and recoveries with each of the settings."""

    scales: tuple[Scale, ...] = SCALES  #: of labs that take turns
    turns: int = 4  #: of everything that is done at each scale
    repetitions: int = 15  #: of each command
    hooks: int = 60  #: calls of the hotplug hook
    failures: tuple[int, int] = (100, 100)  #: silent ones, and of the carrier
    side_by_side: int = 4  #: labs in which sources fail
    failure_rate: float = 100.0  #: new connections a second of each kind, in each of them

    cuts: tuple[int, int, int] = (20, 5, 5)
    again: int = 20  #: cuts, and returns of a carrier, of which each follows the last as soon as that is over
    carriers: int = 30
    recoveries: tuple[int, int, int] = (10, 5, 3)
    events: int = 10
    idle: tuple[int, ...] = (2, 5, 20, 60)  #: numbers of interfaces
    seconds: float = 15.0  #: of being idle
    calm: float = 15.0  #: seconds until a new lab's bridge has nothing to say any more
    storm: int = 1000  #: events
    rate: float = 200.0  #: new connections a second of each kind
    rested: bool = True  #: what has to stand alone waits until the daemon has its full pace


FULL = Effort()
QUICK = Effort(
    scales=SCALES[::2], turns=2, repetitions=5, hooks=20, failures=(12, 12), cuts=(3, 1, 1), again=10, carriers=5,
    recoveries=(3, 1, 1), events=2, seconds=8.0, calm=2.0,
)  # fmt: skip
SHORT = Effort(
    scales=SCALES[:1], turns=1, repetitions=1, hooks=2, failures=(1, 1), side_by_side=1, failure_rate=50.0,
    cuts=(1, 0, 0), again=1, carriers=1, recoveries=(1, 0, 0), events=1, idle=(2,), seconds=0.5, calm=0.0, storm=40,
    rate=50.0, rested=False,
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    effort: Effort = FULL
    xtables: str = "nft"


@contextmanager
def scene(options: Options, sources: Iterable[str], text: Callable[[Lab], str]) -> Iterator[Service]:
    """A daemon that has tracked all sources of a new lab for a while, and whose parts have all been used."""
    with Lab(tuple(sources), xtables=options.xtables) as lab:
        service = Service(lab)
        service.configure(text(lab))
        with service:
            await_status(service, lab.spec.sources, "online")
            service.hotplug("ifupdate", lab.spec.sources[0])
            service.settled()
            yield service


def await_status(service: Service, names: Iterable[str], *wanted: str) -> None:
    """Wait until sources, both families, are as wanted, by the files that the daemon keeps for others."""
    labels = [label for name in names for label in both(service.lab, name)]
    what = f"{', '.join(labels)} {' or '.join(wanted)}"
    until(lambda: all(_status(service, label) in wanted for label in labels), what, service)


def rest(service: Service) -> None:
    """Wait until the daemon may answer as many events in quick succession as it ever may."""
    left = pace.Pace()
    for record in service.events():
        if record["kind"] == "reconcile":
            left = left.spent(record["uptime"], record["seconds"])
    time.sleep(max(left.at + (pace.BURST - left.tokens) * left.period - time.monotonic(), 0))


def both(lab: Lab, name: str) -> tuple[str, str]:
    """The interfaces of a source, IPv4 and IPv6."""
    return name, lab.source(name).name6


def _status(service: Service, label: str) -> str:
    try:
        return (service.mwan3track(label) / "STATUS").read_text().strip()
    except OSError:
        return ""


def until(good: Callable[[], object], what: str, service: Service) -> None:
    """Wait until something is so. AssertionError, with the end of the daemon's log, where it never is."""
    end = time.monotonic() + _PATIENCE
    while not good():
        assert time.monotonic() < end, f"waited {_PATIENCE:g} s for {what}; log: {service.said()}"
        time.sleep(0.02)


def forget_neighbours(lab: Lab, name: str) -> None:
    """What was asked of a dead link fails seconds later, and would take along what waits for an answer then."""
    lab.router.ip(f"neigh flush dev {lab.source(name).device} nud all")
    lab.internet(name).ip("neigh flush dev router nud all")
