"""Prometheus' text format for metrics, version 0.0.4. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/ has the format: for each metric its HELP and TYPE, then its
samples, one a line, each with another set of labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

#: Labels, and a value.
Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class Metric:
    """A metric. ``kind``: a counter never falls but to 0, and its name ends in ``_total``. ``help``: one sentence."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: tuple[Sample, ...]


def render(metrics: Iterable[Metric]) -> str:
    """Metrics as text; one without samples is left out.

    Raises ValueError for names that the format has not, and for what would make a scrape fail: a metric or a set of
    labels that comes twice.
    """
    lines: list[str] = []
    seen: set[str] = set()
    for metric in metrics:
        if not _METRIC.fullmatch(metric.name) or metric.name in seen:
            raise ValueError(f"{metric.name!a} is no name of a metric, or comes twice")
        if metric.name.endswith("_total") != (metric.kind == "counter"):
            raise ValueError(f"{metric.name}: counters, and no others, end in _total")
        seen.add(metric.name)
        if metric.samples:
            lines += [f"# HELP {metric.name} {_escaped(metric.help)}", f"# TYPE {metric.name} {metric.kind}"]
            lines += _samples(metric)
    return "".join(f"{line}\n" for line in lines)


def _samples(metric: Metric) -> list[str]:
    lines: dict[str, float] = {}
    for labels, value in metric.samples:
        if not all(map(_LABEL.fullmatch, labels)):
            raise ValueError(f"{metric.name}: {list(labels)} are no names of labels")
        inner = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items())
        place = f"{metric.name}{{{inner}}}" if inner else metric.name
        if place in lines:
            raise ValueError(f"{place} comes twice")
        lines[place] = value
    return [f"{place} {_number(value)}" for place, value in lines.items()]


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(text: str) -> str:
    """Text for a line of its own. Bytes that are no UTF-8 cannot be said in this format."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return readable.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
