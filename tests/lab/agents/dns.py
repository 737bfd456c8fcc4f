"""Just enough of a name server for a tracker that resolves or probes with `nslookup`."""

from __future__ import annotations

import socket
import struct

ANSWER4 = "203.0.113.10"
ANSWER6 = "2001:db8:ffff::10"
_A, _TXT, _AAAA = 1, 16, 28


def looks_like_query(data: bytes) -> bool:
    """True for one question, no answers, opcode 0; anything else is a plain datagram of the lab."""
    if len(data) < 17:
        return False
    _, flags, questions, answers, _, _ = struct.unpack("!6H", data[:12])
    return questions == 1 and answers == 0 and not flags & 0xF800


def reply(query: bytes, source: str) -> bytes | None:
    """The reply to `query`: a fixed A or AAAA, or TXT with the name of the source; None if malformed."""
    end = 12
    while end < len(query) and query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    if end + 5 > len(query):
        return None
    kind = struct.unpack("!H", question[-4:-2])[0]
    text = source.encode()
    data = {
        _A: socket.inet_aton(ANSWER4),
        _AAAA: socket.inet_pton(socket.AF_INET6, ANSWER6),
        _TXT: bytes([len(text)]) + text,
    }.get(kind)
    header = query[:2] + struct.pack("!5H", 0x8180, 1, 0 if data is None else 1, 0, 0)
    if data is None:
        return header + question
    return header + question + b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 1, len(data)) + data
