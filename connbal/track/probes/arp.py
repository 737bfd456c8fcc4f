"""arping and nping-arp in IPv4: who has this address? Asks the neighbours on the link; nothing is routed."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections import deque
from collections.abc import Collection, Sequence

from connbal.track.probes import sieve
from connbal.track.probes.method import Cancel, Done, Shared, Target
from connbal.track.probes.way import ethernet_address

_ETH_P_ARP = 0x0806
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826
_ETHERNET_IPV4 = (1, 0x0800, 6, 4)
_REQUEST, _REPLY = 1, 2


def request(hardware: bytes, source: bytes, target: bytes) -> bytes:
    """An ARP request. ``hardware``: our MAC address; ``source`` and ``target``: IPv4 addresses, 4 bytes each."""
    return _ARP.pack(*_ETHERNET_IPV4, _REQUEST, hardware, source, bytes(6), target)


def parse(data: bytes) -> bytes | None:
    """The IPv4 address, 4 bytes, that an ARP reply says is there; None: no ARP reply."""
    if len(data) < _ARP.size:
        return None
    *kind, operation, _, sender, _, _ = _ARP.unpack_from(data)
    return sender if tuple(kind) == _ETHERNET_IPV4 and operation == _REPLY else None


def is_to(data: bytes, hardware: bytes, source: bytes) -> bool:
    """Whether an ARP reply, which :func:`parse` has read, is for us, and comes from one other machine.

    ``hardware`` and ``source``: our MAC and IPv4 address, those of the request.
    """
    *_, sender, _, to_hardware, to_address = _ARP.unpack_from(data)
    is_other = sender != hardware and not sender[0] & 1 and any(sender)
    return is_other and (to_hardware, to_address) == (hardware, source)


class Neighbours(Shared):
    """Probes that are told apart by the address asked for alone.

    A reply has no number: one that is later than a whole round would count for the next. It is news all the same:
    the neighbour has answered just now. None of it is ever routed, so only who is on the link can answer at all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending: dict[bytes, deque[Done]] = {}  # by address, oldest first
        self._watched: frozenset[bytes] = frozenset()  # the addresses whose answers the kernel lets through

    def close(self) -> None:
        super().close()
        self._pending.clear()
        self._watched = frozenset()

    def probe(self, target: Target, done: Done) -> Cancel:
        address = socket.inet_pton(self.way.family.af, target.address)
        if address not in self._watched:
            self._watched = frozenset((*self._pending, address))
            sieve.attach(self.sock, self.filter_for(self._watched))
        self.ask(address)
        waiting = self._pending.setdefault(address, deque())
        waiting.append(done)

        def cancel() -> None:
            with contextlib.suppress(ValueError):
                waiting.remove(done)
            if not waiting and self._pending.get(address) is waiting:
                del self._pending[address]

        return cancel

    def filter_for(self, addresses: Collection[bytes]) -> Sequence[sieve.Line | str]:
        """The socket's filter that lets answers for these addresses through."""
        raise NotImplementedError

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
    """Over one packet socket that lets ARP replies of those who were asked through, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._hardware = b""  # our MAC address, as it was last asked with

    def filter_for(self, addresses: Collection[bytes]) -> Sequence[sieve.Line | str]:
        return sieve.arp_replies(addresses)

    def open(self) -> None:
        ethernet_address(self.way.device)
        # Protocol 0 until it is bound: nothing comes in before the filter stands.
        sock = self.share(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        sock.setblocking(False)
        sieve.attach(sock, self.filter_for(()))
        sock.bind((self.way.device, _ETH_P_ARP))
        self.watch()

    def ask(self, address: bytes) -> None:
        assert self.way.source is not None
        self._hardware = ethernet_address(self.way.device)
        packet = request(self._hardware, self.way.source.packed, address)
        try:
            self.sock.sendto(packet, (self.way.device, _ETH_P_ARP, 0, 0, b"\xff" * 6))
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                # The queue of the device is full: a loss, as on the way, and not for want of memory.
                raise OSError("the queue of the device is full") from error
            raise

    def read(self, sock: socket.socket) -> None:
        assert self.way.source is not None
        data = sock.recv(256)
        address = parse(data)
        if address is not None and is_to(data, self._hardware, self.way.source.packed):
            self.answer(address)
