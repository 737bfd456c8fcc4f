"""Whether a source works: mwan3's score machine, and what a link, a user or a flapping line does to it. Pure.

:func:`observe` takes the settings of an interface, its state and one observation, and gives the next state and the
events on the way. Nothing here asks the clock or the world.

The score machine is that of mwan3track 2.12.2, as it can be seen from outside. The score runs from 0 to ``down`` +
``up``; above ``up`` the source is online. A good round, one in which ``reliability`` hosts answered, takes a score
above ``up`` straight to the top; a bad one takes a score below it straight to 0; reaching ``up`` from above is offline
and 0, from below online and the top. So it takes ``down`` bad rounds in a row to go offline, and ``up`` good ones in a
row to come back. A network that comes up starts at the top or at 0 as ``initial_state`` says, unless it was online.

It differs where mwan3track contradicts itself: its status sticks to ``connecting`` when a recovery fails, and shows
only the first dip as ``disconnecting``; here the status always follows from the score. Without ``track_ip`` and with
``initial_state`` offline mwan3 never uses the source; here it is online while its network is up.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from connbal.frozen import dataclass
from connbal.model.config import Interface
from connbal.model.facts import Health
from connbal.track import dampening
from connbal.track.api import Miss, Round
from connbal.track.dampening import NO_FLAPS, Flaps
from connbal.track.quality import Host, HostState, heard, remembered, summary, verdict
from connbal.track.score import detection_time as detection_time
from connbal.track.score import recovery_time as recovery_time
from connbal.track.score import stepped, top

#: Seconds after the start of a round that could not be made until the next, or its interval where that is shorter.
AGAIN = 1.0


class Status(enum.Enum):
    """The state of a source, in the words of mwan3's ``STATUS`` file."""

    ONLINE = "online"
    OFFLINE = "offline"
    CONNECTING = "connecting"  #: offline, but the last round was good, or flap dampening holds it back
    DISCONNECTING = "disconnecting"  #: online, but the last round was bad
    DISABLED = "disabled"  #: not tracked now: its network is down, the user forced it down, or it is not enabled


class EventKind(enum.Enum):
    """What happened, in the words of hotplug's ``ACTION``."""

    IFUP = "ifup"
    IFDOWN = "ifdown"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    DISCONNECTING = "disconnecting"


@dataclass(frozen=True)
class Event:
    """Something that others are told of."""

    kind: EventKind
    interface: str
    cause: str  #: in words
    old: Status  #: before the observation
    new: Status  #: after it
    at: float  #: seconds of the monotonic clock
    first: bool = False  #: no round has said so, it is where tracking begins (mwan3's ``FIRSTCONNECT``)


@dataclass(frozen=True)
class State:
    """What is known of a source. Times are seconds of the monotonic clock.

    For the files of mwan3track: ``STATUS`` is :func:`status`, ``STARTED`` :func:`running`, ``SCORE LOST TURN TIME``
    the attributes of these names, ``ONLINE`` and ``OFFLINE`` the two ``_since`` (None: 0), ``TRACK_`` a host's state.
    """

    network: bool = False  #: its network is up: link, address, device
    network_reason: str = ""
    forced: bool | None = None  #: by the user; None: not forced
    score: int = 0
    lost: int = 0  #: answers missing since the last good round, over all hosts
    turn: int = 0  #: rounds since it last connected
    delay: float = 0.0  #: seconds from the start of the last round to the next
    came: float = 0.0  #: when its network was last seen to come up; 0.0: it was up before anybody looked
    began: float = 0.0  #: when tracking last began; rounds from before do not count
    judged: float | None = None  #: start of the youngest round that was judged; None: none since ``began``
    time: float | None = None  #: end of the last round that was judged
    online_since: float | None = None
    offline_since: float | None = None
    words: str = ""  #: what the last round said
    hitch: str = ""  #: why the last round could not be made, in words; empty: it was
    unmade: int = 0  #: rounds that could not be made
    tried: float = 0.0  #: start of the youngest of them
    hosts: tuple[Host, ...] = ()
    flaps: Flaps = NO_FLAPS


