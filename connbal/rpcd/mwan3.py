"""The answer of ``mwan3 status``, in mwan3's form. Pure.

``age``, ``online``, ``offline`` and ``uptime`` are whole seconds, 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connbal.frozen import dataclass

#: What ``section`` limits the answer to; with any other word, as without, all of it is told.
SECTIONS = ("interfaces", "connected", "policies")

_NOBODY: Mapping[str, Any] = {"ipv4": [], "ipv6": []}


@dataclass(frozen=True)
class Seen:
    """What is known.

    view: see :mod:`connbal.plan.view`; daemon: the daemon's answer, None where none runs; applied: the plan is in the
    kernel; hosts: ``track_ip`` of interfaces that are tracked, for those that the daemon does not tell of.
    """

    view: Mapping[str, Any]
    daemon: Mapping[str, Any] | None
    applied: bool
    hosts: Mapping[str, tuple[str, ...]]


#: Where nothing can be found out.
NOTHING = Seen({"interfaces": [], "networks": {}}, None, False, {})


def status(seen: Seen, section: object = None, interface: object = None) -> dict[str, Any]:
    """The answer. An ``interface`` that there is not makes ``interfaces`` empty, as it does in mwan3."""
    told: Mapping[str, Any] = seen.view["mwan3"] if seen.applied else {}
    made = {
        "interfaces": {
            one["name"]: _interface(seen, one) for one in seen.view["interfaces"] if interface in (None, one["name"])
        },
        "connected": told.get("connected", _NOBODY),
        "policies": told.get("policies", {"ipv4": {}, "ipv6": {}}),
    }
    return {key: made[key] for key in ([section] if section in SECTIONS else SECTIONS)}


def _interface(seen: Seen, one: Mapping[str, Any]) -> dict[str, Any]:
    name = one["name"]
    tracker = seen.daemon["interfaces"].get(name) if seen.daemon else None
    if tracker is None:
        tracker = _unknown(one, seen.applied, seen.hosts.get(name))
    network = seen.view["networks"].get(name, {})
    since = tracker["since"] or 0
    tracking = _tracking(tracker, one["enabled"] and seen.daemon is not None)
    return {
        "age": int(tracker["round"] or 0),
        "online": int(since) if tracker["online"] else 0,
        "offline": 0 if tracker["online"] else int(since),
        "uptime": network.get("uptime") or 0,
        "score": tracker["score"],
        "lost": tracker["lost"],
        "turn": tracker["turn"],
        "status": tracker["status"],
        "enabled": one["enabled"],
        "running": tracking == "active",
        "tracking": tracking,
        "up": network.get("up", False),
        "track_ip": [
            {"ip": host["host"], "status": host["state"], "latency": round(host["latency"] or 0),
             "packetloss": round(host["loss"] or 0)}
            for host in tracker["hosts"]
        ],
    }  # fmt: skip


def _tracking(tracker: Mapping[str, Any], followed: bool) -> str:
    """``followed``: the daemon looks after it. It pauses while there is no network to probe through."""
    if not tracker["tracked"]:
        return "disabled"
    if not followed:
        return "down"
    return "active" if tracker["running"] else "paused"


def _unknown(one: Mapping[str, Any], applied: bool, hosts: tuple[str, ...] | None) -> dict[str, Any]:
    """What a tracker would say of an interface that nobody follows. mwan3 says ``unknown`` while it is stopped."""
    status = "disabled" if not one["enabled"] else "unknown" if not applied else "online" if one["up"] else "offline"
    told = [{"host": host, "state": "unknown", "latency": None, "loss": None} for host in hosts or ()]
    return {
        "status": status, "online": one["up"] and applied, "tracked": hosts is not None, "running": False, "score": 0,
        "lost": 0, "turn": 0, "since": None, "round": None, "hosts": told,
    }  # fmt: skip
