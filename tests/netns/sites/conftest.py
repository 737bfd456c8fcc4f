"""Fixture ``bench``, as in tests/netns/main_job, and ``town``: a router with dnsmasq on top of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.netns.daemon.conftest import service
from tests.netns.main_job.bench import Bench
from tests.netns.main_job.conftest import bench, driver
from tests.netns.sites.town import Town

__all__ = ["bench", "driver", "service", "town", "xtables"]


@pytest.fixture
def xtables() -> str:
    """Which sets a rule can look into does not depend on the build of iptables; tests/netns/main_job has both."""
    return "nft"


@pytest.fixture
def town(bench: Callable[..., Bench]) -> Town:
    """Ended with its lab."""
    return Town(bench(("wan", "wan2")))
