"""Hear every change of routes, rules and nft rulesets in a namespace, as the kernel announces it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from tests.lab import Node

_NETLINK_NETFILTER = 12
#: Multicast groups by their numbers in rtnetlink.h (routes and rules of both families) and nfnetlink.h (nf_tables).
_ROUTE_GROUPS = (7, 8, 11, 19)
_NETFILTER_GROUPS = (7,)

_ROUTES = {24: "new route", 25: "del route"}
_RULES = {32: "new rule", 33: "del rule"}
#: Routes the kernel makes by itself, whenever a link or address comes up.
_RTPROT_KERNEL = 2


class Listener:
    """Collects messages from its making on; they are there as soon as the call that caused them returns."""

    def __init__(self, node: Node) -> None:
        with node.enter():
            self._sockets = [
                _listening(socket.NETLINK_ROUTE, _ROUTE_GROUPS),
                _listening(_NETLINK_NETFILTER, _NETFILTER_GROUPS),
            ]

    def heard(self) -> list[str]:
        """What changed since the last time this was asked."""
        return [message for one in self._sockets for message in _messages(one)]

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def _listening(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    one.bind((0, sum(1 << (group - 1) for group in groups)))
    return one


def _messages(one: socket.socket) -> Iterator[str]:
    while True:
        try:
            data = one.recv(1 << 16)
        except BlockingIOError:
            return
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            protocol = data[21] if kind in _ROUTES else None  # rtm_protocol, after the header and five bytes
            if protocol != _RTPROT_KERNEL:
                yield (_ROUTES | _RULES).get(kind, f"nf_tables message {kind:#x}")
            data = data[(length + 3) & ~3 :]
