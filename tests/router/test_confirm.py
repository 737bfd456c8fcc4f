"""Changes that go back by themselves, on a router with its packages: over ubus, by the hook, with busybox's shell."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable

import pytest

from tests.lab import Lab, snapshot
from tests.router.configs import balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router

pytestmark = pytest.mark.netns

ADD = {"type": "rule", "name": "New", "options": {"dest_ip": "198.51.100.0/24", "use_policy": "balanced"}}


@pytest.fixture
def machine(router: MakeRouter) -> Router:
    return router(["wan", "wan1"], config=balanced({"wan": True, "wan1": True}))


def kernel(lab: Lab) -> str:
    """What is in the kernel, without what is drawn anew for each set."""
    return re.sub(r" initval 0x[0-9a-f]+", "", snapshot(lab.router))


def before(router: Router) -> Callable[[], bool]:
    """Whether file and kernel are as they are now."""
    file, rules = router.read("/etc/config/mwan3"), kernel(router.lab)
    return lambda: router.read("/etc/config/mwan3") == file and kernel(router.lab) == rules


def online(router: Router) -> None:
    for name in ("wan", "wan1"):
        status = f"/var/run/mwan3track/{name}/STATUS"
        router.wait(functools.partial(lambda path: router.read(path) == "online", status), f"{name} to be online")


def kill_waiters(router: Router) -> None:
    router.sh("for p in $(pgrep -f overdue) $(pgrep -x sleep); do kill -9 $p; done")


def test_over_ubus_with_the_service(machine: Router) -> None:
    machine.run(["/etc/init.d/connbal", "start"])
    online(machine)
    as_before = before(machine)
    said = machine.ubus("connbal", "add", {**ADD, "confirm": 5})
    assert said["waiting"]["what"] == ["added rule New"]
    assert "198.51.100.0/24" in kernel(machine.lab)
    assert machine.ubus("connbal", "status")["waiting"]["seconds"] == 5
    assert machine.ubus("connbal", "add", {**ADD, "name": "Other"})["code"] == "waiting"
    machine.wait(as_before, "it to go back")
    assert machine.ubus("connbal", "status")["waiting"] is None
    assert machine.ubus("connbal", "confirm")["code"] == "waiting"
    machine.ubus("connbal", "add", {**ADD, "confirm": "60"})
    assert machine.ubus("connbal", "confirm")["done"] == "kept"
    assert "'New'" in machine.read("/etc/config/mwan3")


def test_an_event_takes_back_what_nobody_waits_for(machine: Router) -> None:
    """Without a daemon, and with the waiter killed: the next event of an interface does it."""
    machine.run(["connbal", "apply"])
    as_before = before(machine)
    machine.run(["connbal", "rule", "add", "New", "--dest-ip", "198.51.100.0/24", "--use-policy", "balanced",
                 "--confirm", "3600"])  # fmt: skip
    kill_waiters(machine)
    record = json.loads(machine.read("/etc/config/.connbal/waiting.json"))
    machine.path("/etc/config/.connbal/waiting.json").write_text(json.dumps({**record, "until": 0.0, "began": 0.0}))
    machine.sh("ACTION=ifupdate INTERFACE=wan; export ACTION INTERFACE; . /etc/hotplug.d/iface/15-connbal")
    machine.wait(as_before, "it to go back")


def test_the_service_that_is_started_after_a_boot_takes_back_first(machine: Router) -> None:
    machine.run(["/etc/init.d/connbal", "start"])
    online(machine)
    as_before = before(machine)
    machine.ubus("connbal", "add", {**ADD, "confirm": 3600})
    machine.run(["/etc/init.d/connbal", "stop"])
    kill_waiters(machine)
    record = json.loads(machine.read("/etc/config/.connbal/waiting.json"))
    machine.path("/etc/config/.connbal/waiting.json").write_text(json.dumps({**record, "boot": "another"}))
    machine.sh("rm -rf /var/run/connbal /var/run/mwan3track")
    machine.run(["/etc/init.d/connbal", "start"])
    machine.wait(as_before, "it to go back")
    assert "the router was restarted before" in machine.run(["connbal", "confirm", "--status"]).stdout
