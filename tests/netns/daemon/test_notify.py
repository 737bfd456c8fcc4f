"""The daemon under a manager as systemd is one: it says when its rules are in force, and that it is alive."""

from __future__ import annotations

import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connbal.track.notify import BEAT
from tests.lab import Lab
from tests.netns.daemon.checks import Labs, wait_until
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import PATIENCE, Service, tracked

pytestmark = [pytest.mark.netns]

#: After how many seconds without a word the daemon is taken for dead here.
LIMIT = 0.4
#: Writes down what it has of the manager's, and what it has of the daemon's place where memory is short.
HOOK = "#!/bin/sh\nenv >{0}.env\ncat /proc/self/oom_score_adj >{0}.oom\nmv {0}.env {0}\n"


class Manager:
    """Who starts the daemon: listens at its own address, which may be abstract, in the router's namespace."""

    def __init__(self, lab: Lab, monkeypatch: pytest.MonkeyPatch, *, abstract: bool = False) -> None:
        name = f"connbal-{lab.prefix}" if abstract else str(lab.tmp / "notify")
        with lab.router.enter():
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(f"\0{name}" if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        monkeypatch.setenv("WATCHDOG_USEC", str(int(LIMIT * 1e6)))
        monkeypatch.delenv("WATCHDOG_PID", raising=False)

    def hear(self, patience: float) -> list[str]:
        """The lines of the next message; none within ``patience`` seconds: empty."""
        self.socket.settimeout(patience)
        try:
            return self.socket.recv(4096).decode().split("\n")
        except (TimeoutError, BlockingIOError):
            return []

    def wait(self, line: str, patience: float = PATIENCE) -> list[str]:
        """Wait for a line; returns all that came before it and in its message."""
        seen: list[str] = []
        end = time.monotonic() + patience
        while line not in seen:
            assert time.monotonic() < end, f"{line} was not told: {seen}"
            seen += self.hear(patience)
        return seen

    def drain(self) -> None:
        while self.hear(0.001):
            pass

    def silent(self, seconds: float) -> bool:
        """Whether nothing at all is told for so long, after what was under way."""
        self.drain()
        time.sleep(LIMIT / 4)
        self.drain()
        return not self.hear(seconds)


@pytest.fixture
def one(lab: Labs) -> Lab:
    return lab(["wan", "wan1"])


@pytest.fixture
def manager(one: Lab, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Manager]:
    made = Manager(one, monkeypatch, abstract=getattr(request, "param", False))
    yield made
    made.socket.close()


@pytest.mark.parametrize("manager", [False, True], ids=["path", "abstract"], indirect=True)
def test_a_life(one: Lab, manager: Manager, service: MakeService) -> None:
    """READY=1 once the rules are in force and commands are answered; each reload and the end are told."""
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start(ready=False)
    manager.wait("READY=1")
    chains = one.router.sh("iptables-save -t mangle; ip rule")
    assert " -g mwan3_policy_all" in chains
    assert "fwmark 0x100/0x3f00 lookup 1" in chains
    assert daemon.status() is not None
    for _ in range(3):
        assert manager.wait("WATCHDOG=1", LIMIT)
    daemon.wait_for(["wan", "wan1"], "online")

    daemon.configure(tracked(one, ["wan"]))
    daemon.signal(signal.SIGHUP)
    told = manager.wait("READY=1")
    assert any(line.startswith("RELOADING=1") for line in told)
    manager.drain()
    assert daemon.stop() == 0
    assert "STOPPING=1" in manager.wait("STATUS=stopping; connections keep flowing until connbal stop")
    assert "mwan3_policy_all" in one.router.sh("iptables-save -t mangle")


def test_what_it_is_about(one: Lab, manager: Manager, service: MakeService) -> None:
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "online")
    daemon.settled()
    manager.drain()
    one.carrier("wan", False)
    manager.wait("STATUS=2 of 4 sources online: wan1, wan1_6")
    one.carrier("wan", True)
    manager.wait("STATUS=4 of 4 sources online: wan, wan6, wan1, wan1_6")


def test_a_configuration_that_cannot_be_read(one: Lab, manager: Manager, service: MakeService) -> None:
    """The daemon waits for a good one; it must not be ended for that, and says what is wrong."""
    daemon = service(one)
    daemon.configure("config interface 'wan\n")
    daemon.start(ready=False)
    told = manager.wait("READY=1")
    assert any("mwan3" in line for line in told if line.startswith("STATUS=the last run failed: ")), told
    daemon.configure(tracked(one))
    manager.wait("STATUS=4 of 4 sources online: wan, wan6, wan1, wan1_6")


def test_hooks_are_not_the_daemon(one: Lab, manager: Manager, service: MakeService) -> None:
    """No script speaks for the daemon, and none is spared where memory is short because the daemon is."""
    ours = one.tmp / "told"
    daemon = service(one)
    daemon.user_script.write_text(HOOK.format(ours))
    daemon.configure(tracked(one))
    daemon.start()
    daemon.wait_for(["wan", "wan1"], "online")
    wait_until(ours.exists, "the hook to run")
    environment = ours.read_text()
    assert "INTERFACE=" in environment
    assert not [word for word in ("NOTIFY_SOCKET", "WATCHDOG") if word in environment]
    mine = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(ours.with_suffix(".oom").read_text()) == max(mine, 0)
    assert int(Path(f"/proc/{daemon.pid}/oom_score_adj").read_text()) in (mine, min(mine, -500))


def test_a_loop_that_hangs(one: Lab, manager: Manager, service: MakeService) -> None:
    """Nothing is told while it is stopped, and by itself when it goes on."""
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    manager.wait("READY=1")
    daemon.signal(signal.SIGSTOP)
    try:
        assert manager.silent(2 * LIMIT)
    finally:
        daemon.signal(signal.SIGCONT)
    manager.wait("WATCHDOG=1")


class Impatient(Service):
    """A daemon whose runs are taken to hang after a second."""

    program = ("-c", "from connbal.track import notify; notify.HUNG = 1.0; from connbal.cli.main import main; main()")


def test_a_run_that_hangs(one: Lab, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop answers and the worker does not: that is a dead daemon as well."""
    hanging, wrapper = one.tmp / "hanging", one.bin_dir / "iptables-nft-restore"
    wrapper.write_text(f'#!/bin/sh\nwhile [ -e {hanging} ]; do sleep 0.05; done\nexec {_real(wrapper.name)} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CONNBAL_IPTABLES", "nft")
    daemon = Impatient(one)
    daemon.configure(tracked(one))
    with daemon:
        daemon.wait_for(["wan", "wan1"], "online")
        daemon.settled()
        hanging.touch()
        daemon.configure(tracked(one, ["wan1"]))
        daemon.signal(signal.SIGHUP)
        time.sleep(1.0 + 2 * LIMIT)
        assert manager.silent(2 * LIMIT)
        assert daemon.status() is not None, "the loop is alive"
        hanging.unlink()
        manager.wait("READY=1")
        manager.wait("WATCHDOG=1")


def _real(name: str) -> str:
    found = shutil.which(name)
    assert found is not None
    return found


def test_without_a_watchdog(one: Lab, manager: Manager, service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not watch is not told more often than needed."""
    monkeypatch.delenv("WATCHDOG_USEC")
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "online")
    daemon.settled()
    assert BEAT > 2
    assert manager.silent(1.0)
