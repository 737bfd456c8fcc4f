"""Out of memory: programs and connbal may have only so much, for real, or programs have none from some moment on."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.netns.faults.scenes import SOURCES, TRANSITIONS, Transition
from tests.netns.faults.test_walk import ALL
from tests.netns.faults.walk import Course, Point, Walk

pytestmark = pytest.mark.netns

XTABLES = ("nft", "legacy") if ALL else ("nft",)
#: KiB of a control group: with the one not even a program starts, with the other all is well.
LEAST, MOST, HALVINGS = 32, 64 << 10, 8 if ALL else 6
#: Has something run with so many KiB; it yields further options of the command.
Limited = Callable[[Lab, int], AbstractContextManager[dict[str, str]]]
#: KiB of address space. With the lowest no program starts, with the highest all work.
LIMITS = range(2_000, 16_000, 500 if ALL else 3_500)
MODES_OF_ALL = ("nomem", "signalled", "fails") if ALL else ("nomem", "fails")
TOOLS = ("iptables-restore", "ip6tables-restore", "ipset")


def groups() -> list[Path]:
    """Where a group with a limit may be made. v2 has none below a group with processes, so there it is beside it."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        found[controllers] = path.lstrip("/")
    if "memory" in found:
        return [Path("/sys/fs/cgroup/memory", found["memory"])]
    own = Path("/sys/fs/cgroup", found.get("", ""))
    return [own, own.parent]


@contextmanager
def group(kib: int) -> Iterator[str]:
    """A control group with so much memory, what the kernel holds for it included, and what is left in it killed."""
    made, limits = None, ("memory.limit_in_bytes", "memory.max")
    for place in groups():
        one = place / f"connbal-{os.getpid()}"
        with suppress(OSError):
            one.mkdir()
            made = next((one / name for name in limits if (one / name).exists()), None)
            if made is not None:
                break
            one.rmdir()
    if made is None:
        pytest.skip(f"no control group for memory can be made in {groups()}")
    try:
        made.write_text(str(kib << 10))
        # Programs in the router have a /sys of their own.
        yield f"/proc/{os.getpid()}/root{one}"
    finally:
        for _ in range(100):
            for pid in (one / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            with suppress(OSError):
                one.rmdir()
                break
            time.sleep(0.01)


@contextmanager
def confined(lab: Lab, limit: str) -> Iterator[None]:
    """Meanwhile these programs of the router begin with a line of the shell that limits their memory."""
    kept: dict[Path, Path | None] = {}
    for tool in TOOLS:
        own = lab.bin_dir / tool
        aside = lab.bin_dir / f".{tool}"
        real = lab.router.sh(f"readlink -f \"$(command -v {tool})\"").strip()
        kept[own] = own.rename(aside) if own.is_symlink() or own.exists() else None
        # The builds of iptables go by the name they are called by.
        called = f"{tool.split('-')[0]}-{lab.spec.xtables}-restore" if "restore" in tool else tool
        script = f"#!/bin/bash\n{limit}\nexec -a {called} {real} \"$@\"\n"
        own.write_text(script)
        own.chmod(0o755)
    try:
        yield
    finally:
        for own, aside_or_none in kept.items():
            own.unlink()
            if aside_or_none is not None:
                aside_or_none.rename(own)


@contextmanager
def programs_in_group(lab: Lab, kib: int) -> Iterator[dict[str, str]]:
    with group(kib) as one, confined(lab, f'[ "$1" = --version ] || echo $$ >{one}/cgroup.procs'):
        yield {}


@contextmanager
def connbal_in_group(_: Lab, kib: int) -> Iterator[dict[str, str]]:
    """What it starts is in the group too."""
    with group(kib) as one:
        yield {"group": one}


@contextmanager
def programs_with_ulimit(lab: Lab, kib: int) -> Iterator[dict[str, str]]:
    with confined(lab, f"ulimit -v {kib}"):
        yield {}


def done_with(limited: Limited, kib: int, walk: Walk, transition: Transition, course: Course) -> bool:
    """Whether connbal could apply with so much memory. It is old or new, then new, and no section is to blame."""
    walk.arrive(transition.before)
    walk.enter(transition.after)
    with limited(walk.lab, kib) as options:
        done = walk.command("apply", **options)
    assert done["code"] in (0, 1, -9), (kib, done)
    assert "refused" not in done["stderr"], (kib, done["stderr"])
    assert "Traceback" not in done["stderr"], (kib, done["stderr"])
    assert not walk.check_moment(course, left_out=False), kib
    assert not walk.check_after(transition, course, late=False, left_out=False), kib
    return not done["code"]


@pytest.mark.parametrize("xtables", XTABLES)
def test_with_whatever_memory_it_is_old_or_new(lab: Callable[..., Lab], xtables: str) -> None:
    one = lab(SOURCES, xtables=xtables)
    one.router.env["CONNBAL_IPTABLES"] = ""
    with Walk(one) as walk:
        transition = TRANSITIONS["set edit"]
        course = walk.course(transition)
        done = sum(done_with(programs_with_ulimit, kib, walk, transition, course) for kib in LIMITS)
    assert 0 < done < len(LIMITS)


@pytest.mark.parametrize("limited", [programs_in_group, connbal_in_group])
@pytest.mark.parametrize("xtables", XTABLES)
def test_what_the_kernel_kills_for_want_of_memory_leaves_old_or_new(
    lab: Callable[..., Lab], xtables: str, limited: Limited
) -> None:
    """It looks for the least that is enough: so it is killed early, late, and by what the kernel itself has to hold."""
    one = lab(SOURCES, xtables=xtables)
    one.router.env["CONNBAL_IPTABLES"] = ""
    little, enough = LEAST, MOST
    with Walk(one) as walk:
        transition = TRANSITIONS["first start"]
        course = walk.course(transition)
        for _ in range(HALVINGS):
            kib = math.isqrt(little * enough)
            if done_with(limited, kib, walk, transition, course):
                enough = kib
            else:
                little = kib
        if ALL:
            for kib in range(little // 2, enough * 5 // 4, little // 50):
                done_with(limited, kib, walk, transition, course)
    assert LEAST < little < enough < MOST


def test_once_memory_is_gone_no_section_is_left_out(lab: Callable[..., Lab]) -> None:
    """Every restore from some moment on fails: for want of memory, killed, or for a reason that nobody understands."""
    transition = TRANSITIONS["set edit"]
    with Walk(lab(SOURCES)) as walk:
        course = walk.course(transition)
        at = [number for number, (kind, _) in enumerate(course.calls) if kind in ("restore", "build")]
        for number in at:
            for mode in MODES_OF_ALL:
                kind, name = course.calls[number]
                walk.walk(transition, course, Point(number, kind, name, mode), forever=True)
        assert walk.points == len(MODES_OF_ALL) * len(at) > 5
        assert not walk.failures, "\n".join(walk.failures)
