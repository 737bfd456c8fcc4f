"""Packets as witnesses: sent into the router one by one, and met again where they leave it."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import socket
import time
from collections.abc import Sequence

from tests.demo.config import TV, TV6
from tests.lab import Lab
from tests.netns.faults.scenes import PC, PC6, SOURCES
from tests.netns.mwan3.packets import TCP, UDP, Probe, Wire, packet

#: Where a packet came out, and the address it then came from; None: nowhere.
Verdict = tuple[str, str] | None

_LAN = "br-lan"


def _kinds() -> list[Probe]:
    found = []
    for tv, pc, site, fixed, named in (
        (TV, PC, "203.0.113.", "198.51.100.4", "203.0.113.9"),
        (TV6, PC6, "2001:db8:ffff::", "2001:db8:ffff:a::4", "2001:db8:ffff::9"),
    ):
        found += [Probe(_LAN, tv, f"{site}1", UDP, 5000), Probe(_LAN, pc, fixed, UDP, 5000),
                  Probe(_LAN, pc, named, TCP, 80), Probe(_LAN, pc, f"{site}1", TCP, 443),
                  Probe(_LAN, pc, f"{site}7", TCP, 443), Probe(_LAN, pc, f"{site}2", UDP, 53)]  # fmt: skip
        # Of a split each pair of addresses has a side of its own.
        found += [Probe(_LAN, pc, f"{site}{n}", UDP, 5000) for n in (1, 2, 3, 4, 5, 6)]
        found += [Probe(_LAN, pc, f"{site}{n}", UDP, 443) for n in (1, 2)]
    return found


#: One of each kind of traffic that the configurations tell apart, in both families.
KINDS = _kinds()
#: Source ports of connections that stay open, one for each kind.
_FIRST_PORT = 700


class Witness:
    """Sockets at the far ends of a router's cables."""

    def __init__(self, lab: Lab) -> None:
        self._closing = contextlib.ExitStack()
        self.down: frozenset[str] = frozenset()  #: sources whose cable is pulled
        self._numbers = itertools.cycle(range(1, 0xFFF0))
        with lab.router.enter():
            macs = {device: _mac(device) for device in (_LAN, *(lab.source(name).device for name in SOURCES))}
            self._sentinels = [self._raw(lab.source(name).device) for name in SOURCES]
        with lab.node("pc").enter():
            self._lan = self._wire("eth0", macs[_LAN])
        self._wires = {}
        for name in SOURCES:
            with lab.internet(name).enter():
                self._wires[name] = self._wire("router", macs[lab.source(name).device])

    def close(self) -> None:
        self._closing.close()

    def _raw(self, device: str) -> socket.socket:
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        one.bind((device, 0))
        self._closing.callback(one.close)
        return one

    def _wire(self, device: str, mac: str) -> Wire:
        one = Wire(device, mac)
        self._closing.callback(one.close)
        return one

    def new(self, kinds: Sequence[int] = range(len(KINDS))) -> dict[int, Verdict]:
        """What becomes of new connections."""
        return self._send({at: KINDS[at] for at in kinds})

    def open(self, kinds: Sequence[int] = range(len(KINDS))) -> dict[int, Verdict]:
        """What becomes of packets of connections that are always the same ones: it is for the caller to forget them."""
        return self._send({at: _flow(at) for at in kinds})

    def _send(self, probes: dict[int, Probe]) -> dict[int, Verdict]:
        numbers = {}
        for at, probe in probes.items():
            number = next(self._numbers)
            numbers[number] = at
            self._lan.send(packet(probe, number))
        mark = f"{next(self._numbers)}".encode().ljust(8, b".")
        frame = b"\xff" * 6 + b"\x02\0\0\0\0\x98" + b"\x88\xb5" + mark.ljust(46, b"\0")
        found: dict[int, Verdict] = dict.fromkeys(probes)
        for (name, wire), sentinel in zip(self._wires.items(), self._sentinels, strict=True):
            if name not in self.down:
                sentinel.send(frame)
                self._collect(name, wire, mark, numbers, found)
        return found

    @staticmethod
    def _collect(name: str, wire: Wire, mark: bytes, numbers: dict[int, int], found: dict[int, Verdict]) -> None:
        for _ in range(2):
            try:
                for one in wire.until_sentinel(mark):
                    at = numbers.get(one.number)
                    if at is not None and one.is_(_anywhere(KINDS[at])):
                        found[at] = name, str(ipaddress.ip_address(one.src))
            except TimeoutError:
                raise
            except OSError:  # told once: its cable had been pulled
                continue
            return

    def settled(self, *, open: bool) -> list[Verdict]:
        """What becomes of each kind, asked for again where it is nothing: a neighbour may not have been known."""
        ask = self.open if open else self.new
        found = ask()
        for _ in range(3):
            lost = [at for at, verdict in found.items() if verdict is None]
            if not lost:
                break
            time.sleep(0.02)
            found.update(ask(lost))
        return list(found.values())

    def astray(self, allowed: Sequence[frozenset[Verdict]], *, open: bool) -> list[str]:
        """The kinds to which something else happens than is allowed, in words."""
        ask = self.open if open else self.new
        found = ask()
        for _ in range(3):
            wrong = [at for at, verdict in found.items() if verdict not in allowed[at]]
            if not any(found[at] is None for at in wrong):
                break
            time.sleep(0.02)
            found.update(ask(wrong))
        what = "open" if open else "new"
        return [f"{what} {KINDS[at]}: {found[at]}, not {set(allowed[at])}"
                for at in found if found[at] not in allowed[at]]  # fmt: skip


def _flow(at: int) -> Probe:
    kind = KINDS[at]
    return Probe(kind.enters, kind.src, kind.dst, kind.proto, kind.dport, _FIRST_PORT + at)


def _anywhere(kind: Probe) -> Probe:
    """The same from any source: the router gives it its own."""
    return Probe(kind.enters, "", kind.dst, kind.proto, kind.dport)


def _mac(device: str) -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as one:
        one.bind((device, 0))
        address: bytes = one.getsockname()[4]
    return address.hex()

