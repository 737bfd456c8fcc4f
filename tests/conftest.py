"""For all tests: the lab's fixtures, and a hypothesis profile that is quick and always the same."""

from __future__ import annotations

from hypothesis import settings

from tests.lab.fixtures import lab, lab_available

__all__ = ["lab", "lab_available"]

# Deadlines measure the machine, not the code; examples drawn anew each time make failures nobody can repeat.
# `pytest --hypothesis-profile=default` searches at random.
settings.register_profile("quick", max_examples=50, derandomize=True, deadline=None, database=None)
settings.load_profile("quick")
