"""Changes that go back by themselves, in a real kernel: in time and not, with a daemon and without, killed anywhere."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, snapshot
from tests.netns.daemon.checks import wait_until
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service, tracked

pytestmark = pytest.mark.netns

ADD = ("rule", "add", "New", "--dest-ip", "198.51.100.0/24", "--use-policy", "all", "--first")
OTHER = ("rule", "add", "Other", "--dest-ip", "100.64.0.0/10", "--use-policy", "all", "--first")
LOCKED_OUT = ("rule", "add", "Out", "--dest-ip", "203.0.113.0/24", "--use-policy", "blackhole", "--first")
#: The shortest time that can be asked for, and what a slow machine needs on top.
SECONDS = "5"


def kernel(lab: Lab) -> str:
    """What is in the kernel, without what is drawn anew for each set."""
    return re.sub(r" initval 0x[0-9a-f]+", "", snapshot(lab.router))


@dataclass
class Scene:
    """A router on which a configuration is in force, and how it was before any change."""

    lab: Lab
    service: Service
    file: bytes
    mode: tuple[int, int, int]
    rules: str

    @property
    def path(self) -> Path:
        return self.lab.config_dir / "mwan3"

    @property
    def own(self) -> Path:
        return self.lab.config_dir / ".connbal"

    def run(self, *arguments: str) -> str:
        return self.service.connbal(*arguments).stdout

    def fails(self, *arguments: str) -> str:
        done = self.service.connbal(*arguments, check=False)
        assert done.returncode == 1, done
        return done.stderr

    def changed(self) -> bool:
        """Whether the rule is in the file and in the kernel; it is never in one of them only."""
        in_kernel = "198.51.100.0/24" in kernel(self.lab)
        assert in_kernel == (b"'New'" in self.path.read_bytes())
        return in_kernel

    def as_before(self) -> bool:
        return self.path.read_bytes() == self.file and kernel(self.lab) == self.rules

    def went_back(self, patience: str = "it to go back") -> None:
        wait_until(self.as_before, patience)
        state = self.path.stat()
        assert (state.st_mode, state.st_uid, state.st_gid) == self.mode
        assert not [name for name in os.listdir(self.own) if name.endswith(".before")]
        # A second run finds nothing to do: it is what a fresh start with the old file would make.
        assert self.run("plan").splitlines()[-1] == "nothing to change"

    def waiting(self) -> dict[str, Any] | None:
        found = json.loads(self.run("confirm", "--status", "--json"))["waiting"]
        assert found is None or isinstance(found, dict)
        return found

    def waiters(self) -> list[int]:
        """The processes that wait beside the daemon."""
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"--overdue" in words and os.fsencode(self.lab.config_dir) in words:
                found.append(int(pid))
        return found

    def kill_waiters(self) -> None:
        for pid in self.waiters():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.waiters(), "the waiters to be gone")


@pytest.fixture
def scene(lab: Callable[..., Lab], service: MakeService) -> Callable[..., Scene]:
    def make(*, daemon: bool = False, options: tuple[str, ...] = ()) -> Scene:
        one = lab(["wan", "wan1"])
        (one.config_dir / "mwan3").write_text(tracked(one))
        (one.config_dir / "mwan3").chmod(0o640)
        os.chown(one.config_dir / "mwan3", 0, 12)
        found = service(one, *options)
        if daemon:
            found.start()
            found.wait_for(one.spec.sources, "online")
        found.connbal("apply")
        state = (one.config_dir / "mwan3").stat()
        mode = state.st_mode, state.st_uid, state.st_gid
        return Scene(one, found, (one.config_dir / "mwan3").read_bytes(), mode, kernel(one))

    return make


def test_what_is_confirmed_in_time_stays(scene: Callable[..., Scene]) -> None:
    one = scene()
    said = one.run(*ADD, "--confirm", SECONDS)
    assert re.search(r"a change waits for its confirmation until \d\d:\d\d:\d\d \([345] s\): added rule New; "
                     "connbal confirm keeps it, connbal confirm --revert takes it back now", said)  # fmt: skip
    assert one.changed()
    assert one.run("confirm") == "kept: added rule New\n"
    time.sleep(float(SECONDS) + 1.5)
    assert one.changed()
    assert one.fails("confirm") == "connbal: no change waits for its confirmation\n"
    assert not one.waiters()


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
def test_what_is_not_confirmed_goes_back(scene: Callable[..., Scene], daemon: bool) -> None:
    one = scene(daemon=daemon)
    began = time.monotonic()
    one.run(*LOCKED_OUT, "--confirm", SECONDS)
    assert not one.lab.tcp("pc", "203.0.113.7", count=3).names
    one.went_back()
    assert float(SECONDS) - 0.5 < time.monotonic() - began < float(SECONDS) + 10
    assert one.lab.tcp("pc", "203.0.113.7", count=3).names == {"wan": 3}
    said = one.fails("confirm")
    assert "a change was taken back (added rule Out): not confirmed in time; what was in its place is in" in said
    assert b"'Out'" in (one.own / "mwan3.unconfirmed").read_bytes()
    if daemon:
        texts = [record["text"] for record in one.service.events() if record["kind"] == "daemon"]
        assert any("a change waits for its confirmation" in text for text in texts)
        assert any("a change was taken back (added rule Out)" in text for text in texts)


def test_it_is_taken_back_when_asked_for(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.run(*ADD, "--confirm", "3600")
    assert one.changed()
    assert "asked for" in one.run("confirm", "--revert")
    one.went_back()
    assert one.fails("confirm", "--revert") == "connbal: no change waits for its confirmation\n"


def test_a_killed_waiter_costs_nothing_but_time(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.run(*ADD, "--confirm", SECONDS)
    one.kill_waiters()
    time.sleep(float(SECONDS) + 0.5)
    assert one.changed()
    one.run("apply", "--if-applied")  # as the hotplug hook does
    one.went_back()


def test_the_waiter_outlives_the_terminal(scene: Callable[..., Scene]) -> None:
    """A lost connection ends the session's group, and sends SIGHUP; the waiter has a session of its own, too."""
    one = scene()
    process = one.lab.router.popen(one.service.argv(*ADD, "--confirm", SECONDS))
    wait_until(lambda: (one.own / "waiting.json").exists(), "the change to be written")
    os.killpg(process.pid, signal.SIGHUP)
    process.wait(30)
    wait_until(one.waiters, "the waiter")
    for pid in one.waiters():
        assert os.getsid(pid) != process.pid
        os.kill(pid, signal.SIGHUP)
    assert one.waiters()
    one.went_back()


