"""Fixture ``bench``, as in tests/netns/main_job."""

from tests.netns.main_job.conftest import bench, driver, xtables

__all__ = ["bench", "driver", "xtables"]
