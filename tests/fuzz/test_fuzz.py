"""A short run of each target: over what is kept for it, and over a fixed number of inputs made of that.

Where atheris is installed, that is guided by coverage, in a process of its own; elsewhere it is blind. Both make the
same inputs each time. ``python -m tests.fuzz`` is for longer.
"""

from __future__ import annotations

import pytest

from tests.fuzz import run
from tests.fuzz.broken import check
from tests.fuzz.target import TARGETS, Target, corpus, load

#: Inputs for each target. Those of ``plan`` and ``packages`` take a hundred times as long as those of others.
RUNS, LONG_RUNS = 1500, 60
LONG = ("plan", "packages")
#: Seconds after which an input hangs, however busy the machine is.
HANGS = 120


def runs(name: str) -> int:
    return LONG_RUNS if name in LONG else RUNS


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input(name: str) -> None:
    target = load(name)
    assert target.check.__module__.endswith(name)
    assert run.kept(target).runs > 3, "a target needs inputs to begin with"


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run(name: str) -> None:
    if run.GUIDED:
        ran = run.guided(name, runs=runs(name), patience=HANGS)
        assert ran.crash is None, f"{ran.crash!r}\n{ran.said[-4000:]}"
    else:
        run.blind(load(name), runs(name))


def test_faults_are_found() -> None:
    """With what finds them; which is what the short runs rely on."""
    if run.GUIDED:
        ran = run.guided("tests.fuzz.broken", runs=100_000)
        assert ran.crash is not None
        assert (ran.crash[:2], ran.crash[-1:]) == (b"ab", b"z")
        assert "ValueError: found" in ran.said
        assert run.guided("tests.fuzz.broken", runs=10).crash is None
    else:
        target = Target("broken", check, lambda: [b"abc"], (b"z",), 10)
        with pytest.raises(AssertionError, match=r"with the input b'ab.*z': ValueError\('found'\)"):
            run.blind(target, 2000)


def test_every_kept_file_belongs_to_a_target() -> None:
    assert {path.name for path in corpus("x").parent.iterdir()} <= set(TARGETS)
