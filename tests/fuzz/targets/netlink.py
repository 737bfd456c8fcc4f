"""What the kernel announces, and its dumps as we read them: whatever the bytes, no event is made up, and none loops."""

from __future__ import annotations

import importlib
import ipaddress
import pkgutil
import struct
from collections.abc import Iterator
from typing import Any

import connbal.kernel
from connbal.kernel import conntrack, ipset_listing, nftables
from connbal.track import listen
from tests.fuzz import oracle


def _layouts() -> list[Any]:
    """How messages are laid out, of every kind that is read."""
    names = [f"connbal.kernel.{one.name}" for one in pkgutil.iter_modules(connbal.kernel.__path__)]
    modules = [importlib.import_module(name) for name in names]
    found = {id(one): one for module in modules for one in vars(module).values() if type(one).__name__ == "Layout"}
    return list(found.values())


_LAYOUTS = _layouts()
_ADDRESSES = ("RTA_DST", "RTA_SRC", "RTA_GATEWAY", "RTA_PREFSRC", "IFA_ADDRESS", "IFA_LOCAL")


def _attribute(number: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, number) + payload + bytes(-len(payload) % 4)


def _message(kind: int, body: bytes, port: int = 0) -> bytes:
    return struct.pack("=IHHII", len(body) + 16, kind, 0, 1, port) + body


_LINK = struct.pack("=BxHiII", 0, 1, 3, 0x10043, 0) + _attribute(3, b"eth1\0")
_ROUTE = bytes((2, 24, 0, 0, 254, 4, 0, 1)) + bytes(4) + _attribute(1, b"\xc0\0\x02\0") + _attribute(4, b"\x03\0\0\0")
_HOPS = struct.pack("=HBBi", 16, 0, 0, 3) + _attribute(5, b"\xc0\0\x02\x01")
_RULE = bytes((2, 0, 0, 0, 1, 0, 0, 1)) + bytes(4) + _attribute(6, b"\xd1\x07\0\0") + _attribute(21, b"\x83")
_CONNECTION = bytes((2, 0, 0, 0)) + _attribute(8, b"\0\0\x01\0") + _attribute(9, _attribute(2, bytes(7) + b"\x09"))
_SET = bytes((2, 6, 0, 0)) + _attribute(2, b"set4\0") + _attribute(3, b"hash:net\0") + _attribute(5, b"\x02")


def seeds() -> Iterator[bytes]:
    yield b"\0" + _message(16, _LINK) + _message(17, _LINK) + _message(24, _ROUTE) + _message(32, _RULE)
    yield b"\x01" + _message(0xA06, bytes((2, 0, 0, 0)) + _attribute(1, b"mangle\0")) + _message(
        0xA0F, bytes(4) + _attribute(2, b"\0\0\x04\xd2") + _attribute(3, b"nft\0"))  # fmt: skip
    address = bytes((2, 24, 0, 0, 3, 0, 0, 0)) + _attribute(2, b"\xc0\0\x02\x02")
    for body in (_LINK, address, _ROUTE + _attribute(9, _HOPS * 2), _RULE, _CONNECTION, _SET):
        yield from (bytes((2, number)) + body for number in range(len(_LAYOUTS)))
    yield b"\x03" + _CONNECTION
    held = _attribute(7, _attribute(1, _attribute(1, b"\xc0\0\x02\0")) + _attribute(3, b"\x18"))
    yield b"\x04" + _attribute(8, held * 2)
    jump = _attribute(1, b"immediate\0") + _attribute(2, _attribute(2, _attribute(2, _attribute(1, b"\xff\xff\xff\xfd")
                      + _attribute(2, b"mwan3_hook\0"))))  # fmt: skip
    rule = _attribute(1, b"mangle\0") + _attribute(2, b"PREROUTING\0")
    yield b"\x05" + rule + _attribute(4, _attribute(1, _attribute(1, b"counter\0")) + _attribute(1, jump))
    yield b"\x05" + rule + _attribute(4, _attribute(1, jump)) + _attribute(7, b"\0\x03hi\0")


def check(data: bytes) -> None:
    kind, body = (data[0] % 6 if data else 0), data[1:]
    if kind == 0:
        _announced(listen.announcements(body), body)
        assert len(listen.announcements(body, lambda port: True)) <= len(listen.announcements(body))
    elif kind == 1:
        _nftables(body)
    elif kind == 2:
        _decoded(_LAYOUTS[(body[0] if body else 0) % len(_LAYOUTS)], body[1:])
    elif kind == 3:
        found = conntrack.counted(body, 0, len(body))
        assert all(value >= 0 for value in found.values())
    elif kind == 4:
        _listed(body)
    else:
        _rule(body)


def _announced(events: list[listen.Happened], body: bytes) -> None:
    assert len(events) * 16 <= len(body)
    for event in events:
        assert event.action is None
        assert event.cause.split(" ")[0] in ("link", "address", "route", "rule"), event


def _nftables(body: bytes) -> None:
    heard: list[listen.Happened] = []
    nftables = object.__new__(listen.Nftables)
    nftables._listener, nftables._own, nftables._touched = heard.append, lambda pid: pid == 7, False
    nftables._take(body)
    for event in heard:
        oracle.is_message(event.cause)
    assert not heard or b"mangle\0" in body


def _listed(body: bytes) -> None:
    """A part of a listing of sets. A message of the kernel's has a name."""
    try:
        found = ipset_listing.part(_SET + body)
    except (struct.error, KeyError):
        return
    for entry in found.entries or ():
        assert not entry or "\n" not in entry or found.type == "list:set"
    ipset_listing.assembled([found, found])


def _rule(body: bytes) -> None:
    """A rule of nftables: whatever its expressions and notes, a line that says whether it only jumps."""
    try:
        _, _, line = nftables._rule(body)
    except KeyError:  # without a table or chain, which none of the kernel's is
        return
    assert line.startswith(("-j ", "#")), line


def _decoded(layout: Any, body: bytes) -> None:
    try:
        message = layout.decode(body, 0, len(body))
    except struct.error:  # the reader of a dump makes a KernelError of it
        return
    for name, value in message["attrs"]:
        if name in _ADDRESSES and ("." in value or ":" in value):
            ipaddress.ip_address(value)
