"""How many descriptors this process may have open: more than a shell gives, and its children what it was given.

The module ``resource`` is imported where it is needed: only the daemon raises its limit.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

#: What the limit is raised to at most. Each probe under way may hold one, and programs that close all there might be
#: must not take long over it.
MOST = 4096

_given: int | None = None  #: the limit before it was raised; None: it was not
#: One at a time: the limit is the whole process's, and who is done sets it back while another is about to fork.
_starting = threading.Lock()


def raise_limit() -> None:
    """Raise the limit to the hard one, MOST at the most. What is higher already stays."""
    global _given
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _given = soft


def is_raised() -> bool:
    """Whether children would get more than this process was given."""
    return _given is not None


@contextlib.contextmanager
def as_given() -> Iterator[None]:
    """Meanwhile the limit is what it was, for a child to have. Open descriptors stay; new ones above it are refused.

    For any thread; others who want the same wait.
    """
    if _given is None:
        yield
        return
    import resource

    with _starting:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_given, soft), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def give_back(pid: int) -> None:
    """Set a child's limit to what this process was given."""
    if _given is None:
        return
    import resource

    with contextlib.suppress(OSError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_given, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
