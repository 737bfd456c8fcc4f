"""What iptables-save and iptables-restore print: chains with their rules, and the line that is to blame."""

from __future__ import annotations

from collections.abc import Iterator

from connbal.kernel.ipset import _complaint
from connbal.kernel.xtables import blame, parse_counters, parse_save

TOKENS = (b"*mangle\n", b"COMMIT\n", b":PREROUTING ACCEPT [0:0]\n", b"-A PREROUTING -j mwan3_hook\n", b"[1:60] ",
          b"*filter\n",
          b'-m comment --comment "a\nb"', b'\\"', b"line 3: RULE_APPEND failed (Invalid argument)",
          b"Error occurred at line: 2",
          b"line 4 failed", b"Chain 'mwan3_x' does not exist", b"\0", b"Error in line 2: ")  # fmt: skip
_TEXT = b"*mangle\n:mwan3_a - [0:0]\n-A mwan3_a -m mark --mark 0x100/0x3f00 -j RETURN\n-A mwan3_a -j mwan3_x\nCOMMIT\n"


def seeds() -> Iterator[bytes]:
    yield _TEXT + b"\0line 3: RULE_APPEND failed (Invalid argument): rule in chain mwan3_a"
    yield _TEXT + b"\0Chain 'mwan3_x' does not exist"
    yield from (_TEXT + b"\0iptables-restore: line %d failed" % number for number in (0, 5, 99))
    yield _TEXT + b"\0ipset v7.17: Error in line 3: no"
    yield _TEXT + b"\0line 99: RULE_APPEND failed (Invalid argument)"
    quoted = b'[3:180] -A mwan3_a -m comment --comment "a\n\\"b" -j MARK\n'
    yield b"# a\n*mangle\n:mwan3_a - [0:0]\n" + quoted + b"COMMIT\n*nat\n-A x\n"


def check(data: bytes) -> None:
    text, _, said = (part.decode("utf-8", "surrogateescape") for part in data.partition(b"\0"))
    counted = parse_counters(text)
    plain = parse_save(text)
    assert set(counted) == set(plain)
    for chain, rules in counted.items():
        assert tuple(one.rule for one in rules) == plain[chain]
        assert all(one.packets >= 0 and one.bytes >= 0 for one in rules)
    lines = text.split("\n")
    number = blame(text, said)
    assert number is None or 0 < number <= len(lines)
    error = _complaint(lines, said)
    assert error.line is None or error.line in lines
