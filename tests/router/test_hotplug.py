"""netifd's events, through the hook that it sources, to the daemon."""

from __future__ import annotations

import pytest

from tests.router.configs import balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router

pytestmark = pytest.mark.netns

HOOK = "/etc/hotplug.d/iface/15-connbal"


@pytest.fixture
def machine(router: MakeRouter) -> Router:
    """A router with two sources and the service running."""
    one = router(["wan", "wan1"], config=balanced({"wan": True, "wan1": True}))
    one.run(["/etc/init.d/connbal", "start"])
    state(one, "wan", "online")
    state(one, "wan1", "online")
    return one


def state(router: Router, name: str, wanted: str) -> None:
    """Wait until a source is in a state."""
    router.wait(lambda: router.read(f"/var/run/mwan3track/{name}/STATUS") == wanted, f"{name} to be {wanted}")


def turn(router: Router, name: str, method: str) -> None:
    """Tell netifd something and wait until it is done."""
    router.ubus(f"network.interface.{name}", method)
    router.settle()


def test_interfaces_come_and_go(machine: Router) -> None:
    """Contract: the hook is sourced with ACTION, INTERFACE, and DEVICE at ifup only."""
    turn(machine, "wan1", "down")
    state(machine, "wan1", "disabled")
    machine.wait(lambda: set(machine.lab.tcp("tv", count=20).names) == {"wan"}, "wan to carry all")
    turn(machine, "wan1", "up")
    state(machine, "wan1", "online")
    machine.wait(lambda: set(machine.lab.tcp("tv", count=60).names) == {"wan", "wan1"}, "both to carry connections")
    assert [line.split()[:2] for line in machine.read("/tmp/router/events").splitlines()] == [
        ["ifdown", "wan1"], ["ifup", "wan1"],
    ]  # fmt: skip


def processes(router: Router, line: str, **env: str) -> int:
    """How many processes a line of a shell with nothing in PATH makes; busybox has programs in its shell itself."""
    last = "read -r _ _ _ _ {} </proc/loadavg"  # process ids are given one after the other within a namespace
    script = f"{last.format('before')}; {line}; {last.format('after')}; echo $((after - before))"
    script = f"PATH=/nowhere; export PATH; {script}"
    done = router.run(["/bin/busybox", "unshare", "-p", "-f", "/bin/sh", "-c", script], env=env)
    assert done.stderr == ""
    return int(done.stdout)


def test_the_hook_starts_no_program_while_the_daemon_runs(machine: Router) -> None:
    """Contract: events are serialised, a slow script blocks all others."""
    assert processes(machine, "/bin/busybox true; (:)") == 2
    for action in ("ifup", "ifdown", "ifupdate", "ifup-failed", "connected", "disconnected", "free", ""):
        assert processes(machine, f". {HOOK}", ACTION=action, INTERFACE="wan", DEVICE="e-wan") == 0, action


def test_restart_starts_no_program_while_the_daemon_runs(machine: Router) -> None:
    """Contract: `mwan3 restart` is called inside netifd's set-up of an interface and must return at once."""
    machine.run(["/etc/init.d/connbal", "enable"])
    assert processes(machine, "/usr/sbin/mwan3 restart") == 1, "itself"


@pytest.mark.parametrize("running", [True, False])
def test_nothing_is_held_open_that_netifd_waits_for(machine: Router, running: bool) -> None:
    """Contract: the hook and `restart` are called by programs that wait for the end of their pipes."""
    if not running:
        machine.run(["/etc/init.d/connbal", "stop"])
    # The run ends when nobody has its outputs any more; what is started behind lives on.
    env = {"ACTION": "ifup", "INTERFACE": "wan", "DEVICE": "e-wan"}
    machine.run(["/bin/sh", "-c", f". {HOOK}; /usr/sbin/mwan3 restart"], env=env, timeout=5)
    state(machine, "wan", "online")