@dataclass(frozen=True)
class Finished:
    """A round is over, or has been decided.

    It may be reported as soon as enough hosts answered, with the others as skipped, and once more with those others
    alone (the rest as skipped): what comes of a round that was judged already, or that is older than one that was,
    changes what is known of the hosts, but not the score.
    """

    round: Round
    started: float  #: seconds of the monotonic clock


@dataclass(frozen=True)
class NetworkSeen:
    """Its network as it is now; saying the same twice changes nothing."""

    up: bool  #: link, address and device are there
    reason: str = ""  #: in words
    renewed: bool = False  #: it came up anew (netifd's ``ifup``) even if nobody saw it down


@dataclass(frozen=True)
class Forced:
    """The user forces it up or down, or (None) no longer."""

    up: bool | None


@dataclass(frozen=True)
class Tick:
    """Time has passed: :func:`held_until` is over."""


Observation = Finished | NetworkSeen | Forced | Tick
Result = tuple[State, tuple[Event, ...]]


def tracked(settings: Interface) -> bool:
    """Whether it is probed at all."""
    return bool(settings.track_ip) or settings.track_gateway


def running(settings: Interface, state: State) -> bool:
    """Whether it is probed now: mwan3's ``STARTED``."""
    return _present(settings, state) and tracked(settings)


def online(settings: Interface, state: State) -> bool:
    """Whether policies may use it."""
    works = _passes(settings, state) and not state.flaps.suppressed
    return _present(settings, state) and (works or bool(state.forced))


def status(settings: Interface, state: State) -> Status:
    """Its state in one word."""
    if not _present(settings, state):
        return Status.DISABLED
    if state.forced:
        return Status.ONLINE
    if not _passes(settings, state):
        return Status.CONNECTING if state.score else Status.OFFLINE
    if state.flaps.suppressed:
        return Status.CONNECTING
    return Status.ONLINE if state.score == top(settings) else Status.DISCONNECTING


def reason(settings: Interface, state: State) -> str:
    """Why it is in that state, in words; never empty."""
    if not settings.enabled:
        return "disabled in the configuration"
    if not state.network:
        return state.network_reason or "its network is down"
    if state.forced is not None:
        return _forced_words(state.forced) + (f"; probes: {state.words}" if state.forced and state.words else "")
    words = state.words or "not probed yet"
    if not tracked(settings):
        words = "not tracked, its network is up"
    elif state.hitch:
        words += f" (since then no round could be made: {state.hitch})"
    if _passes(settings, state) and state.flaps.suppressed:
        decay = f"{state.flaps.penalty:.0f}, halved every {settings.dampening:g} s, free at {dampening.REUSE:.0f}"
        return f"held back, it went offline too often (penalty {decay}); {words}"
    now = status(settings, state)
    if now is Status.DISCONNECTING:
        return f"{words}; offline after {_rounds(state.score - settings.up, 'bad')}"
    if now is Status.CONNECTING:
        return f"{words}; online after {_rounds(settings.up - state.score, 'good')}"
    return words


def health(settings: Interface, state: State) -> Health:
    """What the plan has to know."""
    return Health(online(settings, state), reason(settings, state))


def held_until(settings: Interface, state: State) -> float | None:
    """When flap dampening lets go of it (monotonic clock), to be observed as a Tick; None: it does not hold it."""
    return dampening.reuse_at(state.flaps, settings.dampening)


def _present(settings: Interface, state: State) -> bool:
    return settings.enabled and state.network and state.forced is not False


def _passes(settings: Interface, state: State) -> bool:
    return state.score > settings.up


def _forced_words(up: bool | None) -> str:
    return "no longer forced by the user" if up is None else f"forced {'up' if up else 'down'} by the user"


def _rounds(count: int, kind: str) -> str:
    return f"{count} more {kind} round{'' if count == 1 else 's'}"


def next_delay(
    settings: Interface, state: State, last_start: float | None, now: float, waiting: bool = False
) -> float | None:
    """Seconds from ``now`` until the next round should start; 0.0: at once; None: no rounds.

    ``last_start``: when the last round started (None: never); ``waiting``: that round still lacks answers it needs.
    A round starts an interval after the *start* of the one before, even if that one still waits: they may overlap.
    Which interval follows mwan3: ``failure_interval`` after bad rounds, the one that takes it offline included, then
    ``interval`` (or not, by ``keep_failure_interval``); ``recovery_interval`` after good ones, the one that takes it
    online included. While it is online, a round that has waited for ``failure_interval`` is as good as missed. A round
    that could not be made is tried again after AGAIN seconds.
    """
    if not running(settings, state):
        return None
    if last_start is None or last_start < state.began:
        return 0.0
    if state.hitch:
        return max(last_start + min(state.delay, AGAIN) - now, 0.0)
    impatient = waiting and _passes(settings, state)
    delay = min(state.delay, settings.failure_interval) if impatient else state.delay
    return max(last_start + delay - now, 0.0)


