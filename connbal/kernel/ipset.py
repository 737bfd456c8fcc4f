"""ipsets: read by netlink without starting a program, written by ``ipset restore``, one process per change.

Entries are texts as ``ipset`` prints them: ``10.1.0.0/24``, a single address without ``/32``, the name of a set.
A network of prefix length 0 does not exist in ``hash:net``: whoever makes a SetSpec gives its two halves, so that what
is read back equals what was asked for.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel.netlink import (
    NLA_F_NESTED,
    NLA_F_NET_BYTEORDER,
    NLM_F_EXCL,
    Channel,
    Message,
    Raw,
    Refused,
    attribute,
    attributes,
    codec,
)
from connbal.kernel.rtdecode import Layout
from connbal.model.config import Family, IPAddress
from connbal.plan.state import SetState
from connbal.plan.values import SetSpec

#: What a set may hold at least; packets and dnsmasq add to sets too.
MIN_MAXELEM = 65536
#: IPSET_MAXNAMELEN less the final NUL.
_MAX_NAME = 31
#: Version 6 of the protocol, which every kernel since 2.6.39 speaks, has all that is needed here.
_PROTOCOL = 6
_NETLINK_NETFILTER = 12
_SUBSYSTEM = 6 << 8
_DESTROY, _FLUSH, _LIST, _TEST = _SUBSYSTEM | 3, _SUBSYSTEM | 4, _SUBSYSTEM | 7, _SUBSYSTEM | 11
#: Attributes of linux/netfilter/ipset/ip_set.h.
_ATTR_PROTOCOL, _ATTR_SETNAME, _ATTR_DATA = 1, 2, 7
_ATTR_IP, _ATTR_PORT, _ATTR_PROTO, _ATTR_IP2 = 1, 4, 7, 20
_ATTR_ADDRESS = {4: 1, 6: 2}
#: IPSET_ERR_EXIST: what is asked for is not in the set; IPSET_ERR_TYPE_SPECIFIC: outside the range of a bitmap.
_NOT_IN_SET, _OUT_OF_RANGE = 4103, 4352
#: Flag of a listing: without entries.
_LIST_HEADER = 1 << 2
#: Refusals that have no errno of their own.
_WORDS = {errno.ENOENT: "no such set", 4097: "ipset protocol error", 4100: "it is in use by a rule or another set"}
_TIMEOUT = 60.0

_FAMILY = {int(socket.AF_INET): Family.IPV4, int(socket.AF_INET6): Family.IPV6}
_FAMILY_WORD = {Family.IPV4: "inet", Family.IPV6: "inet6"}
#: Types whose entries are read by netlink; those of any other, by ``ipset save``.
_DECODED = frozenset({"hash:ip", "hash:net", "list:set"})


class SystemSets:
    """Implements :class:`connbal.kernel.api.Sets` for the network namespace in which it is first used."""

    def __init__(self) -> None:
        self._netlink = Channel(_NETLINK_NETFILTER)

    def close(self) -> None:
        """Let go of the socket. The object may be used again."""
        self._netlink.close()

    def headers(self) -> dict[str, SetState]:
        """Every set there is, without entries."""
        request = _message(("IPSET_ATTR_FLAGS", _LIST_HEADER))
        states = [header(message) for message in self._netlink.dump(request, _LIST, "ipset list -t", _HEADER.decode)]
        return {state.name: state for state in states}

    def entries(self, name: str) -> frozenset[str]:
        """What a set holds, without timeouts, counters or comments. KernelError where there is no such set."""
        command = f"ipset list {name}"
        found: set[str] = set()
        kind = None
        for message in self._netlink.dump(_message(("IPSET_ATTR_SETNAME", name)), _LIST, command):
            kind = attributes(message, _TYPE).get("IPSET_ATTR_TYPENAME", kind)
            if kind in _DECODED:
                found.update(decoded_entries(message))
        return frozenset(found) if kind in _DECODED else saved_entries(name)

    def remaining(self, name: str) -> dict[str, int | None]:
        """What a set of addresses or networks holds, each with the seconds it stays; None: for good.

        KernelError where there is no such set, or it is of another type.
        """
        command = f"ipset list {name}"
        found: dict[str, int | None] = {}
        for message in self._netlink.dump(_message(("IPSET_ATTR_SETNAME", name)), _LIST, command):
            kind = attributes(message, _TYPE).get("IPSET_ATTR_TYPENAME")
            if kind not in _DECODED:
                raise KernelError(command, None, f"entries of type {kind} cannot be shown; see ipset list")
            found.update(zip(decoded_entries(message), _timeouts(message), strict=True))
        return found

    def contains(self, name: str, type_: str, address: IPAddress, protocol: int = 0, port: int = 0) -> bool | None:
        """Whether a packet of this address, protocol and port would be found in a set (not a list:set) of this type.

        None: the type has parts of which nothing is known here. Raises KernelError where there is no such set.
        """
        data = _tested(type_, address, protocol, port)
        if data is None:
            return None
        payload = bytes((socket.AF_INET if address.version == 4 else socket.AF_INET6, 0, 0, 0))
        payload += attribute(_ATTR_PROTOCOL, bytes((_PROTOCOL,))) + attribute(_ATTR_SETNAME, name.encode() + b"\0")
        payload += attribute(_ATTR_DATA, data, NLA_F_NESTED)
        command = f"ipset test {name} {address}"
        try:
            self._netlink.request(Raw(payload), _TEST, 0, command)
        except Refused as error:
            if error.code in (_NOT_IN_SET, _OUT_OF_RANGE):
                return False
            raise
        return True

    def create(self, spec: SetSpec) -> None:
        """Make a set with its entries. KernelError where it exists already; nothing is left of a failed attempt."""
        self._build(spec, [f"rename {_beside(spec.name)} {spec.name}"])

    def replace(self, spec: SetSpec) -> None:
        """Give an existing set of the same type and family the entries of ``spec``, between two packets."""
        beside = _beside(spec.name)
        self._build(spec, [f"swap {beside} {spec.name}", f"destroy {beside}"])

    def flush(self, name: str) -> None:
        """Empty a set. KernelError where there is none."""
        self._change(_FLUSH, name, f"ipset flush {name}")

    def destroy(self, name: str) -> None:
        """Remove a set. KernelError where there is none, or a rule or another set uses it."""
        self._change(_DESTROY, name, f"ipset destroy {name}")

    def _change(self, number: int, name: str, command: str) -> None:
        try:
            # Without NLM_F_EXCL, newer kernels take the removal of a set that is not there for done.
            self._netlink.request(_message(("IPSET_ATTR_SETNAME", name)), number, NLM_F_EXCL, command)
        except Refused as error:
            if error.code in _WORDS:
                raise Refused(command, error.code, _WORDS[error.code]) from None
            raise

    def _build(self, spec: SetSpec, finish: Iterable[str]) -> None:
        """Fill a set of a temporary name, then ``finish``. One left over from a crash is removed first."""
        beside = _beside(spec.name)
        self._forget(beside)
        lines = [create_line(spec, beside), *(f"add {beside} {entry}" for entry in sorted(spec.entries or ())), *finish]
        try:
            _restore(lines)
        except KernelError:
            self._forget(beside)
            raise

    def _forget(self, name: str) -> None:
        try:
            self.destroy(name)
        except Refused as error:
            if error.code != errno.ENOENT:
                raise


def _tested(type_: str, address: IPAddress, protocol: int, port: int) -> bytes | None:
    """The attributes of an entry of this type for a packet; None where the packet lacks one that is known here."""
    data = b""
    numbers = [_ATTR_IP, _ATTR_IP2]
    for part in type_.partition(":")[2].split(","):
        if part in ("ip", "net"):
            held = attribute(_ATTR_ADDRESS[address.version], address.packed, NLA_F_NET_BYTEORDER)
            data += attribute(numbers.pop(0), held, NLA_F_NESTED)
        elif part == "port" and protocol and port:
            data += attribute(_ATTR_PORT, port.to_bytes(2, "big"), NLA_F_NET_BYTEORDER)
            data += attribute(_ATTR_PROTO, bytes((protocol,)))
        else:
            return None
    return data


def _message(*attributes: tuple[str, Any]) -> Any:
    message = codec("nfnetlink.ipset", "ipset_msg", "ipset")()
    message["attrs"] = [("IPSET_ATTR_PROTOCOL", _PROTOCOL), *attributes]
    return message


def _beside(name: str) -> str:
    """The name under which a set is built. No UCI name holds a ``-``, so it is nobody else's."""
    if len(name) >= _MAX_NAME:
        raise KernelError(f"ipset create {name}", None, f"a set's name may have {_MAX_NAME - 1} characters at most")
    return f"{name}-"


