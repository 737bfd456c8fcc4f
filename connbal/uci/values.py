"""Single UCI values: from text to a checked value. Pure; every parser takes one trimmed text and its OptionSpec.

A parser raises :class:`BadValue`, whose text says what the value is not ("is not a whole number"). What would be
right is said by :func:`expected`, from the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from connbal.uci.schema import Kind, OptionSpec

#: Characters of a value that a message shows before it cuts.
SHOWN = 40
#: What may stand around a value and between values: ASCII blanks only, others are part of the value and make it bad.
BLANKS = " \t\r\n\v\f"

_DIGITS = re.compile(r"[0-9]+\Z")
_DECIMAL = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z%]*)\Z", re.ASCII)
_HEX = re.compile(r"0[xX][0-9a-fA-F]+\Z")
_SEPARATORS = re.compile(f"[{BLANKS},]+")

#: More digits than any range here needs; longer texts are never turned into numbers (int() is quadratic).
_MAX_DIGITS = 20

_TRUE = frozenset(("1", "on", "true", "yes", "enabled"))
_FALSE = frozenset(("0", "off", "false", "no", "disabled"))

_SECONDS_IN = {"": 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_MILLISECONDS_IN = {"": 1.0, "ms": 1.0, "s": 1000.0}
_PERCENT_IN = {"": 1.0, "%": 1.0}

_MASK_BITS = 3


_Number = TypeVar("_Number", int, float)


class BadValue(ValueError):
    """A value that an option does not take; the text continues a sentence that begins with the value."""


def shown(value: str) -> str:
    """A value for a message: quoted, at most SHOWN characters of it, nothing in it but visible ASCII."""
    return ascii(value) if len(value) <= SHOWN else f"{value[:SHOWN]!a}..."


def trim(value: str) -> str:
    """A value without the blanks around it."""
    return value.strip(BLANKS)


def words(value: str) -> list[str]:
    """The values in one string with blanks or commas between them."""
    return [word for word in _SEPARATORS.split(value) if word]


def parse_bool(text: str, spec: OptionSpec) -> bool:
    """A boolean as UCI's shell library knows it, in any case."""
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise BadValue("is neither yes nor no")


def digits(text: str) -> int:
    """A number of ASCII decimal digits. Leading zeros do not make it octal: ``08`` is 8.

    Raises BadValue for anything else: signs, ``1e3``, ``1_000``, digits of other scripts, endless numbers.
    """
    if not _DIGITS.match(text):
        raise BadValue("is not a whole number")
    significant = text.lstrip("0") or "0"
    if len(significant) > _MAX_DIGITS:
        raise BadValue("is too large")
    return int(significant)


def parse_int(text: str, spec: OptionSpec) -> int:
    return _in_range(digits(text), spec)


def _in_range(number: _Number, spec: OptionSpec) -> _Number:
    if spec.low is not None and number < spec.low:
        raise BadValue("is too small")
    if spec.high is not None and number > spec.high:
        raise BadValue("is too large")
    return number


def _measure(units: dict[str, float], what: str) -> Callable[[str, OptionSpec], float]:
    """A parser for a decimal fraction with one of ``units`` behind it; the value is in the unit ``""`` stands for."""

    def parse(text: str, spec: OptionSpec) -> float:
        match = _DECIMAL.match(text.lower())
        if match is None or match.group(2) not in units:
            raise BadValue(f"is not {what}")
        if len(text) > 2 * _MAX_DIGITS:
            raise BadValue("has too many digits")
        # Rounded because 200 * 0.001 and its like carry a binary error that would show up in every message.
        return _in_range(round(float(match.group(1)) * units[match.group(2)], 6), spec)

    return parse


parse_seconds = _measure(_SECONDS_IN, "a time")
parse_milliseconds = _measure(_MILLISECONDS_IN, "a time")
parse_percent = _measure(_PERCENT_IN, "a percentage")


def parse_whole_seconds(text: str, spec: OptionSpec) -> int:
    seconds = parse_seconds(text, spec)
    if seconds != int(seconds):
        raise BadValue("is not a whole number of seconds")
    return int(seconds)


def parse_mask(text: str, spec: OptionSpec) -> int:
    """A mark mask, hexadecimal with ``0x`` or decimal, in 32 bits and with at least 3 of them set."""
    if _HEX.match(text):
        significant = text[2:].lstrip("0") or "0"
        number = int(significant, 16) if len(significant) <= 8 else 1 << 32
    else:
        number = digits(text)
    if number > 0xFFFFFFFF:
        raise BadValue("has more than 32 bits")
    if bin(number).count("1") < _MASK_BITS:
        raise BadValue(f"has fewer than {_MASK_BITS} bits set")
    return number


def parse_choice(text: str, spec: OptionSpec) -> Any:
    lowered = text.lower()
    lowered = spec.synonyms.get(lowered, lowered)
    if lowered not in spec.choices:
        raise BadValue("is not one of the possible values")
    return spec.choices[lowered]


def parse_table(text: str, spec: OptionSpec) -> int:
    """A routing table's number, none of the kernel's own three."""
    if not _DIGITS.match(text):
        raise BadValue("is not a number, and names of routing tables are not looked up")
    number = parse_int(text, spec)
    if 253 <= number <= 255:
        raise BadValue("is a table of the kernel's own (default, main, local)")
    return number


def parse_reference(text: str, spec: OptionSpec) -> str:
    """Any text: whether it names something is found out once all sections are known."""
    return text


def expected(spec: OptionSpec) -> str:
    """What an option takes, in words, for the remedy of a finding and for help texts."""
    if spec.kind is Kind.CHOICE:
        return f"{'any of' if spec.is_list else 'one of'} {', '.join(spec.choices)}"
    text = _EXPECTED[spec.kind]
    if spec.low is None:
        return text
    unit = f" {spec.unit}" if spec.unit else ""
    return f"{text} from {spec.low} to {spec.high}{unit}"


_EXPECTED = {
    Kind.BOOL: "1 or 0",
    Kind.INT: "a whole number",
    Kind.SECONDS: "a time (5, 0.2, 200ms, 1m)",
    Kind.WHOLE_SECONDS: "a time in whole seconds (600, 10m)",
    Kind.MILLISECONDS: "a time in milliseconds (500, 0.5s)",
    Kind.PERCENT: "a percentage",
    Kind.MASK: f"a number such as 0x3F00 with at least {_MASK_BITS} of 32 bits set",
    Kind.TABLE: "the number of a routing table, not 253 to 255,",
    Kind.REFERENCE: "the name of a section",
    Kind.HOST: "an IPv4 or IPv6 address or a host name",
    Kind.ADDRESS: "addresses (192.0.2.1), networks (192.0.2.0/24, 2001:db8::/32) or ranges (192.0.2.1-192.0.2.9), "
    "either all or none with ! before them",
    Kind.PORT: "ports (443) or ranges (1024:2048) from 0 to 65535",
    Kind.PROTOCOL: "protocols by name (tcp, udp, icmp, esp) or by number from 1 to 255, or all",
    Kind.NETWORK: "names of networks (lan) of letters, digits and . _ -",
    Kind.MAC: "MAC addresses (00:11:22:aa:bb:cc)",
    Kind.SET: "the name of an ipset, 1 to 31 characters of letters, digits and . _ : + -",
}
