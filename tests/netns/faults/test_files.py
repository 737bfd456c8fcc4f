"""No room, and no leave to write: nothing is lost, nothing half written, and what needs no file goes on."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.lab import Lab
from tests.netns.faults.scenes import SOURCES, TRANSITIONS, Transition
from tests.netns.faults.walk import Course, Walk
from tests.netns.main_job.bench import ROOT

pytestmark = pytest.mark.netns

_ADD = ("rule", "add", "Late", "--proto", "udp", "--dest-port", "123", "--use-policy", "Tv_Policy")
_FILL = "cat /dev/zero >{0}/full 2>/dev/null || :"
#: What befalls a directory that is a file system of its own meanwhile.
MOUNTS = {
    "full": f"mount -t tmpfs -o size=128k none {{0}}; cp -a {{1}}/. {{0}}/; {_FILL}",
    "no inodes": "mount -t tmpfs -o size=1m,nr_inodes=64 none {0}; cp -a {1}/. {0}/;"
                 " for n in $(seq 70); do touch {0}/full.$n || break; done 2>/dev/null",
    "read-only": "mount -t tmpfs -o size=1m none {0}; cp -a {1}/. {0}/; mount -o remount,ro {0}",
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    code: int
    text: str


def beside(lab: Lab, mount: str, directory: str, *arguments: str, seconds: float | None = None) -> Said:
    """A command of connbal that has such a directory. What it has written there in the end is copied back.

    ``seconds``: after these it is ended, and the exit code is 124.
    """
    place = {"config": lab.config_dir, "run": lab.run_dir}[directory]
    aside = lab.tmp / "aside"
    command = [sys.executable, "-m", "connbal.cli.main", "--config-dir", str(lab.config_dir), "--run-dir",
               str(lab.run_dir), *arguments]  # fmt: skip
    command = [*(["timeout", str(seconds)] if seconds else []), *command]
    script = f"""
        rm -rf {aside}; cp -a {place} {aside}
        ( {MOUNTS[mount].format(place, aside)} ) || exit 99
        code=0; {shlex.join(command)} 2>&1 || code=$?
        rm -rf {aside}; mkdir {aside}; cp -a {place}/. {aside}/; find {aside} -type p -delete; rm -f {aside}/full*
        umount {place}
        find {place} -mindepth 1 -delete; cp -a {aside}/. {place}/; rm -rf {aside}
        exit $code
    """
    done = lab.router.run(["unshare", "--mount", "sh", "-c", script], check=False, cwd=ROOT)
    assert done.returncode in ((0, 1, 124) if seconds else (0, 1)), (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stdout, done.stdout
    return Said(done.returncode, done.stdout)


@pytest.fixture
def walk(lab: Callable[..., Lab]) -> Walk:
    return Walk(lab(SOURCES))


def there(walk: Walk, transition: Transition) -> Course:
    course = walk.course(transition)
    walk.arrive(transition.before)
    walk.enter(transition.after)
    return course


@pytest.mark.parametrize("mount", MOUNTS)
def test_apply_without_a_place_for_its_state(walk: Walk, mount: str) -> None:
    transition = TRANSITIONS["ids shift"]
    with walk:
        course = there(walk, transition)
        said = beside(walk.lab, mount, "run", "apply")
        assert said.code == 0 or any(why in said.text for why in ("No space left", "Read-only file system")), said
        assert not walk.check_moment(course, left_out=False)
        assert not walk.check_after(transition, course, late=False, left_out=False)


@pytest.mark.parametrize("mount", MOUNTS)
def test_plan_and_stop_need_no_place_for_their_state(walk: Walk, mount: str) -> None:
    """What is to be taken out of the kernel is, though that cannot be written down."""
    transition = TRANSITIONS["stop"]
    with walk:
        course = walk.course(transition)
        walk.arrive(transition.before)
        said = beside(walk.lab, mount, "run", "plan")
        assert (said.code, said.text) == (0, "nothing to change\n"), said
        said = beside(walk.lab, mount, "run", "stop")
        assert said.code == 0, said
        assert said.text.startswith("stopped\n"), said
        assert ("could not be remembered" in said.text) == (mount == "read-only"), said
        assert walk.look().text == course.after.text
        assert not walk.check_after(transition, course, late=False, left_out=False)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("there", ["nothing", "an empty directory"])
def test_without_any_state_and_a_place_for_it(walk: Walk, mount: str, there: str) -> None:
    """As after a boot, or where somebody has emptied the run directory: there is not even a lock."""
    transition = TRANSITIONS["stop"]
    with walk:
        course = walk.course(transition)
        walk.arrive(transition.before)
        own = walk.lab.run_dir / "connbal"
        shutil.rmtree(own)
        if there != "nothing":
            own.mkdir()
        assert beside(walk.lab, mount, "run", "plan").code == 0
        assert not walk.check_moment(course, left_out=False)
        said = beside(walk.lab, mount, "run", "apply")
        assert said.code == 0 or any(why in said.text for why in ("make room there", "make it writable")), said
        assert not walk.check_moment(course, left_out=False)
        shutil.rmtree(own, ignore_errors=True)
        said = beside(walk.lab, mount, "run", "stop")
        assert said.code == 0, said
        assert not [line for line in walk.look().text.splitlines() if line.startswith((":mwan3_", "-A mwan3_"))]


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_daemon_without_a_place_for_its_state(walk: Walk, mount: str) -> None:
    """It says what is wrong in one line, or goes on without; what it found in the kernel stays."""
    transition = TRANSITIONS["policy edit"]
    with walk:
        course = there(walk, transition)
        said = beside(walk.lab, mount, "run", "daemon", "--log", "stderr", seconds=4)
        if said.code != 124:  # it went on until it was ended
            assert said.code == 1, said
            assert len(said.text.strip().splitlines()) == 1, said
            assert any(why in said.text for why in ("No space left", "Read-only file system")), said
        assert not walk.check_moment(course, left_out=False)
        shutil.rmtree(walk.lab.run_dir / "mwan3track", ignore_errors=True)
        assert not walk.check_after(transition, course, late=False, left_out=False)


@pytest.mark.parametrize("mount", ["full", "read-only"])
def test_a_configuration_that_cannot_be_written(walk: Walk, mount: str) -> None:
    """It stays as it is, and says why; applying it needs no more than that it can be read."""
    transition = TRANSITIONS["policy edit"]
    with walk:
        course = there(walk, transition)
        said = beside(walk.lab, mount, "config", *_ADD)
        assert said.code == 1, said
        assert any(why in said.text for why in ("No space left", "Read-only file system")), said
        assert not walk.check_files()
        assert not walk.check_moment(course, left_out=False)
        said = beside(walk.lab, mount, "config", "apply")
        assert said.code == 0, said
        assert not walk.check_after(transition, course, late=False, left_out=False)
