"""``connbal ipset``: sites by name, for rules to match by option ``ipset``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from connbal.cli import findings as findings_
from connbal.cli.output import emit, table
from connbal.uci import sites

if TYPE_CHECKING:
    from connbal.cli.context import Session
    from connbal.cli.ipset_change import Flags, Outcome, Step
    from connbal.errors import Finding
    from connbal.kernel.ipset import SystemSets
    from connbal.model.config import Config
    from connbal.uci import Editor
    from connbal.uci.sites import Site

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _changing(command: _Command) -> _Command:
    """The options of every command that changes something."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON."),
        click.option("--dry-run", is_flag=True, help="Say what would be written. Nothing is changed."),
        click.option("--no-apply", is_flag=True, help="Write the file only; leave the kernel and dnsmasq alone."),
    ):
        command = option(command)
    return command


def _flags(no_apply: bool, dry_run: bool, as_json: bool) -> Flags:
    from connbal.cli.ipset_change import Flags

    return Flags(no_apply, dry_run, as_json)


@click.group()
def ipset() -> None:
    """Sites by name: sets of addresses that dnsmasq fills with what names resolve to.

    A rule with option ipset and the name of a set matches connections to these addresses. The sections are in
    /etc/config/dhcp, where OpenWrt's dnsmasq reads them.

    \b
    Examples:
      connbal ipset add youtube --domain youtube.com --domain googlevideo.com
      connbal ipset list
    """


