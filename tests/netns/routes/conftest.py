"""The fixtures of the main job, here too."""

from __future__ import annotations

from tests.netns.main_job.conftest import bench, driver, xtables

__all__ = ["bench", "driver", "xtables"]
