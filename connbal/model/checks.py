"""Checks: small functions that look at a configuration, each with a stable code, a severity and one line of doc."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from connbal.errors import Finding, Severity
from connbal.model.config import PACKAGE
from connbal.model.names import label

S = TypeVar("S")


@dataclass(frozen=True)
class Hit:
    """What a check found. ``section`` empty: it is about the whole file; ``option`` empty: about the section."""

    section: str
    option: str
    message: str  #: what is so, without the place
    remedy: str = ""  #: what to do; the exact command where there is one


@dataclass(frozen=True)
class Check(Generic[S]):
    """One check of the registry. ``doc`` is one line without a final full stop."""

    code: str
    severity: Severity
    doc: str
    run: Callable[[S], Iterable[Hit]]

    def findings(self, subject: S) -> Iterator[Finding]:
        """What it finds in ``subject``. Never raises for anything a configuration can say."""
        for hit in self.run(subject):
            place = ".".join(part for part in (PACKAGE, label(hit.section, 255), hit.option) if part)
            yield Finding(self.severity, self.code, place, hit.message, hit.remedy)


class Registry(Generic[S]):
    """Checks by code, in the order in which they run."""

    def __init__(self) -> None:
        self.checks: dict[str, Check[S]] = {}

    def add(
        self, code: str, severity: Severity, doc: str
    ) -> Callable[[Callable[[S], Iterable[Hit]]], Callable[[S], Iterable[Hit]]]:
        """A decorator that registers a function under a code that no other check has."""
        assert code not in self.checks, code

        def register(run: Callable[[S], Iterable[Hit]]) -> Callable[[S], Iterable[Hit]]:
            self.checks[code] = Check(code, severity, doc, run)
            return run

        return register


def listed(names: Iterable[str], limit: int = 4) -> str:
    """``a``, ``a and b``, ``a, b and c``; from more than ``limit`` on ``a, b, c and 7 more``."""
    shown = [label(name) for name in names]
    if len(shown) > limit:
        shown = [*shown[: limit - 1], f"{len(shown) - limit + 1} more"]
    return joined(shown)


def joined(texts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))
