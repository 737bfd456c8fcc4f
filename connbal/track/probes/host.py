"""The probes of one host in one round: sent, timed, counted."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

from connbal.model.config import Interface
from connbal.track.api import HostResult, Miss
from connbal.track.probes.method import Cancel, Method, Target
from connbal.track.probes.way import miss as miss_of

#: A further probe of a host follows when the one before is answered, or after this part of the timeout; at most so
#: many seconds, as ping does.
MAX_GAP = 1.0


class HostRun:
    """The probes of one host in one round.

    It is over when every probe is answered or has waited ``timeout`` seconds: at most ``count`` x ``timeout`` after it
    began, or at ``deadline``. ``over`` is called once, never from within :meth:`begin`. ``local``: what an address is
    where this machine itself would answer at it, else nothing; it may raise OSError.
    """

    def __init__(
        self,
        host: str,
        interface: Interface,
        method: Method,
        words: Callable[[OSError], str],
        over: Callable[[], None],
        local: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._host, self._method, self._words, self._over, self._local = host, method, words, over, local
        self._count, self._timeout = max(1, interface.count), interface.timeout
        self._size, self._ttl = interface.size, interface.max_ttl
        self._deadline = self._loop.time() + self._count * self._timeout
        self._target: Target | None = None
        self._sent = 0
        self._under_way: dict[int, tuple[Cancel, asyncio.TimerHandle]] = {}
        self._next: asyncio.TimerHandle | None = None
        self._latencies: list[float] = []
        self._reason = ""
        self._miss = Miss.LOST
        self._ended = 0  #: probes that were answered, refused, or too late
        self._is_over = False

    @property
    def host(self) -> str:
        """As configured."""
        return self._host

    @property
    def deadline(self) -> float:
        """The latest end, by the loop's clock."""
        return self._deadline

    @property
    def is_over(self) -> bool:
        """Nothing more will come: :meth:`result` is final."""
        return self._is_over

    @property
    def answered(self) -> bool:
        """At least one probe was answered so far."""
        return bool(self._latencies)

    @property
    def miss(self) -> Miss | None:
        """What it means that no probe was answered so far; None: one was."""
        return None if self._latencies else self._miss

    def begin(self, address: str) -> None:
        """Send the first probe."""
        if not self._is_over:
            self._target = Target(self._host, address, self._size, self._ttl)
            self._send()

    def fail(self, reason: str, miss: Miss = Miss.LOST) -> None:
        """It is over, and what has no answer gets none."""
        if miss is not Miss.LOST or self._reason in ("", "timeout"):
            self._reason = reason
        if not self._is_over:
            self._miss = miss
            self.stop()
            self._loop.call_soon(self._over)

    def stop(self) -> None:
        """Nothing is left of it."""
        self._is_over = True
        if self._next is not None:
            self._next.cancel()
        for cancel, timer in self._under_way.values():
            timer.cancel()
            cancel()
        self._under_way.clear()

    def result(self) -> HostResult:
        """What has come of it."""
        answers = len(self._latencies)
        if not answers:
            return HostResult(self._host, False, reason=self._reason or "timeout", miss=self._miss)
        mean = sum(self._latencies) / answers
        asked = self._count if self._miss is Miss.LOST else self._ended
        return HostResult(self._host, True, mean, 100.0 * (asked - answers) / asked)

    def _send(self) -> None:
        assert self._target is not None
        now = self._loop.time()
        try:
            if self._leave_out():
                return
            self._sent = number = self._sent + 1
            cancel = self._method.probe(self._target, functools.partial(self._done, number, now))
        except OSError as error:
            # What cannot leave now will not leave in a moment either; a whole timeout would tell nothing more.
            self.fail(self._words(error), miss_of(error))
            return
        late = functools.partial(self._done, number, now, "timeout", now)
        timer = self._loop.call_at(min(now + self._timeout, self._deadline), late)
        self._under_way[number] = (cancel, timer)
        if number < self._count:
            gap = min(MAX_GAP, self._timeout / self._count)
            self._next = self._loop.call_at(now + gap, self._send)

    def _leave_out(self) -> bool:
        """End here where this machine would answer itself, which shows nothing. Raises OSError."""
        assert self._target is not None
        local = self._local(self._target.address)
        if local:
            named = "" if self._target.address == self._host.partition("%")[0] else f"{self._target.address} is "
            self.fail(f"{named}{local}", Miss.LEFT_OUT)
        return bool(local)

    def _done(self, number: int, sent: float, reason: str, at: float, miss: Miss = Miss.LOST) -> None:
        """A probe is answered (no ``reason``), refused, or too late."""
        under_way = self._under_way.pop(number, None)
        if under_way is None:
            return
        cancel, timer = under_way
        timer.cancel()
        cancel()
        if miss is not Miss.LOST:
            self.fail(reason, miss)
            return
        self._ended += 1
        if not reason and at - sent > self._timeout:
            reason = "timeout"  # it came late, and this process, busy elsewhere, looks later still
        if not reason:
            self._latencies.append((at - sent) * 1000)
        elif self._reason in ("", "timeout"):
            self._reason = reason
        if number == self._sent < self._count and not reason:
            assert self._next is not None
            self._next.cancel()
            self._send()
        elif not self._under_way and self._sent >= self._count:
            self._end()

    def _end(self) -> None:
        """All probes are over. An address that became this router's own meanwhile was not lost by the source."""
        try:
            if not self._latencies and self._leave_out():
                return
        except OSError as error:
            self.fail(self._words(error), miss_of(error))
            return
        self._is_over = True
        self._over()
