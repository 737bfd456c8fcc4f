"""The fixture ``router``: a lab's router with the packages installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.router.router import Router, stage

MakeRouter = Callable[..., Router]


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages' files in a root directory; to be copied, not changed."""
    root = tmp_path_factory.mktemp("staged") / "root"
    stage(root)
    return root


@pytest.fixture
def router(lab: Callable[..., Lab], staged: Path) -> Iterator[MakeRouter]:
    """A factory: ``router(sources, network=..., config=...)``, other options as for a lab; they end with the test."""
    made: list[Router] = []

    def make(*args: object, network: list[str] | None = None, config: str | None = None, **options: object) -> Router:
        made.append(Router(lab(*args, **options), staged, network))
        made[-1].up()
        if config is not None:
            made[-1].configure(config)
        return made[-1]

    yield make
    for one in made:
        one.close()
