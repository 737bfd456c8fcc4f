"""The fixtures of the main job: labs with connbal in the router."""

from tests.netns.main_job.conftest import bench, driver, xtables

__all__ = ["bench", "driver", "xtables"]
