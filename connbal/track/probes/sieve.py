"""Socket filters: what the kernel drops before it costs this process anything. Classic BPF (<linux/filter.h>).

A socket that takes all there is of a protocol can be flooded by anybody. Its buffer is full then when the answer comes,
and throwing away the rest is work for this process.
"""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Collection, Sequence

from connbal.model.config import Family

_SO_ATTACH_FILTER = 26
#: Codes of instructions: load a byte, half a word, a word at k, or at X + k; X = length of the IPv4 header at k, X = A;
#: A += X, A &= k, A <<= k; jump by whether A equals k, or has a bit of it.
_BYTE, _HALF, _WORD, _X_BYTE, _X_HALF = 0x30, 0x28, 0x20, 0x50, 0x48
_HEADER_LENGTH, _TAX, _ADD_X, _AND, _SHIFT = 0xB1, 0x07, 0x0C, 0x54, 0x64
_EQUAL, _BITS, _RETURN = 0x15, 0x45, 0x06
#: Places from here on count from the IP header, although the packets of the socket begin behind it (SKF_NET_OFF).
_IP_HEADER = 0xFFF00000
_TAKE, _DROP, _NEXT = "take", "drop", ""
#: So many values are compared at most; where there are more, all are let through. A jump reaches 255 instructions.
_MOST = 200

#: Code and k; tests also have where to go on, if so and if not: to a label, ``take``, ``drop``, or the next line.
Line = tuple[int, int] | tuple[int, int, str, str]


def attach(sock: socket.socket, lines: Sequence[Line | str]) -> None:
    """Let through what a program takes. A word among its lines is the label of the line after it. Raises OSError."""
    instructions = assemble(lines)
    program = array.array("B", b"".join(struct.pack("=HBBI", *one) for one in instructions))
    place, _ = program.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(instructions), place))


def assemble(lines: Sequence[Line | str]) -> list[tuple[int, int, int, int]]:
    """A program as the kernel has it: code, how far to jump if so and if not, k."""
    whole: list[Line | str] = [*lines, _TAKE, (_RETURN, 0xFFFF), _DROP, (_RETURN, 0)]
    places: dict[str, int] = {}
    code: list[Line] = []
    for line in whole:
        if isinstance(line, str):
            places[line] = len(code)
        else:
            code.append(line)
    made = []
    for number, line in enumerate(code, 1):
        so, not_so = line[2:] if len(line) == 4 else (_NEXT, _NEXT)
        jumps = [places[label] - number if label else 0 for label in (so, not_so)]
        made.append((line[0], jumps[0], jumps[1], line[1]))
    return made


def _one_of(load: Line, values: Collection[int]) -> list[Line | str]:
    """Take what has one of these values at a place; drop the rest."""
    if len(values) > _MOST:
        return [(_RETURN, 0xFFFF)]
    tests: list[Line | str] = [(_EQUAL, value, _TAKE, _NEXT) for value in sorted(values)]
    return [load, *tests, (_RETURN, 0)]


def echo(family: Family, ident: int) -> list[Line | str]:
    """Echo replies with this identifier, and errors about requests that have it, on a raw ICMP socket."""
    if family is Family.IPV4:
        return [
            (_HEADER_LENGTH, 0),
            (_X_BYTE, 0), (_EQUAL, 0, _NEXT, "error"),
            (_X_HALF, 4), (_EQUAL, ident, _TAKE, _DROP),
            "error",
            (_X_BYTE, 17), (_EQUAL, socket.IPPROTO_ICMP, _NEXT, _DROP),
            (_X_BYTE, 8), (_AND, 15), (_SHIFT, 2), (_ADD_X, 0), (_TAX, 0),  # X: where the quoted header ends, less 8
            (_X_BYTE, 8), (_EQUAL, 8, _NEXT, _DROP),
            (_X_HALF, 12), (_EQUAL, ident, _TAKE, _DROP),
        ]  # fmt: skip
    return [
        (_BYTE, 0), (_EQUAL, 129, _NEXT, "error"),
        (_HALF, 4), (_EQUAL, ident, _TAKE, _DROP),
        "error",
        (_BYTE, 14), (_EQUAL, socket.IPPROTO_ICMPV6, _NEXT, _DROP),
        (_BYTE, 48), (_EQUAL, 128, _NEXT, _DROP),
        (_HALF, 52), (_EQUAL, ident, _TAKE, _DROP),
    ]  # fmt: skip


def arp_replies(senders: Collection[bytes]) -> list[Line | str]:
    """ARP replies from these IPv4 addresses, on a packet socket."""
    numbers = {int.from_bytes(sender, "big") for sender in senders}
    return [(_HALF, 6), (_EQUAL, 2, _NEXT, _DROP), *_one_of((_WORD, 14), numbers)]


def advertisements(targets: Collection[bytes]) -> list[Line | str]:
    """Solicited neighbour advertisements about these addresses that no router has passed on, on a raw ICMPv6 socket."""
    numbers = {int.from_bytes(target[12:], "big") for target in targets}
    return [
        (_BYTE, _IP_HEADER + 7), (_EQUAL, 255, _NEXT, _DROP),
        (_BYTE, 0), (_EQUAL, 136, _NEXT, _DROP),
        (_BYTE, 4), (_BITS, 0x40, _NEXT, _DROP),
        *_one_of((_WORD, 20), numbers),
    ]  # fmt: skip
