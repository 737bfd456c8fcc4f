"""What the kernel says of single network devices, and what it counts for each."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Mapping

from connbal.errors import KernelError
from connbal.frozen import dataclass

#: Of the network namespace that the calling thread is in.
_PATH = "/proc/thread-self/net/dev"
_SIOCGIFINDEX = 0x8933
_IFNAMSIZ = 16


@dataclass(frozen=True)
class Counters:
    """Bytes since the device was made, of whatever traffic, with their link-layer headers."""

    received: int
    sent: int


def ask(device: str, request: int) -> bytes:
    """The ``struct ifreq`` that an ioctl fills in for a device.

    Raises OSError: ENODEV where there is no such device, others as the ioctl has them, and what this machine is short
    of. The library's ``if_nametoindex`` keeps those to itself, and a want of descriptors looks like a missing device.
    """
    name = device.encode(errors="surrogateescape")
    if not 0 < len(name) < _IFNAMSIZ or b"\0" in name:
        raise OSError(errno.ENODEV, "no such device")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return fcntl.ioctl(sock.fileno(), request, struct.pack("16s24x", name))


def index(device: str) -> int:
    """The number of a device. Raises OSError as :func:`ask`."""
    found: int = struct.unpack_from("=i", ask(device, _SIOCGIFINDEX), _IFNAMSIZ)[0]
    return found


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
