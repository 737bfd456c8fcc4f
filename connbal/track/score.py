"""mwan3's score of a source, and how long it takes to lose one and to have it back. Pure."""

from __future__ import annotations

from connbal.model.config import Interface


def top(settings: Interface) -> int:
    """The highest score there is."""
    return settings.down + settings.up


def stepped(settings: Interface, score: int, good: bool) -> tuple[int, float]:
    """mwan3's score after one more round, and the interval that follows."""
    score += 1 if good else -1
    if good:
        delay = settings.interval if score > settings.up else settings.recovery_interval
        return (top(settings) if score >= settings.up else score), delay
    lost = score < settings.up and not settings.keep_failure_interval
    return (score if score > settings.up else 0), (settings.interval if lost else settings.failure_interval)


def detection_time(settings: Interface) -> float:
    """Seconds in which silent loss is found out at the latest: interval + (down - 1) x failure_interval + timeout.

    The loss may come just after a round was answered, so the first that misses starts ``interval`` later; each further
    one starts ``failure_interval`` after the one before, and the last is given up after ``timeout``. That is at most
    down x interval + timeout where failure_interval is not the longer one. Holds for a source that was online for a
    round, with rounds that end when ``timeout`` is over; what the caller needs to start and judge them comes on top.
    """
    return settings.interval + (settings.down - 1) * settings.failure_interval + settings.timeout


def recovery_time(settings: Interface) -> float:
    """Seconds in which a source that answers again is online at the latest, apart from the time answers take.

    That is one interval while offline + (up - 1) x recovery_interval. Dampening may hold it back longer.
    """
    wait = settings.failure_interval if settings.keep_failure_interval else settings.interval
    return max(wait, settings.failure_interval) + (settings.up - 1) * settings.recovery_interval
