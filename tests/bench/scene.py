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
class Effort:
    """How much is measured: how often what happens, for cuts and recoveries with each of the settings."""

    cuts: tuple[int, int, int] = (20, 5, 5)
    again: int = 20  #: cuts, and returns of a carrier, of which each follows the last as soon as that is over
    carriers: int = 30
    recoveries: tuple[int, int, int] = (10, 5, 3)
    events: int = 10
    seconds: float = 30.0  #: of load
    sources: int = 30  #: of load, each with two interfaces
    calm: float = 20.0  #: seconds until a new lab's bridge has nothing to say any more
    storm: int = 1000  #: events
    rate: float = 200.0  #: new connections a second of each kind
    rested: bool = True  #: what has to stand alone waits until the daemon has its full pace


FULL = Effort()
QUICK = Effort((3, 1, 1), 10, 5, (3, 1, 1), 2, 10.0)
SHORT = Effort((1, 0, 0), 1, 1, (1, 0, 0), 1, 0.5, sources=2, calm=0.0, storm=40, rate=50.0, rested=False)


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
