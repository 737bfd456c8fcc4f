"""What somebody else undoes and connbal puts back: counted, named once it happens again and again, and done less often.

A run that changes something though neither the configuration nor the facts have changed repairs what somebody else has
undone. Once is nothing to talk about: a firewall that was restarted. But two programs that manage the same rules undo
each other for good, so repairs are paced by a token bucket: a few in a row at once, then one now and then. Runs for any
other reason are not held back, and repair what they find. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

#: Seconds that count as of late, and repairs within them from which on somebody is named.
WINDOW, MANY = 600.0, 5
#: Repairs in a row that are made at once, and seconds until there may be one more.
BURST, EVERY = 8.0, 2.0
#: Between the process that did something and the one that started it.
BEHIND = ", started by "
#: Changes that are told of the last repair.
TOLD = 5

REMEDY = (
    "two programs that manage the same rules undo each other: end the other one, or have it leave alone what begins "
    "with mwan3_, and the rules and routes of protocol 131; connbal doctor knows some of them"
)


class Repairs:
    """Those since the start. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.count = 0
        self._times: deque[float] = deque(maxlen=1000)
        self._tokens, self._at = BURST, 0.0
        self._last: tuple[str, ...] = ()
        self._by = ""
        self._said = 0

    def made(self, changes: Sequence[str], by: str, now: float) -> str:
        """A run has repaired this, which ``by`` had undone (empty: nobody knows). What to say of it, if anything."""
        self._tokens, self._at = max(self._left(now) - 1.0, 0.0), now
        self.count += 1
        self._times.append(now)
        self._last = tuple(changes)
        if BEHIND in by or BEHIND not in self._by:  # who is behind it is not always found out, and worth keeping
            self._by = by or self._by
        many = self._recent(now)
        if many < MANY:
            self._said = 0
            return ""
        if many < 2 * self._said:
            return ""
        self._said = many
        return self.text(now)

    def wait(self, now: float) -> float:
        """Seconds until what somebody undoes now is repaired; 0.0: at once."""
        missing = 1.0 - self._left(now)
        return missing * EVERY if missing > 1e-6 else 0.0

    def text(self, now: float) -> str:
        """Who undoes what, and what to do about it; empty while it is not worth a word."""
        many = self._recent(now)
        if many < MANY:
            return ""
        by = f"last by {self._by}" if self._by else "by whom is not known"
        what = "; ".join(self._last[:TOLD]) + ("; ..." if len(self._last) > TOLD else "")
        minutes = int(WINDOW / 60)
        return (f"what connbal put into the kernel was undone by somebody else {many} times in the last {minutes} "
                f"minutes, {by}; last repaired: {what}; {REMEDY}")  # fmt: skip

    def as_data(self, now: float) -> dict[str, Any]:
        """``count`` since the start, ``recent`` (within WINDOW seconds), ``by`` and ``last``, and the ``text``."""
        return {"count": self.count, "recent": self._recent(now), "by": self._by or None,
                "last": list(self._last[:TOLD]), "text": self.text(now)}  # fmt: skip

    def _recent(self, now: float) -> int:
        return sum(now - one < WINDOW for one in self._times)

    def _left(self, now: float) -> float:
        return min(self._tokens + max(now - self._at, 0.0) / EVERY, BURST)


def repaired(changes: Collection[str]) -> list[str]:
    """Of the changes of a run, in words, those that nobody but another program can have made necessary.

    The kernel itself takes routes away with a link that goes for a moment.
    """
    return [one for one in changes if not one.startswith(("+ route ", "- route "))]
