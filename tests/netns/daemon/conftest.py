"""The daemon as a fixture, and whether the kernel is as it should be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.lab import Lab
from tests.netns.daemon.checks import wait_until
from tests.netns.daemon.service import Service
from tests.netns.main_job.bench import Bench, Driver
from tests.netns.main_job.conftest import driver

__all__ = ["driver"]

#: A daemon of a lab, with options of ``connbal daemon``; not started yet.
MakeService = Callable[..., Service]
MakeBench = Callable[[Lab], Bench]
AsPlanned = Callable[[Lab], None]


@pytest.fixture
def service(lab: Callable[..., Lab]) -> Iterator[MakeService]:  # ``lab``: daemons have to end before their labs
    """A factory of daemons, ``service(one_lab, *options)``; those still running are ended after the test."""
    made: list[Service] = []

    def make(lab: Lab, *options: str) -> Service:
        made.append(Service(lab, *options))
        return made[-1]

    try:
        yield make
    finally:
        with contextlib.ExitStack() as stack:
            for one in made:
                stack.callback(one.close)


@pytest.fixture
def bench(lab: Callable[..., Lab], driver: Driver) -> Iterator[MakeBench]:
    """``bench(one_lab)``: commands in its router, without the half second that starting Python takes."""
    made: dict[str, Bench] = {}

    def make(lab: Lab) -> Bench:
        if lab.prefix not in made:
            made[lab.prefix] = Bench(lab, driver)
        return made[lab.prefix]

    try:
        yield make
    finally:
        for one in made.values():
            one.close()


@pytest.fixture
def as_planned(bench: MakeBench) -> AsPlanned:
    """``as_planned(one_lab)`` waits until the kernel is as configuration and health say: nothing is left to change."""

    def wait(lab: Lab) -> None:
        wait_until(lambda: bench(lab).connbal("plan").stdout == "nothing to change\n", "the kernel to be as planned")

    return wait
