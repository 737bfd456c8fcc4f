"""Finding the section whose lines the kernel refuses, when a whole transaction was refused for it.

Programs name the line where they can (a bad option, an unknown set), the kernel often does not: it refuses the commit
and no more. Then the suspects' lines are tried in a chain nobody jumps to, all, then halves, until the culprits stand
alone; the chain is taken away again. No packet ever sees it.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator, Mapping, Sequence

from connbal.errors import Finding, KernelError, Severity
from connbal.kernel.api import Routing, TransientError, Xtables
from connbal.model.config import PACKAGE, Affinity, Family
from connbal.model.facts import MainRoute
from connbal.plan.chains import DISCOVERY_ORIGIN, STEER_ORIGIN
from connbal.plan.describe import main_text
from connbal.plan.diff import Line, Transaction
from connbal.plan.iptables import rule_text
from connbal.plan.values import ChainRule, Goto, HashShare, Jump, Origin, Return

PROBE = "mwan3_probe"
#: How many of the routes that could not be copied are told of.
MOST_FINDINGS = 4

#: The code of a finding about a section that was left out.
REFUSED = "refused"

Suspects = Mapping[Origin, Sequence[Line]]

#: What a router can do without, as names of Facts, and what it costs.
DISPENSABLE: Mapping[str, Finding] = {
    "comment": Finding(
        Severity.WARNING, "no-comment", f"{PACKAGE}.globals",
        "iptables does not take comments here, so its listings do not say which rule or interface a line is for; "
        "all else works", "install kmod-ipt-core and iptables whole, then connbal restart",
    ),
    "bpf": Finding(
        Severity.WARNING, "no-bpf", f"{PACKAGE}.globals.affinity",
        f"this kernel cannot match with xt_bpf, so affinity {Affinity.PAIR.value} and {Affinity.SOURCE.value} "
        f"work as {Affinity.CONNECTION.value}", "install kmod-ipt-filter and iptables-mod-filter",
    ),
    "steer": Finding(
        Severity.WARNING, "no-owner", f"{PACKAGE}.globals",
        "this kernel cannot match packets by the group of their process, so connbal use has no effect",
        "install iptables-mod-extra",
    ),
    "hop_limit": Finding(
        Severity.WARNING, "no-hl", f"{PACKAGE}.globals",
        "ip6tables cannot match hop limits here, so neighbour discovery that the router sends to global addresses "
        "outside of its local networks goes by the rules", "install iptables-mod-ipopt",
    ),
}  # fmt: skip
#: The kernel's names of those that it says of itself whether it has them.
MATCHES: Mapping[str, str] = {"comment": "comment", "bpf": "bpf", "hop_limit": "hl"}


class SectionsRefused(Exception):
    """The kernel refused what these sections need; nothing of the transaction is in. ``lacking``: what it refused is
    of these kinds, which can be done without.
    """

    def __init__(self, reasons: Mapping[Origin, str], lacking: Collection[str] = ()) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons, self.lacking = reasons, lacking


def left_out(origin: Origin, said: str) -> Finding:
    """What to say of a section that the kernel refused with these words."""
    return Finding(
        Severity.ERROR, REFUSED, f"{PACKAGE}.{origin.name}", f"the kernel refused {origin}, which is left out: {said}",
        "change the section, or install the kernel module it needs",
    )  # fmt: skip


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


def blame(error: KernelError, transaction: Transaction, family: Family, xtables: Xtables) -> SectionsRefused | None:
    """Who is to blame for ``error``; None where it is nobody, and ``error`` has to be raised."""
    if _takes_no_comment(transaction, family, xtables):
        return SectionsRefused({}, ("comment",))
    found = culprits(error, transaction, family, xtables)
    if not found:
        return None
    kinds = {_kind(origin, line) for origin, (line, _) in found.items()} - {""}
    reasons = {origin: f"{said} (at: {line.text})" for origin, (line, said) in found.items()}
    return SectionsRefused(reasons, kinds)


def _kind(origin: Origin, line: Line) -> str:
    """What of DISPENSABLE a refused line is; empty where it is none."""
    if origin in (STEER_ORIGIN, DISCOVERY_ORIGIN):
        return "steer" if origin == STEER_ORIGIN else "hop_limit"
    uses_bpf = line.rule is not None and any(isinstance(match, HashShare) for match in line.rule.matches)
    return "bpf" if uses_bpf else ""


def _takes_no_comment(transaction: Transaction, family: Family, xtables: Xtables) -> bool:
    """Whether comments are refused. Asked first: nearly every line has one, so all sections would be to blame."""
    if not any(line.rule is not None and line.rule.comment for line in transaction.lines):
        return False
    lines = [Line("", ChainRule((), Return(), "connbal"))]
    return _try(lines, family, xtables) is not None and _try([], family, xtables) is None


def copied(routing: Routing, routes: Sequence[MainRoute]) -> tuple[tuple[MainRoute, ...], list[Finding]]:
    """Copy routes of the main table: those that were, and what there is to say of the others.

    No source has to wait for a route that cannot be copied, as one that has gone since it was seen.
    """
    done, findings = [], []
    for route in routes:
        try:
            routing.copy_route(route)
        except KernelError as error:
            if passing(error):
                raise
            message = f"route {main_text(route)} could not be copied: {error.output.strip()}"
            remedy = "is it there still? Until it is copied, only packets with the mark default follow it"
            findings.append(Finding(Severity.WARNING, "not-copied", f"{PACKAGE}.globals", message, remedy))
        else:
            done.append(route)
    return tuple(done), findings[:MOST_FINDINGS]


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
