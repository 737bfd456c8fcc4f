"""However often something is asked for at once, few processes do it: without a daemon, and by ubus."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.lab.node import end_group
from tests.router.configs import balanced
from tests.router.conftest import MakeRouter
from tests.router.crowd import HOOK, Crowd, blow, calls, held
from tests.router.router import Router

pytestmark = pytest.mark.netns

KILL = """
for one in /proc/[0-9]*; do
	read -r name 2>/dev/null <"$one/comm" && [ "$name" = connbal-later ] && kill -9 "${one#/proc/}"
done
true
"""


@pytest.fixture
def bare(router: MakeRouter) -> Router:
    """A router where connbal has been applied, and no daemon runs."""
    one = router(["wan", "wan1"], config=balanced({"wan": True, "wan1": True}))
    one.run(["/usr/bin/connbal", "apply"])
    return one


def crowd(router: Router) -> Crowd:
    return Crowd(router, Crowd(router).now())


def idle(router: Router, one: Crowd) -> None:
    router.wait(lambda: not one.now() and not workers(router), "the end")


@pytest.mark.parametrize("locked", [False, True], ids=["free", "locked"])
@pytest.mark.parametrize("line", [
    f". {HOOK}", f"(. {HOOK})", "/usr/sbin/mwan3 ifdown wan1", "/usr/sbin/mwan3 ifup wan$n",
])  # fmt: skip
def test_events_without_a_daemon(bare: Router, line: str, locked: bool) -> None:
    with crowd(bare) as one, held(bare) if locked else contextlib.nullcontext():
        took = blow(bare, line)
        if locked:
            time.sleep(1)
            assert one.now()
    # One reads while its predecessor still ends.
    assert (one.processes <= 2, one.memory < 60) == (True, True), (one.processes, one.memory)
    assert took < 0.3
    idle(bare, one)


def test_the_last_event_is_seen(bare: Router) -> None:
    """The run for an early event has begun by the time of the last one, which is about something new."""
    with crowd(bare) as one:
        for turn in range(6):
            blow(bare, f". {HOOK}", 20)
            bare.lab.router.ip(f"addr add 192.168.{100 + turn}.1/24 dev br-lan")
            blow(bare, f". {HOOK}", 1)
            idle(bare, one)
            assert f"192.168.{100 + turn}.0/24" in local(bare)


def test_restarts_without_a_daemon(bare: Router) -> None:
    bare.path("/etc/rc.d/S19connbal").symlink_to("../init.d/connbal")
    with crowd(bare) as one:
        blow(bare, "/usr/sbin/mwan3 restart")
        bare.wait(lambda: bare.read("/var/run/mwan3track/wan/STATUS") == "online", "the daemon to do its work")
    assert one.processes <= 2  # the daemon, and what served ubus


def test_a_kill_is_not_in_the_way(bare: Router) -> None:
    with held(bare):
        for _ in range(5):
            blow(bare, f". {HOOK}", 10)
            bare.wait(lambda: bool(workers(bare)), "one to begin")
            bare.sh(KILL)
    with crowd(bare) as one:
        bare.lab.router.ip("addr add 192.168.77.1/24 dev br-lan")
        blow(bare, f". {HOOK}", 1)
        bare.wait(lambda: "192.168.77.0/24" in local(bare), "the event to be seen")
        idle(bare, one)


def workers(router: Router) -> list[Path]:
    return list(router.path("/var/run/connbal/later").glob("*/.worker"))


def local(router: Router) -> str:
    """The networks that need no source, as the kernel knows them."""
    return router.sh("ipset save mwan3_connected_ipv4")


# --- ubus ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("daemon", [False, True], ids=["bare", "daemon"])
@pytest.mark.parametrize(("object_", "method", "args"), [
    ("connbal", "diagnose", {}), ("connbal", "explain", {"src": "192.168.1.178", "dst": "203.0.113.7"}),
    ("connbal", "status", {}), ("mwan3", "status", {}), ("connbal", "check", {}), ("connbal", "apply", {}),
])  # fmt: skip
def test_calls_at_once(bare: Router, object_: str, method: str, args: dict[str, Any], daemon: bool) -> None:
    """Two at once, each with its worker, which may be about to start a program; some wait; the rest is told at once."""
    if daemon:
        bare.run(["/etc/init.d/connbal", "start"])
        bare.wait(lambda: bare.read("/var/run/mwan3track/wan/STATUS") == "online", "wan to be online")
    with crowd(bare) as one:
        begin = time.monotonic()
        found = calls(bare, object_, method, args)
        took = time.monotonic() - begin
    told = Counter(said.get("code", "done") for said in found)
    assert one.processes <= 6, one.processes
    assert one.memory < 100, one.memory
    assert took < 20
    assert told["done"] >= 2, told
    assert set(told) <= {"done", "busy"}, told
    assert not any("Traceback" in str(said) for said in found)


def test_who_may_only_look_is_in_nobodys_way(bare: Router) -> None:
    """All places for looking are taken, and stay so: a change goes through."""
    bare.configure(balanced({"wan": True, "wan1": True}).replace("203.0.113.7", "192.0.2.1"))  # nobody answers there
    argv = ["/usr/libexec/rpcd/connbal", "call", "diagnose"]
    running = [bare.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(8)]
    try:
        time.sleep(1)
        begin = time.monotonic()
        (said,) = calls(bare, "connbal", "set", {"type": "interface", "name": "wan1", "options": {"enabled": "0"}}, 1)
        assert (said["schema"], said.get("error")) == ("edit/1", None)
        assert time.monotonic() - begin < 10
        (busy,) = calls(bare, "connbal", "diagnose", {}, 1)
        assert busy["code"] in ("busy", None) or "interfaces" in busy
    finally:
        for one in running:
            end_group(one)


def test_a_killed_call_holds_no_place(bare: Router) -> None:
    argv = ["/usr/libexec/rpcd/connbal", "call", "diagnose"]
    for _ in range(4):
        running = [bare.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(4)]
        time.sleep(0.3)
        for one in running:
            end_group(one)
    (said,) = calls(bare, "connbal", "diagnose", {}, 1)
    assert str(said["schema"]).startswith("diagnose/")