@ipset.command("list", short_help="List the ipsets that dnsmasq fills.")
@click.option("--print-conf", is_flag=True, help="Print the lines for a dnsmasq that does not read UCI, nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def list_(session: Session, print_conf: bool, as_json: bool) -> None:
    """List the ipsets that dnsmasq fills, and the rules that name them.

    \b
    Examples:
      connbal ipset list
      connbal ipset list --print-conf
      connbal ipset list --json
    """
    from connbal.cli.ipset_change import rules_of

    found, said = _read(session)
    if print_conf:
        _print_conf(found)
        return
    config = rules_of(session)
    said += _machine_findings() if found else []
    if as_json:
        listed = [_as_data(site, config) for site in found]
        emit("ipset-list", {"ipsets": listed, "findings": [findings_.as_json(one) for one in said]})
        return
    findings_.show(said)
    if not found:
        click.echo("no ipsets; connbal ipset add NAME --domain DOMAIN makes one")
        return
    header = ("NAME", "FAMILY", "TIMEOUT", "RULES", "DOMAINS")
    for line in table("", header, [_row(site, config) for site in found]):
        click.echo(line)


@ipset.command(short_help="Show an ipset with the addresses it holds now.")
@click.argument("name")
@click.option("--print-conf", is_flag=True, help="Print the line for a dnsmasq that does not read UCI, nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show(session: Session, name: str, print_conf: bool, as_json: bool) -> None:
    """Show an ipset: its domains, its rules, and the addresses it holds now with the time each has left.

    NAME is that of a set or of its section in /etc/config/dhcp.

    \b
    Examples:
      connbal ipset show youtube
      connbal ipset show youtube --json
    """
    from connbal.cli.ipset_change import rules_of
    from connbal.cli.ipset_live import as_lines, live
    from connbal.uci.sites_edit import find

    found, said = _read(session)
    site = find(found, name)
    if print_conf:
        _print_conf([site])
        return
    config = rules_of(session)
    held, more = live(session, site)
    place = f"{sites.PACKAGE}.{site.section}"
    said = [one for one in said if one.place.startswith(place)] + more + _machine_findings()
    if as_json:
        shown = [findings_.as_json(one) for one in said]
        emit("ipset", {**_as_data(site, config), "sets": [one.as_json() for one in held], "findings": shown})
        return
    findings_.show(said)
    for line in as_lines(site, held, _users(site, config)):
        click.echo(line)


@ipset.command(short_help="Make a set for sites, and have dnsmasq fill it.")
@click.argument("name")
@click.option("--domain", "domains", multiple=True, metavar="DOMAIN",
              help="A site, and all below it: youtube.com is www.youtube.com too. As often as needed.")
@click.option("--family", type=click.Choice(["ipv4", "ipv6", "any"]), default="ipv4", show_default=True,
              help="Addresses to gather; any makes two sets, NAME and NAME6, which a rule names by NAME.")
@click.option("--timeout", metavar="TIME",
              help="Forget an address that nobody was told for so long (3600, 30m, 12h, 7d). Default: never.")
@_changing
@click.pass_obj
def add(
    session: Session, /, name: str, domains: Sequence[str], family: str, timeout: str | None, **flags: bool
) -> None:
    """Make the set NAME for sites, and have dnsmasq fill it.

    Writes a section ipset to /etc/config/dhcp, makes the set in the kernel and restarts dnsmasq. Then give a rule the
    option ipset. Devices must ask the router for names: what they have looked up before, or elsewhere, is not known.

    \b
    Examples:
      connbal ipset add youtube --domain youtube.com --domain googlevideo.com
      connbal ipset add netflix --domain netflix.com --domain nflxvideo.net --family any --timeout 12h
      connbal ipset add youtube --domain youtube.com --dry-run
    """
    from connbal.cli.ipset_change import carry_out, making, rules_of
    from connbal.uci import sites_edit

    wanted, config = sites_edit.wanted(name, domains, family, timeout), rules_of(session)
    edit = partial(sites_edit.add, new=wanted)
    _say(carry_out(session, config, _flags(**flags), edit, making(session)), config)


@ipset.command("set", short_help="Change the domains or the timeout of an ipset.")
@click.argument("name")
@click.option("--add", "added", multiple=True, metavar="domain=DOMAIN", help="Add a site. As often as needed.")
@click.option("--remove", "removed", multiple=True, metavar="domain=DOMAIN", help="Take a site out.")
@click.option("--timeout", metavar="TIME", help="Another timeout (3600, 30m, 12h, 7d); 0: addresses stay for good.")
@click.option("--flush", is_flag=True, help="Forget all addresses gathered so far.")
@_changing
@click.pass_obj
def set_(
    session: Session,
    /,
    name: str,
    added: Sequence[str],
    removed: Sequence[str],
    timeout: str | None,
    flush: bool,
    **flags: bool,
) -> None:
    """Change the domains or the timeout of ipset NAME.

    Addresses of a domain that is taken out stay until their timeout, unless --flush is given: which name an address
    came from is not known. A rule that looks into the set is not disturbed.

    \b
    Examples:
      connbal ipset set youtube --add domain=ytimg.com --remove domain=youtu.be
      connbal ipset set youtube --timeout 12h
    """
    from connbal.cli.ipset_change import carry_out, flushing, making, rules_of
    from connbal.errors import UsageError
    from connbal.uci import sites_edit

    if not (added or removed or timeout is not None or flush):
        raise UsageError("nothing to change; give --add, --remove, --timeout or --flush")
    more, less = [sites.assignment(one) for one in added], [sites.assignment(one) for one in removed]

    def edit(editor: Editor) -> Site:
        site = sites_edit.find(sites.sites(editor.package), name)
        return sites_edit.change(editor, site, add=more, remove=less, time=timeout)

    def steps(kernel: SystemSets, site: Site) -> list[Step]:
        return [*making(session)(kernel, site), *(flushing(kernel, site) if flush else ())]

    config = rules_of(session)
    _say(carry_out(session, config, _flags(**flags), edit, steps), config)


@ipset.command(short_help="Remove an ipset that no rule names.")
@click.argument("name")
@_changing
@click.pass_obj
def delete(session: Session, /, name: str, **flags: bool) -> None:
    """Remove ipset NAME: its section in /etc/config/dhcp, and the set with all it holds.

    Refused while rules name it. A set that /etc/config/firewall has too stays.

    \b
    Examples:
      connbal ipset delete youtube
      connbal ipset delete youtube --dry-run
    """
    from connbal.cli.ipset_change import carry_out, removing, report, rules_of
    from connbal.uci import sites_edit

    config = rules_of(session)
    kept: list[str] = []

    def edit(editor: Editor) -> Site:
        site = sites_edit.find(sites.sites(editor.package), name)
        sites_edit.delete(editor, site, config)
        kept.extend(held for other in sites.sites(editor.package) for held, _ in other.sets)
        return site

    outcome = carry_out(session, config, _flags(**flags), edit, removing(session, kept))
    if outcome.conf:
        outcome.conf = ""
        outcome.done.append(f"dnsmasq does not read UCI here; take {outcome.site.conf_line()} out of its configuration")
    done = "would be removed" if outcome.flags.dry_run else "removed"
    report(outcome, f"{sites.PACKAGE}.{outcome.site.section}: {done}", _as_data(outcome.site, config))


# --- words ----------------------------------------------------------------------------------------------------------


def _say(outcome: Outcome, config: Config | None) -> None:
    from connbal.cli.ipset_change import report

    site = outcome.site
    sets = " and ".join(f"{name} ({family.value})" for name, family in site.sets)
    would = "would be written: " if outcome.flags.dry_run else ""
    first = f"{sites.PACKAGE}.{site.section}: {would}{', '.join(site.domains)} -> {sets}"
    if not _users(site, config) and not outcome.flags.as_json:
        outcome.done.append(f"no rule names {site.name} yet: give one option ipset '{site.name}'")
    report(outcome, first, _as_data(site, config))


def _read(session: Session) -> tuple[tuple[Site, ...], list[Finding]]:
    package = session.package(sites.PACKAGE)
    return ((), []) if package is None else (sites.sites(package), list(sites.findings(package)))


def _machine_findings() -> list[Finding]:
    from connbal.cli.ipset_change import build_findings
    from connbal.kernel import dnsmasq

    return build_findings(dnsmasq.build())


def _users(site: Site, config: Config | None) -> list[str]:
    from connbal.uci.sites_edit import users

    return users(site, config)


def _print_conf(found: Sequence[Site]) -> None:
    for line in filter(None, (site.conf_line() for site in found)):
        click.echo(line)


def _row(site: Site, config: Config | None) -> tuple[str, ...]:
    from connbal.cli.ipset_change import period

    rules, domains = ", ".join(_users(site, config)), ", ".join(site.domains)
    return site.name, site.family, period(site.timeout), rules or "-", domains or "-"


def _as_data(site: Site, config: Config | None) -> Mapping[str, Any]:
    return {
        "name": site.name,
        "section": site.section,
        "family": site.family,
        "sets": [{"name": name, "family": family.value} for name, family in site.sets],
        "domains": list(site.domains),
        "timeout": site.timeout,
        "rules": _users(site, config),
    }