def test_a_frozen_daemon_stops_no_events(machine: Router) -> None:
    """Contract: events are serialised. A pipe is full after some thousands of them, and then whoever writes waits."""
    pid = int(machine.read("/var/run/connbal/daemon.pid"))  # as the router counts: not for this machine's kill
    machine.sh(f"kill -STOP {pid}")
    try:
        env = {"ACTION": "ifdown", "INTERFACE": "a_name_that_is_rather_long_for_an_interface"}
        machine.run(["/bin/sh", "-c", f"n=0; while [ $n -lt 4000 ]; do n=$((n+1)); . {HOOK}; done"], env=env)
        machine.run(["/etc/init.d/connbal", "reload"])
        machine.run(["/usr/sbin/mwan3", "restart"])
        machine.run(["/usr/sbin/mwan3", "ifdown", "wan1"])
        machine.wait(lambda: "wan1" in machine.read("/var/run/connbal/forced.json"), "wan1 to be noted as down")
    finally:
        machine.sh(f"kill -CONT {pid}")
    state(machine, "wan1", "disabled")
    machine.run(["/usr/sbin/mwan3", "ifup", "wan1"])
    state(machine, "wan1", "online")


def test_the_hook_neither_changes_nor_ends_the_shell_that_sources_it(machine: Router) -> None:
    """Contract: it is sourced, not run: variables of the script that sources it are not its own."""
    script = f"pid=p name=n INTERFACE=wan ACTION=ifup; . {HOOK}; echo $pid$name"
    assert machine.sh(script) == "pn\n"


def test_the_hook_bears_whatever_shell_it_is_sourced_in(machine: Router) -> None:
    """Contract: it is sourced, after scripts of others: options and IFS of the shell may be anything."""
    done = machine.run(["/bin/sh", "-c", f"set -eu; unset ACTION INTERFACE DEVICE; . {HOOK}; echo done"])
    assert (done.stdout, done.stderr) == ("done\n", "")
    events = machine.path("/var/run/connbal/events")
    script = f"set -euf; IFS=0123456789p; . {HOOK}; echo \"$IFS\" done"
    done = machine.run(["/bin/sh", "-c", script], env={"ACTION": "ifup", "INTERFACE": "wan"})
    assert (done.stdout, done.stderr) == ("0123456789p done\n", "")
    # A name with a line feed would be a line of its own: here, one that takes a source away.
    machine.run(["/bin/sh", "-c", f". {HOOK}"], env={"ACTION": "ifup", "INTERFACE": "x\nforce wan down", "DEVICE": ""})
    machine.sh("sleep 0.5")
    assert machine.read("/var/run/mwan3track/wan/STATUS") == "online"
    assert events.is_fifo()


def test_what_the_hook_starts_does_not_undo_a_stop(router: MakeRouter) -> None:
    """Contract: after `stop` nothing is left. Without a daemon the hook applies, and that may come late."""
    one = router(["wan", "wan1"], config=balanced({"wan": True, "wan1": True}))
    one.sh("/usr/bin/connbal apply && mv /usr/bin/connbal /usr/bin/connbal.real")
    late = one.path("/usr/bin/connbal")
    late.write_text("#!/bin/sh\nwhile [ ! -e /tmp/go ]; do sleep 0.1; done\nconnbal.real \"$@\"\ntouch /tmp/done\n")
    late.chmod(0o755)
    one.run(["/bin/sh", "-c", f". {HOOK}"], env={"ACTION": "ifup", "INTERFACE": "wan", "DEVICE": "e-wan"})
    one.sh("connbal.real stop; touch /tmp/go")
    one.wait(one.path("/tmp/done").exists, "the hook's apply to be done")
    assert "mwan3" not in one.sh("iptables -t mangle -S")
    assert one.path("/var/run/connbal/stopped").exists()


def test_new_addresses_are_followed(machine: Router) -> None:
    """Contract: ifupdate tells of addresses that have changed."""
    machine.lab.router.ip("addr add 10.1.0.99/24 dev e-wan", "addr del 10.1.0.2/24 dev e-wan", force=True)
    machine.lab.add_address("wan", 4)
    turn(machine, "wan", "update")
    machine.wait(lambda: "default via 10.1.0.1" in machine.sh("ip route list table 1"), "the route of wan's table")


def test_hostile_names_do_nothing(machine: Router) -> None:
    """Names of interfaces come from a configuration that others write."""
    hostile = ("wan; touch /tmp/pwned", "$(touch /tmp/pwned)", "`touch /tmp/pwned`", "-e", "a b", "wan\nx", "", "%s%n")
    for name in hostile:
        machine.run(["/bin/sh", "-c", f". {HOOK}"], env={"ACTION": "ifup", "INTERFACE": name, "DEVICE": name})
        machine.run(["/usr/sbin/mwan3", "ifup", name], check=False)
        assert not machine.path("/tmp/pwned").exists()
    assert machine.run(["/etc/init.d/mwan3", "running"], check=False).returncode == 0
    state(machine, "wan", "online")
