"""Whether the rules of iptables-legacy are still those that were there before, asked of the kernel without any program.

Nobody announces or counts changes of these tables. But the kernel hands out a whole table in one piece, as it holds it
(IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES, linux/netfilter_ipv4/ip_tables.h), and that is soon compared. Packet counters,
and which hooks lead to a rule, are left out. Extensions keep pointers and states of their own beside what they were
told; since Linux 4.11 the kernel does not hand those out, and older ones are not asked.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import socket
import struct
from collections.abc import Iterable, Mapping
from operator import eq
from typing import Any

from connbal.errors import KernelError
from connbal.kernel.api import PASSING, TransientError
from connbal.model.config import Family
from connbal.plan.state import ChainText

_GET_INFO, _GET_ENTRIES = 64, 65
_LEVEL = {Family.IPV4: int(socket.IPPROTO_IP), Family.IPV6: int(socket.IPPROTO_IPV6)}
_HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
#: struct ipt_getinfo: name, valid_hooks, hook_entry, underflow, num_entries, size.
_INFO = struct.Struct("=32s13I")
#: What struct ipt_ip and struct ip6t_ip6 take, where their ``flags`` are, and which of those means goto.
_SELECTOR = {Family.IPV4: (84, 82, 2), Family.IPV6: (136, 131, 4)}
#: struct xt_entry_target: size, name, revision; then a verdict, or the name of the chain that begins here.
_TARGET, _NAME = struct.Struct("=H29sB"), 2
_VERDICT = struct.Struct("=i")
_OFFSETS = struct.Struct("=HH")
#: How long two parts are of what a digest is made from.
_ENDS = struct.Struct(">II")
_OLDEST = (4, 11)
#: A table that changes while it is read is read again.
_ATTEMPTS = 20
#: No such table or module: what the program may still load.
_ABSENT = frozenset({errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP})

Chains = Mapping[str, ChainText]


class LegacyRules:
    """One table of either family, in the network namespace in which it is first used. For one thread at a time."""

    seen = 0  #: these rules are not numbered

    def __init__(self, table: str) -> None:
        self._table = table.encode()
        self._sockets: dict[Family, socket.socket] = {}
        self._known: dict[Family, tuple[_Shape, Chains]] = {}

    def close(self) -> None:
        """Let go of the sockets. The object may be used again."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def chains(self, family: Family) -> Chains | None:
        """As :meth:`connbal.kernel.nftables.NftRules.chains`. None: this kernel cannot tell."""
        if _kernel() < _OLDEST:
            return None
        try:
            hooks, data = self._read(family)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            kind = TransientError if error.errno in PASSING else KernelError
            raise kind("iptables-save", None, error.strerror or str(error)) from error
        known = self._known.get(family)
        if known is None or not known[0].same(data):
            table = _Table(family, data)
            known = self._known[family] = (table.shape, table.chains(hooks))
        return known[1]

    def disturbed(self) -> bool:
        """Whether the rules of a family are not those that :meth:`chains` told of last. Raises KernelError.

        On a PC a tenth of a millisecond for 100 rules, one for 1,000, nearly all of it in the kernel.
        """
        for family, (shape, _) in tuple(self._known.items()):
            try:
                if not shape.same(self._read(family)[1]):
                    return True
            except OSError as error:
                if error.errno in _ABSENT:
                    return True
                raise KernelError("iptables-save", None, error.strerror or str(error)) from error
        return False

    def _read(self, family: Family) -> tuple[dict[int, str], bytes]:
        """Where the built-in chains begin, and all entries."""
        for _ in range(_ATTEMPTS):
            info = _INFO.unpack(self._get(family, _GET_INFO, _INFO.pack(self._table, *[0] * 13)))
            valid, entries, size = info[1], info[2:7], info[13]
            head = _Entries[family].table.offset
            question = self._table.ljust(32, b"\0") + struct.pack("=I", size)
            try:
                data = self._get(family, _GET_ENTRIES, question.ljust(head + size, b"\0"))
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINVAL):  # it has another size by now
                    continue
                raise
            return {at: name for bit, (name, at) in enumerate(zip(_HOOKS, entries, strict=True)) if valid >> bit & 1}, (
                data[head:]
            )
        raise TransientError("iptables-save", None, "the table changed faster than it could be read")

    def _get(self, family: Family, option: int, question: bytes) -> bytes:
        """What getsockopt makes of a buffer. Python's own takes no questions, and no more than 1,024 bytes."""
        if family not in self._sockets:
            af = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
            self._sockets[family] = socket.socket(af, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        buffer = ctypes.create_string_buffer(question, len(question))
        length = ctypes.c_uint32(len(question))
        descriptor = self._sockets[family].fileno()
        if _libc().getsockopt(descriptor, _LEVEL[family], option, buffer, ctypes.byref(length)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return buffer.raw


class _Shape:
    """What a table looked like, but for counters: where anything else is, and what it was."""

    def __init__(self, data: bytes, counters: Iterable[tuple[int, int]]) -> None:
        edges = [0, *(edge for pair in counters for edge in pair), len(data)]
        self._size = len(data)
        self._places = tuple(slice(*pair) for pair in zip(edges[::2], edges[1::2], strict=True))
        self._pieces = tuple(data[place] for place in self._places)

    def same(self, data: bytes) -> bool:
        """Whether the kernel has handed out the same again."""
        return len(data) == self._size and all(map(eq, map(data.__getitem__, self._places), self._pieces))


class _Table:
    """What the kernel handed out: entries, one behind the other, chain after chain."""

    def __init__(self, family: Family, data: bytes) -> None:
        entry = _Entry[family]
        self._head, self._at = ctypes.sizeof(entry), entry.target_offset.offset
        self._selector, self._flags, self._goto = _SELECTOR[family]
        self._data = data
        counters = entry.comefrom.offset
        self._entries: list[tuple[int, int, int]] = []  #: where each begins, where its target is, where it ends
        offset = 0
        while offset + self._head <= len(data):
            target, size = _OFFSETS.unpack_from(data, offset + self._at)
            if size < self._head or not self._head <= target < size:
                raise KernelError("iptables-save", None, "a table that makes no sense")
            self._entries.append((offset, offset + target, offset + size))
            offset += size
        self.shape = _Shape(data, ((begin + counters, begin + self._head) for begin, _, _ in self._entries))

    def chains(self, hooks: Mapping[int, str]) -> dict[str, ChainText]:
        """The rules of each chain. Every chain ends with one that is its policy, and is none of them."""
        names = dict(hooks)
        heads = set()
        for begin, target, end in self._entries:
            if self._data.startswith(b"ERROR\0", target + _NAME):
                names[end] = self._word(target + _TARGET.size)
                heads.add(begin)
        found: dict[str, list[str]] = {}
        lines: list[str] = []
        for begin, target, end in self._entries[:-1]:  # the last one begins a chain that is none
            if begin in heads:
                continue
            if begin in names:
                lines = found.setdefault(names[begin], [])
            lines.append(self._line(begin, target, end, names))
        return {name: tuple(lines[:-1]) for name, lines in found.items()}

    def _line(self, begin: int, target: int, end: int, names: Mapping[int, str]) -> str:
        selector = self._data[begin : begin + self._selector]
        matches = self._data[begin + self._head : target]
        verdict = self._verdict(target)
        if verdict is None or verdict < 0:
            return f"%{_digest(selector, matches, self._data[target:end])}"
        if verdict == end:
            return f"%{_digest(selector, matches, b'')}"  # no target: on to the next one
        where = names.get(verdict, "?")
        if not matches and not any(selector):
            return f"-j {where}"
        goto = selector[self._flags] & self._goto
        return f"%{_digest(selector, matches, b'')} {'-g' if goto else '-j'} {where}"

    def _verdict(self, target: int) -> int | None:
        """What a rule without an extension does; None: it has one."""
        if self._data[target + _NAME]:
            return None
        verdict: int = _VERDICT.unpack_from(self._data, target + _TARGET.size)[0]
        return verdict

    def _word(self, at: int) -> str:
        return self._data[at : at + 30].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _digest(selector: bytes, matches: bytes, target: bytes) -> str:
    """Of what a rule says; where each part ends counts too."""
    ends = _ENDS.pack(len(selector), len(matches))
    return hashlib.sha1(ends + selector + matches + target, usedforsecurity=False).hexdigest()


def _kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


# --- how the C compiler of this machine lays the entries out ------------------------------------------------------


class _Ipt(ctypes.Structure):
    _fields_ = (
        ("ip", ctypes.c_uint32 * 21), ("nfcache", ctypes.c_uint32), ("target_offset", ctypes.c_uint16),
        ("next_offset", ctypes.c_uint16), ("comefrom", ctypes.c_uint32), ("counters", ctypes.c_uint64 * 2),
    )  # fmt: skip


class _Ip6t(ctypes.Structure):
    _fields_ = (
        ("ip", ctypes.c_uint32 * 34), ("nfcache", ctypes.c_uint32), ("target_offset", ctypes.c_uint16),
        ("next_offset", ctypes.c_uint16), ("comefrom", ctypes.c_uint32), ("counters", ctypes.c_uint64 * 2),
    )  # fmt: skip


class _IptEntries(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 32), ("size", ctypes.c_uint32), ("table", _Ipt * 0))


class _Ip6tEntries(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 32), ("size", ctypes.c_uint32), ("table", _Ip6t * 0))


_Entry: Mapping[Family, Any] = {Family.IPV4: _Ipt, Family.IPV6: _Ip6t}
_Entries: Mapping[Family, Any] = {Family.IPV4: _IptEntries, Family.IPV6: _Ip6tEntries}
