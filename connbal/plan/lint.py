"""Lint: what is not wrong in a configuration, but probably not meant. Pure.

Faults that cost a section or an option are found when it is decoded. The checks here look at what was decoded, and
each has a stable code, a severity and a remedy. They are small functions in a registry; ``docs/checks.md`` lists them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from connbal.errors import Finding
from connbal.model.checks import Check
from connbal.plan import lint_interfaces, lint_policies, lint_rules
from connbal.plan.lint_subject import REGISTRY, Subject

__all__ = ["CHECKS", "Subject", "lint"]

_MODULES = (lint_rules, lint_policies, lint_interfaces)  # each has registered its checks

#: Every check by its code.
CHECKS: Mapping[str, Check[Subject]] = REGISTRY.checks


def lint(subject: Subject) -> Iterator[Finding]:
    """What every check finds."""
    for check in CHECKS.values():
        yield from check.findings(subject)
