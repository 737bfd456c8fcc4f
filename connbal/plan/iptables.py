"""Rendering of chains as iptables-restore text. Every value here was validated when it became a value.

As a last line of defence each line is checked against what a rule can consist of: a control character or an
unexpected quote raises ValueError, which is a bug in connbal, never a way in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from connbal.model.config import Family, PortRange
from connbal.plan import bpf
from connbal.plan.values import (
    Action,
    Address,
    AddToSet,
    ChainRule,
    Chance,
    Goto,
    HashShare,
    HopLimit,
    Icmp6Type,
    InDevice,
    InSet,
    Jump,
    Log,
    MarkIs,
    Match,
    OutDevice,
    OwnerGroup,
    Ports,
    Protocol,
    RestoreMark,
    Return,
    SaveMark,
    SetMark,
    SourceMac,
)

#: Words that may stand unquoted, and what may stand between quotes.
_WORD = re.compile(r"[A-Za-z0-9_.:,/~!+@#%=^-]+")
_WORDS = re.compile(r"[A-Za-z0-9_.:,/~!+@#%=^ -]+")
_QUOTED = re.compile(r'[A-Za-z0-9_.:,/~!+@#%=^()?\[\] -]*')

_PROTOCOL_NAMES: Mapping[int, str] = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"}


def rule_text(rule: ChainRule, family: Family) -> str:
    """One rule, without ``-A CHAIN``, as iptables-restore reads it."""
    words: list[str] = []
    # Device, address and protocol come first: extensions such as multiport look for the protocol before them.
    for match in sorted(rule.matches, key=_rank):
        words += _match(match, family)
    if rule.comment:
        words += ["-m", "comment", "--comment", rule.comment]
    words += _action(rule.action)
    line = " ".join(words)
    # All at once, as nearly always nothing has to be quoted: every word is one, and no blank is inside of one.
    if all(words) and line.count(" ") == len(words) - 1 and _WORDS.fullmatch(line):
        return line
    return " ".join(map(_word, words))


def _rank(match: Match) -> int:
    return 0 if isinstance(match, InDevice | OutDevice | Address) else 1 if isinstance(match, Protocol) else 2


def _word(word: str) -> str:
    if _WORD.fullmatch(word):
        return word
    if not _QUOTED.fullmatch(word):
        raise ValueError(f"unfit for a ruleset: {word!r}")
    return f'"{word}"'


def _match(match: Match, family: Family) -> list[str]:
    if isinstance(match, MarkIs):
        return ["-m", "mark", *_not(match.negated), "--mark", f"{match.value:#x}/{match.mask:#x}"]
    if isinstance(match, InDevice):
        return ["-i", match.name]
    if isinstance(match, OutDevice):
        return ["-o", match.name]
    if isinstance(match, Address):
        return [*_not(match.negated), "-s" if match.direction == "src" else "-d", str(match.network)]
    if isinstance(match, InSet):
        return ["-m", "set", *_not(match.negated), "--match-set", match.name,
                ",".join([match.direction] * match.dimensions)]  # fmt: skip
    if isinstance(match, Protocol):
        return ["-p", _PROTOCOL_NAMES.get(match.number, str(match.number))]
    if isinstance(match, Ports):
        option = "--sports" if match.direction == "src" else "--dports"
        return ["-m", "multiport", option, ",".join(map(_ports, match.ranges))]
    if isinstance(match, SourceMac):
        return ["-m", "mac", "--mac-source", match.address]
    if isinstance(match, Icmp6Type):
        return ["-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", str(match.type)]
    if isinstance(match, HopLimit):
        return ["-m", "hl", "--hl-eq", str(match.value)]
    if isinstance(match, Chance):
        return ["-m", "statistic", "--mode", "random", "--probability", f"{float(match.probability):.11f}"]
    if isinstance(match, OwnerGroup):
        return ["-m", "owner", "--gid-owner", _span(match.first, match.last, "-")]
    assert isinstance(match, HashShare)
    return ["-m", "bpf", "--bytecode", bpf.bytecode(match, family)]


def _not(negated: bool) -> list[str]:
    return ["!"] if negated else []


def _ports(item: PortRange) -> str:
    return _span(item.first, item.last, ":")


def _span(first: int, last: int, between: str) -> str:
    return str(first) if first == last else f"{first}{between}{last}"


def _action(action: Action) -> list[str]:
    if isinstance(action, SetMark):
        return ["-j", "MARK", "--set-xmark", f"{action.value:#x}/{action.mask:#x}"]
    if isinstance(action, RestoreMark):
        return ["-j", "CONNMARK", "--restore-mark", *_masks(action.mask)]
    if isinstance(action, SaveMark):
        return ["-j", "CONNMARK", "--save-mark", *_masks(action.mask)]
    if isinstance(action, Jump):
        return ["-j", action.chain]
    if isinstance(action, Goto):
        return ["-g", action.chain]
    if isinstance(action, Return):
        return ["-j", "RETURN"]
    if isinstance(action, Log):
        return ["-j", "LOG", "--log-prefix", action.prefix, "--log-level", str(action.level)]
    assert isinstance(action, AddToSet)
    return ["-j", "SET", "--add-set", action.name, action.direction, "--exist"]


def _masks(mask: int) -> list[str]:
    return ["--nfmask", f"{mask:#x}", "--ctmask", f"{mask:#x}"]
