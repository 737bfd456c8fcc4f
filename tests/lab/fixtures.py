"""Pytest: the fixture `lab`, a factory of labs that are taken away when the test ends."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.lab import Lab, unavailable


@pytest.fixture(scope="session")
def lab_available() -> None:
    """Skip, and say so in the warnings too, where labs cannot be built; with CONNBAL_REQUIRE_LAB set, fail."""
    reason = unavailable()
    if reason is None:
        return
    if os.environ.get("CONNBAL_REQUIRE_LAB"):
        pytest.fail(f"CONNBAL_REQUIRE_LAB is set, but {reason}")
    warnings.warn(f"tests on a real kernel were skipped: {reason}", stacklevel=1)
    pytest.skip(reason)


@pytest.fixture
def lab(lab_available: None) -> Iterator[Callable[..., Lab]]:
    """`lab(sources=..., guest=..., xtables=...)` builds a lab; arguments as for Lab."""
    with contextlib.ExitStack() as stack:

        def make(*args: Any, **options: Any) -> Lab:
            return stack.enter_context(Lab(*args, **options))

        yield make
