"""The ubus objects, called as rpcd calls its plugins."""

from __future__ import annotations

import json

import pytest

from tests.lab.node import CommandFailed
from tests.router.configs import HOST, balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router

pytestmark = pytest.mark.netns


@pytest.fixture
def machine(router: MakeRouter) -> Router:
    """A router with two sources, one of them disabled, and the service running."""
    one = router(["wan", "wan1"], config=balanced({"wan": True, "wan1": False}))
    one.run(["/etc/init.d/mwan3", "start"])
    one.wait(lambda: one.read(f"/var/run/mwan3track/wan/TRACK_{HOST}") == "up", "wan to be probed")
    return one


def test_list_needs_no_python(router: MakeRouter) -> None:
    """Contract: `list` runs at every start of rpcd, so it must not start Python."""
    one = router(["wan"])
    one.path("/usr/bin/python3").unlink()
    for name in ("mwan3", "connbal"):
        assert isinstance(json.loads(one.run([f"/usr/libexec/rpcd/{name}", "list"]).stdout), dict)
    methods = json.loads(one.run(["/usr/libexec/rpcd/mwan3", "list"]).stdout)
    assert methods == {"status": {"section": "String", "interface": "String"}}


def test_status_has_the_shape_that_pages_read(machine: Router) -> None:
    """Contract: ubus `mwan3 status` without arguments, as older pages call it."""
    said = machine.ubus("mwan3", "status")
    assert set(said) == {"interfaces", "connected", "policies"}
    wan = said["interfaces"]["wan"]
    kinds = {"age": int, "online": int, "offline": int, "uptime": int, "score": int, "lost": int, "turn": int,
             "status": str, "enabled": bool, "running": bool, "tracking": str, "up": bool,
             "track_ip": list}  # fmt: skip
    assert {key: type(wan[key]) for key in kinds} == kinds
    assert (wan["status"], wan["enabled"], wan["running"], wan["tracking"]) == ("online", True, True, "active")
    host = wan["track_ip"][0]
    assert (host["ip"], host["status"]) == (HOST, "up")
    assert {type(host["latency"]), type(host["packetloss"])} == {int}
    assert said["interfaces"]["wan1"]["enabled"] is False
    assert said["policies"]["ipv4"]["balanced"] == [{"interface": "wan", "percent": 100}]
    assert set(said["connected"]) == {"ipv4", "ipv6"}
    assert "192.168.1.0/24" in said["connected"]["ipv4"]


def test_status_can_be_limited(machine: Router) -> None:
    """Contract: `section` limits the answer to one key, `interface` to one interface."""
    for section in ("interfaces", "connected", "policies"):
        assert list(machine.ubus("mwan3", "status", {"section": section})) == [section]
    said = machine.ubus("mwan3", "status", {"section": "interfaces", "interface": "wan"})
    assert list(said["interfaces"]) == ["wan"]


def test_methods_that_are_not_there(machine: Router) -> None:
    """Contract: rpcd's plugins answer the methods that they list."""
    for name, method, code in (("mwan3", "reset", 3), ("mwan4", "status", 4)):
        with pytest.raises(CommandFailed) as failed:
            machine.ubus(name, method)
        assert failed.value.returncode == code


def test_connbals_object_changes_the_configuration_and_applies_it(machine: Router) -> None:
    """The daemon carries out what a page asks for; the plugin's pipes are closed when it has answered."""
    assert machine.ubus("connbal", "status")["schema"].startswith("status/")
    machine.ubus("connbal", "set", {"type": "interface", "name": "wan1", "options": {"enabled": "1"}})
    machine.wait(lambda: machine.read("/var/run/mwan3track/wan1/STATUS") == "online", "wan1 to be online")
    assert machine.sh("uci get mwan3.wan1.enabled") == "1\n"
