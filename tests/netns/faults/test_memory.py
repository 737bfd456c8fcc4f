"""Out of memory: programs that may have only so much, for real, and programs that have none from some moment on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.netns.faults.scenes import SOURCES, TRANSITIONS
from tests.netns.faults.test_walk import ALL
from tests.netns.faults.walk import Point, Walk

pytestmark = pytest.mark.netns

#: KiB of address space. With the lowest no program starts, with the highest all work.
LIMITS = range(2_000, 16_000, 500 if ALL else 3_500)
MODES_OF_ALL = ("nomem", "signalled", "fails") if ALL else ("nomem", "fails")
TOOLS = ("iptables-restore", "ip6tables-restore", "ipset")


@contextmanager
def confined(lab: Lab, kib: int) -> Iterator[None]:
    """Meanwhile these programs of the router get so much memory and no more."""
    kept: dict[Path, Path | None] = {}
    for tool in TOOLS:
        own = lab.bin_dir / tool
        aside = lab.bin_dir / f".{tool}"
        real = lab.router.sh(f"readlink -f \"$(command -v {tool})\"").strip()
        kept[own] = own.rename(aside) if own.is_symlink() or own.exists() else None
        # The builds of iptables go by the name they are called by.
        called = f"{tool.split('-')[0]}-{lab.spec.xtables}-restore" if "restore" in tool else tool
        script = f"#!/bin/bash\nulimit -v {kib}\nexec -a {called} {real} \"$@\"\n"
        own.write_text(script)
        own.chmod(0o755)
    try:
        yield
    finally:
        for own, aside_or_none in kept.items():
            own.unlink()
            if aside_or_none is not None:
                aside_or_none.rename(own)


@pytest.mark.parametrize("xtables", ["nft", "legacy"] if ALL else ["nft"])
def test_with_whatever_memory_it_is_old_or_new(lab: Callable[..., Lab], xtables: str) -> None:
    transition = TRANSITIONS["set edit"]
    one = lab(SOURCES, xtables=xtables)
    one.router.env["CONNBAL_IPTABLES"] = ""
    failed = 0
    with Walk(one) as walk:
        course = walk.course(transition)
        for kib in LIMITS:
            walk.arrive(transition.before)
            walk.enter(transition.after)
            with confined(one, kib):
                done = walk.command("apply")
            failed += done["code"]
            assert "refused" not in done["stderr"], (kib, done["stderr"])
            assert "Traceback" not in done["stderr"], (kib, done["stderr"])
            assert not walk.check_moment(course, left_out=False), kib
            assert not walk.check_after(transition, course, late=False, left_out=False), kib
    assert 0 < failed < len(LIMITS)


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
