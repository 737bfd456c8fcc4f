"""``/usr/libexec/connbal-later`` in busybox's shell: one at a time, nothing is lost, and no kill stays in the way."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.files.router import BUSYBOX, Router

LATER = "usr/libexec/connbal-later"
#: Seconds for what happens behind a caller's back.
PATIENCE = 60.0
#: Takes its time between its look at the world and its end, and writes down what it saw.
SLOW = """#!{sh}
echo begin >>"{root}/calls"
read -r seen <"{root}/world"
sleep 0.0$((seen % 10))
echo "$seen" >>"{root}/seen"
"""


@pytest.fixture
def router(tmp_path: Path) -> Router:
    one = Router(tmp_path)
    one.stand_in("etc/init.d/connbal")
    return one


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def worker(router: Router, lane: str = "kernel") -> int:
    return int((router.root / f"var/run/connbal/later/{lane}/.worker").read_text().split()[0])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(router: Router, lane: str = "kernel") -> Callable[[], bool]:
    """Nobody is at work, and nobody is about to be: what is asked for is there until a worker is."""
    directory = router.root / f"var/run/connbal/later/{lane}"
    return lambda: not (os.listdir(directory) or os.listdir(directory))


def test_one_runs_and_what_comes_meanwhile_is_done_once_more(router: Router) -> None:
    (router.root / "wait").touch()
    for _ in range(60):
        assert router.run(LATER, "apply").returncode == 0
    until(lambda: bool(router.lines("calls")), "the first to begin")
    for _ in range(60):
        router.run(LATER, "apply")
    assert router.lines("calls") == ["connbal apply --if-applied"]
    (router.root / "wait").unlink()
    until(gone(router), "the worker to end")
    assert router.lines("calls") == ["connbal apply --if-applied"] * 2
    assert list((router.root / "var/run/connbal/later/kernel").iterdir()) == []


def test_no_event_is_lost(router: Router) -> None:
    """Each event is something new in the world; however they meet, a look begins after the last one."""
    (router.root / "world").write_text("0\n")
    path = router.root / "usr/bin/connbal"
    path.write_text(SLOW.format(sh=f"{BUSYBOX} sh", root=router.root))
    lock, last = threading.Lock(), [0]

    def events() -> None:
        for _ in range(25):
            with lock:
                last[0] += 1
                scratch = router.root / "world.new"
                scratch.write_text(f"{last[0]}\n")
                scratch.rename(router.root / "world")
            router.run(LATER, "apply")

    for _ in range(4):
        threads = [threading.Thread(target=events) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(gone(router), "the worker to end")
        assert int(router.lines("seen")[-1]) == last[0]
    assert len(router.lines("calls")) < last[0]


@pytest.mark.parametrize("victim", ["worker", "work", "both"])
def test_a_kill_is_not_in_the_way(router: Router, victim: str) -> None:
    """Nothing is cleared away by who is killed; and who has its number by now is not it."""
    (router.root / "wait").touch()
    router.run(LATER, "apply")
    until(lambda: bool(router.lines("calls")), "the first to begin")
    router.run(LATER, "apply")
    pid = worker(router)
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert children
    for one in {"worker": [pid], "work": children, "both": [pid, *children]}[victim]:
        os.kill(one, signal.SIGKILL)
        until(lambda: not alive(one), "it to have died")  # noqa: B023 - called at once
    if victim != "work":
        router.run(LATER, "apply")
    until(lambda: len(router.lines("calls")) == 2, "the next to begin")
    (router.root / "wait").unlink()
    until(gone(router), "the worker to end")
    assert len(router.lines("calls")) <= 3


def test_another_process_with_the_number_is_not_the_worker(router: Router) -> None:
    place = router.root / "var/run/connbal/later/kernel/.worker"
    place.parent.mkdir(parents=True)
    for left in (f"{os.getpid()} 1\n", "", "nonsense\n", "999999999 5\n", f"{os.getpid()}\n", "$(id) 1\n"):
        place.write_text(left)
        (router.root / "calls").unlink(missing_ok=True)
        router.run(LATER, "apply")
        until(lambda: router.lines("calls") == ["connbal apply --if-applied"], "it to begin")
        until(gone(router), "the worker to end")


def test_who_was_kept_waiting_for_too_long_tries_again(router: Router) -> None:
    """75: somebody else has held the kernel's lock for as long as a command waits."""
    (router.root / "exit-connbal").write_text("75")
    router.run(LATER, "apply")
    until(lambda: len(router.lines("calls")) >= 11 and gone(router)(), "the worker to end")
    assert len(router.lines("calls")) == 11
    (router.root / "exit-connbal").write_text("1")
    router.run(LATER, "apply")
    until(lambda: gone(router)() and len(router.lines("calls")) >= 12, "the worker to end")
    assert len(router.lines("calls")) == 12


