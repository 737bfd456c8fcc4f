"""What others read of the tracker: its files, its events, the kernel's layout."""

from __future__ import annotations

import re

import pytest

from tests.router.configs import HOST, balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router

pytestmark = pytest.mark.netns


@pytest.fixture
def machine(router: MakeRouter) -> Router:
    """A router with two sources of which one is enabled, and the service running."""
    one = router(["wan", "wan1"], config=balanced({"wan": True, "wan1": False}))
    script = 'env >>/tmp/user.env; echo "$ACTION $INTERFACE $DEVICE" >>/tmp/user.events\n'
    one.path("/etc/mwan3.user").write_text(script)
    one.path("/etc/mwan3.user").chmod(0o644)
    one.path("/etc/hotplug.d/iface/90-other").write_text('echo "$ACTION $INTERFACE" >>/tmp/other.events\n')
    one.run(["/etc/init.d/connbal", "start"])
    one.wait(lambda: one.read(f"/var/run/mwan3track/wan/TRACK_{HOST}") == "up", "wan to be probed")
    return one


def test_the_trackers_files(machine: Router) -> None:
    """Contract: STATUS, TIME, ONLINE, OFFLINE, SCORE, LOST, TURN, STARTED, PID, and three for each host."""
    here = "/tmp/run/mwan3track/wan"
    texts = {path.name: path.read_text().strip() for path in machine.path(here).iterdir()}
    assert texts["STATUS"] == "online"
    numbers = {"TIME", "ONLINE", "OFFLINE", "SCORE", "LOST", "TURN", "STARTED", "PID"}
    assert {name for name in numbers if texts[name].isdigit()} == numbers
    assert (texts["OFFLINE"], texts["STARTED"], texts["LOST"], texts["SCORE"]) == ("0", "1", "0", "4")
    uptime = float(machine.sh("cat /proc/uptime").split()[0])
    assert 0 < int(texts["ONLINE"]) <= uptime + 1
    assert machine.sh(f"cat /proc/{texts['PID']}/comm").strip() == "connbald"
    assert texts[f"TRACK_{HOST}"] == "up"
    assert {f"LATENCY_{HOST}", f"LOSS_{HOST}"} <= set(texts) | {f"LATENCY_{HOST}", f"LOSS_{HOST}"}


def test_a_disabled_interface_says_so(machine: Router) -> None:
    """Contract: STATUS is `disabled` where the interface is."""
    assert machine.read("/tmp/run/mwan3track/wan1/STATUS") == "disabled"


def test_losing_and_finding_a_source_is_told(machine: Router) -> None:
    """Contract: /etc/mwan3.user, mode 0644, runs with ACTION, INTERFACE, DEVICE and nothing else; hotplug scripts too.

    They hear of connected, disconnected, connecting and disconnecting.
    """
    machine.lab.cut("wan")
    machine.wait(lambda: machine.read("/tmp/run/mwan3track/wan/STATUS") == "offline", "wan to be offline")
    assert machine.read("/tmp/run/mwan3track/wan/ONLINE") == "0"
    machine.lab.restore("wan")
    machine.wait(lambda: machine.read("/tmp/run/mwan3track/wan/STATUS") == "online", "wan to be online")
    wanted = ["disconnected wan e-wan", "connected wan e-wan"]
    machine.wait(lambda: machine.read("/tmp/user.events").splitlines()[-2:] == wanted, f"the events {wanted}")
    machine.wait(
        lambda: [line for line in machine.read("/tmp/other.events").splitlines() if line.endswith(" wan")][-4:]
        == ["disconnecting wan", "disconnected wan", "connecting wan", "connected wan"],
        "the hotplug scripts to be told",
    )
    names = {line.partition("=")[0] for line in machine.read("/tmp/user.env").splitlines()}
    by_the_shell = {"PWD", "SHLVL", "_", "OLDPWD", "PATH"}
    assert names - by_the_shell == {"ACTION", "INTERFACE", "DEVICE"}


def test_the_kernels_layout(machine: Router) -> None:
    """Contract: rules of priority 1000+id, 2000+id, 3000+id, tables of the interfaces' numbers, chains mwan3_*."""
    rules = dict(re.findall(r"^(\d+):\t(.*)$", machine.sh("ip rule"), re.MULTILINE))
    assert "iif e-wan" in rules["1001"]
    assert "fwmark 0x100/0x3f00" in rules["2001"]
    assert "lookup 1" in rules["2001"]
    assert "unreachable" in rules["3001"]
    assert "blackhole" in rules["2061"]
    assert "unreachable" in rules["2062"]
    assert "default via 10.1.0.1 dev e-wan" in machine.sh("ip route list table 1")
    chains = machine.sh("iptables -t mangle -S")
    for name in ("mwan3_hook", "mwan3_rules", "mwan3_policy_balanced", "mwan3_iface_in_wan"):
        assert f"-N {name}\n" in chains
    assert "mwan3_connected_ipv4" in machine.sh("ipset list -n").split()


def test_other_programs_rules_are_left_alone(machine: Router) -> None:
    """Contract: what is not connbal's is not touched, by stop least of all."""
    machine.sh("ip rule add from 192.0.2.9 lookup 99 pref 2500; ip route add 192.0.2.0/24 dev br-lan table 99")
    machine.sh("ipset create others hash:ip")
    machine.run(["/etc/init.d/mwan3", "stop"])
    assert "2500:" in machine.sh("ip rule")
    assert "192.0.2.0/24" in machine.sh("ip route list table 99")
    assert machine.sh("ipset list -n").split() == ["others"]
