"""arping and nping-arp in IPv4: who has this address? Asks the neighbours on the link; nothing is routed."""

from __future__ import annotations

import array
import contextlib
import socket
import struct
from collections import deque

from connbal.track.probes.method import Cancel, Done, Shared, Target
from connbal.track.probes.way import ethernet_address

_ETH_P_ARP = 0x0806
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826
_ETHERNET_IPV4 = (1, 0x0800, 6, 4)
_REQUEST, _REPLY = 1, 2
_SO_ATTACH_FILTER = 26
#: Classic BPF, (code, jump if true, jump if false, k): "is the operation, at offset 6, a reply?"
_REPLIES_ONLY = ((0x28, 0, 0, 6), (0x15, 0, 1, _REPLY), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))


def request(hardware: bytes, source: bytes, target: bytes) -> bytes:
    """An ARP request. ``hardware``: our MAC address; ``source`` and ``target``: IPv4 addresses, 4 bytes each."""
    return _ARP.pack(*_ETHERNET_IPV4, _REQUEST, hardware, source, bytes(6), target)


def parse(data: bytes) -> bytes | None:
    """The IPv4 address, 4 bytes, that an ARP reply says is there; None: no ARP reply."""
    if len(data) < _ARP.size:
        return None
    *kind, operation, _, sender, _, _ = _ARP.unpack_from(data)
    return sender if tuple(kind) == _ETHERNET_IPV4 and operation == _REPLY else None


class Neighbours(Shared):
    """Probes that are told apart by the address asked for alone.

    A reply has no number: one that is later than a whole round would count for the next. It is news all the same:
    the neighbour has answered just now.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending: dict[bytes, deque[Done]] = {}  # by address, oldest first

    def close(self) -> None:
        super().close()
        self._pending.clear()

    def probe(self, target: Target, done: Done) -> Cancel:
        address = socket.inet_pton(self.way.family.af, target.address)
        self.ask(address)
        waiting = self._pending.setdefault(address, deque())
        waiting.append(done)

        def cancel() -> None:
            with contextlib.suppress(ValueError):
                waiting.remove(done)
            if not waiting and self._pending.get(address) is waiting:
                del self._pending[address]

        return cancel

    def ask(self, address: bytes) -> None:
        """Send the question. Raises OSError."""
        raise NotImplementedError

    def answer(self, address: bytes) -> None:
        """The neighbour has answered: the youngest question is done; older ones, without an answer, are lost."""
        waiting = self._pending.get(address)
        if waiting:
            done = waiting.pop()
            if not waiting:
                del self._pending[address]
            done("", self.loop().time())


class Arp(Neighbours):
    """Over one packet socket that lets ARP replies through and nothing else."""

    def open(self) -> None:
        ethernet_address(self.way.device)
        # Protocol 0 until it is bound: nothing comes in before the filter stands.
        sock = self.share(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        sock.setblocking(False)
        program = array.array("B", b"".join(struct.pack("=HBBI", *line) for line in _REPLIES_ONLY))
        place, _ = program.buffer_info()
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_REPLIES_ONLY), place))
        sock.bind((self.way.device, _ETH_P_ARP))
        self.watch()

    def ask(self, address: bytes) -> None:
        assert self.way.source is not None
        packet = request(ethernet_address(self.way.device), self.way.source.packed, address)
        self.sock.sendto(packet, (self.way.device, _ETH_P_ARP, 0, 0, b"\xff" * 6))

    def read(self, sock: socket.socket) -> None:
        address = parse(sock.recv(256))
        if address is not None:
            self.answer(address)
