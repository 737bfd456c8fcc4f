"""For all tests: the lab's fixtures, no skips in silence, a hypothesis profile that is quick and always the same, and
signals as usual.
"""

from __future__ import annotations

import signal

from hypothesis import settings

from tests.lab.fixtures import lab, lab_available
from tests.skips import pytest_runtest_makereport

__all__ = ["lab", "lab_available", "pytest_runtest_makereport"]

# Deadlines measure the machine, not the code; examples drawn anew each time make failures nobody can repeat.
# `pytest --hypothesis-profile=default` searches at random.
settings.register_profile("quick", max_examples=50, derandomize=True, deadline=None, database=None)
settings.load_profile("quick")

# A shell has programs in the background ignore SIGINT, and what they start inherits that; commands are tested with it.
signal.signal(signal.SIGINT, signal.default_int_handler)
