"""The init scripts under procd."""

from __future__ import annotations

import pytest

from tests.router.configs import balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router

pytestmark = pytest.mark.netns


@pytest.fixture
def machine(router: MakeRouter) -> Router:
    """A router with two sources, its service not started yet."""
    return router(["wan", "wan1"], config=balanced({"wan": True, "wan1": True}))


def online(router: Router) -> None:
    """Wait until both sources are."""
    states = [f"/var/run/mwan3track/{name}/STATUS" for name in ("wan", "wan1")]
    router.wait(lambda: [router.read(name) for name in states] == ["online"] * 2, "both sources to be online")


def pid(router: Router) -> int:
    """The daemon's process id, by procd."""
    instances = router.ubus("service", "list", {"name": "connbal"})["connbal"]["instances"]
    return int(next(iter(instances.values())).get("pid", 0))


def code(router: Router, *argv: str) -> int:
    """The exit code of a program."""
    return router.run(argv, check=False).returncode


@pytest.mark.parametrize("script", ["connbal", "mwan3"])
def test_both_scripts_are_the_service(machine: Router, script: str) -> None:
    """Contract: /etc/init.d/mwan3 answers start, stop, restart, reload, enable, disable, running; START=19."""
    path = f"/etc/init.d/{script}"
    assert code(machine, path, "running") != 0
    assert code(machine, path, "enabled") != 0
    machine.run([path, "enable"])
    assert machine.sh("ls /etc/rc.d").split() == ["S19connbal"]
    assert code(machine, path, "enabled") == 0
    machine.run([path, "start"])
    online(machine)
    assert code(machine, path, "running") == 0
    assert code(machine, "/etc/init.d/connbal", "running") == 0
    assert list(machine.ubus("service", "list")) == ["connbal"]
    for verb in ("reload", "restart", "start"):
        machine.run([path, verb])
        machine.wait(lambda: code(machine, path, "running") == 0, f"the service to run after {verb}")
    machine.run([path, "disable"])
    assert code(machine, path, "enabled") != 0
    machine.run([path, "stop"])
    assert code(machine, path, "running") != 0
    assert machine.ubus("service", "list") == {}


def test_its_directory_is_there_while_the_service_runs(machine: Router) -> None:
    """Contract: /var/run/mwan3/ exists while the service runs."""
    assert not machine.path("/var/run/mwan3").exists()
    machine.run(["/etc/init.d/mwan3", "start"])
    online(machine)
    assert machine.path("/var/run/mwan3").is_dir()
    machine.run(["/etc/init.d/mwan3", "stop"])
    assert not machine.path("/var/run/mwan3").exists()


def test_no_core_is_written(machine: Router) -> None:
    """What root's process has in memory is in no file, whatever the router's pattern for cores is."""
    machine.run(["/etc/init.d/connbal", "start"])
    online(machine)
    limits = machine.sh(f"cat /proc/{pid(machine)}/limits").splitlines()
    (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
    assert core[4] == "0"


def test_a_killed_daemon_is_started_again(machine: Router) -> None:
    """Contract: procd_set_param respawn. Its rules stay meanwhile: connections go on."""
    machine.run(["/etc/init.d/connbal", "start"])
    online(machine)
    before = pid(machine)
    machine.sh(f"kill -9 {before}")
    assert sum(machine.lab.tcp("tv", count=20).names.values()) == 20
    machine.wait(lambda: pid(machine) not in (0, before), "procd to start the daemon again")
    online(machine)


def test_a_changed_package_reloads_the_service(machine: Router) -> None:
    """Contract: procd_add_reload_trigger mwan3."""
    machine.sh("reload_config; /etc/init.d/connbal start")
    online(machine)
    before = pid(machine)
    machine.sh("uci set mwan3.wan1.enabled=0; uci commit mwan3; reload_config")
    machine.wait(lambda: machine.read("/var/run/mwan3track/wan1/STATUS") == "disabled", "wan1 to be disabled")
    assert pid(machine) == before


def test_staged_changes_wait_for_their_commit(machine: Router) -> None:
    """Contract: staged, uncommitted changes (/tmp/.uci) must not reach the data plane."""
    machine.run(["/etc/init.d/connbal", "start"])
    online(machine)
    machine.sh("uci set mwan3.wan1.enabled=0; /usr/sbin/mwan3 restart; /etc/init.d/mwan3 reload; sleep 1")
    assert machine.read("/var/run/mwan3track/wan1/STATUS") == "online"
    assert set(machine.lab.tcp("tv", count=60).names) == {"wan", "wan1"}
    machine.sh("uci commit mwan3; /usr/sbin/mwan3 restart")
    machine.wait(lambda: machine.read("/var/run/mwan3track/wan1/STATUS") == "disabled", "wan1 to be disabled")
    machine.wait(lambda: set(machine.lab.tcp("tv", count=20).names) == {"wan"}, "wan to carry all")


def test_restart_is_without_a_gap(machine: Router) -> None:
    """Contract: `restart` is idempotent: connections are made all the time, by the sources that the policy names."""
    machine.run(["/etc/init.d/connbal", "start"])
    online(machine)
    with machine.lab.constant("tv", rate=50) as traffic:
        for _ in range(3):
            machine.run(["/usr/sbin/mwan3", "restart"])
            machine.sh("sleep 0.2")
        machine.run(["/etc/init.d/mwan3", "restart"])
        online(machine)
        assert not traffic.stop().errors
