"""The form of mwan3's status, key by key: what its page and other readers rely on."""

from __future__ import annotations

import ipaddress
from typing import Any

INTERFACE = {
    "age": int, "online": int, "offline": int, "uptime": int, "score": int, "lost": int, "turn": int, "status": str,
    "enabled": bool, "running": bool, "tracking": str, "up": bool, "track_ip": list,
}  # fmt: skip
HOST = {"ip": str, "status": str, "latency": int, "packetloss": int}
SHARE = {"interface": str, "percent": int}
STATES = {"online", "offline", "connecting", "disconnecting", "disabled", "unknown"}


def check(told: Any, sections: set[str] | None = None) -> None:
    """An AssertionError for the first thing that is not as the contract says."""
    assert set(told) == (sections or {"interfaces", "connected", "policies"})
    for name, one in told.get("interfaces", {}).items():
        assert isinstance(name, str)
        _typed(one, INTERFACE)
        assert all(one[key] >= 0 for key, kind in INTERFACE.items() if kind is int), one
        assert one["status"] in STATES
        assert one["tracking"] in {"active", "paused", "down", "disabled"}
        assert not (one["online"] and one["offline"])
        for host in one["track_ip"]:
            _typed(host, HOST)
            assert host["status"] in {"up", "down", "skipped", "unknown"}
            assert 0 <= host["packetloss"] <= 100
    for part, kind in (("connected", list), ("policies", dict)):
        if part in told:
            _typed(told[part], {"ipv4": kind, "ipv6": kind})
    for family, entries in told.get("connected", {}).items():
        for entry in entries:
            assert f"ipv{ipaddress.ip_network(entry).version}" == family
    for policies in told.get("policies", {}).values():
        for shares in policies.values():
            for share in shares:
                _typed(share, SHARE)
                assert 0 <= share["percent"] <= 100


def _typed(value: Any, form: dict[str, type]) -> None:
    assert type(value) is dict
    assert set(value) == set(form), value
    for key, kind in form.items():
        assert type(value[key]) is kind, (key, value[key])
