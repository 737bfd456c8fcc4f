"""``connbal check``: what is wrong with the configuration, and what is probably not meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from connbal.cli import findings
from connbal.cli.context import Session
from connbal.cli.output import emit
from connbal.errors import Finding, Severity, UsageError
from connbal.model.config import PACKAGE

if TYPE_CHECKING:
    from connbal.uci.decode import Decoded

_CODES = "CODE[,CODE...]"
_WORST_FIRST = tuple(Severity)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--all", "everything", is_flag=True, help="Print remarks (info) too, rather than count them.")
@click.option("--no-lint", is_flag=True, help="Say only what has no effect because it is wrong.")
@click.option("--strict", is_flag=True, help="Exit with code 1 if there is a warning, too.")
@click.option("--live", is_flag=True,
              help="Look at ipsets, addresses, routes, and who may write root's scripts, too. Needs root.")  # fmt: skip
@click.option("--select", multiple=True, metavar=_CODES, help="Only findings with these codes.")
@click.option("--ignore", multiple=True, metavar=_CODES, help="No findings with these codes.")
@click.pass_obj
def check(
    session: Session, as_json: bool, everything: bool, no_lint: bool, strict: bool, live: bool,
    select: Sequence[str], ignore: Sequence[str],
) -> None:  # fmt: skip
    """Check the configuration: errors, and what is probably not meant.

    An error is a section, option or host that has no effect because it is wrong: exit code 1. A warning works, but
    perhaps not as meant: a rule that is never reached, an IPv6 connection that is refused. A remark is worth knowing;
    --all prints those. Each finding ends with its code, by which --select and --ignore choose; docs/checks.md lists
    them all. Errors always count, chosen or not.

    Looks at files only, unless --live is given. Whether the kernel takes everything, plan and apply say.

    \b
    Examples:
      connbal check
      connbal check --all
      connbal check --strict --ignore unused-policy,unused-member
      connbal check --select shadowed --json
    """
    from connbal.uci.decode import decode

    selected, ignored = _codes(select), _codes(ignore)
    package = session.store().load(PACKAGE)
    decoded = decode(package)
    found = list(decoded.findings)
    if not no_lint:
        from connbal.cli.linting import lint

        found += lint(session, package, decoded.config, live)
        if live:
            from connbal.cli.linting import live_routes

            found += live_routes(session, decoded.config)
    errors = _count(found, Severity.ERROR)
    found += _waiting(session)
    shown = [one for one in found if (not selected or one.code in selected) and one.code not in ignored]
    shown.sort(key=lambda one: _WORST_FIRST.index(one.severity))
    if as_json:
        emit("check", {"findings": [findings.as_json(one) for one in shown]})
    else:
        findings.show(one for one in shown if everything or selected or one.severity is not Severity.INFO)
        _summarise(session, decoded, errors, shown, everything or bool(selected))
    if errors or (strict and _count(shown, Severity.WARNING)):
        click.get_current_context().exit(1)


def _waiting(session: Session) -> list[Finding]:
    """About the change that waits for its confirmation, if one does."""
    if not session.may_wait:
        return []
    from connbal.cli.confirming import reminder
    from connbal.cli.linting import UNCONFIRMED

    said, _, _ = reminder(session).rpartition("; ")
    remedy = "to keep it: connbal confirm, to take it back now: connbal confirm --revert"
    return [Finding(Severity.WARNING, UNCONFIRMED, PACKAGE, said, remedy)] if said else []


def _summarise(
    session: Session, decoded: Decoded, errors: int, shown: Sequence[Finding], everything: bool
) -> None:
    config = decoded.config
    counts = [f"{kind}: {len(getattr(config, kind))}" for kind in ("interfaces", "members", "policies", "rules")]
    click.echo(f"{session.config_file}: {', '.join([*counts, f'errors: {errors}'])}")
    warnings, remarks = _count(shown, Severity.WARNING), _count(shown, Severity.INFO)
    if warnings or remarks:
        hint = "" if everything or not remarks else "; --all prints them"
        click.echo(f"warnings: {warnings}, remarks: {remarks}{hint}")


def _count(found: Sequence[Finding], severity: Severity) -> int:
    return sum(one.severity is severity for one in found)


def _codes(words: Sequence[str]) -> frozenset[str]:
    """The codes that an option's values name. UsageError where one is none."""
    codes = frozenset(code.strip() for word in words for code in word.split(",") if code.strip())
    if codes:
        from connbal.cli.linting import CODES

        for code in sorted(codes.difference(CODES)):
            import difflib

            near = difflib.get_close_matches(code, CODES, 1)
            hint = f"did you mean {near[0]}?" if near else "docs/checks.md lists them"
            raise UsageError(f"no finding has the code {code!r}; {hint}")
    return codes
