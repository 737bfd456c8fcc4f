"""A lab keeps to itself, and goes away whatever happens to its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import CommandFailed, Lab, LabError, sweep
from tests.lab.owners import State, find, namespaces, start_time, states
from tests.lab.topology import Spec

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
Factory = Callable[..., Lab]


def host_state() -> str:
    """The machine's own rules, routes, links, firewall and sysctls."""
    commands = [
        "ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all",
        "ip -br link; ip -br addr",
        "for t in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do $t-save; done | sed 's/[[#].*//'",
        "ipset save; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
        "sysctl -a 2>/dev/null | grep -E '^net\\.(ipv[46]\\.conf|ipv4\\.ip_nonlocal|ipv6\\.ip_nonlocal|bridge)'",
    ]
    text = subprocess.run(["sh", "-c", "\n".join(commands)], capture_output=True, text=True, check=False).stdout
    return "\n".join(line for line in text.splitlines() if "expires" not in line)


def test_programs_that_fail_or_hang_are_reported(lab: Factory) -> None:
    one = lab(["wan"])
    with pytest.raises(CommandFailed, match="no such thing") as caught:
        one.router.sh("echo no such thing >&2; exit 3")
    assert caught.value.returncode == 3
    begin = time.monotonic()
    with pytest.raises(CommandFailed, match="too long"):
        one.router.run(["sh", "-c", "echo begun; sleep 60 & sleep 60"], timeout=0.3)
    assert time.monotonic() - begin < 5
    assert one.router.run(["cat"], input="in and out").stdout == "in and out"
    with pytest.raises(LabError, match="no node 'tvv'"):
        one.tcp("tvv")


def test_enter_moves_this_thread_alone_and_always_back(lab: Factory) -> None:
    one = lab(["wan"])

    def here() -> int:
        return os.stat("/proc/thread-self/ns/net").st_ino

    def in_a_thread(what: Callable[[], object]) -> object:
        seen: list[object] = []
        thread = threading.Thread(target=lambda: seen.append(what()))
        thread.start()
        thread.join()
        return seen[0]

    outside = here()
    inside = os.stat(one.router.path).st_ino
    with one.router.enter():
        assert here() == inside != outside
        assert in_a_thread(here) == inside  # one begun inside is inside
    assert here() == outside
    with pytest.raises(ZeroDivisionError), one.router.enter():
        raise ZeroDivisionError
    assert here() == outside
    assert in_a_thread(lambda: one.tcp("tv").names) == Counter({"wan": 1})


