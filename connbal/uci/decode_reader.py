"""One UCI section against its table: every option read, every fault reported, the rest defaulted."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from connbal.errors import Finding, Severity
from connbal.model.config import PACKAGE
from connbal.model.names import label
from connbal.uci import decode_match as match
from connbal.uci import values
from connbal.uci.package import Section, Value
from connbal.uci.schema import SECTIONS, Cost, Kind, OptionSpec, SectionSpec
from connbal.uci.values import BadValue, shown

#: From one trimmed word to a value, or for lists to a tuple of values.
PARSERS: Mapping[Kind, Callable[[str, OptionSpec], Any]] = {
    Kind.BOOL: values.parse_bool,
    Kind.INT: values.parse_int,
    Kind.SECONDS: values.parse_seconds,
    Kind.WHOLE_SECONDS: values.parse_whole_seconds,
    Kind.MILLISECONDS: values.parse_milliseconds,
    Kind.PERCENT: values.parse_percent,
    Kind.MASK: values.parse_mask,
    Kind.CHOICE: values.parse_choice,
    Kind.TABLE: values.parse_table,
    Kind.REFERENCE: values.parse_reference,
    Kind.HOST: match.parse_host,
    Kind.ADDRESS: match.parse_addresses,
    Kind.PORT: match.parse_port,
    Kind.PROTOCOL: match.parse_protocol,
    Kind.NETWORK: match.parse_network,
    Kind.MAC: match.parse_mac,
    Kind.SET: match.parse_set,
}

#: From the values of a list to what the model holds, where that is not simply their tuple.
FINISHERS: Mapping[Kind, Callable[[Iterable[Any]], Any]] = {
    Kind.ADDRESS: match.to_match,
    Kind.PROTOCOL: match.to_protocols,
    Kind.CHOICE: frozenset,
}

#: Bad entries of one list that get a finding each; the others are only counted.
MAX_REPORTED = 5
#: Unknown names per configuration for which the nearest known one is searched, and known names searched: difflib is
#: slow, and where everything is wrong, nobody reads the hundredth suggestion.
MAX_SUGGESTIONS = 20
MAX_CANDIDATES = 500
#: Longer texts are not compared at all.
MAX_COMPARED = 64

_NAME = re.compile(r"[A-Za-z0-9_]+\Z")


def is_name(text: str) -> bool:
    """Whether libuci would take a text as a section's name: ASCII letters, digits and ``_``."""
    return _NAME.match(text) is not None


