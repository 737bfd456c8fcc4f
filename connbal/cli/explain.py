"""``connbal explain``: which way one packet would go, and why."""

from __future__ import annotations

import click

from connbal.cli.context import Session
from connbal.cli.explain_question import question
from connbal.cli.output import emit


@click.command()
@click.option("--src", metavar="ADDRESS", help="Who sends it. May be left out with --local.")
@click.option("--dst", metavar="ADDRESS", required=True, help="Where it is to go: an address, not a name.")
@click.option("--proto", metavar="NAME", help="Protocol: tcp, udp, icmp, another name or a number.")
@click.option("--dport", type=click.IntRange(1, 65535), metavar="PORT", help="Destination port.")
@click.option("--sport", type=click.IntRange(1, 65535), metavar="PORT",
              help="Source port; with it, an open connection is looked for.")  # fmt: skip
@click.option("--iif", metavar="NAME", help="Network or device it comes in by; else found by the source address.")
@click.option("--mac", metavar="MAC", help="Ethernet address of the sender, for rules with src_mac.")
@click.option("--local", is_flag=True, help="The router itself sends it.")
@click.option("--oif", metavar="NAME", help="With --local: network or device that the program is bound to.")
@click.option("--all", "everything", is_flag=True, help="Show every rule, those far from matching too.")
@click.option("--no-kernel", is_flag=True,
              help="Do without sets, connections and what is applied; needs no root.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def explain(
    session: Session,
    src: str | None,
    dst: str,
    proto: str | None,
    dport: int | None,
    sport: int | None,
    iif: str | None,
    mac: str | None,
    local: bool,
    oif: str | None,
    everything: bool,
    no_kernel: bool,
    as_json: bool,
) -> None:
    """Say which way the first packet of a connection would go, and why.

    It walks the rules as they would be applied now: why each did not match, which did, what its policy does, which
    interface is taken (exactly where affinity decides, else with per cents), and the mark, rule and route it leaves
    by. What is not given matches no rule that asks for it. Nothing is sent and nothing is changed.

    \b
    Examples:
      connbal explain --src 192.168.1.178 --dst 8.8.8.8 --proto tcp --dport 443
      connbal explain --src 192.168.1.178 --dst 8.8.8.8 --all
      connbal explain --local --dst 2001:db8::1 --proto udp --dport 53
      connbal explain --src 192.168.1.20 --dst 8.8.8.8 --proto icmp --json
    """
    from connbal.cli import explain_gather, explain_output

    asked = question(src, dst, proto, dport, sport, iif, mac, local, oif)
    decoded = session.decoded()
    seen = explain_gather.look(session, decoded, asked, kernel=not no_kernel)
    if as_json:
        emit("explain", explain_output.as_data(seen, everything))
    else:
        click.echo(explain_output.as_text(seen, everything), nl=False)
