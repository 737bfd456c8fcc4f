"""``connbal setup``: the three scenarios, each as one command."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from connbal.cli import complete, editing
from connbal.cli.context import Session
from connbal.errors import UsageError

if TYPE_CHECKING:
    from connbal.uci import Editor
    from connbal.uci.scenario import Outcome, Source, Traffic


@click.group()
def setup() -> None:
    """Set up one of the three usual things: a source for a device, failover, a split.

    Each writes all the sections it needs (a rule, its policy, members), enables the interfaces, and puts the rule
    where it belongs: special rules above general ones. The same command again changes nothing; with other values it
    changes what it made. An interface takes its IPv6 half (wan1_6, wan6) along. --dry-run shows it beforehand.

    \b
    Examples:
      connbal setup device --ip 192.168.1.178 --use wan2 --else wan1 --name SmartTV
      connbal setup failover wwan wan1
      connbal setup split wan1=2 wan2=1
    """


def _traffic_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which connections are meant, all of them without; the command gets them as ``traffic``."""

    @functools.wraps(command)
    def told(
        *args: Any,
        ips: tuple[str, ...],
        macs: tuple[str, ...],
        proto: str,
        ports: tuple[str, ...],
        ipset: str,
        **options: Any,
    ) -> None:
        from connbal.uci.scenario import Traffic

        command(*args, traffic=Traffic(ips, macs, proto, ports, ipset), **options)

    for option in (
        click.option("--ipset", default="", metavar="SET", help="Only to the addresses in this set: connbal ipset."),
        click.option("--dest-port", "ports", multiple=True, metavar="PORT",
                     help="Only to this port, or ports (80,443 or 1024:2048)."),
        click.option("--proto", default="all", metavar="PROTOCOL", help="Only this protocol, such as tcp."),
        click.option("--mac", "macs", multiple=True, metavar="MAC", help="Only this device, by MAC address."),
        click.option("--ip", "ips", multiple=True, metavar="ADDRESS", help="Only this device, or network."),
    ):  # fmt: skip
        told = option(told)
    return told


_interfaces = complete.sections("interface")
_name = click.option("--name", metavar="NAME", help="Name of the rule; those of policy and members come from it.")


@setup.command(short_help="Let a device use one source.")
@click.option("--ip", "ips", multiple=True, metavar="ADDRESS", help="The device's address; more than once for more.")
@click.option("--mac", "macs", multiple=True, metavar="MAC", help="The device's MAC address, for IPv4 and IPv6.")
@click.option("--use", required=True, multiple=True, metavar="INTERFACE", shell_complete=_interfaces,
              help="The source it uses; given again: the one it uses while those before are down.")  # fmt: skip
@click.option("--else", "others", multiple=True, metavar="INTERFACE", shell_complete=_interfaces,
              help="The source that all others use.")  # fmt: skip
@_name
@editing.options
@click.pass_obj
def device(
    session: Session,
    ips: tuple[str, ...],
    macs: tuple[str, ...],
    use: tuple[str, ...],
    others: tuple[str, ...],
    name: str | None,
    flags: editing.Flags,
) -> None:
    """Let a device use one source.

    Without --else, the rules there are go on to decide for all others. While no source of its own is up, the device
    has no Internet: give --use again to name another one for that time. A device that is known by its IPv4 address
    only keeps going where other rules say with IPv6: give that address as well, or --mac. A MAC address is seen only
    where the device is connected to this router directly.

    \b
    Examples:
      connbal setup device --ip 192.168.1.178 --use wan2 --else wan1 --name SmartTV
      connbal setup device --mac 00:11:22:aa:bb:cc --use wan2 --use wan1 --dry-run
    """
    from connbal.uci import scenarios
    from connbal.uci.scenario import Traffic

    _carry_out(session, flags, lambda editor, networks: scenarios.device(
        editor, Traffic(ips, macs), use, others=others, name=name, networks=networks
    ))  # fmt: skip


@setup.command(short_help="Use one source while it is up, else the next.")
@click.argument("interfaces", metavar="INTERFACE...", nargs=-1, required=True, shell_complete=_interfaces)
@_traffic_options
@_name
@editing.options
@click.pass_obj
def failover(
    session: Session,
    interfaces: tuple[str, ...],
    traffic: Traffic,
    name: str | None,
    flags: editing.Flags,
) -> None:
    """Use the first INTERFACE; while it is down the second, and so on; and the first again when it is back.

    For all traffic, by rule All_Traffic, unless an option says which.

    \b
    Examples:
      connbal setup failover wwan wan1
      connbal setup failover wan wwan wan1 --dry-run
      connbal setup failover wan wan1 --proto tcp --dest-port 443 --name Web
      connbal setup failover wan2 wan --ipset youtube
    """
    from connbal.uci import scenarios

    _carry_out(session, flags, lambda editor, networks: scenarios.failover(
        editor, interfaces, traffic=traffic, name=name, networks=networks
    ))  # fmt: skip