def create_line(spec: SetSpec, name: str) -> str:
    """The line of an ``ipset restore`` file that creates the set of ``spec`` as ``name``."""
    count = len(spec.entries or ())
    words = ["create", name, spec.type]
    if spec.family is not None:
        words += ["family", _FAMILY_WORD[spec.family]]
    if spec.type.startswith("hash:"):
        words += ["maxelem", str(max(MIN_MAXELEM, count))]
    elif spec.type == "list:set":
        words += ["size", str(max(8, count))]
    if spec.timeout is not None:
        words += ["timeout", str(spec.timeout)]
    return " ".join(words)


def _restore(lines: list[str]) -> None:
    for line in lines:
        if any(character in line for character in "\n\r\0"):
            raise KernelError("ipset restore", line, "a line feed or NUL inside an entry")
    result = programs.run(["ipset", "restore"], "\n".join(lines) + "\n", _TIMEOUT, check=False)
    if result.returncode != 0:
        raise _complaint(lines, programs.failure(["ipset", "restore"], result).output)


def _complaint(lines: list[str], said: str) -> KernelError:
    """``ipset v7.17: Error in line 3: …`` names the line."""
    _, found, rest = said.partition("Error in line ")
    number = rest.split(":", 1)[0]
    lineno = int(number) if found and number.isdecimal() and 0 < int(number) <= len(lines) else None
    return KernelError("ipset restore", None if lineno is None else lines[lineno - 1], said, lineno=lineno)


