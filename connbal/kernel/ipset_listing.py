"""What the kernel tells of ipsets, as values. Pure: messages in, values out."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connbal.kernel.messages import ANY, BE8, BE32, TEXT, U8, Kind, Layout, nested
from connbal.kernel.netlink import attributes
from connbal.model.config import Family
from connbal.plan.state import SetState

_FAMILY = {int(socket.AF_INET): Family.IPV4, int(socket.AF_INET6): Family.IPV6}
#: Types whose entries are read by netlink; those of any other, by ``ipset save``.
DECODED = frozenset({"hash:ip", "hash:net", "list:set"})
#: struct nfgenmsg.
_NFGENMSG = "=BBH", ("nfgen_family", "version", "res_id")
_NAMES = {2: ("IPSET_ATTR_SETNAME", TEXT), 3: ("IPSET_ATTR_TYPENAME", TEXT)}
#: What a set was made with, as far as it matters.
_MADE_WITH = nested(
    {
        6: ("IPSET_ATTR_TIMEOUT", BE32),
        24: ("IPSET_ATTR_ELEMENTS", BE32),  # since Linux 4.10
        25: ("IPSET_ATTR_REFERENCES", BE32),
    }
)
#: What describes a set, and what a request says of one. Every run lists every set.
HEADER = Layout(
    *_NFGENMSG,
    _NAMES
    | {
        1: ("IPSET_ATTR_PROTOCOL", U8),
        5: ("IPSET_ATTR_FAMILY", BE8),
        6: ("IPSET_ATTR_FLAGS", BE32),
        7: ("IPSET_ATTR_DATA", _MADE_WITH),
    },
)
#: The same with what a set holds: a list of entries, each a list of attributes.
LISTED = Layout(*_NFGENMSG, _NAMES | {8: ("IPSET_ATTR_ADT", ANY)})
#: An address is in an attribute of its own, whose number tells the family.
_ENTRY = {
    1: ("IPSET_ATTR_IP_FROM", Kind(lambda payload: payload[4:])),
    3: ("IPSET_ATTR_CIDR", BE8),
    6: ("IPSET_ATTR_TIMEOUT", BE32),
    18: ("IPSET_ATTR_NAME", TEXT),
}
_ENTRIES = Layout("=", (), {7: ("IPSET_ATTR_DATA", nested(_ENTRY))})


def header(payload: bytes) -> SetState:
    """A set out of the message that describes it. struct.error where it is too short."""
    told = attributes(HEADER.decode(payload, 0, len(payload)))
    data = attributes(told.get("IPSET_ATTR_DATA") or {"attrs": ()})
    return SetState(
        name=told["IPSET_ATTR_SETNAME"],
        type=told["IPSET_ATTR_TYPENAME"],
        family=_FAMILY.get(told.get("IPSET_ATTR_FAMILY", 0)),
        timeout=data.get("IPSET_ATTR_TIMEOUT"),
        references=data.get("IPSET_ATTR_REFERENCES", 0),
        elements=data.get("IPSET_ATTR_ELEMENTS"),
    )


@dataclass(frozen=True)
class Part:
    """What one message of a listing says. ``type``: only the first one of a set has it."""

    name: str
    type: str | None
    entries: tuple[str, ...] | None  #: None: they cannot be read without knowing the type


def part(payload: bytes) -> Part:
    """A message of a listing of sets with their entries. struct.error where it is too short."""
    told = attributes(LISTED.decode(payload, 0, len(payload)))
    kind = told.get("IPSET_ATTR_TYPENAME")
    if kind is not None and kind not in DECODED:
        return Part(told["IPSET_ATTR_SETNAME"], kind, None)
    return Part(told["IPSET_ATTR_SETNAME"], kind, tuple(map(entry, entries_of(told))))


def entries_of(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries that a message of a listing has."""
    block = told.get("IPSET_ATTR_ADT", b"")
    return [attributes(slot[1]) for slot in _ENTRIES.decode(block, 0, len(block))["attrs"]]


def assembled(parts: Iterable[Part]) -> dict[str, frozenset[str] | None]:
    """The entries of each set of a listing, in the order of the listing; None: they are not decoded here."""
    found: dict[str, list[str] | None] = {}
    for one in parts:
        if one.type is not None:
            found[one.name] = [] if one.type in DECODED else None
        held = found.get(one.name)
        if held is not None:
            held += one.entries or ()
    return {name: None if held is None else frozenset(held) for name, held in found.items()}


def entry(data: Mapping[str, Any]) -> str:
    """An entry as text; what it is, the type of its set says, which not every message has."""
    if "IPSET_ATTR_NAME" in data:
        return str(data["IPSET_ATTR_NAME"])
    packed = data.get("IPSET_ATTR_IP_FROM", b"")
    if len(packed) not in (4, 16):
        return ""
    address = ipaddress.ip_address(packed)
    prefix = data.get("IPSET_ATTR_CIDR", address.max_prefixlen)
    return str(address) if prefix == address.max_prefixlen else f"{address}/{prefix}"
