"""When the kernel of a router last took up a change of its rules, of tables of sources, or of its ruleset.

What has been changed is announced by the kernel itself, so it does not matter who did it, or how. Chains made by the
legacy iptables are not announced.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from tests.lab.node import Node

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _SO_RCVBUFFORCE = 12, 270, 1, 33
_NFNLGRP_NFTABLES, _NFNL_SUBSYS_NFTABLES = 7, 10
#: Groups of rules and routes, IPv4 and IPv6.
_ROUTE_GROUPS = (7, 8, 11, 19)
_ROUTES, _RULES = (24, 25), (32, 33)
#: main, local and default are the network's own. Tables of sources have numbers below 64.
_OWN_TABLES = range(1, 200)
_PATIENCE = 60.0


class Changes:
    """Listens in a namespace, for a ``with`` block. Times are of the monotonic clock."""

    def __init__(self, node: Node) -> None:
        self._stack = contextlib.ExitStack()
        with node.enter():
            self._route = self._listen(socket.NETLINK_ROUTE, _ROUTE_GROUPS)
            self._filter = self._listen(_NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,))
        self._wake, self._end = os.pipe()
        #: When, and whether it was of a kind that nobody but a balancer changes.
        self._seen: list[tuple[float, bool]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _listen(self, protocol: int, groups: tuple[int, ...]) -> socket.socket:
        listening = self._stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol))
        listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        listening.bind((0, 0))
        for group in groups:
            listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        return listening

    def __enter__(self) -> Changes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end)
        self._thread.join()
        os.close(self._wake)
        self._stack.close()

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._wake, self._route, self._filter], [], [])
            if self._wake in ready:
                return
            now = time.monotonic()
            for listening in (one for one in (self._route, self._filter) if one in ready):
                with contextlib.suppress(OSError):  # too much at once: what follows is counted
                    found = set(kinds(listening.recv(1 << 20), listening is self._filter))
                    if found:
                        self._seen.append((now, True in found))

    def settled(self, since: float, busy: Callable[[], bool], quiet: float = 0.35) -> float:
        """Wait until something has been changed after a moment, and then nothing for ``quiet`` seconds.

        Returns when the last change was. ``busy``: whether it may be that more is coming. AssertionError: nothing came.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            seen = [one for one in self._seen[-1000:] if one[0] >= since]
            if any(sure for _, sure in seen) and time.monotonic() - seen[-1][0] > quiet and not busy():
                return seen[-1][0]
            time.sleep(0.01)
        raise AssertionError(f"waited {_PATIENCE:g} s for the kernel to be changed; it was not")


def kinds(data: bytes, netfilter: bool) -> Iterator[bool]:
    """For each announced change that counts: whether nobody but a balancer makes it. Pure.

    Routes of a device go by themselves when it does.
    """
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        if netfilter:
            if kind >> 8 == _NFNL_SUBSYS_NFTABLES:
                yield True
        elif kind in _RULES:
            yield True
        elif kind in _ROUTES and data[at + 20] in _OWN_TABLES:
            yield False
        at += (length + 3) & ~3
