"""DNS messages (RFC 1035): the queries we send and the answers we get. Pure; answers may hold any bytes."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import field

from connbal.frozen import dataclass

A, CNAME, AAAA = 1, 5, 28
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3
_IN = 1
_CODES = {1: "format error", 2: "server failure", 3: "no such name", 4: "not implemented", 5: "refused"}
_RESPONSE, _TRUNCATED, _RECURSE = 0x8000, 0x0200, 0x0100
_MAX_NAME = 255
_MAX_ALIASES = 16
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)

#: A name: its labels in lower case, without the root's empty one.
Name = tuple[bytes, ...]


class BadMessage(ValueError):
    """Bytes that are no answer to the query; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a name server said."""

    code: int  #: NO_ERROR, NO_SUCH_NAME, …
    addresses: tuple[str, ...] = ()  #: in the server's order
    ttl: int = 0  #: seconds, the shortest on the way from the name to the addresses
    truncated: bool = False  #: it did not fit; ask again by TCP


@dataclass
class _Records:
    addresses: dict[Name, list[str]] = field(default_factory=dict)
    aliases: dict[Name, Name] = field(default_factory=dict)
    ttls: dict[Name, int] = field(default_factory=dict)


def code_words(code: int) -> str:
    """A response code in words."""
    return _CODES.get(code, f"code {code}")


def labels(name: str) -> Name:
    """A host name as labels. Raises ValueError where it is none, or none that DNS could carry."""
    found = name.removesuffix(".").split(".")
    if len(name) > _MAX_NAME - 2 or not all(_LABEL.fullmatch(label) for label in found):
        raise ValueError(f"{name!r} is no host name")
    return tuple(label.lower().encode() for label in found)


def query(ident: int, name: str, kind: int) -> bytes:
    """A query for records of ``kind`` (A, AAAA) under ``name``. Raises ValueError as :func:`labels`."""
    encoded = b"".join(bytes((len(label),)) + label for label in labels(name))
    return struct.pack("!6H", ident, _RECURSE, 1, 0, 0, 0) + encoded + struct.pack("!BHH", 0, kind, _IN)


def response_code(data: bytes, ident: int) -> int | None:
    """The code of a response to query ``ident``; None: it is none."""
    if len(data) < 12:
        return None
    number, flags = struct.unpack_from("!HH", data)
    return flags & 15 if number == ident and flags & _RESPONSE else None


def answered(data: bytes, ident: int, name: str, kind: int) -> int | None:
    """The code of a response to ``query(ident, name, kind)`` that repeats the question; None: it is none."""
    try:
        _question(data, ident, name, kind)
    except BadMessage:
        return None
    return response_code(data, ident)


def parse(data: bytes, ident: int, name: str, kind: int) -> Answer:
    """Read the answer to ``query(ident, name, kind)``. Raises BadMessage, and nothing else, whatever the bytes."""
    position = _question(data, ident, name, kind)
    flags, _, answers = struct.unpack_from("!HHH", data, 2)
    code = flags & 15
    if flags & _TRUNCATED:
        return Answer(code, truncated=True)
    return _follow(labels(name), _read_records(data, position, answers, kind), code)


def _question(data: bytes, ident: int, name: str, kind: int) -> int:
    """Where the records of a response to ``query(ident, name, kind)`` begin. Raises BadMessage: it is none."""
    if response_code(data, ident) is None:
        raise BadMessage("no response to this query")
    (questions,) = struct.unpack_from("!H", data, 4)
    if questions != 1:
        raise BadMessage(f"{questions} questions")
    asked, position = _read_name(data, 12)
    if asked != labels(name) or _unpack("!HH", data, position) != (kind, _IN):
        raise BadMessage("an answer to another question")
    return position + 4


def _read_records(data: bytes, position: int, count: int, kind: int) -> _Records:
    """The records of an answer section; each takes at least 11 bytes, so the count cannot make this long."""
    records = _Records()
    for _ in range(count):
        owner, position = _read_name(data, position)
        record, group, ttl, size = _unpack("!HHIH", data, position)
        position += 10
        if position + size > len(data):
            raise BadMessage("cut short")
        if group == _IN and record == kind and size == (4 if kind == A else 16):
            family = socket.AF_INET if kind == A else socket.AF_INET6
            records.addresses.setdefault(owner, []).append(socket.inet_ntop(family, data[position : position + size]))
        elif group == _IN and record == CNAME:
            records.aliases.setdefault(owner, _read_name(data, position)[0])
        if record in (kind, CNAME):
            # RFC 2181, 8: with the highest bit set it counts as 0.
            ttl = 0 if ttl >> 31 else ttl
            records.ttls[owner] = min(ttl, records.ttls.get(owner, ttl))
        position += size
    return records


def _follow(name: Name, records: _Records, code: int) -> Answer:
    """From alias to alias to the addresses."""
    ttls: list[int] = []
    for _ in range(_MAX_ALIASES):
        if name in records.ttls:
            ttls.append(records.ttls[name])
        if name in records.addresses:
            return Answer(code, tuple(records.addresses[name]), min(ttls))
        if name not in records.aliases:
            break
        name = records.aliases[name]
    return Answer(code)


def _read_name(data: bytes, position: int) -> tuple[Name, int]:
    """The name at ``position``, and where what follows it begins.

    A pointer must lead to before where its own stretch began: as every jump then goes further back, none can loop.
    """
    found: list[bytes] = []
    length, after, limit = 0, -1, position
    while True:
        (size,) = _unpack("!B", data, position)
        if size >= 0xC0:
            target = _unpack("!H", data, position)[0] & 0x3FFF
            if target >= limit:
                raise BadMessage("a name that points forward")
            after = position + 2 if after < 0 else after
            position = limit = target
            continue
        if size > 63:
            raise BadMessage("an unknown kind of label")
        position += 1
        if size == 0:
            return tuple(found), position if after < 0 else after
        length += size + 1
        if length >= _MAX_NAME or position + size > len(data):
            raise BadMessage("a name too long")
        found.append(data[position : position + size].lower())
        position += size


def _unpack(layout: str, data: bytes, position: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, position)
    except struct.error:
        raise BadMessage("cut short") from None


#: The record that holds an address, by family version.
ADDRESS_KIND: Mapping[int, int] = {4: A, 6: AAAA}
