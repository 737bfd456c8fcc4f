"""``connbal mwan3``: what ``/usr/sbin/mwan3`` shows, laid out as scripts and pages that read mwan3 expect it.

States come from the daemon, shares from the configuration and the ledger, so that pyroute2 is not loaded. Only what
has to be listed from the kernel is asked of its programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from connbal.cli.context import Session
from connbal.cli.output import visible
from connbal.errors import KernelError

if TYPE_CHECKING:
    from connbal.kernel.xtables import SystemXtables
    from connbal.model.config import Config, Family, Interface
    from connbal.plan.ledger import Ledger

#: What mwan3 counts as missing where an interface is not online: rules 1000, 2000 and 3000+id, chain, default route.
NO_IIF, NO_LOOKUP, NO_UNREACHABLE, NO_CHAIN, NO_ROUTE = 1, 2, 4, 8, 16
_AWAY = NO_IIF | NO_LOOKUP | NO_CHAIN | NO_ROUTE
_DASHES = "-" * 49
_NOTHING = "No data found"

Lines = Iterator[str]


@click.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("what", type=click.Choice(["interfaces", "policies", "connected", "rules", "status", "internal"]))
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def mwan3(session: Session, what: str, words: tuple[str, ...]) -> None:
    """Print what mwan3's command prints: for scripts made for it. WORDS: after internal, ipv4 or ipv6.

    \b
    Examples:
      connbal mwan3 status
      connbal mwan3 internal ipv6
    """
    from connbal.model.config import Family

    scene = Scene(session)
    if what == "internal":
        for line in internal(scene, Family.IPV6 if "ipv6" in words[:1] else Family.IPV4):
            click.echo("\t".join(map(visible, line.split("\t"))))  # ip separates by tabs
        return
    parts = {"interfaces": interfaces, "policies": policies, "connected": connected, "rules": rules}
    for name in parts if what == "status" else (what,):
        for line in parts[name](scene):
            click.echo(visible(line))


@dataclass
class Scene:
    """What is asked, once and only if it is asked."""

    session: Session

    @cached_property
    def config(self) -> Config:
        return self.session.decoded().config

    @cached_property
    def ledger(self) -> Ledger:
        return self.session.run().load()

    @cached_property
    def trackers(self) -> Mapping[str, Mapping[str, Any]] | None:
        """What the daemon knows of each interface; None: none answers."""
        from connbal.track import client, report

        answer = client.status(self.session.run_dir)
        return answer["interfaces"] if answer is not None and report.is_answer(answer) else None

    @cached_property
    def uptimes(self) -> Mapping[str, int]:
        """Seconds each network has been up, as netifd says; empty where there is no netifd."""
        from connbal.kernel import ubus
        from connbal.kernel.files import parse_json

        try:
            answer = ubus.call()
            dump = parse_json(answer, "ubus") if answer is not None else None
        except KernelError:
            return {}
        found = dump.get("interface") if isinstance(dump, dict) else None
        return {
            str(one["interface"]): one["uptime"]
            for one in (found if isinstance(found, list) else ())
            if isinstance(one, dict) and "interface" in one and type(one.get("uptime")) is int
        }

    @cached_property
    def xtables(self) -> SystemXtables:
        from connbal.kernel.xtables import SystemXtables

        return SystemXtables()

    @property
    def families(self) -> Iterator[Family]:
        """IPv4, and IPv6 where the kernel has it."""
        import os

        from connbal.model.config import Family

        yield Family.IPV4
        if os.path.exists("/proc/self/net/if_inet6"):
            yield Family.IPV6


# --- interfaces ---------------------------------------------------------------------------------------------------


def interfaces(scene: Scene) -> Lines:
    """``interface NAME is STATUS and tracking is TRACKING``, and in brackets since when, or what is missing."""
    yield "Interface status:"
    for settings in scene.config.interfaces:
        tracker = scene.trackers.get(settings.name) if scene.trackers is not None else None
        status = str(tracker["status"]) if tracker else "disabled" if not settings.enabled else "unknown"
        more = _more(scene, settings, tracker, status)
        yield f" interface {settings.name} is {status} and tracking is {tracking(settings, tracker)}{more}"
    yield ""


def tracking(settings: Interface, tracker: Mapping[str, Any] | None) -> str:
    """``active``; ``paused``: its network is away; ``down``: nobody probes it; ``disabled``: it has no hosts."""
    if not (tracker["tracked"] if tracker is not None else settings.track_ip or settings.track_gateway):
        return "disabled"
    if tracker is None or not settings.enabled:
        return "down"
    return "active" if tracker["running"] else "paused"


def _more(scene: Scene, settings: Interface, tracker: Mapping[str, Any] | None, status: str) -> str:
    if tracker and status == "online":
        since = tracker["since"] or 0
        half = f"{settings.name}_{settings.family.version}"
        uptime = scene.uptimes.get(half, scene.uptimes.get(settings.name, since))
        return f" (online {clock(since)}, uptime {clock(uptime)})"
    missing = 0
    if settings.name not in scene.ledger.present:
        missing = _AWAY if settings.name in scene.ledger.ids else _AWAY | NO_UNREACHABLE
    return f" ({missing})" if missing else ""


def clock(seconds: float) -> str:
    """``01h:02m:03s``."""
    whole = int(seconds)
    return f"{whole // 3600:02}h:{whole % 3600 // 60:02}m:{whole % 60:02}s"


# --- policies -----------------------------------------------------------------------------------------------------


def policies(scene: Scene) -> Lines:
    """For each policy its name and colon, then ``INTERFACE (NN%)`` for each source it uses, or its last resort."""
    from connbal.plan.shares import percents, tier

    for family in scene.families:
        yield f"Current {family.value} policies:"
        ids = {
            one.name: one.id
            for one in scene.config.interfaces
            if one.family is family and one.name in scene.ledger.ids
        }
        in_force = scene.config.policies if scene.ledger.mask else ()  # mwan3 reads its chains: none after stop
        for policy in sorted(in_force, key=lambda one: one.name):
            found = tier(scene.config, policy, family, ids, scene.ledger.usable)
            yield f"{policy.name}:"
            values = percents([share.share for share in found.shares])
            for share, value in zip(found.shares, values, strict=True):
                yield f" {share.interface} ({value}%)"
            if not found.shares:
                yield f" {found.verdict.value}"
        yield ""


# --- what the kernel has ------------------------------------------------------------------------------------------


def connected(scene: Scene) -> Lines:
    """The networks that need no source, one a line, as ipset writes them: a single address has no prefix length."""
    import ipaddress

    from connbal.kernel.ipset import saved_entries
    from connbal.plan.chains import exempt_sets

    for family in scene.families:
        yield f"Directly connected {family.value} networks:"
        if scene.ledger.mask:
            found = [ipaddress.ip_network(entry) for entry in saved_entries(exempt_sets(family)[1])]
            for one in sorted(found, key=lambda one: (int(one.network_address), one.prefixlen)):
                yield str(one.network_address if one.prefixlen == one.max_prefixlen else one)
        yield ""


def rules(scene: Scene) -> Lines:
    """The lines of ``mwan3_rules`` as iptables lists them, with ``- POLICY``; ``S RULE`` for a sticky rule."""
    from connbal.plan.chains import RULES

    whole = _shortened(scene.config)
    for family in scene.families:
        yield f"Active {family.value} user rules:"
        if RULES in scene.ledger.chains.get(family, {}):
            for line in scene.xtables.listing(family, RULES).splitlines()[2:]:
                yield _short(line, whole)
        yield ""


def _shortened(config: Config) -> Mapping[str, str]:
    """Chains in whose names those of policies and rules had to be shortened, and these as they would be in whole."""
    from connbal.model.names import chain

    named = [("policy", one.name) for one in config.policies] + [("rule", one.name) for one in config.rules]
    names = {chain(kind, name): f"mwan3_{kind}_{name}" for kind, name in named}
    return {made: name for made, name in names.items() if made != name}


def _short(line: str, whole: Mapping[str, str]) -> str:
    """A listed rule without the words that are the same in each."""
    for made, name in whole.items():
        line = line.replace(f" {made} ", f" {name} ", 1)
    for word, instead in (("mwan3_policy_", "- "), ("mwan3_verdict_", "- "), ("mwan3_rule_", "S ")):
        line = line.replace(word, instead, 1)
    return line.replace(" [goto]", "", 1).rstrip()


def internal(scene: Scene, family: Family) -> Lines:
    """Everything that matters to who looks for a fault, in sections: a title, a line of dashes, what a program says.

    The titles name mwan3's own commands, which scripts look for. They print the same as those that are run here.
    """
    from connbal import __version__

    yield from _section("Software-Version", f"{_release()}\nconnbal - {__version__}")
    ip = ["ip", f"-{family.version}"]
    for words in (["a", "show"], ["route", "show"], ["rule", "show"]):
        yield from _section(_title(" ".join([*ip, *words])), _said([*ip, *words]))
    numbers = sorted(set(scene.ledger.ids.values()))
    tables = [(number, _said([*ip, "route", "show", "table", str(number)])) for number in numbers]
    text = "\n\n".join(f"Routing table {number}:\n{said}" for number, said in tables if said)
    yield from _section(_title(f"ip -{family.version} route list table 1-250"), text)
    tool = "iptables" if family.version == 4 else "ip6tables"
    yield from _section(_title(f"{tool} -t mangle -w -L -v -n"), scene.xtables.listing(family).strip())


def _title(command: str) -> str:
    return f'Output of "{command}"'


def _section(title: str, text: str) -> Lines:
    yield from (title, _DASHES, *(text.splitlines() or [_NOTHING]), "")


def _said(argv: list[str]) -> str:
    from connbal.kernel import exec as programs

    try:
        return programs.run(argv, check=False).stdout.strip()
    except KernelError as error:
        return str(error)


def _release() -> str:
    """What ``/etc/openwrt_release`` calls this system."""
    try:
        with open("/etc/openwrt_release", encoding="utf-8", errors="replace") as stream:
            told = dict(line.strip().split("=", 1) for line in stream if "=" in line)
    except OSError:
        told = {}
    return f"OpenWrt - {told.get('DISTRIB_RELEASE', '').strip(chr(39) + chr(34)) or 'unknown'}"
