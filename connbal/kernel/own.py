"""Which addresses this machine answers at itself, whatever device a packet is bound to: the kernel says."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from connbal.errors import KernelError
from connbal.kernel.api import TransientError
from connbal.kernel.messages import ROUTE
from connbal.kernel.netlink import Channel
from connbal.model.config import Family, IPAddress

_RTM_GETROUTE = 26
_TYPE = 7  # of a route, its place in struct rtmsg
_BUFFER = 4096
#: Types of routes that end here (<linux/rtnetlink.h>): local, broadcast, anycast, multicast.
_WORDS: Mapping[int, str] = {
    2: "an address of this router",
    3: "a broadcast address of a network here",
    4: "an anycast address of this router",
    5: "a multicast address, which is no single host",
}


class OwnAddresses:
    """Asks the kernel's routing what becomes of a destination. One small socket, opened at the first question.

    The routing knows more than the list of addresses does: broadcast addresses, and whole networks that are local.
    """

    def __init__(self) -> None:
        self._channel = Channel(socket.NETLINK_ROUTE, _BUFFER)

    def close(self) -> None:
        """Let go of the socket; the next question opens another."""
        self._channel.close()

    def whose(self, address: IPAddress, index: int = 0) -> str:
        """What an address is, in words, where no other machine answers at it; empty: another may.

        ``index``: of the device that is meant, for link-local IPv6 addresses, which each link has its own of.
        Raises TransientError where the kernel cannot tell now.
        """
        family = Family.of(address)
        attributes: list[tuple[str, object]] = [("RTA_DST", str(address))]
        if index and address.version == 6 and address.is_link_local:
            attributes.append(("RTA_OIF", index))
        payload = ROUTE.encode(attributes, family=family.af, dst_len=address.max_prefixlen)
        try:
            found = self._channel.get(payload, _RTM_GETROUTE, f"ip route get {address}", _type)
        except TransientError:
            raise
        except KernelError:
            return ""  # no route leads there: then none leads to this machine either
        return _WORDS.get(found[0], "") if found else ""


def _type(data: bytes, start: int, end: int) -> int:
    return data[start + _TYPE] if end > start + _TYPE else 0
