"""A change of sites by name: the section of ``dhcp``, the sets in the kernel, dnsmasq.

The kernel is changed while the file is open for writing: what the kernel refuses is not written, and where the file
cannot be written, the kernel is put back. dnsmasq comes last, and is told to read what is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import click

from connbal.cli import findings as findings_
from connbal.cli.output import emit, visible
from connbal.errors import Finding, KernelError, Severity
from connbal.uci import sites
from connbal.uci.sites_edit import users

if TYPE_CHECKING:
    from connbal.cli.context import Session
    from connbal.kernel.dnsmasq import Build
    from connbal.kernel.ipset import SystemSets
    from connbal.model.config import Config
    from connbal.plan.state import SetState
    from connbal.plan.values import SetSpec
    from connbal.uci import Editor
    from connbal.uci.sites import Site

#: Types of sets whose timeout can be changed while rules look into them.
_PLAIN = ("hash:ip", "hash:net")


@dataclass(frozen=True)
class Flags:
    """What every command that changes something takes."""

    no_apply: bool
    dry_run: bool
    as_json: bool


@dataclass(frozen=True)
class Step:
    """One change of the kernel, and how to take it back."""

    words: str
    do: Callable[[], None]
    undo: Callable[[], None]


@dataclass
class Outcome:
    """What was done, or would be."""

    site: Site
    flags: Flags
    done: list[str] = field(default_factory=list)  #: in words, in order
    conf: str = ""  #: a line that has to go into dnsmasq's own configuration, because it does not read UCI
    findings: list[Finding] = field(default_factory=list)


def carry_out(
    session: Session,
    config: Config | None,
    flags: Flags,
    edit: Callable[[Editor], Site],
    steps: Callable[[SystemSets, Site], list[Step]],
) -> Outcome:
    """Change package ``dhcp`` by ``edit`` and the kernel by ``steps``, then tell dnsmasq and the rules of ``config``.

    Raises UsageError, ConfigError, KernelError: nothing was changed. What goes wrong once all is written is a finding.
    """
    if flags.dry_run:
        return Outcome(edit(_copy(session)), flags)
    if flags.no_apply:
        with session.store().transaction(sites.PACKAGE) as editor:
            return Outcome(edit(editor), flags)
    from connbal.kernel.ipset import SystemSets

    with contextlib.closing(SystemSets()) as sets:
        with _undoing() as done, session.store().transaction(sites.PACKAGE) as editor:
            site = edit(editor)
            for step in steps(sets, site):
                _do(step, done)
        outcome = Outcome(site, flags, [step.words for step in done])
    _tell_dnsmasq(outcome)
    _tell_rules(session, config, outcome)
    return outcome


def _copy(session: Session) -> Editor:
    """An editor whose changes go nowhere."""
    from connbal.uci import Editor, Package

    return Editor(session.package(sites.PACKAGE) or Package(sites.PACKAGE))


def _do(step: Step, done: list[Step]) -> None:
    from connbal.kernel.api import TransientError

    try:
        step.do()
    except TransientError:
        done.append(step)  # it may have been done all the same
        raise
    done.append(step)


@contextlib.contextmanager
def _undoing() -> Iterator[list[Step]]:
    """Steps that are taken back, last first, where an exception ends the block."""
    done: list[Step] = []
    try:
        yield done
    except BaseException:
        for step in reversed(done):
            with contextlib.suppress(KernelError):
                step.undo()
        raise


def _tell_dnsmasq(outcome: Outcome) -> None:
    from connbal.kernel import dnsmasq

    outcome.findings += build_findings(dnsmasq.build())
    if not dnsmasq.reads_uci():
        outcome.conf = outcome.site.conf_line()
        return
    try:
        dnsmasq.restart()
        outcome.done.append("dnsmasq: restarted")
    except KernelError as error:
        outcome.findings.append(Finding(
            Severity.ERROR, "dnsmasq-restart", sites.PACKAGE, f"all is written, but dnsmasq has not read it: {error}",
            f"see logread -e dnsmasq, then {dnsmasq.INIT} restart",
        ))  # fmt: skip


def _tell_rules(session: Session, config: Config | None, outcome: Outcome) -> None:
    """Apply, where connbal is applied and a rule names the set: it may mean another set now."""
    if not users(outcome.site, config):
        return
    from connbal.cli.applying import NotApplied, apply_now

    try:
        applied = apply_now(session)
    except NotApplied as error:
        outcome.findings.append(Finding(Severity.ERROR, "not-applied", sites.PACKAGE, str(error)))
        return
    outcome.done += [f"rules: {change}" for change in applied.changes]


def build_findings(build: Build | None) -> list[Finding]:
    """What is to be said of the dnsmasq that is installed here."""
    if build is None:
        return [Finding(Severity.WARNING, "no-dnsmasq", sites.PACKAGE,
                        "there is no dnsmasq here: nobody fills the sets", "install dnsmasq")]  # fmt: skip
    if build.ipset:
        return []
    other = "; it fills sets of nftables (nftset), into which the rules, being iptables', cannot look"
    return [Finding(
        Severity.ERROR, "no-ipset", sites.PACKAGE,
        f"this build of dnsmasq does not fill ipsets{other if build.nftset else ''}",
        "install dnsmasq-full; from OpenWrt 23.05 on, one built with PACKAGE_dnsmasq_full_ipset",
    )]  # fmt: skip


def rules_of(session: Session) -> Config | None:
    """The configuration of connbal, for the rules that name sets; None where there is none."""
    return session.decoded().config if session.config_file.exists() else None


# --- steps ----------------------------------------------------------------------------------------------------------


def making(session: Session) -> Callable[[SystemSets, Site], list[Step]]:
    """Steps after which the sets of a site are there as it says; sets that are in use keep what they hold."""

    def steps(sets: SystemSets, site: Site) -> list[Step]:
        headers = sets.headers()
        found = [_made(sets, spec, headers.get(spec.name)) for spec in specs(session, site)]
        return [step for step in found if step is not None]

    return steps


def specs(session: Session, site: Site) -> list[SetSpec]:
    """The sets of a site as they are to be made. The firewall's package may say the type and more."""
    from connbal.plan.values import SetSpec

    firewall = sites.declared(None, session.package(sites.FIREWALL))
    found = []
    for name, family in site.sets:
        other = firewall.get(name)
        kind = other.type if other is not None else "hash:ip"
        time = site.timeout or (other.timeout if other is not None else None)
        found.append(SetSpec(name, kind, family, timeout=time, foreign=True))
    return found


