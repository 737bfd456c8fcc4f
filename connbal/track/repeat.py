"""What the daemon does again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def every(seconds: float, action: Callable[[], Awaitable[None] | None]) -> None:
    """Call ``action``, and wait for it, every so many seconds, whatever it raises, until this is cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            waited = action()
            if waited is not None:
                await waited
        except Exception:  # the daemon goes on
            log.exception("%s failed", getattr(action, "__name__", action))
