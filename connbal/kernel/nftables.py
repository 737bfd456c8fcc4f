"""Whether the rules of iptables-nft are still those that were there before, asked of the kernel without any program.

The kernel numbers the states of all nftables of a network namespace: every transaction, whoever makes it, gives the
next *generation* (NFT_MSG_GETGEN, since Linux 3.18; see linux/netfilter/nf_tables.h). While it is the same, nothing has
changed but counters. Where it is another, the table is listed, and each rule becomes a digest of what it consists of.
What a rule says in detail, nobody has to know; only where it leads. (A rule's handle is no help: one that is replaced
leaves it to the next.)
"""

from __future__ import annotations

import errno
import functools
import hashlib
import struct
from collections.abc import Mapping

from connbal.kernel.netlink import Channel, Reader, Refused, attribute
from connbal.model.config import Family
from connbal.plan.state import ChainText

_NETLINK_NETFILTER = 12
#: nf_tables_msg_types.
_SUBSYSTEM = 10 << 8
_GETCHAIN, _GETRULE, _GETGEN = _SUBSYSTEM | 4, _SUBSYSTEM | 7, _SUBSYSTEM | 16
_NFGENMSG = 4
_GEN_ID = 1
_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 4, 7
_EXPR_DATA = 2
#: Where an entry of the list of expressions has the beginning of its name: behind its own header and the name's.
_NAMED = slice(8, 16)
_IMMEDIATE_DATA, _DATA_VERDICT = 2, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
#: NFT_JUMP, NFT_GOTO.
_VERDICTS = {-3 & 0xFFFFFFFF: "-j", -4 & 0xFFFFFFFF: "-g"}
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = 0x3FFF
#: How often the rules are listed again because they changed meanwhile.
_ATTEMPTS = 5
#: What a kernel answers that has no nftables, or none of these questions.
_ABSENT = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT})

Chains = Mapping[str, ChainText]