def test_a_killed_daemon_is_not_needed(scene: Callable[..., Scene]) -> None:
    one = scene(daemon=True)
    one.run(*ADD, "--confirm", SECONDS)
    one.service.kill()
    one.went_back()


def test_a_daemon_that_is_started_again_takes_back(scene: Callable[..., Scene]) -> None:
    one = scene(daemon=True)
    one.run(*ADD, "--confirm", SECONDS)
    one.kill_waiters()
    one.service.kill()
    time.sleep(float(SECONDS))
    one.service.start()
    one.went_back()


def test_after_a_reboot_it_goes_back_at_once(scene: Callable[..., Scene]) -> None:
    """Another boot, an empty run directory, nothing in the kernel, and an hour left by the old clock."""
    one = scene()
    one.run(*ADD, "--confirm", "3600")
    one.kill_waiters()
    record = json.loads((one.own / "waiting.json").read_text())
    one.run("stop")
    shutil.rmtree(one.lab.run_dir / "connbal")
    (one.own / "waiting.json").write_text(json.dumps({**record, "boot": "another"}))
    one.service.start()
    assert one.path.read_bytes() == one.file  # before the first run
    one.service.wait_for(one.lab.spec.sources, "online")
    one.went_back()
    last = json.loads(one.run("confirm", "--status", "--json"))["last"]
    assert last["why"] == "the router was restarted before"


