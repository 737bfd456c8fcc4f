"""One source's probes: when rounds start, by which way they leave, and what becomes of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from connbal.frozen import dataclass
from connbal.model.config import Family, Interface
from connbal.track import health
from connbal.track.api import Round
from connbal.track.health import Finished, Observation, State, Tick
from connbal.track.probes.prober import Prober
from connbal.track.resolver import Cache

#: Rounds of one source that may wait for answers at once: with a timeout of many intervals the next one is left out.
MAX_ROUNDS = 32

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """How a source's probes leave, and whom they ask."""

    device: str
    family: Family
    mark: int  #: the interface's own
    hosts: tuple[str, ...]
    name_servers: tuple[str, ...] = ()


class Tracker:
    """Probes one source. ``observed`` is told of every round, and of time that has passed."""

    def __init__(self, observed: Callable[[Observation], None]) -> None:
        self._observed = observed
        self._loop = asyncio.get_running_loop()
        self._way: Way | None = None
        self._prober: Prober | None = None
        self._cache = Cache()
        self._rounds: set[asyncio.Task[None]] = set()
        self._last_start: float | None = None
        self._waiting = False
        self._began = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._release: asyncio.TimerHandle | None = None
        self._settings: Interface | None = None

    def follow(self, settings: Interface, state: State, way: Way | None) -> None:
        """Go on like this. ``way``: None while there is none. To be called after every change of any of them."""
        if way != self._way:
            self._change_way(way)
        if state.began != self._began:
            self._began = state.began
            self._cache.ask_again()  # the network came up, or is judged anew: perhaps names can be resolved now
        self._settings = settings
        self._set_timers(state)

    def close(self) -> None:
        """Nothing is left of it."""
        self._change_way(None)
        for timer in (self._next, self._release):
            if timer is not None:
                timer.cancel()
        self._next = self._release = None

    def _change_way(self, way: Way | None) -> None:
        for task in self._rounds:
            task.cancel()
        self._rounds.clear()
        if self._prober is not None:
            self._prober.close()
            self._prober = None
        if self._way is not None and way is not None and way.family is not self._way.family:
            self._cache = Cache()
        self._way, self._last_start, self._waiting = way, None, False
        if way is not None:
            self._prober = Prober(way.device, way.family, way.mark, servers=way.name_servers, cache=self._cache)

    def _set_timers(self, state: State) -> None:
        assert self._settings is not None
        for timer in (self._next, self._release):
            if timer is not None:
                timer.cancel()
        self._next = self._release = None
        now = self._loop.time()
        if self._prober is not None:
            delay = health.next_delay(self._settings, state, self._last_start, now, self._waiting)
            if delay is not None:
                self._next = self._loop.call_at(now + delay, self._start_round, state)
        free_at = health.held_until(self._settings, state)
        if free_at is not None:
            self._release = self._loop.call_at(max(free_at, now), self._observed, Tick())

    def _start_round(self, state: State) -> None:
        assert self._prober is not None
        assert self._way is not None
        assert self._settings is not None
        self._last_start = self._loop.time()
        if len(self._rounds) < MAX_ROUNDS:
            self._waiting = True
            work = self._round(self._prober, self._settings, self._way.hosts, self._last_start)
            task = self._loop.create_task(work)
            self._rounds.add(task)
            task.add_done_callback(self._over)
        self._set_timers(state)

    async def _round(self, prober: Prober, settings: Interface, hosts: tuple[str, ...], started: float) -> None:
        def told(found: Round) -> None:
            if started == self._last_start:
                self._waiting = False
            self._observed(Finished(found, started))

        told(await prober.run(settings, hosts, told))

    def _over(self, task: asyncio.Task[None]) -> None:
        self._rounds.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a round of probes failed", exc_info=task.exception())
