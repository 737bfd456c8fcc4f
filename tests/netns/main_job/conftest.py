"""Fixture ``bench``: labs with connbal in the router."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.lab import Lab
from tests.netns.main_job.bench import Bench, Driver


@pytest.fixture(params=["nft", "legacy"])
def xtables(request: pytest.FixtureRequest) -> str:
    """Which build of iptables the router uses."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def driver(lab_available: None) -> Iterator[Driver]:
    """The process that commands of connbal run in."""
    one = Driver()
    yield one
    one.close()


@pytest.fixture
def bench(lab: Callable[..., Lab], driver: Driver, xtables: str) -> Iterator[Callable[..., Bench]]:
    """`bench(sources, …)` builds a lab with the build of iptables of `xtables`."""
    made: list[Bench] = []

    def make(*arguments: object, **options: object) -> Bench:
        made.append(Bench(lab(*arguments, **{"xtables": xtables, **options}), driver))
        return made[-1]

    yield make
    for one in made:
        one.close()
