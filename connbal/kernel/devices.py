"""What the kernel counts for each network device."""

from __future__ import annotations

from collections.abc import Mapping

from connbal.errors import KernelError
from connbal.frozen import dataclass

#: Of the network namespace that the calling thread is in.
_PATH = "/proc/thread-self/net/dev"


@dataclass(frozen=True)
class Counters:
    """Bytes since the device was made, of whatever traffic, with their link-layer headers."""

    received: int
    sent: int


def counters() -> Mapping[str, Counters]:
    """Every device by name. KernelError where the kernel does not tell."""
    try:
        with open(_PATH, encoding="utf-8", errors="surrogateescape") as stream:
            return parse(stream.read())
    except (OSError, ValueError) as error:
        raise KernelError(f"read {_PATH}", None, str(error)) from error


def parse(text: str) -> dict[str, Counters]:
    """The kernel's table: two lines of titles, then ``NAME: `` and 8 numbers for each direction, bytes first.

    Raises ValueError for anything else. A device's name has neither colons nor blanks.
    """
    found = {}
    for line in text.splitlines()[2:]:
        name, colon, numbers = line.partition(":")
        words = numbers.split()
        if not colon or len(words) < 9:
            raise ValueError(f"{line!a} is no line about a device")
        found[name.strip()] = Counters(int(words[0]), int(words[8]))
    return found
