"""A short run of each target: over what is kept for it, and over a fixed number of inputs made of that.

Where atheris is installed, that is guided by coverage, in a process of its own; elsewhere it is blind. Both make the
same inputs each time. ``python -m tests.fuzz`` is for longer.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.fuzz import run, structure
from tests.fuzz.broken import check
from tests.fuzz.target import TARGETS, Target, corpus, load
from tests.fuzz.targets import control, exchange, netifd, rpcd

#: Inputs for each target. Those of ``plan`` and ``packages`` take a hundred times as long as those of others.
RUNS, LONG_RUNS = 1500, 60
LONG = ("plan", "packages")
#: Seconds after which an input hangs, however busy the machine is.
HANGS = 120


def runs(name: str) -> int:
    return LONG_RUNS if name in LONG else RUNS


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input(name: str) -> None:
    """They meet every assertion of the target: one that no input comes to holds nothing."""
    target = load(name)
    assert target.check.__module__.endswith(name)
    file, met = target.check.__code__.co_filename, set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename == file:
            met.add(frame.f_lineno)
            return trace
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert run.kept(target).runs > 3, "a target needs inputs to begin with"
    finally:
        sys.settrace(before)
    assertions = {node.lineno for node in ast.walk(ast.parse(Path(file).read_text())) if isinstance(node, ast.Assert)}
    assert assertions - met == set(), "no input comes to these lines"


#: What reads JSON: the inputs in which every value is tried, and the bytes that stand before the JSON.
JSON = {
    control.check: ([*control.seeds()], 1), rpcd.check: ([*rpcd.seeds()], 1), netifd.read: ([*netifd.seeds()][-1:], 0),
    exchange.check: ([*exchange.seeds()][-2:], 0),
}  # fmt: skip


@pytest.mark.parametrize("check", JSON, ids=lambda check: check.__module__.rpartition(".")[2])
def test_any_value_at_any_place(check: Callable[[bytes], object]) -> None:
    tried, (seeds, prefix) = 0, JSON[check]
    for data in seeds:
        if data[prefix:][:1] in (b"{", b"["):
            for value in structure.every_value(json.loads(data[prefix:])):
                check(data[:prefix] + json.dumps(value).encode())
                tried += 1
    assert tried > 1000


@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith(("net", "probe_")) and name != "netifd"])
def test_any_cut_and_any_byte(name: str) -> None:
    """What comes over a wire."""
    target = load(name)
    for data in target.inputs():
        for at in range(len(data)):
            target.check(data[:at])
            for byte in (0, 1, 127, 128, 255):
                target.check(data[:at] + bytes((byte,)) + data[at + 1 :])


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