class Report:
    """The findings of one decoding, in order, and the search for what a mistyped name may have meant."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._suggestions = MAX_SUGGESTIONS

    def add(self, severity: Severity, code: str, place: str, message: str, remedy: str = "") -> None:
        self.findings.append(Finding(severity, code, place, message, remedy))

    def nearest(self, name: str, known: Collection[str]) -> str | None:
        """The known name that resembles ``name`` most, or None."""
        if self._suggestions <= 0 or len(name) > MAX_COMPARED:
            return None
        self._suggestions -= 1
        return close_match(name, itertools.islice(known, MAX_CANDIDATES), 0.6)


def close_match(name: str, known: Iterable[str], cutoff: float) -> str | None:
    """The member of ``known`` that resembles ``name`` most, letter case aside; None where none is near enough."""
    import difflib  # only where something is wrong

    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 1, cutoff)
    return by_lower[found[0]] if found else None


class Reader:
    """One section while it is decoded.

    ``index``: 0-based position among all sections of its type, as in ``@rule[2]``.
    """

    def __init__(self, report: Report, section: Section, index: int) -> None:
        self.report, self.section = report, section
        self.spec: SectionSpec = SECTIONS[section.type]
        self.name: str = section.name
        self._also = f" (@{section.type}[{index}])" if section.anonymous else ""

    def place(self, option: str = "") -> str:
        """``mwan3.SECTION.OPTION``, in plain ASCII whatever the section is called."""
        place = f"{PACKAGE}.{label(self.name, limit=255)}"
        return f"{place}.{option}" if option else place

    def error(self, code: str, option: str, message: str, remedy: str = "") -> None:
        self._add(Severity.ERROR, code, option, message, remedy)

    def warn(self, code: str, option: str, message: str, remedy: str = "") -> None:
        self._add(Severity.WARNING, code, option, message, remedy)

    def note(self, code: str, option: str, message: str, remedy: str = "") -> None:
        self._add(Severity.INFO, code, option, message, remedy)

    def _add(self, severity: Severity, code: str, option: str, message: str, remedy: str) -> None:
        self.report.add(severity, code, self.place(option), message + self._also, remedy)

    def read(self) -> dict[str, Any] | None:
        """The attributes of the model's value, or None where the section has to be left out. Reports all faults."""
        fields: dict[str, Any] = {}
        usable = True
        for spec in self.spec.options.values():
            try:
                value = self.option(spec)
            except BadValue as bad:
                self._bad(spec, str(bad))
                usable = usable and spec.cost is not Cost.SECTION
                value = None
            else:
                if value is None and spec.required:
                    self._missing(spec)
                    usable = False
            fields[spec.target] = self._default(spec, fields) if value is None else value
        self._misspelt()
        return fields if usable else None

    def _default(self, spec: OptionSpec, fields: Mapping[str, Any]) -> Any:
        if spec.default_from:
            return fields[self.spec.options[spec.default_from].target]
        return defaults(self.spec.type)[spec.target]

    def option(self, spec: OptionSpec) -> Any:
        """The value of one option, or None where it is absent. An empty text is no value, as for mwan3.

        Raises BadValue where the value costs more than a list entry; the others are reported here.
        """
        raw = self.section.options.get(spec.name, ())
        texts = [text for text in ((raw,) if isinstance(raw, str) else raw) if text]
        if not texts:
            return None
        if spec.is_list:
            return self._list(spec, texts)
        if len(texts) > 1:
            raise BadValue(f"{len(texts)} values are given where one is wanted")
        return _scalar(spec, values.trim(texts[0]), texts[0])

    def _list(self, spec: OptionSpec, texts: list[str]) -> Any:
        """All values of a list. A bad one costs itself, or, where the section hangs on it, raises BadValue."""
        good: list[Any] = []
        bad: list[str] = []
        for word in _words(spec, texts):
            try:
                value = PARSERS[spec.kind](word, spec)
            except BadValue as fault:
                bad.append(f"{shown(word)} {fault}")
            else:
                good.extend(value if isinstance(value, tuple) else (value,))
        if spec.cost is Cost.SECTION:
            if bad:
                raise BadValue(bad[0] if len(bad) == 1 else f"{bad[0]}, and so for {len(bad) - 1} more")
            if not good:
                raise BadValue("nothing but separators is given")
        self._bad_items(spec, bad)
        unique = tuple(dict.fromkeys(good))
        if spec.cost is Cost.ITEM and len(unique) < len(good):
            self.warn("duplicate-value", spec.name, "a value is given more than once; it counts once")
        return FINISHERS.get(spec.kind, tuple)(unique)

    def _bad_items(self, spec: OptionSpec, bad: list[str]) -> None:
        for fault in bad[:MAX_REPORTED]:
            self._bad(spec, fault)
        if len(bad) > MAX_REPORTED:
            self._bad(spec, f"the same is true of {len(bad) - MAX_REPORTED} more values")

    def _missing(self, spec: OptionSpec) -> None:
        self.error(
            "missing-option", spec.name, f"the option is missing: the {self.spec.type} is left out",
            f"give the name of a section of type {spec.refers_to}",
        )  # fmt: skip

    def _bad(self, spec: OptionSpec, fault: str) -> None:
        self.error("bad-value", spec.name, f"{fault}: {self._loss(spec)}", f"give {values.expected(spec)}")

    def _loss(self, spec: OptionSpec) -> str:
        """What becomes of a bad value."""
        if spec.cost is Cost.SECTION:
            return f"the {self.spec.type} is left out"
        if spec.default_from:
            return f"the value of {spec.default_from} is used"
        if spec.cost is Cost.ITEM or spec.default is None:
            return "it is ignored"
        return f"the default, {spec.default}, is used"

    def _misspelt(self) -> None:
        """Say which option an unknown one was probably meant to be. Unknown options that resemble none are fine."""
        known = self.spec.options
        for option in self.section.options:
            if option in known or option in self.spec.ignored or not is_name(option):
                continue
            meant = _known_option(self.spec.type, option)
            if meant is not None:
                self.warn("unknown-option", option, "there is no such option; it is ignored", f"did you mean {meant}?")


def read_section(section: Section, index: int) -> tuple[dict[str, Any] | None, tuple[Finding, ...]]:
    """As :meth:`Reader.read`, with what is wrong with the section by itself."""
    report = Report()
    fields = Reader(report, section, index).read()
    return fields, tuple(report.findings)


def _words(spec: OptionSpec, texts: list[str]) -> Iterable[str]:
    for text in texts:
        yield from values.words(match.join_negation(text) if spec.kind is Kind.ADDRESS else text)


def _scalar(spec: OptionSpec, text: str, given: str) -> Any:
    """One value. A BadValue from here begins with the value as it was given."""
    try:
        if not text:
            raise BadValue("is blank")
        return PARSERS[spec.kind](text, spec)
    except BadValue as fault:
        raise BadValue(f"{shown(given)} {fault}") from None


@functools.lru_cache(maxsize=256)
def _known_option(section_type: str, option: str) -> str | None:
    """The option that an unknown one was probably meant to be."""
    return close_match(option, SECTIONS[section_type].options, 0.8) if len(option) <= MAX_COMPARED else None


def check_option(section_type: str, option: str, value: Value) -> tuple[Finding, ...]:
    """What is wrong with one value of one known option, by itself: for commands that are about to write it."""
    spec = SECTIONS[section_type].options[option]
    report = Report()
    reader = Reader(report, Section(option, section_type, options={option: value}), 0)
    try:
        reader.option(spec)
    except BadValue as bad:
        report.add(Severity.ERROR, "bad-value", option, str(bad), f"give {values.expected(spec)}")
    return tuple(replace(finding, place=option) for finding in report.findings)


@functools.cache
def defaults(section_type: str) -> Mapping[str, Any]:
    """What each attribute of a section's value is where its option is absent (``default_from`` aside)."""
    return {spec.target: _default_of(spec) for spec in SECTIONS[section_type].options.values()}


def _default_of(spec: OptionSpec) -> Any:
    if spec.default is not None:
        return PARSERS[spec.kind](spec.default, spec)
    if not spec.is_list or spec.kind is Kind.ADDRESS:
        return None
    return FINISHERS.get(spec.kind, tuple)(())
