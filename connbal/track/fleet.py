"""All sources at run time: the board, a tracker for each, and who is told of what happens to them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from connbal.errors import KernelError
from connbal.kernel.rundir import RunDir
from connbal.model.config import Interface
from connbal.model.facts import Facts, Health
from connbal.model.marks import MarkSpace
from connbal.plan.values import InterfaceView, Plan
from connbal.track import board, health, report, statefiles
from connbal.track.board import Board, Entry, Seen
from connbal.track.health import Event, Finished, Observation
from connbal.track.statefiles import StateFiles
from connbal.track.tracker import Tracker, Way

log = logging.getLogger(__name__)

#: Told of each event, with the interface's device ("": it has none).
Told = Callable[[Event, str], None]
#: Told of files that could not be written.
Trouble = Callable[[KernelError], None]


class Fleet:
    """The sources. ``told`` hears of events, ``turned`` of sources that are lost or back, ``trouble`` of bad files."""

    def __init__(self, run: RunDir, told: Told, turned: Callable[[str], None], trouble: Trouble) -> None:
        self._run, self._told, self._turned, self._trouble = run, told, turned, trouble
        self._files = StateFiles(run.root / "mwan3track")
        self._trackers: dict[str, Tracker] = {}
        self._ways: dict[str, Way] = {}
        self._devices: dict[str, str] = {}
        self._unwritten: set[str] = set()
        self._held: list[tuple[str, Way | None, Finished]] | None = None
        self.board: dict[str, Entry] = {}

    # --- what comes in -------------------------------------------------------------------------------------------

    def settle(
        self, seen: Seen, plan: Plan | None, facts: Facts, remembered: Mapping[str, bool] | None = None
    ) -> tuple[tuple[Event, str], ...]:
        """Take over what a run saw. ``plan``: as it is in the kernel now; None: the kernel could not be changed.

        Returns the events on the way, of which ``told`` hears nothing, each with the interface's device.
        """
        before = self.board
        after, events = board.advance(before, seen, time.monotonic(), remembered)
        self.board = dict(after)
        if plan is not None:
            self._ways = ways(plan, seen, facts)
            self._devices |= {view.name: view.device for view in plan.interfaces if view.device}
        for name in self._trackers.keys() - self.board.keys():
            self._trackers.pop(name).close()
        told = tuple((event, self._devices.get(event.interface, "")) for event in events)
        for name, entry in self.board.items():
            if name not in self._trackers:
                self._trackers[name] = Tracker(self._observer(name))
            self._follow(name, entry)
            if before.get(name) != entry:
                self._unwritten.add(name)
        self._devices = {name: device for name, device in self._devices.items() if name in self.board}
        self._write_all(before)
        return told

    def _observer(self, name: str) -> Callable[[Observation], None]:
        def observed(observation: Observation) -> None:
            self.observe(name, observation)

        return observed

    def observe(self, name: str, observation: Observation) -> None:
        """A source's state after an observation, and everybody told of it."""
        if self._held is not None and isinstance(observation, Finished):
            self._held.append((name, self._ways.get(name), observation))
            return
        entry = self.board.get(name)
        if entry is None:
            return
        settings, old = entry.settings, entry.state
        state, events = health.observe(settings, old, observation, time.monotonic())
        self.board[name] = entry = Entry(settings, state)
        self._unwritten.add(name)
        self._follow(name, entry)
        if state.hitch and not old.hitch:
            log.warning("%s: no round of probes can be made, so its state stays: %s", name, state.hitch)
        elif old.hitch and not state.hitch:
            log.info("%s: rounds of probes are made again", name)
        for event in events:
            self._told(event, self._devices.get(name, ""))
        if health.online(settings, state) != health.online(settings, old):
            self._turned(f"{name} {'connected' if health.online(settings, state) else 'disconnected'}")
            self.save_health()
        if health.status(settings, state) is not health.status(settings, old):
            self._write(name)

    def hold(self) -> None:
        """Marks are being given another meaning: what rounds say that end now is heard when that is over."""
        self._held = self._held or []

    def release(self) -> None:
        """It is over. A round whose way has changed may have met rules half changed: it says nothing."""
        held, self._held = self._held or (), None
        for name, way, observation in held:
            if way == self._ways.get(name):
                self.observe(name, observation)

    def _follow(self, name: str, entry: Entry) -> None:
        probed = health.running(entry.settings, entry.state)
        self._trackers[name].follow(entry.settings, entry.state, self._ways.get(name) if probed else None)

    def marks(self) -> dict[str, int]:
        """The marks that probes carry."""
        return {name: way.mark for name, way in self._ways.items()}

    # --- what goes out -------------------------------------------------------------------------------------------

    def uses(self, device: str | None) -> bool:
        """Whether a device is that of a source."""
        return device in self._devices.values()

    def verdicts(self) -> dict[str, Health]:
        """What the plan has to know."""
        return board.verdicts(self.board)

    def snapshot(self) -> dict[str, Any]:
        """Every source as values for JSON."""
        now = time.monotonic()
        return {
            name: report.snapshot(entry.settings, entry.state, now, self._devices.get(name))
            for name, entry in self.board.items()
        }

    def save_health(self) -> None:
        """For commands, and for the daemon that comes after this one."""
        try:
            self._run.save_health(self.verdicts())
        except KernelError as error:
            self._trouble(error)

    def write_rest(self) -> None:
        """Bring the files of sources up to date whose figures have changed."""
        for name in tuple(self._unwritten):
            self._write(name)

    def write_everything(self) -> None:
        """Write every file, whatever others have done to them."""
        for name in self.board:
            self._write(name, fully=True)

    def _write_all(self, before: Board) -> None:
        if board.verdicts(before) != self.verdicts():
            self.save_health()
        try:
            self._files.retain(self.board)
        except KernelError as error:
            self._trouble(error)
        self.write_rest()

    def _write(self, name: str, fully: bool = False) -> None:
        self._unwritten.discard(name)
        entry = self.board.get(name)
        if entry is None:
            return
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        contents = statefiles.contents(entry.settings, entry.state, time.monotonic(), uptime, os.getpid())
        try:
            self._files.write(name, contents, fully=fully)
        except KernelError as error:
            self._trouble(error)

    def close(self) -> None:
        """No more probes, and no files of states that nobody watches any more; what others need to go on stays."""
        for tracker in self._trackers.values():
            tracker.close()
        self._trackers.clear()
        self.save_health()
        try:
            self._files.clear()
        except KernelError as error:
            self._trouble(error)


def ways(plan: Plan, seen: Seen, facts: Facts) -> dict[str, Way]:
    """How the probes of each source leave that has a table and a default route in it. Pure."""
    space = MarkSpace(plan.mask)
    settings = {one.name: one for one in seen.interfaces}
    return {
        view.name: _way(view, settings[view.name], space.mark(plan.ids[view.name]), facts)
        for view in plan.interfaces
        if view.routed and view.device and view.name in settings
    }


def _way(view: InterfaceView, settings: Interface, mark: int, facts: Facts) -> Way:
    assert view.device is not None
    hosts = settings.track_ip
    gateway = board.gateway(settings, facts) if settings.track_gateway else None
    if gateway is not None and gateway not in hosts:
        hosts = (*hosts, gateway)
    network = facts.network(settings.name, settings.family)
    servers = network.name_servers if network is not None else ()
    return Way(view.device, settings.family, mark, hosts, servers)
