"""What the daemon does again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


async def every(seconds: float, action: Callable[[], None]) -> None:
    """Call ``action`` every so many seconds, whatever it raises, until this is cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            action()
        except Exception:  # the daemon goes on
            log.exception("%s failed", getattr(action, "__name__", action))