def _made(sets: SystemSets, spec: SetSpec, state: SetState | None) -> Step | None:
    if state is None:
        words = f"set {spec.name}: made ({described(spec)})"
        return Step(words, partial(sets.create, spec), partial(sets.destroy, spec.name))
    if state.family is not spec.family or state.type not in _PLAIN:
        held = f"{state.type}{'' if state.family is None else f' of {state.family.value}'}"
        why = f"it exists and is a {held}, not a {spec.type} of {spec.family.value if spec.family else ''}"
        raise KernelError(f"ipset create {spec.name}", None, f"{why}; choose another name, or destroy it first")
    if state.timeout == spec.timeout:
        return None
    new, old = _copy_of(sets, state, spec.timeout), _copy_of(sets, state, state.timeout)
    words = f"set {spec.name}: {described(new)}"
    return Step(words, partial(sets.replace, new), partial(sets.replace, old))


def _copy_of(sets: SystemSets, state: SetState, time: int | None) -> SetSpec:
    from connbal.plan.values import SetSpec

    return SetSpec(state.name, state.type, state.family, sets.entries(state.name), time, foreign=True)


def flushing(sets: SystemSets, site: Site) -> list[Step]:
    """Steps that empty the sets of a site."""
    headers = sets.headers()
    found = []
    for name in (name for name, _ in site.sets if name in headers):
        old = _copy_of(sets, headers[name], headers[name].timeout)
        found.append(Step(f"set {name}: emptied", partial(sets.flush, name), partial(sets.replace, old)))
    return found


def removing(session: Session, kept: Sequence[str]) -> Callable[[SystemSets, Site], list[Step]]:
    """Steps that remove the sets of a site, but those that are ``kept``, and those that the firewall has made."""

    def steps(sets: SystemSets, site: Site) -> list[Step]:
        headers = sets.headers()
        others = {*kept, *sites.declared(None, session.package(sites.FIREWALL))}
        found = []
        for name in (name for name, _ in site.sets if name in headers and name not in others):
            old = _copy_of(sets, headers[name], headers[name].timeout)
            found.append(Step(f"set {name}: removed", partial(sets.destroy, name), partial(sets.create, old)))
        return found

    return steps


# --- words ----------------------------------------------------------------------------------------------------------


def described(spec: SetSpec) -> str:
    """``hash:ip, ipv4, timeout 1h``."""
    family = [spec.family.value] if spec.family is not None else []
    return ", ".join([spec.type, *family, *([f"timeout {period(spec.timeout)}"] if spec.timeout else [])])


def period(seconds: int | None) -> str:
    """``90s``, ``1h``, ``7d``: as it can be written; ``-`` for None."""
    if seconds is None:
        return "-"
    units: Mapping[str, int] = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    unit = next(name for name, size in units.items() if not seconds % size or size == 1)
    return f"{seconds // units[unit]}{unit}"


def report(outcome: Outcome, first: str, data: Mapping[str, object]) -> None:
    """Print an outcome; exit code 1 where something went wrong once all was written."""
    failed = any(one.code in ("dnsmasq-restart", "not-applied") for one in outcome.findings)
    if outcome.flags.as_json:
        emit("ipset-edit", {
            **data, "dry_run": outcome.flags.dry_run, "done": outcome.done, "conf": outcome.conf,
            "findings": [findings_.as_json(one) for one in outcome.findings],
        })  # fmt: skip
    else:
        findings_.show(outcome.findings)
        for line in (first, *outcome.done):
            click.echo(visible(line))
        if outcome.conf:
            click.echo("dnsmasq does not read UCI here; put this into its configuration and restart it:")
            click.echo(outcome.conf)
        elif outcome.flags.no_apply and not outcome.flags.dry_run:
            click.echo("the kernel and dnsmasq are as before")
    if failed:
        click.get_current_context().exit(1)
