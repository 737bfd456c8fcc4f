"""The daemon as a fixture, as in tests/netns/daemon."""

from tests.netns.daemon.conftest import bench, driver, service

__all__ = ["bench", "driver", "service"]