def start(
    settings: Interface, network: NetworkSeen, now: float, was_online: bool | None = None, forced: bool | None = None
) -> Result:
    """The first state of a source, and the events that mwan3 has where tracking starts.

    ``was_online``: what it was when tracking was last interrupted, if that is known: it goes on so, and there are only
    events for what changed meanwhile. ``forced``: by the user, from before.
    """
    before = State(network=network.up, network_reason=network.reason, began=now, forced=forced)
    as_online = settings.initial_online if was_online is None else was_online
    if not network.up and not was_online:
        return before, ()
    after = _begun(settings, replace(before, network=True), now, as_online)
    if was_online is not None:
        after = replace(after, online_since=now if as_online else None, offline_since=None if as_online else now)
        return (after, ()) if network.up else _after_network(settings, after, network, now)
    return _settled(settings, before, after, now, reason(settings, after), restarted=True)


def observe(settings: Interface, state: State, observation: Observation, now: float) -> Result:
    """The state after an observation, and the events it makes. ``now``: seconds of the monotonic clock."""
    if isinstance(observation, Finished):
        after = _after_round(settings, state, observation)
        return _settled(settings, state, after, now, after.words, by_round=True)
    if isinstance(observation, NetworkSeen):
        return _after_network(settings, state, observation, now)
    if isinstance(observation, Forced):
        return _after_force(settings, state, observation.up, now)
    return _settled(settings, state, state, now, "the penalty for going offline too often has decayed")


def reload(old: Interface, new: Interface, state: State, now: float) -> Result:
    """The state under new settings: untouched where nothing changed that matters to health.

    Otherwise the source stays online or offline, as it is, and is judged anew from there: at the top or at 0, with a
    round at once. What was heard of hosts is kept where they are still probed in the same way.
    """
    if new is old or replace(new, id=old.id, flush_conntrack=old.flush_conntrack) == old:
        return state, ()
    after = state if new.dampening else replace(state, flaps=NO_FLAPS)
    if _present(new, state):
        keep = _passes(old, state) if old.enabled else new.initial_online
        same = (old.family, old.track_method, old.httping_ssl) == (new.family, new.track_method, new.httping_ssl)
        hosts = tuple(host for host in state.hosts if same and (host.name in new.track_ip or new.track_gateway))
        after = replace(_begun(new, after, now, keep), hosts=hosts, words="settings changed, not probed since")
    fresh = new.enabled and not old.enabled
    return _settled(new, state, after, now, "settings changed", old_settings=old, restarted=fresh, is_loss=False)


def _begun(settings: Interface, state: State, now: float, as_online: bool) -> State:
    """Tracking begins, with nothing known of the hosts."""
    state = replace(state, delay=settings.interval, began=now, judged=None, hosts=(), hitch="")
    if (as_online or not tracked(settings)) and state.forced is not False:
        return replace(state, score=top(settings), lost=0, turn=0, words="taken as online, not probed yet")
    return replace(state, score=0, words="taken as offline, not probed yet")


def _after_network(settings: Interface, state: State, seen: NetworkSeen, now: float) -> Result:
    known = (seen.up, seen.reason) == (state.network, state.network_reason)
    after = state if known else replace(state, network=seen.up, network_reason=seen.reason)
    cause = seen.reason or f"its network is {'up' if seen.up else 'down'}"
    if seen.up == state.network and not (seen.up and seen.renewed):
        return after, ()
    if not seen.up:
        return _settled(settings, state, replace(after, score=0), now, cause, passed=(EventKind.IFDOWN,))
    stays = state.network and state.score == top(settings)
    after = replace(after, came=now)
    after = _begun(settings, after, now, stays or settings.initial_online)
    return _settled(settings, state, after, now, cause, passed=(EventKind.IFUP,), restarted=True)


