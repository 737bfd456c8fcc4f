"""Pytest: with CONNBAL_REQUIRE_LAB set nothing is skipped but what needs libuci: all else was just installed."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from tests.unit.uci.stores import WITHOUT_LIBUCI


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CONNBAL_REQUIRE_LAB"):
        said = str(report.longrepr)
        if WITHOUT_LIBUCI not in said:
            report.outcome, report.longrepr = "failed", f"CONNBAL_REQUIRE_LAB is set, but this was skipped: {said}"
