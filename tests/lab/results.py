"""What a client saw: one row per connection, and the sums tests ask for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One connection. `source` is the name of the Internet that answered, or None, and then `error` says why.

    `at` is time.monotonic() at its start (the same clock in every process), `took` seconds until the
    answer, `peer` "ADDRESS PORT" as the server saw it, when asked for. `src` is "" if the kernel chose.
    """

    src: str
    dst: str
    source: str | None
    error: str | None
    at: float
    took: float
    peer: str | None

    @property
    def pair(self) -> tuple[str, str]:
        """Source and destination address."""
        return self.src, self.dst


@dataclass(frozen=True)
class Answers:
    """Many connections. `elapsed` is seconds of wall clock, the client's start (about 40 ms) included."""

    rows: tuple[Answer, ...]
    elapsed: float

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.rows)

    @property
    def names(self) -> Counter[str]:
        """How many connections each source answered; failures are not in it."""
        return Counter(row.source for row in self.rows if row.source is not None)

    @property
    def failures(self) -> list[Answer]:
        """Connections without an answer."""
        return [row for row in self.rows if row.source is None]

    @property
    def errors(self) -> Counter[str]:
        """How many connections failed, by reason: timeout, ECONNREFUSED, EHOSTUNREACH ..."""
        return Counter(row.error for row in self.rows if row.error is not None)

    @property
    def by_pair(self) -> dict[tuple[str, str], set[str]]:
        """The sources that each pair of addresses met; more than one name means no affinity."""
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for row in self.rows:
            if row.source is not None:
                found[row.pair].add(row.source)
        return dict(found)

    def share(self, name: str) -> float:
        """Part of the answered connections that took this source, 0..1; 0 if none was answered."""
        names = self.names
        return names[name] / total if (total := sum(names.values())) else 0.0

    def since(self, moment: float) -> Answers:
        """Those begun at `moment` (time.monotonic()) or later."""
        return Answers(tuple(row for row in self.rows if row.at >= moment), self.elapsed)


def answers(rows: Iterable[list[Any]], elapsed: float) -> Answers:
    """From the rows an agent wrote."""
    return Answers(tuple(Answer(*row) for row in rows), elapsed)