def test_others_join_or_are_refused(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.run(*ADD, "--confirm", "3600")
    for words in (OTHER, (*OTHER, "--no-apply"), ("globals", "set", "--weight-mode", "inverse"), ("init", "--force")):
        said = one.fails(*words)
        assert "a change waits for its confirmation until" in said
        assert "added rule New; connbal confirm keeps it" in said
    assert b"Other" not in one.path.read_bytes()
    one.run(*OTHER, "--dry-run")
    left = one.waiting()
    assert left is not None
    one.run(*OTHER, "--confirm", "5")  # gives no time, and takes none
    found = one.waiting()
    assert found is not None
    assert found["what"] == ["added rule New", "added rule Other"]
    assert 3000 < found["left"] <= left["left"]
    said = one.run("apply")  # which changes no configuration
    assert "a change waits" in said
    one.run("confirm", "--revert")
    one.went_back()


def test_what_somebody_else_changed_meanwhile_goes_back_too_and_is_kept(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.run(*ADD, "--confirm", SECONDS)
    theirs = one.path.read_bytes() + b"\nconfig rule 'theirs'\n\toption use_policy 'all'\n"
    one.path.write_bytes(theirs)
    one.went_back()
    assert (one.own / "mwan3.unconfirmed").read_bytes() == theirs
    assert (one.own / "mwan3.unconfirmed").stat().st_mode & 0o777 == 0o600
    assert "somebody else had changed the file meanwhile" in one.run("confirm", "--status")


def test_apply_goes_back_to_what_was_in_force(scene: Callable[..., Scene]) -> None:
    one = scene()
    assert "nothing goes back" in one.run("apply", "--confirm", SECONDS)
    rule = b"\nconfig rule 'New'\n\toption dest_ip '198.51.100.0/24'\n\toption use_policy 'all'\n"
    one.path.write_bytes(one.file + rule)
    one.run("apply", "--confirm", SECONDS)
    assert "a change waits" in one.run("status")
    assert one.changed()
    one.went_back()


def test_an_edit_takes_along_what_was_written_and_not_applied(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.run(*OTHER, "--no-apply")
    one.run(*ADD, "--confirm", SECONDS)
    one.went_back()
    assert b"Other" in (one.own / "mwan3.unconfirmed").read_bytes()


def test_a_first_apply_goes_back_to_nothing(lab: Callable[..., Lab], service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    (one.config_dir / "mwan3").write_text(tracked(one))
    before = kernel(one)
    found = service(one)
    found.connbal("apply", "--confirm", SECONDS)
    assert kernel(one) != before
    wait_until(lambda: kernel(one) == before, "the kernel to be empty again")
    assert (one.config_dir / "mwan3").read_text() == tracked(one)


def test_a_stopped_router_stays_stopped(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.run(*ADD, "--confirm", SECONDS)
    assert "a change waits" in one.run("stop")
    empty = kernel(one.lab)
    wait_until(lambda: one.path.read_bytes() == one.file, "the file to go back")
    wait_until(lambda: not one.waiters(), "the waiter to end")
    assert kernel(one.lab) == empty


def test_the_wall_clock_does_not_matter(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.run(*ADD, "--confirm", SECONDS)
    record = json.loads((one.own / "waiting.json").read_text())
    (one.own / "waiting.json").write_text(json.dumps({**record, "wall": 86400.0}))  # as if it had been 1970
    time.sleep(2)
    assert one.changed()
    one.went_back()


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
def test_a_command_that_is_killed_anywhere(scene: Callable[..., Scene], daemon: bool) -> None:
    """Whatever was done by then goes back; where the file was changed, the way back was there."""
    one = scene(daemon=daemon)
    chance = random.Random(1)
    made = 0
    for _ in range(12):
        process = one.lab.router.popen(one.service.argv(*ADD, "--confirm", "3600"), stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.15, 0.7))
        process.kill()
        process.wait()
        if one.path.read_bytes() == one.file:
            assert one.waiting() is None
            continue
        made += 1
        assert one.waiting() is not None
        one.run("confirm", "--revert")
        assert one.path.read_bytes() == one.file
    one.went_back()
    assert made > 1


def test_a_way_back_that_is_killed_anywhere(scene: Callable[..., Scene]) -> None:
    one = scene()
    chance = random.Random(2)
    for _ in range(8):
        one.run(*ADD, "--confirm", "3600")
        process = one.lab.router.popen(one.service.argv("confirm", "--revert"), stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.1, 0.6))
        process.kill()
        process.wait()
        if one.waiting() is not None:
            one.run("confirm", "--revert")
        one.run("apply", "--if-applied")
        assert one.as_before()


def test_two_at_once(scene: Callable[..., Scene]) -> None:
    """One begins, the other joins."""
    one = scene()
    processes = [
        one.lab.router.popen(one.service.argv(*words, "--confirm", "3600"), stdout=subprocess.DEVNULL)
        for words in (ADD, OTHER)
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    found = one.waiting()
    assert found is not None
    assert sorted(found["what"]) == ["added rule New", "added rule Other"]
    one.run("confirm", "--revert")
    one.went_back()
    assert len(one.waiters()) <= 2  # the shell, and what it waits by


_FILL = "dd if=/dev/zero of={0}/filling bs=1k 2>/dev/null; true"


def test_nothing_is_changed_where_the_way_back_cannot_be_kept(scene: Callable[..., Scene]) -> None:
    """The disk of the configuration is full; and where it fills up later, what was prepared still goes back."""
    one = scene()
    place, aside = one.lab.config_dir, one.lab.tmp / "aside"
    shutil.copytree(place, aside)
    mount = f"mount -t tmpfs -o size=256k none {place}; cp -a {aside}/. {place}/; "
    argv = one.service.argv(*ADD, "--confirm", "3600")
    revert = one.service.argv("confirm", "--revert")
    command = f'{mount} {_FILL.format(place)}; "$@"; echo "code $?"; cat {place}/mwan3'
    done = one.lab.router.run(["unshare", "-m", "sh", "-c", command, "sh", *argv], check=False)
    assert "nothing was changed, because its way back cannot be kept" in done.stderr
    assert done.stdout.encode() == b"code 1\n" + one.file
    looked = f"cat {place}/mwan3; echo ===; {' '.join(revert)}; cat {place}/mwan3"
    command = f'{mount} "$@" || exit 9; {_FILL.format(place)}; {looked}'
    done = one.lab.router.run(["unshare", "-m", "sh", "-c", command, "sh", *argv], check=False)
    with_rule, _, rest = done.stdout.partition("===\n")
    assert "'New'" in with_rule
    assert rest.encode().endswith(one.file), done
    assert kernel(one.lab) == one.rules
