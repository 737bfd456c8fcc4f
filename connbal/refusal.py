"""Finding the section whose lines the kernel refuses, when a whole transaction was refused for it.

Programs name the line where they can (a bad option, an unknown set), the kernel often does not: it refuses the commit
and no more. Then the suspects' lines are tried in a chain nobody jumps to, all, then halves, until the culprits stand
alone; the chain is taken away again. No packet ever sees it.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence

from connbal.errors import KernelError
from connbal.kernel.api import TransientError, Xtables
from connbal.model.config import Family
from connbal.plan.diff import Line, Transaction
from connbal.plan.iptables import rule_text
from connbal.plan.values import ChainRule, Goto, Jump, Origin, Return

PROBE = "mwan3_probe"

Suspects = Mapping[Origin, Sequence[Line]]


class SectionsRefused(Exception):
    """The kernel refused what these sections need; nothing of the transaction is in."""

    def __init__(self, reasons: Mapping[Origin, str], *, bpf: bool = False) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons
        self.bpf = bpf


def passing(error: KernelError) -> bool:
    """Whether anything else would have been refused as well: nothing is known by it of what was asked for."""
    return isinstance(error, TransientError) or getattr(error, "code", 0) == errno.EPERM


@contextlib.contextmanager
def blaming(origin: Origin | None) -> Iterator[None]:
    """What the kernel refuses meanwhile, it refuses because of ``origin``; what it lets nobody do is nobody's fault."""
    try:
        yield
    except KernelError as error:
        if origin is None or passing(error):
            raise
        raise SectionsRefused({origin: f"{error}"}) from error


def culprits(
    error: KernelError, transaction: Transaction, family: Family, xtables: Xtables
) -> dict[Origin, tuple[Line, str]]:
    """The sections to blame for ``error``, each with the offending line and what was said of it.

    Empty where no section is: then the transaction fails for a reason that is not in the configuration. Nobody is to
    blame while not even an empty chain goes in, be it only since the search began.
    """
    named = _named_line(error, transaction)
    if named is not None and named.origin is not None:
        return {named.origin: (named, error.output.strip())}
    suspects: dict[Origin, list[Line]] = {}
    for line in transaction.lines:
        if line.origin is not None:
            suspects.setdefault(line.origin, []).append(line)
    if not suspects or _try([], family, xtables) is not None:
        return {}
    found = _search(suspects, family, xtables)
    return found if not found or _try([], family, xtables) is None else {}


def _named_line(error: KernelError, transaction: Transaction) -> Line | None:
    if error.lineno is None or not 0 < error.lineno <= len(transaction.lines):
        return None
    return transaction.lines[error.lineno - 1]


def _search(suspects: Suspects, family: Family, xtables: Xtables) -> dict[Origin, tuple[Line, str]]:
    if not suspects:
        return {}
    lines = [line for group in suspects.values() for line in group]
    said = _try(lines, family, xtables)
    if said is None:
        return {}
    origins = list(suspects)
    if len(origins) == 1:
        return {origins[0]: (_first_bad(lines, family, xtables), said)}
    half = len(origins) // 2
    found: dict[Origin, tuple[Line, str]] = {}
    for part in (origins[:half], origins[half:]):
        found |= _search({origin: suspects[origin] for origin in part}, family, xtables)
    return found


def _first_bad(lines: Sequence[Line], family: Family, xtables: Xtables) -> Line:
    for line in lines[:-1]:
        if _try([line], family, xtables) is not None:
            return line
    return lines[-1]


def _try(lines: Sequence[Line], family: Family, xtables: Xtables) -> str | None:
    """What the kernel says against ``lines``, or None where it takes them."""
    text = ["*mangle", f":{PROBE} - [0:0]"]
    text += [f"-A {PROBE} {rule_text(_alone(line.rule), family)}" for line in lines if line.rule is not None]
    try:
        xtables.restore(family, "\n".join([*text, "COMMIT", ""]))
    except TransientError:
        raise
    except KernelError as error:
        return error.output.strip()
    xtables.restore(family, "\n".join(["*mangle", f":{PROBE} - [0:0]", f"-X {PROBE}", "COMMIT", ""]))
    return None


def _alone(rule: ChainRule) -> ChainRule:
    """``rule`` without what it leads to: a chain that it names may not exist yet."""
    if isinstance(rule.action, Jump | Goto):
        return ChainRule(rule.matches, Return(), rule.comment)
    return rule