def _after_force(settings: Interface, state: State, up: bool | None, now: float) -> Result:
    after = replace(state, forced=up, score=0 if up is False else state.score)
    if state.forced is False and up is not False and state.network:
        after = _begun(settings, after, now, settings.initial_online)
    return _settled(settings, state, after, now, _forced_words(up), is_loss=False)


def _after_round(settings: Interface, state: State, seen: Finished) -> State:
    if not running(settings, state) or seen.started < state.began:
        return state
    results, at = seen.round.results, seen.round.at
    if state.judged is not None and seen.started <= state.judged:
        tell = heard if seen.started == state.judged else remembered
        late = {one.host: one for one in results if not one.skipped}
        hosts = tuple(tell(settings, host, late[host.name], at) if host.name in late else host for host in state.hosts)
        return replace(state, hosts=hosts, words=summary(settings, hosts))
    known, well = {host.name: host for host in state.hosts}, _passes(settings, state)
    hosts = tuple(heard(settings, known.get(one.host) or Host(one.host, well=well), one, at) for one in results)
    misses = [one.miss for one in results if not one.answered and not one.skipped]
    good = verdict(
        settings.reliability, len(results), sum(host.state is HostState.UP for host in hosts),
        left_out=misses.count(Miss.LEFT_OUT), unasked=misses.count(Miss.UNASKED),
    )  # fmt: skip
    if good is None:
        return _unjudged(settings, state, seen, hosts)
    score, delay = stepped(settings, state.score, good)
    came = score > settings.up > state.score
    return replace(
        state,
        score=score, delay=delay,
        lost=0 if good else state.lost + sum(host.state is HostState.DOWN for host in hosts),
        turn=1 if came else state.turn + 1,
        judged=seen.started, time=at, hosts=hosts, words=summary(settings, hosts),
        hitch="" if seen.started > state.tried else state.hitch,
    )  # fmt: skip


def _unjudged(settings: Interface, state: State, seen: Finished, hosts: tuple[Host, ...]) -> State:
    """The state after a round that says nothing of the source: nothing of what decides changes."""
    hitch = next((one.reason for one in seen.round.results if one.miss is Miss.UNASKED and not one.answered), "")
    if hitch:
        tried = max(state.tried, seen.started)
        return replace(state, hosts=hosts, hitch=hitch, unmade=state.unmade + 1, tried=tried)
    return replace(state, hosts=hosts, hitch="", words=summary(settings, hosts))


def _settled(
    settings: Interface,
    before: State,
    after: State,
    now: float,
    cause: str,
    *,
    passed: tuple[EventKind, ...] = (),
    by_round: bool = False,
    restarted: bool = False,
    is_loss: bool = True,
    old_settings: Interface | None = None,
) -> Result:
    """``after`` with its flaps and times, and the events between the two.

    By a round, mwan3 passes through ``connecting`` and ``disconnecting`` even where one round decides.
    """
    then = old_settings or settings
    if settings.dampening:
        works = _present(settings, after) and _passes(settings, after)
        lost = is_loss and not works and _present(then, before) and _passes(then, before)
        flaps = (dampening.struck if lost else dampening.eased)(after.flaps, settings.dampening, now)
        after = after if flaps is after.flaps else replace(after, flaps=flaps)
    if after is before:
        return after, ()
    old, new = status(then, before), status(settings, after)
    was, is_ = online(then, before), online(settings, after)
    kinds = list(passed) if settings.enabled else []
    if was and not is_:
        kinds += [EventKind.DISCONNECTING] if by_round and old is Status.ONLINE else []
        kinds.append(EventKind.DISCONNECTED)
    elif is_ and (restarted or not was):
        kinds += [EventKind.CONNECTING] if by_round and old is Status.OFFLINE else []
        kinds.append(EventKind.CONNECTED)
    elif by_round and new is not old and new in (Status.CONNECTING, Status.DISCONNECTING):
        kinds.append(EventKind(new.value))
    if restarted or passed or was != is_:
        after = replace(after, online_since=now if is_ else None, offline_since=None if is_ else now)
    first = EventKind.CONNECTED if restarted else None
    return after, tuple(Event(kind, settings.name, cause, old, new, now, kind is first) for kind in kinds)
