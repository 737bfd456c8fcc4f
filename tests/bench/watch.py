"""When the kernel of the router said that a carrier came or went."""

from __future__ import annotations

import socket
import threading
import time

from connbal.track.listen import announcements
from tests.lab import Lab

_RTMGRP_LINK = 1
_PATIENCE = 10.0


class Watch:
    """Listens in the router of a lab, for a ``with`` block."""

    def __init__(self, lab: Lab) -> None:
        with lab.router.enter():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, _RTMGRP_LINK))
        self._socket.settimeout(0.1)
        self._said: list[tuple[float, str | None, bool | None]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while not self._ended.is_set():
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.monotonic()
            self._said += [(now, event.device, event.carrier) for event in announcements(data)]

    def carrier(self, device: str, present: bool, since: float) -> float:
        """When a device was first said to be so, after a moment. Times are of the monotonic clock."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            for at, name, carrier in tuple(self._said):
                if at >= since and name == device and carrier == present:
                    return at
            time.sleep(0.01)
        raise AssertionError(f"the kernel never said that the carrier of {device} {'came' if present else 'went'}")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()
