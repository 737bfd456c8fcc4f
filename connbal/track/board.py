"""All sources at once: which there are, how each stands, and what the plan has to know of them. Pure.

The same step is taken twice for each run of the reconciler. First on a copy, while the run gathers its facts, so that a
source whose network has just come up is judged in the same run that gives it a table. Then for good, when the run is
over, on the board as it is by then. Both times it starts from :class:`Seen`, what the run saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

from connbal.frozen import dataclass
from connbal.model.config import Config, Interface
from connbal.model.facts import Facts, Health
from connbal.model.marks import MarkSpace
from connbal.plan.sources import Source, sources
from connbal.plan.values import InterfaceView
from connbal.track import health
from connbal.track.health import Event, Forced, NetworkSeen, State


@dataclass(frozen=True)
class Entry:
    """One source: what the configuration says of it, and how it stands."""

    settings: Interface
    state: State


#: Seconds in which netifd's word that a network came up is no news: netlink was faster, that is all.
FRESH = 5.0

#: By name, in the order of the configuration.
Board = Mapping[str, Entry]


@dataclass(frozen=True)
class Seen:
    """What one run of the reconciler saw of the sources."""

    interfaces: tuple[Interface, ...] = ()  #: settings in force: see :func:`in_force`
    networks: Mapping[str, NetworkSeen] = field(default_factory=dict)  #: one for each interface
    forced: Mapping[str, bool] = field(default_factory=dict)  #: by the user: up or down


def seen(config: Config, facts: Facts, forced: Mapping[str, bool], renewed: frozenset[str]) -> Seen:
    """What configuration and facts say of the sources.

    ``renewed``: interfaces or sub-interfaces (``wan1_6``) that netifd has brought up anew.
    """
    found = sources(config, facts, MarkSpace(config.globals.mmx_mask), {}, {})
    return Seen(
        tuple(in_force(one, facts) for one in config.interfaces),
        {one.name: _network(one, found.get(one.name), renewed) for one in config.interfaces},
        forced,
    )


def in_force(settings: Interface, facts: Facts) -> Interface:
    """The settings as they hold here: ``track_gateway`` means nothing where there is no gateway."""
    if not settings.track_gateway or gateway(settings, facts):
        return settings
    return replace(settings, track_gateway=False)


def gateway(settings: Interface, facts: Facts) -> str | None:
    """The address of the interface's best gateway; None: there is none, as on a point-to-point link."""
    network = facts.network(settings.name, settings.family)
    best = network.defaults[0].gateway if network is not None and network.defaults else None
    return str(best) if best is not None else None


def _network(settings: Interface, source: Source | None, renewed: frozenset[str]) -> NetworkSeen:
    if source is None:
        return NetworkSeen(False, "disabled" if not settings.enabled else "the mask has no room for it")
    if not source.routed:
        return NetworkSeen(False, source.reason)
    assert source.network is not None
    names = {settings.name, f"{settings.name}_{settings.family.version}"}
    return NetworkSeen(True, source.network.reason, renewed=bool(names & renewed))


def corrected(told: Seen, views: tuple[InterfaceView, ...]) -> Seen:
    """What was seen, less the sources that are not in the kernel after all because it refused them."""
    networks = dict(told.networks)
    for view in views:
        if not view.routed and networks.get(view.name, NetworkSeen(False)).up:
            networks[view.name] = NetworkSeen(False, view.reason)
    return replace(told, networks=networks)


def held_back(told: Seen, board: Board, why: str) -> Seen:
    """What was seen, where the kernel could not be changed: what came up has no table yet, so it is not up."""
    networks = dict(told.networks)
    for name, network in told.networks.items():
        if network.up and not (name in board and board[name].state.network):
            networks[name] = NetworkSeen(False, why)
    return replace(told, networks=networks)


def advance(
    board: Board, told: Seen, now: float, remembered: Mapping[str, bool] | None = None
) -> tuple[Board, tuple[Event, ...]]:
    """The board after a run, and the events on the way.

    ``now``: seconds of the monotonic clock. ``remembered``: whether sources were online when tracking was interrupted.
    A source whose section is gone leaves as one that is switched off does.
    """
    after: dict[str, Entry] = {}
    events: list[Event] = []
    for settings in told.interfaces:
        name = settings.name
        network, forced = told.networks[name], told.forced.get(name)
        if name in board:
            state, new = _stepped(board[name], settings, network, forced, now)
        else:
            was_online = (remembered or {}).get(name)
            state, started = health.start(settings, network, now, was_online if settings.enabled else None, forced)
            new = list(started)
        after[name] = Entry(settings, state)
        events += new
    for name, old in board.items():
        if name in after:
            continue
        events += health.reload(old.settings, replace(old.settings, enabled=False), old.state, now)[1]
    return after, tuple(events)


def _stepped(
    entry: Entry, settings: Interface, network: NetworkSeen, forced: bool | None, now: float
) -> tuple[State, list[Event]]:
    state, reloaded = health.reload(entry.settings, settings, entry.state, now)
    events = list(reloaded)
    if network.renewed and now - state.came < FRESH:
        network = replace(network, renewed=False)
    observations: list[health.Observation] = [network] if forced == state.forced else [Forced(forced), network]
    for observation in observations:
        state, new = health.observe(settings, state, observation, now)
        events += new
    return state, events


def verdicts(board: Board) -> dict[str, Health]:
    """What the plan has to know: the health of every source whose network is up."""
    return {name: health.health(entry.settings, entry.state) for name, entry in board.items() if entry.state.network}


def usable(verdict: Mapping[str, Health]) -> frozenset[str]:
    """The names of those that policies may use."""
    return frozenset(name for name, one in verdict.items() if one.online)
