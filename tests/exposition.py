"""A strict reader of Prometheus' text format, version 0.0.4: what it takes, a server takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_HELP = re.compile(rf"# HELP ({_NAME}) (.*)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram|summary|untyped)")
_SAMPLE = re.compile(rf"({_NAME})(\{{.*\}})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
_VALUE = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|NaN|[+-]Inf", re.IGNORECASE)
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Labels = frozenset[tuple[str, str]]


@dataclass
class Family:
    """A metric with its samples."""

    help: str
    kind: str
    samples: dict[Labels, float] = field(default_factory=dict)

    def value(self, **labels: str) -> float:
        return self.samples[frozenset(labels.items())]


def read(text: str) -> dict[str, Family]:
    """Metrics by name. AssertionError for whatever the format does not allow, or a server would refuse or warn of."""
    assert text.endswith("\n")
    text.encode("utf-8")
    families: dict[str, Family] = {}
    current, help_ = "", None
    for line in text[:-1].split("\n"):
        if match := _HELP.fullmatch(line):
            current, help_ = match[1], _unescaped(match[2])
            assert current not in families, f"{current} is not in one piece"
        elif match := _TYPE.fullmatch(line):
            assert help_ is not None, f"{line}: HELP comes first, once"
            assert match[1] == current, line
            families[current] = Family(help_, match[2])
            assert current.endswith("_total") == (match[2] == "counter"), line
            help_ = None
        else:
            match = _SAMPLE.fullmatch(line)
            assert match is not None, f"no sample: {line!r}"
            assert match[1] == current, f"{line}: not below its TYPE"
            assert current in families, f"{line}: not below its TYPE"
            assert _VALUE.fullmatch(match[3]), line
            labels = _labels(match[2] or "")
            assert labels not in families[current].samples, f"twice: {line}"
            families[current].samples[labels] = float(match[3])
    assert all(family.samples for family in families.values())
    return families


def _labels(text: str) -> Labels:
    if not text:
        return frozenset()
    inner, at, found = text[1:-1], 0, []
    while at < len(inner):
        match = _LABEL.match(inner, at)
        assert match is not None, f"no label: {inner[at:]!r}"
        found.append((match[1], _unescaped(match[2])))
        at = match.end()
        if at < len(inner):
            assert inner[at] == ",", inner
            at += 1
    assert len({name for name, _ in found}) == len(found), f"a label twice: {text}"
    return frozenset(found)


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPES[match[0]], text)
