"""How property tests run here: the same examples each time, and no limit on the time one takes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_CHECKS = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


def quick(examples: int = 100) -> settings:
    """A decorator for a property test that tries ``examples`` examples."""
    return settings(derandomize=True, deadline=None, max_examples=examples, suppress_health_check=_CHECKS)
