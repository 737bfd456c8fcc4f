"""What is known of a source, as a value for JSON: the daemon's answer to whoever asks, and how to know one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connbal.model.config import Interface
from connbal.track import health
from connbal.track.health import State
from connbal.track.quality import Host

#: Of the daemon's answer; another one is of another form.
VERSION = 1
#: Of the view in an answer (see :mod:`connbal.plan.view`); another one is of another form.
VIEW = 1

_TOO_MUCH = 1e15
_NUMBER = (int, float)
_PERHAPS_NUMBER = (int, float, type(None))
_PERHAPS_TEXT = (str, type(None))
_ANSWER: Mapping[str, tuple[type, ...]] = {
    "version": (int,), "pid": (int,), "since": _NUMBER, "interfaces": (dict,), "reconciles": (dict,),
}  # fmt: skip
_RECONCILES: Mapping[str, tuple[type, ...]] = {"count": (int,), "last": (dict, type(None))}
_SNAPSHOT: Mapping[str, tuple[type, ...]] = {
    "status": (str,), "online": (bool,), "reason": (str,), "enabled": (bool,), "tracked": (bool,), "running": (bool,),
    "forced": _PERHAPS_TEXT, "device": _PERHAPS_TEXT, "score": (int,), "top": (int,), "lost": (int,), "turn": (int,),
    "since": _PERHAPS_NUMBER, "round": _PERHAPS_NUMBER, "hosts": (list,),
}  # fmt: skip
_HOST: Mapping[str, tuple[type, ...]] = {
    "host": (str,), "state": (str,), "latency": _PERHAPS_NUMBER, "loss": _PERHAPS_NUMBER, "fault": (str,),
}  # fmt: skip


def snapshot(settings: Interface, state: State, now: float, device: str | None) -> dict[str, Any]:
    """All that is known of a source.

    Parameters
    ----------
    now: seconds of the monotonic clock, as the times of ``state`` are.
    device: layer-3 device of its network; None where there is none.

    Returns
    -------
    ``status`` (a word of :class:`Status`), ``online`` (policies may use it), ``reason`` (in words), ``enabled``,
    ``tracked`` (it has hosts to probe), ``running`` (they are probed now), ``forced`` (``up``, ``down``, None),
    ``device``, ``score`` of ``top``, ``lost``, ``turn``; ``since``: seconds it has been online or offline, ``round``:
    seconds since the last judged round ended, both with one decimal, None where there is none; ``hosts``; and, where
    there are any, ``unmade``: rounds that could not be made.
    """
    return {
        "status": health.status(settings, state).value,
        "online": health.online(settings, state),
        "reason": health.reason(settings, state),
        "enabled": settings.enabled,
        "tracked": health.tracked(settings),
        "running": health.running(settings, state),
        "forced": None if state.forced is None else "up" if state.forced else "down",
        "device": device,
        "score": state.score,
        "top": settings.down + settings.up,
        "lost": state.lost,
        "turn": state.turn,
        "since": _ago(state.offline_since if state.online_since is None else state.online_since, now),
        "round": _ago(state.time, now),
        "hosts": [_host(host) for host in hosts(settings, state)],
        **({"unmade": state.unmade} if state.unmade else {}),
    }


def hosts(settings: Interface, state: State) -> tuple[Host, ...]:
    """The hosts of a source, each with what is known of it; nothing is while they are not probed.

    What was heard before the network went would pass for what is so now.
    """
    heard = state.hosts if health.running(settings, state) else ()
    names = {host.name for host in heard}
    return (*heard, *(Host(name) for name in settings.track_ip if name not in names))


def is_answer(value: object) -> bool:
    """Whether this is what a daemon of this version answers: ``version``, ``pid``, ``since`` (seconds it has run),
    ``reconciles`` (their ``count``, the ``last``) and ``interfaces``, a snapshot of each by name.
    """
    if not isinstance(value, dict) or not _has(value, _ANSWER) or value["version"] != VERSION:
        return False
    return _has(value["reconciles"], _RECONCILES) and all(map(_is_snapshot, value["interfaces"].values()))


def has_view(value: object) -> bool:
    """Whether this is an answer of this version with a view of this version."""
    if not is_answer(value) or not isinstance(value, dict) or not isinstance(value.get("view"), dict):
        return False
    return bool(value["view"].get("version") == VIEW)


def _is_snapshot(value: object) -> bool:
    return isinstance(value, dict) and _has(value, _SNAPSHOT) and all(_has(host, _HOST) for host in value["hosts"])


def _has(value: object, form: Mapping[str, tuple[type, ...]]) -> bool:
    """Whether it has all these keys, with values of these types, and numbers that can be counted with (no ``nan``)."""
    return isinstance(value, dict) and all(
        key in value and isinstance(value[key], kinds)
        and (not isinstance(value[key], int | float) or abs(value[key]) < _TOO_MUCH)
        for key, kinds in form.items()
    )  # fmt: skip


def _host(host: Host) -> dict[str, Any]:
    """``latency`` in ms and ``loss`` in per cent, with one decimal; None: not known."""
    return {
        "host": host.name,
        "state": host.known.value,
        "latency": None if host.latency is None else round(host.latency, 1),
        "loss": None if host.loss is None else round(host.loss, 1),
        "fault": host.fault,
    }


def _ago(then: float | None, now: float) -> float | None:
    return None if then is None else round(max(now - then, 0.0), 1)
