"""``/usr/sbin/mwan3`` in busybox's shell."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.files.router import BUSYBOX, Router

PATIENCE = 20.0


@pytest.fixture
def router(tmp_path: Path) -> Router:
    one = Router(tmp_path)
    one.stand_in("etc/init.d/connbal")
    (tmp_path / "etc/rc.d/S19connbal").symlink_to("../init.d/connbal")
    return one


@pytest.fixture
def pipe(router: Router) -> Iterator[int]:
    """The reader's end of the daemon's pipe."""
    router.daemon()
    descriptor = os.open(router.root / "var/run/connbal/events", os.O_RDWR | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def called(router: Router, count: int = 1) -> list[str]:
    """What stand-ins were called with, once there have been so many calls: they run in the background."""
    end = time.monotonic() + PATIENCE
    while len(calls := router.lines("calls")) < count:
        assert time.monotonic() < end, calls
        time.sleep(0.02)
    return calls


@pytest.mark.parametrize(("words", "said"), [
    ("restart", "changed restart"), ("start", "changed restart"), ("ifup wan1", "force wan1 auto"),
    ("ifdown wan1_6", "force wan1_6 down"),
])  # fmt: skip
def test_the_daemon_is_told(router: Router, pipe: int, words: str, said: str) -> None:
    """Commands: ``ifup ifdown restart`` hand over to the daemon; ``restart`` is idempotent; no Python is started."""
    for _ in range(3):
        done = router.run("usr/sbin/mwan3", *words.split())
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.read(pipe, 4096).decode() == f"{said}\n" * 3
    assert router.lines("calls") == []


def test_a_pipe_that_nobody_reads_blocks_nobody(router: Router) -> None:
    """Commands: ``restart`` must return at once, whatever became of the daemon."""
    router.daemon()
    assert router.run("usr/sbin/mwan3", "restart").returncode == 0
    router.run("usr/sbin/mwan3", "ifdown", "wan1")


def test_a_daemon_that_reads_nothing_makes_nobody_wait(router: Router, pipe: int) -> None:
    """Commands: where too much is unread, what has to last is remembered without the daemon."""
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe, bytes(4096)):
            pass
    (router.root / "var/run/connbal/unread").write_text("400\n")
    router.run("usr/sbin/mwan3", "restart")
    router.run("usr/sbin/mwan3", "ifdown", "wan1")
    assert called(router) == ["connbal interface force -- wan1 down"]
    router.run("usr/sbin/mwan3", "ifup", "wan1")
    assert called(router, 2)[1] == "connbal interface force -- wan1 auto"


@pytest.mark.parametrize(("words", "call"), [
    ("restart", "connbal start"), ("start", "connbal start"), ("ifup wan1", "connbal interface force -- wan1 auto"),
    ("ifdown wan1", "connbal interface force -- wan1 down"),
])  # fmt: skip
def test_without_a_daemon(router: Router, words: str, call: str) -> None:
    """Commands: ``restart`` starts the service where it does not run, behind the back of whoever called.

    That one waits for the end of its pipes (netifd, rpcd): nothing it has open may be open in what was started.
    """
    (router.root / "wait").touch()
    done = router.run("usr/sbin/mwan3", *words.split())  # would wait for the end of both pipes
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert called(router) == [call]
    (router.root / "wait").unlink()


def test_what_is_started_inherits_nothing(router: Router) -> None:
    """netifd and procd: no child may keep what its caller has open, such as the pipe on 3."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        [str(BUSYBOX), "sh", "-c", f"exec 3>&{writer}; . $0 restart", str(router.root / "usr/sbin/mwan3")],
        pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        process.wait(PATIENCE)
    os.close(writer)
    called(router)
    os.close(reader)
    end = time.monotonic() + PATIENCE
    while not router.lines("descriptors") and time.monotonic() < end:
        time.sleep(0.02)
    assert "3" not in router.lines("descriptors") or writer == 3


def test_a_daemon_that_was_killed(router: Router) -> None:
    """Its process id and pipe are still there, and another process has the number by now."""
    router.daemon()
    next(router.root.glob("proc/*/comm")).write_text("sleep\n")
    router.run("usr/sbin/mwan3", "restart")
    assert called(router) == ["connbal start"]


def test_start_and_stop_hold_for_the_next_boot(router: Router) -> None:
    """Commands: ``start`` and ``restart`` enable the service, ``stop`` disables it, as mwan3's do."""
    router.run("usr/sbin/mwan3", "stop")
    assert router.lines("calls") == ["connbal disable", "connbal stop"]
    (router.root / "etc/rc.d/S19connbal").unlink()
    router.run("usr/sbin/mwan3", "restart")
    assert called(router, 4)[2:] == ["connbal enable", "connbal start"]


@pytest.mark.parametrize("words", ["interfaces", "policies", "connected", "rules", "status", "internal ipv6"])
def test_what_is_shown(router: Router, words: str) -> None:
    """Commands: ``interfaces policies connected rules status internal [ipv4|ipv6]``, with the exit code of each."""
    (router.root / "exit-connbal").write_text("3")
    assert router.run("usr/sbin/mwan3", *words.split(), check=False).returncode == 3
    assert router.lines("calls") == [f"connbal mwan3 {words}"]


def test_use(router: Router) -> None:
    """Commands: ``use IF CMD...``: nothing is done to its words, and its exit code is passed on."""
    (router.root / "exit-connbal").write_text("42")
    done = router.run("usr/sbin/mwan3", "use", "wan1", "ping", "-c", "5", "a  b;$(id)", check=False)
    assert done.returncode == 42
    assert router.lines("calls") == ["connbal use -- wan1 ping -c 5 a  b;$(id)"]


@pytest.mark.parametrize("words", ["", "help", "frobnicate", "--help", "sync"])
def test_help(router: Router, words: str) -> None:
    """Commands: help on none and on an unknown one, exit code 0."""
    done = router.run("usr/sbin/mwan3", *words.split())
    assert done.stdout.startswith("usage: mwan3 COMMAND [...]\n\nstart ")
    assert done.returncode == 0
    assert router.lines("calls") == []


@pytest.mark.parametrize(("words", "said", "code"), [
    (["ifup"], "name an interface", 0), (["ifdown", ""], "name an interface", 0),
    (["ifup", "a", "b"], "name one interface only", 0), (["ifdown", "a b"], "no interface", 1),
    (["ifup", "$(id)"], "no interface", 1), (["ifup", "a\nchanged restart"], "no interface", 1),
    (["ifdown", "../x"], "no interface", 1),
])  # fmt: skip
def test_names(router: Router, pipe: int, words: list[str], said: str, code: int) -> None:
    """Hostile arguments reach neither the pipe nor a command."""
    done = router.run("usr/sbin/mwan3", *words, check=False)
    assert (said in done.stdout, done.returncode) == (True, code)
    with pytest.raises(BlockingIOError):
        os.read(pipe, 100)
    assert router.lines("calls") == []
