"""One lab for all tests of a module: each applies a configuration of its own, over whatever was there before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Lab
from tests.netns.rivals.router import Router


@pytest.fixture(scope="module")
def router(lab_available: None) -> Iterator[Router]:
    """Two sources, wan and wan1, of both families."""
    with Lab(("wan", "wan1")) as lab:
        yield Router(lab)
