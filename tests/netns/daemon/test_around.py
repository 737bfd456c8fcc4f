"""What happens around the daemon: links, addresses, netifd, storms, other programs. The kernel follows."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from connbal.track import client
from connbal.track.board import FRESH
from tests.lab import Lab, snapshot
from tests.netns.daemon.checks import (
    SITE6,
    Labs,
    causes,
    changes_of_state,
    wait_until,
    with_option,
    working,
)
from tests.netns.daemon.conftest import AsPlanned, MakeBench, MakeService
from tests.netns.daemon.service import PATIENCE, Service, tracked
from tests.netns.main_job.bench import Bench, Driver, only

pytestmark = [pytest.mark.netns]

SOURCES = ("wan", "wan1")
WAN, WAN1 = ["wan", "wan6"], ["wan1", "wan1_6"]
GONE = ["wan disconnected", "wan ifdown", "wan6 disconnected", "wan6 ifdown"]
BACK = ["wan connected", "wan ifup", "wan6 connected", "wan6 ifup"]


def started(service: MakeService, lab: Lab, text: str | None = None) -> Service:
    """The daemon, once all sources work. They go offline no sooner than a busy machine is sure to have answered."""
    daemon = service(lab)
    daemon.configure(text or tracked(lab, timeout="1"))
    daemon.start()
    working(daemon, *(half for name in lab.spec.sources for half in (name, lab.source(name).name6)))
    return daemon


def goes_by(lab: Lab, four: str, six: str) -> None:
    """New connections of both families take these sources."""
    only(lab.tcp("tv", count=10), four)
    only(lab.tcp("tv", count=10, family=6), six)


# --- links, addresses, netifd ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("netifd", [False, True])
def test_a_cable_is_pulled_and_put_back(lab: Labs, service: MakeService, as_planned: AsPlanned, netifd: bool) -> None:
    """It counts at once, also where netifd has not noticed."""
    one = lab(SOURCES)
    if netifd:
        one.ubus_stub()
    daemon = started(service, one, tracked(one, timeout="1", down=20))  # a device takes up to a second to wake up
    last = daemon.last()
    one.carrier("wan", False)
    daemon.wait_for(WAN, "disabled")
    as_planned(one)
    goes_by(one, "wan1", "wan1")
    assert sorted(changes_of_state(daemon, last)) == GONE
    last = daemon.last()
    one.carrier("wan", True)
    working(daemon, *WAN)
    as_planned(one)
    goes_by(one, "wan", "wan")
    assert sorted(changes_of_state(daemon, last)) == BACK


def test_an_address_goes_and_comes_back(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """Each family by itself."""
    one = lab(SOURCES)
    daemon = started(service, one)
    for family, half in ((4, "wan"), (6, "wan6")):
        last = daemon.last()
        one.remove_address("wan", family)
        daemon.wait_for(half, "disabled")
        as_planned(one)
        goes_by(one, *("wan1" if family == gone else "wan" for gone in (4, 6)))
        one.add_address("wan", family)
        working(daemon, half)
        as_planned(one)
        goes_by(one, "wan", "wan")
        assert {told.split()[0] for told in changes_of_state(daemon, last)} == {half}


def test_netifd_takes_an_interface_down_and_up(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """The kernel tells of it as well, but it happens once."""
    one = lab(SOURCES)
    one.ubus_stub()
    daemon = started(service, one, tracked(one, timeout="1", down=20))
    last = daemon.last()
    one.ifdown("wan")
    for name in WAN:
        daemon.hotplug("ifdown", name)
    daemon.wait_for(WAN, "disabled")
    as_planned(one)
    goes_by(one, "wan1", "wan1")
    assert (daemon.mwan3track("wan") / "STATUS").read_text() == "disabled\n"
    one.ifup("wan")
    for name in WAN:
        daemon.hotplug("ifup", name, "e-wan")
    working(daemon, *WAN)
    wait_until(lambda: {"ifup wan", "ifup wan6"} <= set(causes(daemon, last)), "netifd to be heard")
    as_planned(one)
    goes_by(one, "wan", "wan")
    assert sorted(changes_of_state(daemon, last)) == sorted([*GONE, *BACK])


def test_an_interface_comes_up_that_nobody_saw_down(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """It is judged anew, from what ``initial_state`` says; what works meanwhile is not lost for a moment."""
    one = lab(["wan", "wan1", "wan2"])
    text = tracked(one, timeout="1")
    for name in ("wan1", "wan2"):
        text = with_option(text, name, "initial_state", "offline")
    daemon = started(service, one, text)
    old = time.monotonic() + FRESH
    for name in ("wan", "wan1"):
        one.cut(name)
        daemon.wait_for([name, one.source(name).name6], "offline")
    time.sleep(max(old - time.monotonic(), 0.0))
    last = daemon.last()
    for name in one.spec.sources:
        daemon.hotplug("ifup", name, f"e-{name}")
    judged = ["wan connected", "wan disconnected", "wan ifup", "wan1 ifup", "wan2 connected", "wan2 ifup"]
    wait_until(lambda: len(changes_of_state(daemon, last)) == len(judged), f"all to be judged anew: {judged}")
    assert sorted(changes_of_state(daemon, last)) == judged
    as_planned(one)
    goes_by(one, "wan2", "wan2")


def test_an_address_changes(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """As after a new lease: probes and connections leave from the new address."""
    one = lab(SOURCES)
    daemon = started(service, one)
    one.router.ip(
        "addr del 10.1.0.2/24 dev e-wan",
        "addr add 10.1.0.9/24 dev e-wan",
        "route replace default via 10.1.0.1 dev e-wan proto static metric 10",
    )
    daemon.hotplug("ifupdate", "wan", "e-wan")
    wait_until(lambda: "src 10.1.0.9" in one.router.sh("ip route list table 1 2>&1 || true"), "the new address")
    working(daemon, *WAN)
    as_planned(one)
    answers = one.tcp("tv", count=10, peer=True)
    only(answers, "wan")
    assert {str(answer.peer).split()[0] for answer in answers} == {"10.1.0.9"}


# --- storms, and what is no event -----------------------------------------------------------------------------------


def test_a_storm_costs_a_few_runs(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """Thousands of events, from the pipe and from the kernel: the last one counts, and the daemon always answers."""
    one = lab(SOURCES)
    daemon = started(service, one, tracked(one, timeout="2"))
    count = daemon.settled()["reconciles"]["count"]
    batch = one.tmp / "storm"
    lines = [f"addr {verb} 10.99.{number % 50}.1/24 dev br-lan" for number in range(500) for verb in ("add", "del")]
    batch.write_text("\n".join([*lines, "addr add 10.99.77.1/24 dev br-lan"]) + "\n")
    storm = one.router.popen(["ip", "-batch", str(batch)])
    answered = []
    for _ in range(20):
        for number in range(25):
            daemon.hotplug("ifupdate", f"other{number}")
        asked = time.monotonic()
        assert client.status(one.run_dir, wait=PATIENCE) is not None
        answered.append(time.monotonic() - asked)
        time.sleep(0.05)
    assert storm.wait(PATIENCE) == 0
    as_planned(one)
    assert "mwan3_connected_ipv4 10.99.77.0/24" in one.router.sh("ipset save mwan3_connected_ipv4")
    assert max(answered) < 5.0, answered
    assert daemon.settled()["reconciles"]["count"] - count <= 15
    daemon.wait_for([*WAN, *WAN1], "online")


def test_nonsense_in_the_pipe_does_nothing(lab: Labs, service: MakeService) -> None:
    one = lab(SOURCES)
    daemon = started(service, one)
    last = daemon.last()
    dice = random.Random(1)
    noise = b"".join(dice.randbytes(dice.randrange(80)) + b"\n" for _ in range(10_000))
    hostile = (
        b"ifup\n", b"ifup $(reboot)\n", b"ifup wan; reboot\n", b"ifup ../../etc\n", b"ifup wan e-wan more\n", b"\0\0\n",
        b"IFUP wan\n", b"connected wan\n", b"changed\n", b"changed everything\n", b"changed config now\n", b"  \n",
        b"ifup " + b"a" * 65 + b"\n", b"ifup wan " + b"e" * 300 + b"\n", b"ifup wan" + b" " * 300 + b"\n",
        b"x" * 1_000_000 + b"\n", b"ifup wan".ljust(100_000) + b"x\n", b"\xff" * 5000 + b" ifup wan\n", b"half a line",
    )  # fmt: skip
    with open(one.run_dir / "connbal" / "events", "wb", buffering=0) as pipe:
        for piece in (noise, *hostile):
            sent = 0
            while sent < len(piece):
                sent += pipe.write(piece[sent:])
    daemon.hotplug("ifupdate", "wan")  # the rest of that line
    daemon.hotplug("ifupdate", "wan")
    wait_until(lambda: "ifupdate wan" in causes(daemon, last), "a line that makes sense")
    assert [cause for cause in causes(daemon, last) if not cause.startswith("link")] == ["ifupdate wan"]
    assert changes_of_state(daemon, last) == []


# --- others ---------------------------------------------------------------------------------------------------------

#: What somebody does to connbal's rules, as shell.
ROUTES = (
    "ip rule del priority 2001; ip -6 rule del priority 2002",
    "for p in 1003 2003 3003; do ip rule del priority $p; done",
    "ip route flush table 1; ip -6 route flush table 2",
    "ip route replace default via 10.2.0.1 dev e-wan1 table 1 metric 10",
)
CHAINS = (
    "iptables -t mangle -F mwan3_hook",
    "ip6tables -t mangle -F mwan3_hook; ip6tables -t mangle -D PREROUTING -j mwan3_hook",
    "iptables -t mangle -F mwan3_rules; iptables -t mangle -F mwan3_policy_all; iptables -t mangle -X mwan3_policy_all",
    "iptables -t mangle -I mwan3_rules 1 -j RETURN",
)
#: What belongs to others and stays.
FOREIGN = (
    "ip rule add priority 500 from 192.0.2.1 lookup 77; ip route add 192.0.2.0/24 dev br-lan table 77;"
    " iptables -t mangle -A others_mangle -s 192.0.2.1 -j ACCEPT; iptables -t mangle -N mine"
)


@pytest.mark.parametrize(("xtables", "damages"), [("nft", ROUTES + CHAINS), ("legacy", CHAINS)])
def test_damage_is_repaired(
    lab: Labs, service: MakeService, as_planned: AsPlanned, xtables: str, damages: Sequence[str]
) -> None:
    """At once, where the kernel tells of it. Nobody tells of changes by iptables-legacy, they are looked for."""
    one = lab(SOURCES, xtables=xtables)
    one.router.sh(FOREIGN)
    daemon = started(service, one)
    last, before = daemon.last(), snapshot(one.router)
    assert "192.0.2.1" in before
    for damage in damages:
        one.router.sh(damage)
        began = time.monotonic()
        wait_until(lambda: snapshot(one.router) == before, f"repair of: {damage}")
        # A look at rules of which nobody tells is due each second.
        assert time.monotonic() - began < (3 if xtables == "legacy" else 1), damage
    as_planned(one)
    assert changes_of_state(daemon, last) == []
    goes_by(one, "wan", "wan")


def test_an_interface_is_forced(lab: Labs, service: MakeService, bench: MakeBench, as_planned: AsPlanned) -> None:
    """State files, status and kernel follow the user, and health again when the user lets go."""
    one = lab(SOURCES)
    daemon = started(service, one)
    status = daemon.mwan3track("wan") / "STATUS"

    def force(state: str, forced: str | None, found: str) -> None:
        bench(one).connbal("interface", "force", "wan", state)
        daemon.wait(lambda seen: seen["interfaces"]["wan"]["forced"] == forced, f"wan forced {forced}")
        daemon.wait_for("wan", found)
        daemon.wait_for(["wan6", *WAN1], "online")
        as_planned(one)
        wait_until(lambda: status.read_text() == f"{found}\n", f"the state file to say {found}")

    force("down", "down", "disabled")
    goes_by(one, "wan1", "wan")
    force("auto", None, "online")
    goes_by(one, "wan", "wan")
    one.cut("wan", families=(4,))
    daemon.wait_for("wan", "offline")
    force("up", "up", "online")
    assert "--set-xmark 0x100/" in one.router.sh("iptables -t mangle -S mwan3_policy_all")
    force("auto", None, "offline")
    goes_by(one, "wan1", "wan")


@pytest.mark.traffic
def test_commands_beside_the_daemon(
    lab: Labs, service: MakeService, driver: Driver, bench: MakeBench, as_planned: AsPlanned
) -> None:
    """They know what it knows: what is offline stays so. Twenty of them at once disturb nobody."""
    one = lab([*SOURCES, "wan2"])
    daemon = started(service, one)
    wan2 = ["wan2", "wan2_6"]
    one.cut("wan2")
    daemon.wait_for(wan2, "offline")
    as_planned(one)
    before = snapshot(one.router)
    assert bench(one).connbal("apply").stdout == "nothing to change\n"
    views = bench(one).status()["interfaces"]
    assert {view["name"]: view["up"] for view in views} == {name: name not in wan2 for name in (*WAN, *WAN1, *wan2)}
    assert all("0 of 3 hosts answered" in view["reason"] for view in views if view["name"] in wan2)
    assert snapshot(one.router) == before

    def command(number: int) -> str:
        with closing(Bench(one, driver)) as another:
            return another.connbal(("apply", "plan", "status")[number % 3]).stderr

    last = daemon.last()
    with (
        one.constant("tv", rate=50) as four, one.constant("pc", SITE6, rate=50) as six, ThreadPoolExecutor(20) as pool,
    ):  # fmt: skip
        complaints = pool.map(command, range(20))
        one.restore("wan2")
        working(daemon, *wan2)
        one.cut("wan2")
        daemon.wait_for(wan2, "offline")
        assert list(complaints) == [""] * 20
        as_planned(one)
        only(four.stop(), "wan")
        only(six.stop(), "wan")
    assert {told.split()[0] for told in changes_of_state(daemon, last)} == set(wan2)
    assert snapshot(one.router) == before