@setup.command(short_help="Divide connections among sources.")
@click.argument("shares", metavar="INTERFACE=SHARE...", nargs=-1, required=True)
@click.option("--affinity", type=click.Choice(["pair", "source", "connection"]),
              help="What stays on one source: a device with a site, a device, or each connection.")  # fmt: skip
@_traffic_options
@_name
@editing.options
@click.pass_obj
def split(
    session: Session,
    shares: tuple[str, ...],
    affinity: str | None,
    traffic: Traffic,
    name: str | None,
    flags: editing.Flags,
) -> None:
    """Divide connections among interfaces: wan1=2 wan2=1 gives wan1 two for each one of wan2.

    Shares are whole numbers, such as per cents; the more, the more. The weights that give them are worked out for the
    weight_mode in force. While a source is down, the others share what it had. For all traffic, by rule All_Traffic,
    unless an option says which. Without --affinity, that of the policy or of globals stays.

    \b
    Examples:
      connbal setup split wan1=2 wan2=1
      connbal setup split wan1=75 wan2=25 --affinity pair
      connbal setup split wan=1 wan1=1 wan2=1 --dry-run
    """
    from connbal.model.config import Affinity
    from connbal.uci import scenarios

    parts = _parts(shares)
    wanted = Affinity(affinity) if affinity else None
    _carry_out(session, flags, lambda editor, networks: scenarios.split(
        editor, parts, affinity=wanted, traffic=traffic, name=name, networks=networks
    ), list(parts.values()))  # fmt: skip


def _parts(words: Iterable[str]) -> dict[str, int]:
    """``wan1=2`` as a name and a number. UsageError where it is none."""
    found: dict[str, int] = {}
    for word in words:
        interface, equals, share = word.partition("=")
        number = share.removesuffix("%")
        if not (interface and equals and number.isascii() and number.isdigit() and len(number) <= 7):
            raise UsageError(f"{word!a} is not INTERFACE=SHARE; write wan1=2, for example")
        if interface in found:
            raise UsageError(f"interface {interface!r} is given twice; name each once")
        found[interface] = int(number)
    return found


def _carry_out(
    session: Session,
    flags: editing.Flags,
    scenario: Callable[[Editor, Sequence[str]], list[Outcome]],
    parts: Sequence[int] = (),
) -> None:
    """Do it as ``flags`` say. ``parts``: the shares that were asked for; none: it is no split."""
    networks = list(session.network_sections())
    with editing.change(session, flags) as editor:
        outcomes = scenario(editor, networks)
        flags.done = "\n".join(map(_done, outcomes))
        if flags.dry_run and not flags.as_json:
            click.echo(flags.done)
        flags.notes += dict.fromkeys(note for one in outcomes for note in _notes(one, parts))
        flags.data = {"rules": [
            {"rule": one.rule, "policy": one.policy, "members": _as_data(one)} for one in outcomes
        ]}  # fmt: skip


def _done(outcome: Outcome) -> str:
    where = f", before {outcome.before}" if outcome.before else ""
    return f"rule {outcome.rule}{where}: policy {outcome.policy}: {_in_words(outcome)}"


def _shares(outcome: Outcome) -> list[tuple[Source, Fraction]]:
    """The sources with their shares of the connections while all are up, 0 for those that only wait."""
    from connbal.plan.shares import shares

    first = [source for source in outcome.sources if source.metric == outcome.sources[0].metric]
    values = shares([source.weight for source in first], outcome.mode)
    rest = [(source, Fraction(0)) for source in outcome.sources[len(first) :]]
    return [*zip(first, values, strict=True), *rest]


def _in_words(outcome: Outcome) -> str:
    """``wan2``; ``wwan, while it is down wan1``; ``wan1 67 %, wan2 33 %``."""
    from connbal.plan.shares import percents

    found = _shares(outcome)
    if len(found) > 1 and found[1][1]:
        values = percents([share for _, share in found])
        return ", ".join(f"{source.interface} {value} %" for (source, _), value in zip(found, values, strict=True))
    return ", while it is down ".join(source.interface for source, _ in found)


def _notes(outcome: Outcome, parts: Sequence[int]) -> list[str]:
    notes = [f"{outcome.rule}: {note}" for note in outcome.notes]
    wanted = [Fraction(part, sum(parts)) for part in parts]
    if parts and [share for _, share in _shares(outcome)] != wanted:
        exact = ", ".join(f"{source.interface} {float(share) * 100:.3f} %" for source, share in _shares(outcome))
        notes.append(f"{outcome.rule}: weights from 1 to 1000 come no nearer: {exact}")
    return notes


def _as_data(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {"interface": source.interface, "metric": source.metric, "weight": source.weight,
         "percent": round(float(share) * 100, 3)}
        for source, share in _shares(outcome)
    ]  # fmt: skip
