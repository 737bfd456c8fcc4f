"""What connbal may write into a restore file: everything else is a way in. Strict on purpose, and written anew here."""

from __future__ import annotations

import re

_NAME = r"[A-Za-z0-9_.~]"
_CHAIN = rf"mwan3_{_NAME}{{1,22}}"
_SET = r"[A-Za-z0-9_.:+~-]{1,31}"
_HEX = r"0x[0-9a-f]{1,8}"
_ADDRESS = r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:]{2,39})(?:/\d{1,3})?"
_DEVICE = r'(?:[A-Za-z0-9_.:,/~!+@#%=^-]{1,15}|"[A-Za-z0-9_.:,/~!+@#%=^()?\[\]-]{1,15}")'
_COMMENT = r'(?:[A-Za-z0-9_.@~-]+|"[A-Za-z0-9_.@~?\[\]() /:-]+")'
_PORTS = r"\d{1,5}(?::\d{1,5})?(?:,\d{1,5}(?::\d{1,5})?){0,14}"
_WAYS = r"(?:src|dst)(?:,(?:src|dst)){0,2}"

_MATCH = "|".join([
    rf"-m mark (?:! )?--mark {_HEX}/{_HEX}",
    rf"-[io] {_DEVICE}",
    rf"(?:! )?-[sd] {_ADDRESS}",
    rf"-m set (?:! )?--match-set {_SET} {_WAYS}",
    r"-p (?:icmp|tcp|udp|ipv6-icmp|\d{1,3})",
    rf"-m multiport --[sd]ports {_PORTS}",
    r"-m mac --mac-source [0-9a-f]{2}(?::[0-9a-f]{2}){5}",
    r"-m icmp6 --icmpv6-type \d{1,3}",
    r"-m hl --hl-eq \d{1,3}",
    r"-m statistic --mode random --probability 0\.\d{11}",
    r'-m bpf --bytecode "\d+(?:,\d+ \d+ \d+ \d+)+"',
    rf"-m comment --comment {_COMMENT}",
])  # fmt: skip
_ACTION = "|".join([
    rf"-j MARK --set-xmark {_HEX}/{_HEX}",
    rf"-j CONNMARK --(?:save|restore)-mark --nfmask {_HEX} --ctmask {_HEX}",
    rf"-[jg] {_CHAIN}",
    r"-j RETURN",
    rf'-j LOG --log-prefix "?MWAN3\({_NAME}{{1,22}}\)"? --log-level [0-7]',
    rf"-j SET --add-set {_SET} (?:src|dst) --exist",
])  # fmt: skip

#: A line of a file for iptables-restore.
RULES = re.compile("|".join([
    r"\*mangle", "COMMIT", rf":{_CHAIN} - \[0:0\]", rf"-X {_CHAIN}", rf"-[AD] (?:PREROUTING|OUTPUT) -j {_CHAIN}",
    rf"-A {_CHAIN}(?: (?:{_MATCH}))* (?:{_ACTION})",
]), re.ASCII)  # fmt: skip

#: A line of a file for ``ipset restore``.
SETS = re.compile("|".join([
    rf"create {_SET} (?:hash:net|hash:ip|list:set)(?: family inet6?)?(?: (?:maxelem|size) \d+)?(?: timeout \d+)?",
    rf"add {_SET} {_ADDRESS}", rf"rename {_SET} {_SET}", rf"swap {_SET} {_SET}", rf"destroy {_SET}",
]), re.ASCII)  # fmt: skip


def strangers(text: str, grammar: re.Pattern[str]) -> list[str]:
    """The lines of a file that the grammar does not know; a last line without its line feed is one too."""
    *lines, rest = text.split("\n")
    return [line for line in (*lines, *([rest] if rest else [])) if not grammar.fullmatch(line)]
