"""The daemon as a fixture."""

from __future__ import annotations

from tests.netns.daemon.conftest import service

__all__ = ["service"]