class NftRules:
    """One table of either family, in the network namespace in which it is first used. For one thread at a time."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._name = table.encode() + b"\0"
        self._netlink = Channel(_NETLINK_NETFILTER)
        self._known: dict[Family, tuple[int, Chains]] = {}
        self._rules: dict[Family, Reader[tuple[bytes, str, str]]] = {}

    def close(self) -> None:
        """Let go of the socket. The object may be used again."""
        self._netlink.close()

    def chains(self, family: Family) -> Chains | None:
        """Every chain of the table with a line for each rule; empty where there is no table. The same object as before
        as long as nothing has changed.

        ``-j CHAIN`` stands for a rule that does nothing else, as iptables prints it; of any other the line says whether
        it is another one, and at its end where it leads. None: this kernel cannot tell.

        Raises KernelError; TransientError where the rules change faster than they can be read.
        """
        try:
            for _ in range(_ATTEMPTS):
                generation = self.generation()
                known = self._known.get(family)
                if known is not None and known[0] == generation:
                    return known[1]
                found = self._list(family)
                if self.generation() == generation:
                    self._known[family] = (generation, found)
                    break
        except Refused as error:
            if error.code in _ABSENT:
                return None
            raise
        # Where they kept changing, they were so a moment ago, and nothing is remembered.
        return found

    @property
    def seen(self) -> int:
        """The oldest generation that :meth:`chains` told of last; 0: none."""
        return min((generation for generation, _ in tuple(self._known.values())), default=0)

    def disturbed(self) -> bool:
        """Whether the rules of a family are not those that :meth:`chains` told of last."""
        return any(self.chains(family) != before for family, (_, before) in tuple(self._known.items()))

    def generation(self) -> int:
        """The number of the state that all nftables are in."""
        (answer,) = self._netlink.get(_request(0), _GETGEN, "nft list ruleset", _fields)
        return int.from_bytes(answer[_GEN_ID], "big")

    def _list(self, family: Family) -> Chains:
        command = f"nft list table {'ip' if family is Family.IPV4 else 'ip6'} {self._table}"
        chains: dict[str, list[str]] = {}
        for chain in self._netlink.dump(_request(family.af), _GETCHAIN, command, _fields):
            if chain.get(_CHAIN_TABLE) == self._name:
                chains[_text(chain[_CHAIN_NAME])] = []
        # What comes before the attributes says which generation it is.
        reader = self._rules.setdefault(family, Reader(_rule, _NFGENMSG))
        wanted = _request(family.af, attribute(_RULE_TABLE, self._name))
        for table, chain_name, line in reader.settled(self._netlink.dump(wanted, _GETRULE, command, reader)):
            if table == self._name:  # older kernels list all tables
                chains.setdefault(chain_name, []).append(line)
        return {name: tuple(lines) for name, lines in chains.items()}


def _request(family: int, payload: bytes = b"") -> bytes:
    return bytes((family, 0, 0, 0)) + payload


def _fields(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """The attributes of a message by number."""
    return _attributes(data, start + _NFGENMSG, end)


def _attributes(data: bytes, offset: int, end: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= end:
        length, number = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[number & _NUMBER] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


# --- rules to lines -----------------------------------------------------------------------------------------------


def _rule(payload: bytes) -> tuple[bytes, str, str]:
    """Table, chain and line out of the attributes of a rule; for lines see :meth:`NftRules.chains`."""
    told = _attributes(payload, 0, len(payload))
    line = _line(told.get(_RULE_EXPRESSIONS, b""), told.get(_RULE_USERDATA, b""))
    return told[_RULE_TABLE], _text(told[_RULE_CHAIN]), line


def _line(expressions: bytes, userdata: bytes) -> str:
    """Of each expression only the name is read, which the kernel puts first: what a rule says need not be known."""
    told, immediate, offset, end = [userdata], b"", 0, len(expressions)
    length_at = _ATTRIBUTE.unpack_from
    while offset + _NAMED.stop <= end:
        length, _ = length_at(expressions, offset)
        if length < _ATTRIBUTE.size:
            break
        expression = expressions[offset : offset + length]
        offset += (length + 3) & ~3
        name = expression[_NAMED]
        if name != b"counter\0":
            told.append(expression)
            if name == b"immediat":
                immediate = expression
    target = _target(immediate) if immediate else ""
    if len(told) == 2 and target.startswith("-j") and not _has_comment(userdata):
        return target
    return f"#{hashlib.sha1(b''.join(told), usedforsecurity=False).hexdigest()} {target}".rstrip()


@functools.lru_cache(maxsize=256)  # as many as there are chains that rules lead to
def _target(immediate: bytes) -> str:
    """``-j CHAIN`` or ``-g CHAIN``; empty for anything else. ``immediate``: an entry of the list of expressions."""
    return _verdict(_attributes(immediate, _ATTRIBUTE.size, len(immediate)).get(_EXPR_DATA, b""))


def _has_comment(userdata: bytes) -> bool:
    """libnftnl's notes on a rule: type, length, value, each of the first two in a byte; type 0 is the comment."""
    offset = 0
    while offset + 2 <= len(userdata):
        if userdata[offset] == 0:
            return True
        offset += 2 + userdata[offset + 1]
    return False


def _verdict(data: bytes) -> str:
    """``-j CHAIN`` or ``-g CHAIN``; empty for anything else."""
    held = _inner(_inner(data, _IMMEDIATE_DATA), _DATA_VERDICT)
    told = _attributes(held, 0, len(held))
    option = _VERDICTS.get(int.from_bytes(told.get(_VERDICT_CODE, b""), "big"))
    return f"{option} {_text(told.get(_VERDICT_CHAIN, b''))}" if option else ""


def _inner(data: bytes, number: int) -> bytes:
    return _attributes(data, 0, len(data)).get(number, b"")


@functools.lru_cache(maxsize=256)  # a few chains, named by thousands of rules
def _text(payload: bytes) -> str:
    return payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
