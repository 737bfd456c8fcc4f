"""Nobody holds the daemon up: it answers while others hold its locks, and ends soon after it is told to."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from connbal.kernel.files import Lock
from tests.netns.daemon.checks import Labs, wait_until, working
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service, tracked
from tests.netns.daemon.test_trouble import HANGS, end, replaced, script

pytestmark = [pytest.mark.netns]

#: Seconds for which the locks are held, and that an answer may take.
HELD, ANSWER = 20.0, 0.2


def started(service: MakeService, lab: Labs) -> Service:
    one = lab(("wan", "wan1"))
    daemon = service(one)
    daemon.configure(tracked(one, timeout="1"))
    daemon.start()
    working(daemon, "wan", "wan6", "wan1", "wan1_6")
    daemon.settled()
    return daemon


def lines(daemon: Service, *said: str) -> None:
    """What the scripts of mwan3 write into the pipe."""
    descriptor = os.open(daemon.lab.run_dir / "connbal/events", os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(descriptor, "".join(f"{line}\n" for line in said).encode())
    finally:
        os.close(descriptor)


def slowest(daemon: Service, seconds: float) -> float:
    """The longest time that an answer has taken, of one question after the other."""
    found, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        assert daemon.status() is not None
        found = max(found, time.monotonic() - began)
        time.sleep(0.05)
    return found


def test_it_answers_while_others_hold_every_lock(lab: Labs, service: MakeService) -> None:
    daemon = started(service, lab)
    directory, config = daemon.lab.run_dir / "connbal", daemon.lab.config_dir
    with ExitStack() as stack:
        for path in (directory / "force.lock", directory / "lock", config / "mwan3", config / "network"):
            stack.enter_context(Lock(path) if path.parent == directory else Held(path))
        lines(daemon, "force wan down", "force wan1 auto", "force wan6 down", "ifup lan", "changed restart")
        os.utime(config / "mwan3")
        assert slowest(daemon, HELD) < ANSWER
    # What was asked for meanwhile is done.
    wait_until(lambda: "forced" in str(daemon.events()) or "mwan3 ifdown wan" in str(daemon.events()), "the lines")
    wait_until(lambda: not daemon.status()["reconciles"]["last"]["error"], "a run")  # type: ignore[index]


class Held:
    """The lock of a file of UCI's, as ``uci commit`` takes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        import fcntl

        self._descriptor = os.open(self._path, os.O_RDWR)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


@pytest.mark.parametrize("lock", ["lock", "force.lock"])
def test_it_ends_soon_whoever_holds_a_lock(lab: Labs, service: MakeService, lock: str) -> None:
    daemon = started(service, lab)
    before = daemon.lab.router.sh("iptables-save -t mangle; ip rule; ip route show table all")
    with Lock(daemon.lab.run_dir / "connbal" / lock):
        lines(daemon, "force wan down", "ifupdate lan")
        time.sleep(0.5)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 2.0
    assert _rules(daemon.lab.router.sh("iptables-save -t mangle; ip rule; ip route show table all")) == _rules(before)


def _rules(text: str) -> list[str]:
    return [line.partition("] ")[2] or line for line in text.splitlines() if not line.startswith(("#", ":"))]


def test_it_ends_soon_while_iptables_hangs(lab: Labs, service: MakeService) -> None:
    """Nothing is half done: what another process finds, one run brings to what it should be."""
    daemon = started(service, lab)
    one = daemon.lab
    with replaced(one.bin_dir / "iptables-restore", f"echo $$ >>{one.tmp}/hangs", HANGS):
        one.carrier("wan", False)
        wait_until((one.tmp / "hangs").exists, "iptables to hang")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 3.0
        end(one.tmp / "hangs")
    daemon.connbal("apply")
    assert daemon.connbal("plan").stdout == "nothing to change\n"


def test_pipes_in_the_place_of_files_are_not_waited_for(lab: Labs, service: MakeService) -> None:
    """A named pipe that nobody writes to makes whoever opens it wait for good."""
    one = lab(("wan", "wan1"))
    daemon = service(one)
    daemon.configure(tracked(one, timeout="1"))
    own = one.run_dir / "connbal"
    own.mkdir(parents=True, exist_ok=True)
    for name in ("health.json", "forced.json", "unread", "steer"):
        os.mkfifo(own / name)
    os.mkfifo(daemon.user_script)
    daemon.start()
    working(daemon, "wan", "wan6", "wan1", "wan1_6")
    lines(daemon, "ifup wan", "changed restart", "ifdown lan")
    assert slowest(daemon, 2.0) < ANSWER
    script(daemon.hotplug_call, "exit 0")
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 5.0
