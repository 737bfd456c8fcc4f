"""The daemon's journal: a bounded memory of what happened, those who follow it, and its records as lines for people.

A record is a dict that JSON can hold. Each has ``number`` (1, 2, ... since the daemon's start), ``time`` (ISO 8601,
local, with milliseconds and offset; for people only), ``uptime`` (seconds of the monotonic clock, to the millisecond)
and ``kind``, which says what else it has:

- ``ifup ifdown connected disconnected connecting disconnecting``, a transition: ``interface``, ``device`` (or None),
  ``cause``, ``old`` and ``new`` (words of :class:`connbal.track.health.Status`), ``first``.
- ``reconcile``: ``causes``, ``changes``, ``findings`` (lists of texts, the ends of long ones left out), ``changed``
  (how many changes there were), ``flushed`` (marks whose connections were forgotten), ``seconds`` it took, ``error``
  (or None).
- ``daemon``: ``text``.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connbal.track.health import Event

#: Records that are remembered.
MEMORY = 1000
#: Entries of a list, and characters of a text, that a record keeps.
CHANGES, FINDINGS, CAUSES, TEXT = 50, 50, 20, 500

Record = dict[str, Any]
Follower = Callable[[Record], None]

_Types = dict[str, type]
_ALL: _Types = {"number": int, "time": str, "uptime": float, "kind": str}
_TRANSITION: _Types = {"interface": str, "cause": str, "old": str, "new": str}
_OF_KIND: dict[str, _Types] = {
    "reconcile": {"causes": list, "changes": list, "findings": list, "changed": int, "flushed": int, "seconds": float},
    "daemon": {"text": str},
}

log = logging.getLogger(__name__)


class Journal:
    """What happened, youngest last. For one thread; records are shared, so nobody changes them.

    Parameters
    ----------
    wall: seconds since 1970, for ``time``.
    clock: seconds of the monotonic clock, for ``uptime``.
    """

    def __init__(self, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._clock = wall, clock
        self._number = 0
        self._records: deque[Record] = deque(maxlen=MEMORY)
        self._followers: list[Follower] = []
        self._findings: list[str] = []
        self._changes: list[str] = []

    def transition(self, event: Event, device: str | None) -> None:
        """A source changed; ``device``: its network device, where it has one."""
        self._add(
            event.kind.value,
            interface=event.interface, device=device, cause=_short(event.cause),
            old=event.old.value, new=event.new.value, first=event.first,
        )  # fmt: skip

    def reconcile(
        self,
        causes: Sequence[str],
        changes: Sequence[str],
        findings: Sequence[str],
        flushed: int,
        seconds: float,
        error: str | None = None,
    ) -> Record:
        """The kernel was looked at, and changed where need was. Returns the record."""
        found = _first(findings, FINDINGS)
        if found != self._findings:  # the same findings run after run are kept once
            self._findings = found
        made = _first(changes, CHANGES)
        if made == self._changes:  # as those of the last run that changed anything: the same damage, repaired again
            made = self._changes
        elif made:
            self._changes = made
        return self._add(
            "reconcile",
            causes=_first(causes, CAUSES), changes=made, findings=self._findings,
            changed=len(changes), flushed=flushed, seconds=round(float(seconds), 3),
            error=None if error is None else _short(error),
        )  # fmt: skip

    def daemon(self, *texts: str) -> None:
        """The daemon itself, a record for each text: started, stopping, configuration read."""
        for text in texts:
            self._add("daemon", text=_short(text))

    def recent(self, after: int = 0) -> list[Record]:
        """What is remembered with a number above ``after``, oldest first."""
        return [record for record in self._records if record["number"] > after]

    def follow(self, callback: Follower) -> Callable[[], None]:
        """Call ``callback`` with each further record, until the function that is returned is called.

        One that raises is not called again.
        """
        self._followers.append(callback)

        def unfollow() -> None:
            if callback in self._followers:
                self._followers.remove(callback)

        return unfollow

    def _add(self, kind: str, **content: Any) -> Record:
        self._number += 1
        moment = datetime.fromtimestamp(self._wall(), timezone.utc).astimezone().isoformat(timespec="milliseconds")
        uptime = round(float(self._clock()), 3)
        record: Record = {"number": self._number, "time": moment, "uptime": uptime, "kind": kind, **content}
        self._records.append(record)
        for follower in tuple(self._followers):
            try:
                follower(record)
            except Exception:
                log.exception("somebody who follows the journal failed and is not told any more")
                if follower in self._followers:
                    self._followers.remove(follower)
        return record


def _short(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[: TEXT - 4]} ..."


def _first(texts: Sequence[str], count: int) -> list[str]:
    kept = [_short(text) for text in texts[:count]]
    return kept if len(texts) <= count else [*kept, f"... and {len(texts) - count} more"]


def is_record(value: Mapping[str, Any]) -> bool:
    """Whether what somebody says is a record, with everything that :func:`line` needs."""
    types = {**_ALL, **_OF_KIND.get(str(value.get("kind")), _TRANSITION)}
    return all(isinstance(value.get(name), kind) for name, kind in types.items())


def line(record: Mapping[str, Any]) -> str:
    """A record as one line for people, whatever its texts hold: characters that do not print are escaped."""
    words = {"reconcile": _reconcile_words, "daemon": _daemon_words}.get(record["kind"], _transition_words)
    return "  ".join(_printable(part) for part in (record["time"][11:23], *words(record)))


def _transition_words(record: Mapping[str, Any]) -> tuple[str, str]:
    old, new = record["old"], record["new"]
    change = new if old == new else f"{old} -> {new}"
    return record["interface"], f"{record['kind']} ({change}): {record['cause']}"


def _daemon_words(record: Mapping[str, Any]) -> tuple[str, str]:
    return "daemon", record["text"]


def _reconcile_words(record: Mapping[str, Any]) -> tuple[str, str]:
    seconds, error = record["seconds"], record.get("error")
    took = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    parts = [f"failed after {took}: {error}" if error else f"{_count(record['changed'], 'change')} in {took}"]
    if record["flushed"]:
        parts.append(f"connections of {_count(record['flushed'], 'mark')} forgotten")
    if record["causes"]:
        parts.append(f"because of: {', '.join(map(str, record['causes']))}")
    return "reconcile", ", ".join(parts)


def _count(count: int, thing: str) -> str:
    return f"{count or 'no'} {thing}{'' if count == 1 else 's'}"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
