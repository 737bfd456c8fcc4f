"""A router whose other users keep every lock that they can get: what has to be done there is done all the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import Lab, snapshot
from tests.netns.daemon.conftest import MakeService, service
from tests.netns.daemon.service import Service, tracked
from tests.netns.locks.nobody import greedy, keeping
from tests.netns.main_job.bench import only

__all__ = ["service"]

pytestmark = pytest.mark.netns

Labs = Callable[..., Lab]
#: Seconds that a command may take here; it waits for a lock up to 60.
SOON = 8.0


@contextmanager
def soon(limit: float = SOON) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit


def opened(one: Lab) -> tuple[Path, ...]:
    """The directories of a router, as they are on one of an older version: anybody may look into them."""
    own = one.run_dir / "connbal"
    own.mkdir(exist_ok=True)
    for directory in (*one.run_dir.parents[:2], one.run_dir, own, one.config_dir):
        directory.chmod(0o755)
    for name in ("lock", "force.lock", "daemon.pid"):
        (own / name).touch()
        (own / name).chmod(0o644)
    (one.config_dir / "mwan3").chmod(0o644)
    return own, own / "lock", own / "force.lock", own / "daemon.pid", one.config_dir / "mwan3", one.config_dir


def test_commands_while_nobody_keeps_every_lock(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    commands = service(one)
    before = snapshot(one.router)
    commands.configure(tracked(one))
    with keeping(*opened(one)):
        for arguments in (["plan"], ["apply"], ["interface", "force", "wan", "down"], ["rule", "add", "x",
                          "--use-policy", "all", "--first"], ["status"], ["check"]):  # fmt: skip
            with soon():
                assert commands.connbal(*arguments, check=False).returncode == 0, arguments
        only(one.tcp("tv", count=5), "wan1")
        with soon():
            said = commands.connbal("stop")
        assert (said.stdout, said.stderr) == ("stopped\n", "")
    assert snapshot(one.router) == before


def test_failover_while_nobody_keeps_every_lock(lab: Labs, service: MakeService) -> None:
    """The daemon starts, loses a source and has it back, is told of edits, and ends."""
    one = lab(["wan", "wan1"])
    daemon: Service = service(one)
    daemon.configure(tracked(one))
    before = snapshot(one.router)
    with keeping(*opened(one)), greedy([one.run_dir / "connbal", one.config_dir, one.run_dir]):
        with soon(15.0):
            daemon.start()
            daemon.wait_for(["wan", "wan1"], "online")
        for turn in range(3):
            one.carrier("wan", False)
            with soon(2.0):
                daemon.wait(lambda status: status["interfaces"]["wan"]["status"] != "online", "wan to be given up")
                daemon.settled(0.2)
            only(one.tcp("tv", count=5), "wan1")
            one.carrier("wan", True)
            daemon.wait_for("wan", "online")
            daemon.settled(0.2)
            with soon():
                daemon.connbal("interface", "set", "wan1", "--count", str(turn + 2))
        assert daemon.connbal("daemon", check=False).stderr.startswith(
            f"connbal: connbal daemon: a daemon is running already, as process {daemon.pid}; end it first")
        with soon():
            daemon.connbal("stop")
        assert daemon.process is not None
        daemon.process.wait(5)
    assert snapshot(one.router) == before


def test_who_is_not_root_is_told_in_one_sentence(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    commands = service(one)
    commands.configure(tracked(one))
    opened(one)
    commands.connbal("apply")
    root = os.fspath(Path(__file__).parents[3])
    for arguments in (["apply"], ["plan"], ["stop"], ["status"], ["interface", "force", "wan", "up"], ["daemon"]):
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *commands.argv(*arguments)]
        said = one.router.run(argv, check=False, cwd=root)
        assert said.returncode == 1, (arguments, said)
        assert "Traceback" not in said.stderr, said.stderr
        assert "Permission denied" in said.stderr or "not permitted" in said.stderr, (arguments, said)
        assert "root" in said.stderr, (arguments, said)
        assert len(said.stderr.strip().splitlines()) == 1, (arguments, said)
