"""Rights: rpcd's sessions, granted by the files that the packages bring, and what a page's user can do with each."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from connbal.rpcd import methods
from tests.lab import snapshot
from tests.router import hostile
from tests.router.configs import HOST, balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router
from tests.router.watch import Watch, tree
from tests.router.web import CALLS, LOGINS, NOBODY, SEED, login, web

pytestmark = pytest.mark.netns

DENIED = 6
READING = {name: [one.name for one in table if not one.writes] for name, table in methods.OBJECTS.items()}
#: What other pages are granted, and connbal's need not be: scope, object, function.
OUT_OF_REACH = (("uci", "mwan3", "write"), ("uci", "mwan3", "read"), ("file", "/etc/config/mwan3", "read"),
                ("file", "/etc/mwan3.user", "write"), ("file", "/usr/sbin/mwan3", "exec"))  # fmt: skip
ALL = {name: [one.name for one in table] for name, table in methods.OBJECTS.items()}


@pytest.fixture
def machine(router: MakeRouter) -> Router:
    """A router with two sources, one of them disabled, the service running, and somebody watching."""
    one = router(["wan", "wan1"])
    watch = Watch(one)
    one.configure(balanced({"wan": True, "wan1": False}))
    one.path("/etc/config/rpcd").write_text(LOGINS)
    one.run(["/etc/init.d/mwan3", "start"])
    one.wait(lambda: one.read(f"/var/run/mwan3track/wan/TRACK_{HOST}") == "up", "wan to be probed")
    assert list(watch.complaints()) == []
    return one


def state(router: Router) -> Any:
    """What a call that only reads must leave: files, kernel, and what the daemon thinks; not whose turn it is."""
    daemon = json.loads(router.run(["/usr/bin/connbal", "status", "--json"]).stdout)
    forced = {one["name"]: (one["enabled"], one["tracker"]["forced"]) for one in daemon["interfaces"]}
    run = {path.name for path in router.path("/tmp/run/connbal").iterdir()} - {"turns"}
    return tree(router), snapshot(router.lab.router), daemon["daemon"]["pid"], forced, run


def test_groups_grant_the_methods_of_the_objects_and_nothing_else(machine: Router) -> None:
    """Contract: ACL files with a read and a write group; no file, no package of UCI, no program is granted."""
    ubus = {"connbal": {"mwan3": ["status"], "connbal": sorted(READING["connbal"])},
            "luci-app-connbal": {"connbal": sorted(READING["connbal"])}}  # fmt: skip
    every = sorted(ALL["connbal"])
    for user, group, half in (("reader", "connbal", "read"), ("looker", "luci-app-connbal", "read"),
                              ("writer", "connbal", "write"), ("clicker", "luci-app-connbal", "write")):  # fmt: skip
        session, granted = login(machine, user)
        rights = ["read"] if half == "read" else ["read", "write"]
        wanted = ubus[group] if half == "read" else {**ubus[group], "connbal": every}
        assert granted == {"access-group": {group: rights}, "ubus": wanted}, user
        for scope, name, function in OUT_OF_REACH:
            asked = {"ubus_rpc_session": session, "scope": scope, "object": name, "function": function}
            assert machine.ubus("session", "access", asked) == {"access": False}, (user, asked)
    assert login(machine, "stranger")[1] == {}
    # Without a group no method is allowed, be it by a session that there is not.
    before = state(machine)
    for session in (NOBODY, login(machine, "stranger")[0], "f" * 32, ""):
        for name, table in ALL.items():
            for method in table:
                assert web(machine, session, name, method, {"type": "rule", "name": "everything"}) == (DENIED, None)
    assert state(machine) == before


def test_who_may_read_changes_nothing(machine: Router) -> None:
    """Contract: the read group can call what it needs and cannot change anything, whatever it sends."""
    session, _ = login(machine, "reader")
    good: dict[str, dict[str, Any]] = {
        "list": {"type": "rule"}, "show": {"type": "rule", "name": "everything"},
        "explain": {"src": "192.168.1.178", "dst": "203.0.113.7"},
    }  # fmt: skip
    before = state(machine)
    for method in READING["connbal"]:
        status, said = web(machine, session, "connbal", method, good.get(method, {}))
        assert status == 0
        assert said["schema"] not in ("error/1", None), method
    assert set(web(machine, session, "mwan3", "status", {})[1]) == {"interfaces", "connected", "policies"}
    chance = random.Random(SEED)
    for number in range(CALLS):
        name = "mwan3" if chance.random() < 0.1 else "connbal"
        writing = name == "connbal" and chance.random() < 0.7
        method, args = hostile.call(chance, name, writing)
        status, said = web(machine, session, name, method, args)
        assert (status == DENIED) if writing else (isinstance(said, dict)), (SEED, number, method, args)
    for name, method, args in OTHER_WAYS:
        assert web(machine, session, name, method, args)[0] == DENIED, (name, method)
    assert state(machine) == before


#: What a page's user might try besides: other objects, patterns, and to be somebody else.
OTHER_WAYS: list[tuple[str, str, dict[str, Any]]] = [
    ("uci", "set", {"config": "mwan3", "section": "wan", "values": {"enabled": "0"}}),
    ("uci", "commit", {"config": "mwan3"}), ("uci", "get", {"config": "mwan3"}),
    ("file", "write", {"path": "/etc/config/mwan3", "data": ""}), ("file", "read", {"path": "/etc/config/mwan3"}),
    ("file", "exec", {"command": "/usr/sbin/mwan3", "params": ["stop"]}),
    ("file", "exec", {"command": "/usr/bin/connbal", "params": ["stop"]}),
    ("service", "delete", {"name": "connbal"}), ("network.interface.wan", "down", {}), ("rpcd", "rescan", {}),
    ("session", "grant", {"scope": "ubus", "objects": [["*", "*"]]}), ("connbal", "*", {}), ("connbal", "", {}),
]  # fmt: skip


def test_who_may_write_can_change_what_the_methods_change(machine: Router) -> None:
    """Contract: the write group can; the file keeps its mode and its owner, though rpcd's umask is 077."""
    session, _ = login(machine, "clicker")
    file = machine.path("/etc/config/mwan3")
    file.chmod(0o644)
    args = {"type": "interface", "name": "wan1", "options": {"enabled": "1"}}
    status, said = web(machine, session, "connbal", "set", args)
    assert (status, said["schema"], said["error"]) == (0, "edit/1", None)
    machine.wait(lambda: machine.read("/var/run/mwan3track/wan1/STATUS") == "online", "wan1 to be online")
    assert file.stat().st_mode & 0o777 == 0o644
    for name, method, args in OTHER_WAYS[:-2]:
        assert web(machine, session, name, method, args)[0] == DENIED, (name, method)
    # It is not the caller who says whose call it is.
    assert web(machine, session, "connbal", "list", {"type": "rule", "ubus_rpc_session": NOBODY})[0] == 2