def test_the_last_word_on_an_interface_counts(router: Router) -> None:
    (router.root / "wait").touch()
    router.run(LATER, "apply")
    until(lambda: bool(router.lines("calls")), "the first to begin")
    for _ in range(20):
        for state in ("down", "auto", "down"):
            router.run(LATER, "force", state, "wan1")
            router.run(LATER, "force", "auto", "wan.2")
    (router.root / "wait").unlink()
    until(gone(router), "the worker to end")
    assert sorted(router.lines("calls")[1:]) == [
        "connbal interface force -- wan.2 auto", "connbal interface force -- wan1 down",
    ]  # fmt: skip


def test_the_service_does_not_wait_for_the_kernel(router: Router) -> None:
    (router.root / "wait").touch()
    router.run(LATER, "apply")
    until(lambda: bool(router.lines("calls")), "the first to begin")
    for _ in range(20):
        router.run(LATER, "start")
    until(lambda: router.lines("calls")[1:] == ["connbal start"], "the service to be started")
    (router.root / "wait").unlink()
    until(gone(router, "service"), "the worker to end")
    assert router.lines("calls").count("connbal start") == 2


@pytest.mark.parametrize("words", [
    [], ["serv"], ["force"], ["force", "up", "wan"], ["force", "down", ""], ["force", "down", "a/b"],
    ["force", "down", "../x"], ["force", "down", "a b"], ["force", "auto", "x" * 201], ["force", "auto", "$(id)"],
])  # fmt: skip
def test_what_makes_no_sense_does_nothing(router: Router, words: list[str]) -> None:
    assert router.run(LATER, *words, check=False).returncode == 2
    assert not (router.root / "var/run/connbal/later").exists()


def test_what_it_keeps_is_its_owners(router: Router) -> None:
    """Others have no business there: not even to look who is at work."""
    before = os.umask(0)
    try:
        router.run(LATER, "apply")
    finally:
        os.umask(before)
    assert stat.S_IMODE((router.root / "var/run/connbal/later/kernel").stat().st_mode) == 0o700
    until(gone(router), "the worker to end")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
@pytest.mark.parametrize("full", ["nr_inodes=1,size=16k", "size=4k"])
def test_a_full_directory(router: Router, full: str) -> None:
    """Where nothing can be written, or not even an empty file made, few at once work, and the rest ends at once."""
    own = router.root / "var/run/connbal"
    script = f"mount -t tmpfs -o {full} none {own} && n=0 || exit 1; echo x >{own}/x"
    script += f"; while [ $n -lt 30 ]; do n=$((n+1)); {BUSYBOX} sh {router.root / LATER} apply; done; sleep 2"
    (router.root / "wait").touch()
    # With processes of its own, which end with it.
    own_space = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
    subprocess.run([*own_space, str(BUSYBOX), "sh", "-c", script], check=True, timeout=PATIENCE)
    assert 1 <= len(router.lines("calls")) <= 8
