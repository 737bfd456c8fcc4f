"""What a hostile user of LuCI sends: random calls of ubus methods with arguments that make sense, and that do not."""

from __future__ import annotations

import copy
import random
from typing import Any

from connbal.rpcd import methods
from connbal.rpcd.methods import Argument, Method
from connbal.uci.schema import SECTIONS
from tests.router.watch import MARK

#: Each would leave a file, a rule or a line behind if anybody took it for more than a text.
TEXTS = (
    f"$(touch /tmp/{MARK})", f"`touch /tmp/{MARK}`", f"; touch /tmp/{MARK};", f"' ; touch /tmp/{MARK} #",
    f'" ; touch /tmp/{MARK} #', f"| touch /tmp/{MARK}", f"& touch /tmp/{MARK}", f"\ntouch /tmp/{MARK}\n",
    f"wan\noption enabled '1'\nconfig rule '{MARK}'", f"wan'\n\toption {MARK} '1", f"../../tmp/{MARK}", f"/tmp/{MARK}",
    f"--config-dir=/tmp/{MARK}", f"--run-dir=/tmp/{MARK}", f"-j {MARK}", f"COMMIT\n*nat\n-N {MARK}", f"\\\n{MARK}",
    f"{MARK}\x00.sh", f"\x1b]0;{MARK}\x07", f"\udcff\udcfe{MARK}", f"\ud800{MARK}", f"%s%n{MARK}", "--help", "--json",
    "--", "-", "", " ", "@rule[0]", "@rule[-1]", "@rule[99999999999]", "globals", "*", "!", "0", "-1", "1e309",
    "9" * 500, "A" * 1024, "A" * 5000, "é" * 1024, "\t", "\r\n", "::", "0.0.0.0/0", "1.2.3.4-1.2.3.9", "wan.wan1",
)  # fmt: skip
#: What is no text where one is wanted.
OTHERS: tuple[Any, ...] = (None, True, False, 0, -1, 1.5, 1e308, 2**63, [], {}, [[]], [{}], {"a": {"b": []}}, [None])
_NAMES = ("wan", "wan1", "wan_m", "wan1_m", "balanced", "everything", "extra", "made", "made2")
_VALUES = ("1", "0", "wan", "wan_m", "balanced", "tcp", "80,443", "192.168.1.7", "ipv4", "ping", "unreachable",
           "203.0.113.7")  # fmt: skip
#: Calls that change something, in a configuration of :func:`tests.router.configs.balanced`.
_GOOD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("set", {"type": "member", "name": "wan_m", "options": {"weight": "3", "metric": "1"}}),
    ("set", {"type": "interface", "name": "wan1", "options": {"track_ip": ["203.0.113.7"], "down": "3"}, "unset": []}),
    ("set", {"type": "globals", "options": {"logging": "1", "loglevel": "info"}}),
    ("add", {"type": "rule", "name": "made", "options": {"src_ip": "192.168.1.7", "use_policy": "balanced"}}),
    ("add", {"type": "member", "name": "made2", "options": {"interface": "wan"}}),
    ("move", {"name": "everything", "place": "first"}),
    ("rename", {"type": "rule", "name": "everything", "new": "made"}),
    ("delete", {"type": "member", "name": "wan1_m", "cascade": True}),
    ("setup", {"scenario": "failover", "options": {"interfaces": ["wan", "wan1"], "name": "made"}}),
    ("setup", {"scenario": "split", "options": {"shares": {"wan": 2, "wan1": 1}, "ip": "192.168.1.7"}}),
)  # fmt: skip


def call(chance: random.Random, name: str, writing: bool) -> tuple[str, dict[str, Any]]:
    """A method of an object, of those that write or of those that do not, and its arguments."""
    if writing and chance.random() < 0.5:
        return _nearly(chance)
    table = [one for one in methods.OBJECTS[name] if one.writes == writing]
    method = chance.choice(table)
    while method.name in ("diagnose", "status", "apply") and chance.random() < 0.8:  # slow ones, with little to say
        method = chance.choice(table)
    return method.name, arguments(chance, method)


def _nearly(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """A call that would work, but for one thing, mostly."""
    method, good = copy.deepcopy(chance.choice(_GOOD))
    if chance.random() < 0.7:
        table = good["options"] if "options" in good and chance.random() < 0.7 else good
        name = chance.choice(list(table))
        value = table.pop(name)
        new = _text(chance) if chance.random() < 0.7 else _any(chance)
        if isinstance(value, list) and value and chance.random() < 0.7:
            new = [*value, new]
        table[_text(chance) if chance.random() < 0.1 else name] = new
    return method, good


def arguments(chance: random.Random, method: Method) -> dict[str, Any]:
    """Arguments of a method, of which each may be as it should be, hostile, or missing."""
    given: dict[str, Any] = {}
    for one in method.arguments:
        if chance.random() < (0.95 if one.required else 0.7):
            given[one.name] = _value(chance, one, given)
    if chance.random() < 0.1:
        given[_text(chance)] = _any(chance)
    return given


def _value(chance: random.Random, one: Argument, given: dict[str, Any]) -> Any:
    if chance.random() < 0.12:
        return _any(chance)
    if one.words:
        return chance.choice(one.words)
    if one.kind == "table":
        return _options(chance, given)
    if one.kind == "array":
        return [_text(chance) for _ in range(chance.randint(0, 4))]
    return chance.random() < 0.5 if one.kind == "flag" else _text(chance, names=_NAMES)


def _options(chance: random.Random, given: dict[str, Any]) -> Any:
    """Options of a section or of a scenario, most of them known, with values of which some are good."""
    kind = str(given.get("type", given.get("scenario", "rule")))
    known = list(SECTIONS[kind].options) if kind in SECTIONS else ["interfaces", "shares", "ip", "use", "else", "name"]
    made: dict[str, Any] = {}
    for _ in range(chance.randint(0, 4)):
        option = chance.choice(known) if chance.random() < 0.9 else _text(chance)
        made[option] = _text(chance, names=_VALUES) if chance.random() < 0.7 else _any(chance)
        if option == "shares" and chance.random() < 0.7:
            made[option] = {_text(chance, names=_NAMES): chance.choice((1, 2, 0, -1, "1", 10**9))}
    return made


def _any(chance: random.Random) -> Any:
    """Anything that JSON has."""
    dice = chance.random()
    if dice < 0.4:
        return chance.choice(OTHERS)
    if dice < 0.5:
        return [_text(chance)] * chance.choice((1, 2, 255, 257, 2000))
    if dice < 0.6:
        deep: Any = _text(chance)
        for _ in range(chance.choice((2, 20, 400))):
            deep = [deep] if chance.random() < 0.5 else {"a": deep}
        return deep
    if dice < 0.7:
        return {f"{_text(chance)}{number}": _text(chance) for number in range(chance.choice((1, 300)))}
    return [_text(chance), _text(chance)] if dice < 0.8 else _text(chance)


def _text(chance: random.Random, names: tuple[str, ...] = ()) -> str:
    if names and chance.random() < 0.5:
        return chance.choice(names)
    if chance.random() < 0.2:
        return chance.choice(TEXTS) + chance.choice(TEXTS)
    return chance.choice(TEXTS)
