"""The limit of open files: what children get while several are started at once."""

from __future__ import annotations

import resource
import threading
import time

import pytest

from connbal.kernel import descriptors


def test_children_that_are_started_at_once_all_get_the_old_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    given = 256
    assert before[0] > given
    monkeypatch.setattr(descriptors, "_given", given)
    seen: set[int] = set()

    def start() -> None:
        for _ in range(50):
            with descriptors.as_given():
                time.sleep(0.0005)
                seen.add(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {given}
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
