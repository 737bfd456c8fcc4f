"""The state that a balancer can change in a namespace, as text that can be compared."""

from __future__ import annotations

import re
import shutil

from tests.lab.node import Node

_MARK = "=== "
_SCRIPT = [
    ("ip -4 rule", "ip -4 rule show"),
    ("ip -6 rule", "ip -6 rule show"),
    ("ip -4 route", "ip -4 route show table all"),
    ("ip -6 route", "ip -6 route show table all"),
]
_SAVES = ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save")

# What changes by itself: ages, packet counts, and carrier, which is the lab's doing.
_VOLATILE = re.compile(r" expires -?\d+sec| used \d+| age \d+sec| linkdown\b| dead\b")
_COUNTERS = re.compile(r"\[\d+:\d+\]")
_MEMBER = re.compile(r" (timeout|packets|bytes) \d+")


def snapshot(node: Node) -> str:
    """Rules, routes of all tables, both kinds of iptables and sets of a namespace, normalised.

    Counters, ages and comments are left out. A table that holds nothing but built-in chains with policy
    ACCEPT counts as absent: looking at one can create it, and nothing can remove it again.
    """
    commands = list(_SCRIPT)
    commands += [(name, name) for name in _SAVES if shutil.which(name)]
    if shutil.which("ipset"):
        commands.append(("ipset", "ipset save"))
    script = "\n".join(f"echo '{_MARK}{title}'; {command} 2>&1" for title, command in commands)
    output = node.run(["sh", "-c", script], check=False).stdout
    parts = []
    for part in output.split(_MARK)[1:]:
        title, _, text = part.partition("\n")
        parts.append(f"{_MARK}{title}\n{_normalise(title, text)}")
    return "".join(parts)


def _normalise(title: str, text: str) -> str:
    if "tables" in title:
        return _tables(text)
    if title == "ipset":
        lines = text.splitlines()
        # The hash decides the order of members.
        return _join(
            [line for line in lines if not line.startswith("add ")]
            + sorted(_MEMBER.sub("", line) for line in lines if line.startswith("add "))
        )
    lines = [_VOLATILE.sub("", line).rstrip() for line in text.splitlines()]
    return _join(sorted(lines) if "route" in title else lines)


def _tables(text: str) -> str:
    """iptables-save output without comments, counters and tables that nobody uses."""
    kept: list[list[str]] = []
    table: list[str] = []
    for raw in text.splitlines():
        line = _COUNTERS.sub("", raw).rstrip()
        if line.startswith("#"):
            continue
        table.append(line)
        if line == "COMMIT":
            used = [entry for entry in table[1:-1] if not re.fullmatch(r":\S+ ACCEPT", entry)]
            kept += [table] if used else []
            table = []
    # nft lists tables in the order of their making.
    return _join([line for lines in sorted(kept) for line in lines] + table)


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines if line.strip())