def saved_entries(name: str) -> frozenset[str]:
    saved = programs.run(["ipset", "save", name], timeout=_TIMEOUT).stdout
    words = (line.split(" ") for line in saved.splitlines())
    return frozenset(line[2] for line in words if line[0] == "add" and len(line) > 2)


# --- netlink messages to values -----------------------------------------------------------------------------------

_TYPE = frozenset({"IPSET_ATTR_TYPENAME"})
_ADT = frozenset({"IPSET_ATTR_ADT"})


def _number(payload: bytes) -> int:
    """In network order, of whatever length."""
    return int.from_bytes(payload, "big")


def _text(payload: bytes) -> str:
    return payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


#: What a set was made with, as far as it matters. pyroute2 takes ten times as long to decode all of it, and every run
#: lists every set.
_MADE_WITH = Layout(
    struct.Struct("="), (), {6: ("IPSET_ATTR_TIMEOUT", _number), 25: ("IPSET_ATTR_REFERENCES", _number)}
)
#: struct nfgenmsg, and what describes a set.
_HEADER = Layout(
    struct.Struct("=BBH"),
    ("nfgen_family", "version", "res_id"),
    {
        2: ("IPSET_ATTR_SETNAME", _text),
        3: ("IPSET_ATTR_TYPENAME", _text),
        5: ("IPSET_ATTR_FAMILY", _number),
        7: ("IPSET_ATTR_DATA", lambda payload: _MADE_WITH.decode(payload, 0, len(payload))),
    },
)


def header(message: Message) -> SetState:
    """A set out of the message that describes it."""
    told = attributes(message)
    data = attributes(told.get("IPSET_ATTR_DATA") or {"attrs": ()})
    return SetState(
        name=told["IPSET_ATTR_SETNAME"],
        type=told["IPSET_ATTR_TYPENAME"],
        family=_FAMILY.get(told.get("IPSET_ATTR_FAMILY", 0)),
        timeout=data.get("IPSET_ATTR_TIMEOUT"),
        references=data.get("IPSET_ATTR_REFERENCES", 0),
    )


def decoded_entries(message: Message) -> list[str]:
    """The entries one message of a listing holds; the type is one of hash:ip, hash:net and list:set."""
    block = attributes(message, _ADT).get("IPSET_ATTR_ADT")
    return [_entry(attributes(slot[1])) for slot in block["attrs"]] if block else []


def _timeouts(message: Message) -> list[int | None]:
    """What is left of each entry of :func:`decoded_entries`, seconds. The kernel says 0 of one that stays for good."""
    block = attributes(message, _ADT).get("IPSET_ATTR_ADT")
    return [attributes(slot[1]).get("IPSET_ATTR_TIMEOUT") or None for slot in block["attrs"]] if block else []


def _entry(data: Mapping[str, Any]) -> str:
    if "IPSET_ATTR_NAME" in data:
        return str(data["IPSET_ATTR_NAME"])
    held = attributes(data["IPSET_ATTR_IP_FROM"])
    address = ipaddress.ip_address(next(iter(held.values())))
    prefix = data.get("IPSET_ATTR_CIDR", address.max_prefixlen)
    return str(address) if prefix == address.max_prefixlen else f"{address}/{prefix}"
