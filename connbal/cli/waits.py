"""What the daemon does about changes that wait for their confirmation: it takes them back, and tells of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from connbal.cli import confirming

if TYPE_CHECKING:
    from connbal.cli.context import Session
    from connbal.pending.record import Record

log = logging.getLogger(__name__)


class Waits:
    """For a process that lives on. ``settled`` is for the worker's thread, the rest for any."""

    def __init__(self, session: Session) -> None:
        self._session, self._pending = session, session.pending()
        self._known: Record | None = None
        self._news: list[str] = []

    def print(self) -> object:
        """Another one once there is another change, and once it is due."""
        return self._pending.print()

    def news(self) -> Sequence[str]:
        """What has become of such changes since this was asked last, in words."""
        news, self._news = self._news, []
        return news

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """Around a run, the run lock held: what is due goes back in the file, and the run has the kernel follow."""
        back = confirming.put_back(self._session)
        waiting = self._pending.waiting()
        if back is not None:
            self._say(logging.WARNING, confirming.words(back))
        elif waiting is not None and waiting != self._known:
            self._say(logging.WARNING, self._pending.sentence(waiting))
        elif waiting is None and self._known is not None:
            last = self._pending.last()
            self._say(logging.WARNING, confirming.words(last) if last is not None else "the change was confirmed")
        self._known = waiting
        following = self._pending.following()
        yield
        if following is not None:
            self._pending.done()

    def _say(self, level: int, text: str) -> None:
        self._news.append(text)
        log.log(level, "%s", text)
