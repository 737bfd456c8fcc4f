"""ipsets: read by netlink without starting a program, written by ``ipset restore``, one process per change.

Entries are texts as ``ipset`` prints them: ``10.1.0.0/24``, a single address without ``/32``, the name of a set.
A network of prefix length 0 does not exist in ``hash:net``: whoever makes a SetSpec gives its two halves, so that what
is read back equals what was asked for.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel import ipset_listing as listing
from connbal.kernel.api import SetRefused, TransientError
from connbal.kernel.netlink import (
    NLA_F_NESTED,
    NLA_F_NET_BYTEORDER,
    NLM_F_EXCL,
    Channel,
    Reader,
    Refused,
    attribute,
    attributes,
)
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
_ATTR_DATA = 7
_ATTR_IP, _ATTR_PORT, _ATTR_PROTO, _ATTR_IP2 = 1, 4, 7, 20
_ATTR_ADDRESS = {4: 1, 6: 2}
#: IPSET_ERR_EXIST: what is asked for is not in the set; IPSET_ERR_TYPE_SPECIFIC: outside the range of a bitmap.
_NOT_IN_SET, _OUT_OF_RANGE = 4103, 4352
#: Flag of a listing: without entries.
_LIST_HEADER = 1 << 2
#: Refusals that have no errno of their own.
_WORDS = {errno.ENOENT: "no such set", 4097: "ipset protocol error", 4100: "it is in use by a rule or another set"}
_TIMEOUT = 60.0
#: About so many entries take as long as an answer; and so many are taken for granted where the kernel does not tell.
_PER_ANSWER, _UNKNOWN = 16, 64

_FAMILY_WORD = {Family.IPV4: "inet", Family.IPV6: "inet6"}


class SystemSets:
    """Implements :class:`connbal.kernel.api.Sets` for the network namespace in which it is first used."""

    def __init__(self) -> None:
        self._netlink = Channel(_NETLINK_NETFILTER)
        self._headers = Reader(listing.header)
        self._states: tuple[list[SetState], Mapping[str, SetState]] = ([], {})
        self._parts = Reader(listing.part)

    def close(self) -> None:
        """Let go of the socket. The object may be used again."""
        self._netlink.close()

    def headers(self) -> Mapping[str, SetState]:
        """Every set there is, without entries; the same object as before where nothing has changed."""
        request = _message(("IPSET_ATTR_FLAGS", _LIST_HEADER))
        states = self._headers.settled(self._netlink.dump(request, _LIST, "ipset list -t", self._headers))
        if states is not self._states[0]:
            self._states = states, {state.name: state for state in states}
        return self._states[1]

    def entries(self, name: str) -> frozenset[str]:
        """What a set holds, without timeouts, counters or comments. KernelError where there is no such set."""
        command = f"ipset list {name}"
        parts = self._netlink.dump(_message(("IPSET_ATTR_SETNAME", name)), _LIST, command, self._parts)
        found = listing.assembled(self._parts.settled(parts))[name]
        return saved_entries(name) if found is None else found

    def filled(self, headers: Mapping[str, SetState], names: Collection[str]) -> Mapping[str, SetState]:
        """``headers`` with the entries of some sets; one of those that is gone by now is left out.

        All sets are listed at once, unless that takes longer than to ask for each by itself.
        """
        if not names:
            return headers
        # Each set is an answer of its own; for one by itself there are a question and the end of the answers as well.
        others = sum(_UNKNOWN if state.elements is None else state.elements
                     for name, state in headers.items() if name not in names)  # fmt: skip
        found = self._all() if len(headers) + others / _PER_ANSWER <= 2 * len(names) else self._each(names)
        filled = {name: replace(headers[name], entries=found[name]) for name in names if found.get(name) is not None}
        return {name: filled.get(name, state) for name, state in headers.items() if name in found or name not in names}

    def _all(self) -> dict[str, frozenset[str] | None]:
        listed = self._netlink.dump(_message(), _LIST, "ipset list", self._parts)
        return listing.assembled(self._parts.settled(listed))

    def _each(self, names: Iterable[str]) -> dict[str, frozenset[str] | None]:
        listed: list[listing.Part] = []
        for name in names:
            try:
                message = _message(("IPSET_ATTR_SETNAME", name))
                listed += self._netlink.dump(message, _LIST, f"ipset list {name}", self._parts)
            except Refused as error:
                if error.code != errno.ENOENT:
                    raise
        return listing.assembled(self._parts.settled(listed))

    def remaining(self, name: str) -> dict[str, int | None]:
        """What a set of addresses or networks holds, each with the seconds it stays; None: for good.

        KernelError where there is no such set, or it is of another type.
        """
        command = f"ipset list {name}"
        found: dict[str, int | None] = {}
        request = _message(("IPSET_ATTR_SETNAME", name))
        for message in self._netlink.dump(request, _LIST, command, listing.LISTED.decode):
            told = attributes(message)
            kind = told.get("IPSET_ATTR_TYPENAME")
            if kind is not None and kind not in listing.DECODED:
                raise KernelError(command, None, f"entries of type {kind} cannot be shown; see ipset list")
            # The kernel says 0 of an entry that stays for good.
            for data in listing.entries_of(told):
                found[listing.entry(data)] = data.get("IPSET_ATTR_TIMEOUT") or None
        return found

    def contains(self, name: str, type_: str, address: IPAddress, protocol: int = 0, port: int = 0) -> bool | None:
        """Whether a packet of this address, protocol and port would be found in a set (not a list:set) of this type.

        None: the type has parts of which nothing is known here. Raises KernelError where there is no such set.
        """
        data = _tested(type_, address, protocol, port)
        if data is None:
            return None
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        payload = _message(("IPSET_ATTR_SETNAME", name), family=family) + attribute(_ATTR_DATA, data, NLA_F_NESTED)
        command = f"ipset test {name} {address}"
        try:
            self._netlink.request(payload, _TEST, 0, command)
        except Refused as error:
            if error.code in (_NOT_IN_SET, _OUT_OF_RANGE):
                return False
            raise
        return True

    def create(self, *specs: SetSpec) -> None:
        """Make sets with their entries. SetRefused names the first that cannot be made, as one that exists already;
        nothing is left of it, those before it stay.
        """
        self._build(specs, lambda beside, name: [f"rename {beside} {name}"])

    def replace(self, *specs: SetSpec) -> None:
        """Give existing sets of the same type and family the entries of ``specs``, each between two packets.

        SetRefused as for :meth:`create`.
        """
        self._build(specs, lambda beside, name: [f"swap {beside} {name}", f"destroy {beside}"])

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

    def _build(self, specs: Sequence[SetSpec], finish: Callable[[str, str], list[str]]) -> None:
        """Fill sets of temporary names, one after the other, and ``finish`` each. Those left over from a crash are
        removed first.
        """
        lines: list[str] = []
        owners: list[SetSpec] = []
        for spec in specs:
            with _concerning(spec):
                beside = _beside(spec.name)
                self._forget(beside)
                entries = (f"add {beside} {entry}" for entry in sorted(spec.entries or ()))
                lines += _checked([create_line(spec, beside), *entries, *finish(beside, spec.name)])
                owners += [spec] * (len(lines) - len(owners))
        if not lines:
            return
        try:
            _restore(lines)
        except KernelError as error:
            at_fault = owners[error.lineno - 1] if error.lineno else specs[0] if len(specs) == 1 else None
            for spec in specs if at_fault is None else [at_fault]:
                self._forget(_beside(spec.name))
            with _concerning(at_fault):
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


def _message(*attributes: tuple[str, Any], family: int = socket.AF_UNSPEC) -> bytes:
    return listing.HEADER.encode((("IPSET_ATTR_PROTOCOL", _PROTOCOL), *attributes), nfgen_family=family)


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


@contextlib.contextmanager
def _concerning(spec: SetSpec | None) -> Iterator[None]:
    """What is refused meanwhile, is refused because of this set."""
    try:
        yield
    except TransientError:
        raise
    except KernelError as error:
        if spec is None:
            raise
        raise SetRefused(spec, error) from error


def _checked(lines: list[str]) -> list[str]:
    for line in lines:
        if any(character in line for character in "\n\r\0"):
            raise KernelError("ipset restore", line, "a line feed or NUL inside an entry")
    return lines


def _restore(lines: list[str]) -> None:
    result = programs.run(["ipset", "restore"], "\n".join(lines) + "\n", _TIMEOUT, check=False)
    if result.returncode != 0:
        error = programs.failure(["ipset", "restore"], result)
        raise error if isinstance(error, TransientError) else _complaint(lines, error.output)


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
