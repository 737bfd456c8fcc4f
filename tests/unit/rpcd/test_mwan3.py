"""``mwan3 status``: its form is the contract's, whatever is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connbal.plan.build import plan
from connbal.plan.view import as_data
from connbal.rpcd import look, mwan3
from connbal.rpcd.mwan3 import Seen, status
from tests.fakes.build import config, facts
from tests.unit.cli.test_status import DAEMON, WAN, WAN2
from tests.unit.rpcd.contract import check

WORDS = "wan wan1 -wan2"


def seen(*, daemon: Any = DAEMON, applied: bool = True, **uptimes: int) -> Seen:
    wanted, told = config(WORDS), facts(WORDS)
    networks = {
        key: replace(network, uptime=uptimes.get(network.name)) for key, network in told.networks.items()
    }  # fmt: skip
    told = replace(told, networks=networks)
    hosts = {"wan": ("1.1.1.1", "9.9.9.9")}
    view = {**as_data(plan(wanted, told), told), "findings": [], "file": "/etc/config/mwan3"}
    return Seen(json.loads(json.dumps(view)), daemon, applied, hosts)


def test_what_the_daemon_tells() -> None:
    told = status(seen(wan=7600))
    check(told)
    assert list(told["interfaces"]) == ["wan", "wan1", "wan2"]
    assert told["interfaces"]["wan"] == {
        "age": 3, "online": 7500, "offline": 0, "uptime": 7600, "score": 10, "lost": 0, "turn": 3,
        "status": "online", "enabled": True, "running": True, "tracking": "active", "up": True,
        "track_ip": [
            {"ip": "1.1.1.1", "status": "up", "latency": 23, "packetloss": 0},
            {"ip": "www.example.com", "status": "skipped", "latency": 0, "packetloss": 0},
        ],
    }  # fmt: skip
    assert told["interfaces"]["wan1"]["track_ip"] == [
        {"ip": "9.9.9.9", "status": "down", "latency": 4, "packetloss": 33},
    ]  # fmt: skip
    assert told["interfaces"]["wan2"]["tracking"] == "disabled"
    assert told["interfaces"]["wan2"]["enabled"] is False


@pytest.mark.parametrize(("changes", "tracking", "online", "offline"), [
    ({"running": False, "online": False, "status": "disabled"}, "paused", 0, 7500),
    ({"tracked": False, "running": False, "hosts": []}, "disabled", 7500, 0),
    ({"status": "connecting", "online": False}, "active", 0, 7500),
    ({"status": "disconnecting"}, "active", 7500, 0),
    ({"since": None, "round": None}, "active", 0, 0),
])  # fmt: skip
def test_states(changes: dict[str, Any], tracking: str, online: int, offline: int) -> None:
    daemon = {**DAEMON, "interfaces": {**DAEMON["interfaces"], "wan": {**WAN, **changes}}}
    told = status(seen(daemon=daemon))
    check(told)
    one = told["interfaces"]["wan"]
    assert (one["tracking"], one["online"], one["offline"]) == (tracking, online, offline)
    assert one["running"] is (tracking == "active")


def test_a_disabled_interface_with_hosts_is_not_looked_after() -> None:
    daemon = {**DAEMON, "interfaces": {"wan2": {**WAN2, "tracked": True, "hosts": WAN["hosts"]}}}
    assert status(seen(daemon=daemon))["interfaces"]["wan2"]["tracking"] == "down"


def test_without_a_daemon() -> None:
    told = status(seen(daemon=None))
    check(told)
    one = told["interfaces"]["wan"]
    assert (one["status"], one["tracking"], one["running"], one["score"]) == ("online", "down", False, 0)
    assert one["track_ip"][0] == {"ip": "1.1.1.1", "status": "unknown", "latency": 0, "packetloss": 0}
    assert told["interfaces"]["wan1"]["tracking"] == "disabled"
    assert told["interfaces"]["wan2"]["status"] == "disabled"
    of_gateway = status(replace(seen(daemon=None), hosts={"wan1": ()}))["interfaces"]["wan1"]
    assert (of_gateway["tracking"], of_gateway["track_ip"]) == ("down", [])


def test_while_it_is_stopped() -> None:
    told = status(seen(daemon=None, applied=False))
    check(told)
    assert told["interfaces"]["wan"]["status"] == "unknown"
    assert told["policies"] == {"ipv4": {}, "ipv6": {}}
    assert told["connected"] == {"ipv4": [], "ipv6": []}
    check(status(mwan3.NOTHING))


@pytest.mark.parametrize("section", mwan3.SECTIONS)
def test_one_section(section: str) -> None:
    whole, part = status(seen()), status(seen(), section)
    assert part == {section: whole[section]}


@pytest.mark.parametrize("section", [None, "", "all", "Interfaces"])
def test_any_other_section_is_all_of_it(section: object) -> None:
    assert status(seen(), section) == status(seen())


def test_one_interface() -> None:
    whole = status(seen())
    assert status(seen(), None, "wan1") == {**whole, "interfaces": {"wan1": whole["interfaces"]["wan1"]}}
    assert status(seen(), "interfaces", "nobody") == {"interfaces": {}}


def test_shares_are_whole_and_sum_up() -> None:
    for policies in status(seen())["policies"].values():
        for shares in policies.values():
            assert sum(one["percent"] for one in shares) in (0, 100)


def test_local_networks_are_in_order() -> None:
    assert "224.0.0.0/3" in status(seen())["connected"]["ipv4"]


# --- status of object connbal ---------------------------------------------------------------------------------------


def test_the_document_is_that_of_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from connbal.cli.output import document
    from connbal.cli.status import as_data as command_data
    from connbal.cli.status import look as command_look
    from tests.unit.cli.test_status import Fake

    session = Fake(tmp_path)
    with session.observer() as reconciler:
        found = reconciler.look(session.config)
        counters = reconciler.status(session.config)[1]
    view = {**as_data(found.plan, found.facts), "findings": []}
    monkeypatch.setattr(look, "_counters", lambda lines: counters)
    wanted = document("status", command_data(replace(command_look(session), daemon=DAEMON)))
    got = look.document(session, Seen(json.loads(json.dumps(view)), DAEMON, True, {}))
    assert json.loads(json.dumps(got)) == json.loads(json.dumps(wanted))
    assert list(got) == list(wanted)
