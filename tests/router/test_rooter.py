"""ROOter's modems: what its scripts do when one connects or is lost, in any order and at once."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.node import end_group
from tests.router.configs import balanced, modems
from tests.router.conftest import MakeRouter
from tests.router.router import Router

pytestmark = pytest.mark.netns

SOURCES = ("wan", "wan1", "wan2", "wan3")
#: Modem 1 uses wan1 as its number says, modems 2 and 3 each other's; the third's profile does not balance.
PROFILES = ((0, True), (3, True), (2, False))
BALANCING = {"wan1": True, "wan3": True, "wan2": False}


@pytest.fixture
def rooter(router: MakeRouter) -> Router:
    """A router with three modems, none of them connected, and the service running."""
    one = router(SOURCES, network=["wan"], config=balanced({name: name == "wan" for name in SOURCES}))
    one.path("/etc/config/modem").write_text(modems(PROFILES))
    one.sh("/etc/init.d/connbal enable; /etc/init.d/connbal start")
    one.wait(lambda: one.read("/var/run/mwan3track/wan/STATUS") == "online", "wan to be online")
    return one


def turn(router: Router, name: str, up: bool) -> None:
    """Have netifd bring an interface up or down; it returns at once."""
    router.ubus(f"network.interface.{name}", "up" if up else "down")


def expect(router: Router, connected: dict[str, bool]) -> None:
    """Wait until all is as it should be with these modems connected: file, states, and where connections go."""
    router.settle()
    wanted = {name: up and BALANCING[name] for name, up in connected.items()}
    for name, on in wanted.items():
        assert router.sh(f"uci get mwan3.{name}.enabled").strip() == str(int(on)), name
    states = {"wan": "online", **{name: "online" if on else "disabled" for name, on in wanted.items()}}
    router.wait(lambda: {name: router.read(f"/tmp/run/mwan3track/{name}/STATUS") for name in states} == states,
                f"the states {states}")  # fmt: skip
    used = {name for name, state in states.items() if state == "online"}
    # The state is known a moment before the kernel has it; from then on, each connection must go by one of them. A link
    # that went and came back took its route along: until the daemon has seen to that, states and shares are old ones.
    router.wait(lambda: shares(router) == used and used <= routed(router), f"{sorted(used)} to share connections")
    answers = router.lab.tcp("tv", count=40)
    assert set(answers.names) <= used
    assert sum(answers.names.values()) == 40


def routed(router: Router) -> set[str]:
    """The sources in whose tables, of their places' numbers, there is a default route."""
    tables = " ".join(str(number) for number, _ in enumerate(SOURCES, 1))
    script = f"for table in {tables}; do ip route show table $table default 2>/dev/null | sed s/^/$table:/; done"
    return {SOURCES[int(line.partition(":")[0]) - 1] for line in router.sh(script).splitlines()}


def shares(router: Router) -> set[str]:
    """Which sources the policy uses now, by the comments that name them in its chain."""
    chain = router.run(["iptables", "-t", "mangle", "-S", "mwan3_policy_balanced"], check=False).stdout
    return {name for name in SOURCES if any(name in line.replace('"', " ").split() for line in chain.splitlines())}


@contextmanager
def conmon(router: Router, pause: str) -> Iterator[subprocess.Popen[str]]:
    """ROOter's connection monitor, looking every ``pause`` seconds."""
    process = router.popen(["/usr/lib/rooter/conmon", pause, *BALANCING])
    try:
        yield process
    finally:
        end_group(process)


def test_a_modem_is_balanced_while_it_is_connected(rooter: Router) -> None:
    """Contract: on connect mwan3.wanN.enabled follows lb, on disconnect it becomes 0; 0 as inter means the number."""
    expect(rooter, dict.fromkeys(BALANCING, False))
    turn(rooter, "wan1", True)
    expect(rooter, {"wan1": True, "wan2": False, "wan3": False})
    turn(rooter, "wan1", False)
    expect(rooter, dict.fromkeys(BALANCING, False))


def test_a_modem_whose_profile_does_not_balance_is_left_out(rooter: Router) -> None:
    """Contract: "Enable Load Balancing at Connection" of the modem's profile is the option lb."""
    turn(rooter, "wan2", True)
    turn(rooter, "wan3", True)  # by modem 2, as its profile says
    expect(rooter, {"wan1": False, "wan2": True, "wan3": True})


def test_the_monitor_reads_what_it_expects(rooter: Router) -> None:
    """Contract: conmon reads STATUS, writes `disabled` itself, and restarts a modem after three times lost."""
    with conmon(rooter, "0.3"):
        turn(rooter, "wan1", True)
        expect(rooter, {"wan1": True, "wan2": False, "wan3": False})
        rooter.wait(lambda: rooter.read("/tmp/router/conmon.wan1") == "wan1 online", "conmon to see wan1 online")
        rooter.wait(lambda: rooter.read("/tmp/router/conmon.wan2") == "wan2 disabled", "conmon to see wan2 disabled")
        before = rooter.read("/tmp/router/modems.restarted")
        rooter.lab.cut("wan1")
        rooter.wait(lambda: rooter.read("/tmp/router/modems.restarted") != before, "conmon to restart the modem")
        assert set(rooter.read("/tmp/router/modems.restarted").split()) == {"wan1"}
        rooter.lab.restore("wan1")
        expect(rooter, {"wan1": True, "wan2": False, "wan3": False})


def test_modems_come_and_go_in_any_order_and_at_once(rooter: Router) -> None:
    """Contract: `mwan3 restart` is called from inside netifd's setup, right after uci set and uci commit.

    CONNBAL_INTERLEAVINGS says how many times, CONNBAL_SEED which.
    """
    seed = int(os.environ.get("CONNBAL_SEED", "1"))
    rounds = int(os.environ.get("CONNBAL_INTERLEAVINGS", "20"))
    random_ = random.Random(seed)
    connected = dict.fromkeys(BALANCING, False)
    with conmon(rooter, "1"):
        for number in range(rounds):
            asked = []
            for _ in range(random_.randint(1, 6)):
                asked.append(_something(rooter, random_, connected))
                if random_.random() < 0.3:
                    rooter.sh(f"sleep {random_.random() * 0.3:.2f}")
            for process in asked:
                assert process.wait(30) == 0, f"seed {seed}, round {number}"
            try:
                expect(rooter, connected)
            except Exception as error:
                raise AssertionError(f"seed {seed}, round {number}, connected {connected}: {error}") from error


def _something(router: Router, random_: random.Random, connected: dict[str, bool]) -> subprocess.Popen[str]:
    """Start one thing that happens on such a router; what changes who is connected is told netifd in order."""
    name = random_.choice(list(connected))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    kind = random_.choice(["modem", "modem", "modem", "modem", "restart", "update", "reload", "status"])
    if kind == "modem":
        connected[name] = not connected[name]
        turn(router, name, connected[name])
        return router.popen(["true"], **quiet)
    if kind == "update":
        return router.popen(["ubus", "call", "network.interface.wan", "update"], **quiet)
    command = {
        "restart": ["/usr/sbin/mwan3", "restart"],
        "reload": ["/etc/init.d/mwan3", "reload"],
        "status": ["/usr/sbin/mwan3", "status"],
    }
    return router.popen(command[kind], **quiet)
