"""Fixtures: which build of iptables, which family."""

from __future__ import annotations

import os

import pytest

from connbal.kernel import exec as programs
from connbal.kernel.xtables import OVERRIDE, SystemXtables
from connbal.model.config import FAMILIES, Family


@pytest.fixture(params=["nft", "legacy"])
def xtables(request: pytest.FixtureRequest) -> SystemXtables:
    if programs.find(f"iptables-{request.param}-restore") is None and not os.environ.get("CONNBAL_REQUIRE_LAB"):
        pytest.skip(f"iptables-{request.param} is not installed")
    return SystemXtables({OVERRIDE: request.param})


@pytest.fixture(params=FAMILIES, ids=lambda family: family.value)
def family(request: pytest.FixtureRequest) -> Family:
    value = request.param
    assert isinstance(value, Family)
    return value