def test_netlink_in_process(lab: Factory) -> None:
    pyroute2 = pytest.importorskip("pyroute2")
    one = lab(["wan"])
    with one.router.enter():
        netlink = pyroute2.IPRoute()
    with netlink:
        names = {link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
    assert {"br-lan", "e-wan"} <= names


def test_two_labs_at_once_do_not_meet(lab: Factory) -> None:
    first, second = lab(["wan", "wan1"]), lab(["wwan"])
    assert first.prefix != second.prefix
    assert first.tcp("tv").names == Counter({"wan": 1})
    assert second.tcp("tv").names == Counter({"wwan": 1})
    first.close()
    assert not namespaces(first.prefix)
    assert second.tcp("tv", family=6).names == Counter({"wwan": 1})


def test_close_leaves_nothing_not_even_a_daemon(lab: Factory) -> None:
    one = lab(["wan"])
    one.router.run(["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!"])
    pid = int(one.router.run(["sh", "-c", "setsid sleep 301 >/dev/null 2>&1 & echo $!"]).stdout)
    watched = one.router.popen(["sleep", "302"])
    assert start_time(pid)
    one.close()
    assert start_time(pid) == 0
    assert watched.poll() is not None
    assert not namespaces(one.prefix)
    assert not one.tmp.exists()
    assert one.prefix not in {state.prefix for state in states()}
    one.close()


CRASH = """
import sys, time
from tests.lab import Lab
lab = Lab(["wan"]).up()
traffic = lab.constant("tv", rate=50)
child = lab.router.popen(["sleep", "400"])
daemon = lab.router.run(["sh", "-c", "setsid sleep 401 >/dev/null 2>&1 & echo $!"]).stdout.strip()
print(lab.prefix, lab._servers[0].pid, traffic._process.pid, child.pid, daemon, flush=True)
time.sleep(60)
"""


def test_after_kill_9_processes_end_and_a_sweep_removes_the_rest(lab: Factory) -> None:
    living = lab(["wan"])
    with subprocess.Popen([sys.executable, "-c", CRASH], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            prefix, *pids = owner.stdout.readline().split()
            server, client, child, daemon = (int(pid) for pid in pids)
            assert prefix not in sweep()
            assert all(start_time(pid) for pid in (server, client, child, daemon))
            tmp = Path(find(prefix).tmp)
        finally:
            owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 3
    while any(start_time(pid) for pid in (server, client, child)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [start_time(pid) for pid in (server, client, child)] == [0, 0, 0]
    # No signal reaches the daemon; the sweep must. Another process's sweep may have come first.
    sweep()
    assert not namespaces(prefix)
    assert not tmp.exists()
    assert start_time(daemon) == 0
    assert living.tcp("tv").names == Counter({"wan": 1})


def test_the_server_ends_by_itself(lab: Factory) -> None:
    one = lab(["wan"], lifetime=0.6)
    assert one.tcp("tv").names == Counter({"wan": 1})
    time.sleep(0.7)
    assert one.tcp("tv").errors == Counter({"ECONNREFUSED": 1})


def test_a_lab_held_in_the_foreground_goes_when_asked_to_end(lab_available: None) -> None:
    argv = [sys.executable, "-m", "tests.lab", "up", "wan"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        prefix = process.stdout.readline().split()[1].rstrip(":")
        while "Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        refused = subprocess.run([*argv[:3], "down", prefix], cwd=ROOT, capture_output=True, text=True, check=False)
        assert "is held by process" in refused.stderr
        assert namespaces(prefix)
        process.terminate()
    assert not namespaces(prefix)


def test_a_pid_used_again_is_not_the_owner() -> None:
    mine = State("cb000000", os.getpid(), start_time(os.getpid()), "", {})
    other = State("cb000000", os.getpid(), start_time(os.getpid()) - 1, "", {})
    assert mine.alive
    assert not other.alive


def test_the_host_is_untouched(lab: Factory) -> None:
    before = host_state()
    assert "32766:\tfrom all lookup main" in before
    assert "net.ipv6.conf.lo.accept_dad" in before
    one = lab(guest=True)
    during = host_state()
    one.tcp("tv", count=20)
    one.cut("wan")
    one.carrier("wan1", False)
    one.close()
    assert during == before
    assert host_state() == before


def test_a_lab_that_cannot_be_built_leaves_nothing(lab_available: None, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Lab(["wan"])
    monkeypatch.setattr("tests.lab.topology.nat", lambda spec: "nonsense\n")
    with pytest.raises(CommandFailed):
        broken.up()
    assert not namespaces(broken.prefix)
    assert not broken.tmp.exists()


@pytest.mark.parametrize("names", [(), ("wan", "wan"), ("wan;reboot",), ("",), ("../x",)])
def test_bad_names_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="source"):
        Spec(names)


def test_a_kept_lab_outlives_its_maker_and_goes_down(lab_available: None) -> None:
    program = [sys.executable, "-m", "tests.lab"]

    def run(*words: str) -> str:
        done = subprocess.run([*program, *words], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout

    out = run("up", "--keep", "wan", "wan1")
    prefix = out.split()[1].rstrip(":")
    try:
        assert prefix not in sweep()
        one = Lab.attach(prefix)
        assert one.tcp("tv").names == Counter({"wan": 1})
        run("cut", prefix, "wan")
        assert one.tcp("tv", timeout=0.3).errors == Counter({"timeout": 1})
    finally:
        run("down", prefix)
    assert not namespaces(prefix)
