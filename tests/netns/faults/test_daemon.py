"""The daemon: its start with a fault at each call, a clock that jumps, and signals at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from connbal.track.daemon import NAME
from tests.lab import Lab, snapshot
from tests.netns.daemon.checks import changes_of_state, working
from tests.netns.daemon.conftest import AsPlanned, MakeService, as_planned, bench, driver, service
from tests.netns.daemon.service import PATIENCE, Service, tracked
from tests.netns.faults import daemon as program
from tests.netns.faults.seam import FATAL, MODES
from tests.netns.faults.test_walk import ALL
from tests.netns.main_job.bench import only, ordered

__all__ = ["as_planned", "bench", "driver", "service"]

pytestmark = pytest.mark.netns

Labs = Callable[..., Lab]
#: Sources of whose health nobody asks: they are as their links are.
UNTRACKED = """
config interface 'wan'
	option enabled '1'
config interface 'wan1'
	option enabled '1'
config member 'a'
	option interface 'wan'
config member 'b'
	option interface 'wan1'
	option metric '2'
config policy 'all'
	list use_member 'a'
	list use_member 'b'
config rule 'everything'
	option use_policy 'all'
"""
SIGNALS = 10_000 if ALL else 600
#: What the daemon takes as a word, or takes no notice of, and what ends it.
HARMLESS = (signal.SIGHUP, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGCONT, signal.SIGWINCH,
            signal.SIGURG, signal.SIGSTOP)  # fmt: skip
DEADLY = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGUSR1, signal.SIGALRM)


class Faulty(Service):
    program = (program.__file__,)


def start(one: Lab, **variables: str) -> Faulty:
    daemon = Faulty(one)
    one.router.env.update(variables)
    daemon.start(ready=False)
    for name in variables:
        del one.router.env[name]
    return daemon


@pytest.mark.parametrize("xtables", ["nft", "legacy"] if ALL else ["nft"])
def test_a_start_gets_over_a_fault_at_any_call(lab: Labs, as_planned: AsPlanned, xtables: str) -> None:
    """It tries again by itself; where it was killed, the one that is started next does."""
    one = lab(["wan", "wan1"], xtables=xtables)
    untouched = ordered(snapshot(one.router))
    Faulty(one).configure(UNTRACKED)
    calls = one.tmp / "calls"
    daemon = start(one, CALLS=str(calls))
    daemon.settled()
    wanted = ordered(snapshot(one.router))
    only(one.tcp("pc", count=3), "wan")
    assert daemon.stop() == 0
    daemon.connbal("stop")
    points = [(at, mode) for at, (kind, _) in enumerate(json.loads(calls.read_text())) for mode in MODES[kind]]
    for at, mode in points if ALL else points[3 :: len(points) // 4]:
        daemon = start(one, FAULT_AT=str(at), FAULT_MODE=mode)
        if mode in FATAL:
            assert daemon.process is not None
            assert daemon.process.wait(PATIENCE) == -signal.SIGKILL, (at, mode)
            daemon.kill()
            daemon = start(one)
        daemon.wait(lambda status: status["reconciles"]["last"] and not status["reconciles"]["last"]["error"],
                    f"a run that works after {at} {mode}")  # fmt: skip
        as_planned(one)
        assert ordered(snapshot(one.router)) == wanted, (at, mode)
        assert "Traceback" not in daemon.said(), (at, mode)
        assert daemon.stop() == 0
        daemon.connbal("stop")
        assert ordered(snapshot(one.router)) == untouched, (at, mode)


def test_the_wall_clock_may_say_anything(lab: Labs, as_planned: AsPlanned) -> None:
    """A router without a clock learns the time from the Internet, years later. Nobody loses a source by that."""
    one = lab(["wan", "wan1"])
    Faulty(one).configure(tracked(one))
    daemon = start(one, CLOCK="1")
    try:
        working(daemon, "wan", "wan6", "wan1", "wan1_6")
        as_planned(one)
        last = daemon.last()
        time.sleep(2)
        assert changes_of_state(daemon, last) == []
        one.cut("wan")
        daemon.wait_for(["wan", "wan6"], "offline")
        only(one.tcp("pc", count=3), "wan1")
        one.restore("wan")
        daemon.wait_for(["wan", "wan6"], "online")
        as_planned(one)
        assert "Traceback" not in daemon.said()
    finally:
        daemon.close()


class LaterBoot(Service):
    """One for which the clocks since boot are further on than for everybody else."""

    def argv(self, *arguments: str) -> list[str]:
        argv = super().argv(*arguments)
        ahead = ["unshare", "--time", "--fork", "--kill-child", "--monotonic", "864000", "--boottime", "864000"]
        return [*ahead, *argv] if "daemon" in arguments else argv

    @property
    def pid(self) -> int:
        """Of the daemon: what is waited for is unshare, which takes no notice of SIGTERM."""
        return int((self.lab.run_dir / "connbal" / "daemon.pid").read_text())

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


def test_clocks_of_another_boot_make_what_was_known_old(lab: Labs, as_planned: AsPlanned) -> None:
    """What a daemon wrote down ten days ago is no health; what this one writes is not of the future for commands."""
    one = lab(["wan", "wan1"])
    daemon = Service(one)
    daemon.configure(tracked(one))
    with daemon:
        one.cut("wan")
        daemon.wait_for(["wan", "wan6"], "offline")
        daemon.settled()
        daemon.kill()
    later = LaterBoot(one)
    with later:
        later.wait_for(["wan", "wan6"], "offline")
        one.restore("wan")
        later.wait_for(["wan", "wan6"], "online")
        later.settled()
        only(one.tcp("pc", count=3), "wan")
        only(one.tcp("pc", count=3, family=6), "wan")


def test_signals_at_any_moment(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """Whatever is sent to it: it goes on, or ends and is started again, and all is as planned."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one, more=[("initial_state", "online")]))
    daemon.start()
    working(daemon, "wan", "wan6", "wan1", "wan1_6")
    as_planned(one)
    files = open_files(daemon)
    wanted = ordered(snapshot(one.router))
    chance, sent, deaths = random.Random(1), 0, 0
    while sent < SIGNALS:
        deadly = chance.random() < (1 / 400 if ALL else 1 / 250)
        number = chance.choice(DEADLY if deadly else HARMLESS)
        daemon.signal(number)
        sent += 1
        if number == signal.SIGSTOP:
            time.sleep(chance.uniform(0, 0.01))
            daemon.signal(signal.SIGCONT)
        elif deadly:
            deaths += 1
            assert daemon.process is not None
            code = daemon.process.wait(PATIENCE)
            assert code in (0, -number), (number, code, daemon.said())
            daemon.kill()
            daemon.start(ready=chance.random() < 0.5)
            heeds_signals(daemon)
        time.sleep(chance.uniform(0, 0.004))
        if sent % 100 == 0:
            one.router.sh("iptables -t mangle -D PREROUTING -j mwan3_hook || :; ip rule del priority 2001 || :")
    daemon.wait(lambda status: status["reconciles"]["count"], "the first run")
    working(daemon, "wan", "wan6", "wan1", "wan1_6")
    daemon.settled(1.5)
    as_planned(one)
    assert deaths > 0
    assert ordered(snapshot(one.router)) == wanted
    only(one.tcp("pc", count=5), "wan")
    assert children(daemon) == []
    assert abs(open_files(daemon) - files) <= 4
    assert "Traceback" not in daemon.said()
    assert [str(path) for path in (one.run_dir / "connbal").glob("*.json") if not json.loads(path.read_text())] == []
    assert daemon.stop() == 0


def heeds_signals(daemon: Service) -> None:
    """Wait until it is connbal; until then it is an interpreter that starts, and any signal ends that."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if Path(f"/proc/{daemon.pid}/comm").read_text().strip() == NAME:
            return
        time.sleep(0.01)
    raise AssertionError("it does not come up")


def open_files(daemon: Service) -> int:
    """The least of a few looks: probes come and go."""
    found = []
    for _ in range(8):
        found.append(len(os.listdir(f"/proc/{daemon.pid}/fd")))
        time.sleep(0.05)
    return min(found)


def children(daemon: Service) -> list[str]:
    """Of the daemon, zombies included."""
    found: list[str] = []
    for file in Path(f"/proc/{daemon.pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += file.read_text().split()
    return found
