"""``connbal metrics``: how things are, for Prometheus."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbal import __version__
from connbal.cli.context import Session
from connbal.cli.exposition import Metric, Sample, render
from connbal.errors import KernelError, Severity, printable

if TYPE_CHECKING:
    from connbal.cli.status import Look
    from connbal.kernel.conntrack import Tally
    from connbal.kernel.devices import Counters

_STATES = ("online", "offline", "connecting", "disconnecting", "disabled")


@click.command()
@click.option("--textfile", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write FILE in one step rather than print; for node_exporter it has to end in .prom.")  # fmt: skip
@click.pass_obj
def metrics(session: Session, textfile: Path | None) -> None:
    """Print metrics of interfaces, policies, rules, connections and the daemon in Prometheus' text format.

    It works without the daemon, but then knows no scores and latencies. docs/metrics.md describes each metric.

    \b
    Examples:
      connbal metrics
      connbal metrics --textfile /var/prometheus/connbal.prom
    """
    from connbal.cli.status import look

    text = render(collect(look(session), traffic()))
    if textfile is None:
        click.echo(text, nl=False)
        return
    from connbal.kernel import files

    files.write(textfile, text, 0o644)  # for an exporter, which is seldom root


@dataclass(frozen=True)
class Traffic:
    """What the kernel has counted. ``failed``: the parts that could not be read."""

    connections: Mapping[int, Tally] = field(default_factory=dict)  #: by mark, all 32 bits of it
    devices: Mapping[str, Counters] = field(default_factory=dict)  #: by name
    failed: frozenset[str] = frozenset()


def traffic() -> Traffic:
    """Look once. What cannot be read is said in ``failed``: the rest is worth having."""
    from connbal.kernel.conntrack import SystemConntrack
    from connbal.kernel.devices import counters

    tallies: Mapping[int, Tally] = {}
    devices: Mapping[str, Counters] = {}
    failed = set()
    try:
        with contextlib.closing(SystemConntrack()) as conntrack:
            tallies = conntrack.tally()
    except KernelError as error:
        failed.add("connections")
        click.echo(printable(f"connbal: {error}"), err=True)
    try:
        devices = counters()
    except KernelError as error:
        failed.add("devices")
        click.echo(printable(f"connbal: {error}"), err=True)
    return Traffic(tallies, devices, frozenset(failed))


# --- from what is known to metrics --------------------------------------------------------------------------------


def collect(seen: Look, counted: Traffic) -> list[Metric]:
    """Every metric, in the order of docs/metrics.md. Labels are names from the configuration and fixed words only, so
    there are as many samples as the configuration makes, whatever the traffic is.
    """
    return [*_own(seen, counted), *_interfaces(seen), *_hosts(seen), *_policies(seen), *_rules(seen),
            *_connections(seen, counted), *_devices(seen, counted)]  # fmt: skip


def _gauge(name: str, help_: str, samples: Iterable[tuple[Mapping[str, str], float | None]]) -> Metric:
    return Metric(f"connbal_{name}", "gauge", help_, _known(samples))


def _counter(name: str, help_: str, samples: Iterable[tuple[Mapping[str, str], float | None]]) -> Metric:
    return Metric(f"connbal_{name}_total", "counter", help_, _known(samples))


def _known(samples: Iterable[tuple[Mapping[str, str], float | None]]) -> tuple[Sample, ...]:
    return tuple((labels, value) for labels, value in samples if value is not None)


def _own(seen: Look, counted: Traffic) -> Iterator[Metric]:
    daemon: Mapping[str, Any] = seen.daemon or {}
    runs: Mapping[str, Any] = daemon.get("reconciles") or {}
    parts = {"daemon": not seen.strange and not seen.silent}
    parts |= {part: part not in counted.failed for part in ("connections", "devices")}
    yield _gauge("build_info", "Version of connbal; always 1.", [({"version": __version__}, 1)])
    yield _gauge("scrape_success", "Whether a part of what is told here could be read.",
                 [({"part": part}, good) for part, good in parts.items()])  # fmt: skip
    yield _gauge("applied", "Whether the configuration is in the kernel.", [({}, seen.applied)])
    yield _gauge("findings", "Findings about configuration and machine.", [
        ({"severity": one.value}, sum(finding.severity is one for finding in seen.findings)) for one in Severity
    ])  # fmt: skip
    yield _gauge("daemon_up", "Whether a daemon answers.", [({}, bool(daemon))])
    yield _gauge("daemon_uptime_seconds", "Time since the daemon started.", [({}, daemon.get("since"))])
    yield _counter("reconciles", "Runs of the reconciler since the daemon started.", [({}, runs.get("count"))])
    yield _counter("reconcile_errors", "Runs that failed since the daemon started.", [({}, _told(runs.get("errors")))])
    repairs = runs.get("repairs")
    yield _counter("repairs", "Runs that put back what somebody else had undone, since the daemon started.",
                   [({}, _told(repairs.get("count")) if isinstance(repairs, Mapping) else None)])  # fmt: skip
    yield _gauge("reconcile_last_duration_seconds", "Duration of the last run that did or said something.",
                 [({}, _told((runs.get("last") or {}).get("seconds")))])  # fmt: skip


def _told(value: object) -> float | None:
    """What a daemon of an earlier version does not tell."""
    return value if isinstance(value, int | float) else None


def _interfaces(seen: Look) -> Iterator[Metric]:
    views = seen.plan.interfaces
    trackers = {view.name: tracker for view in views if (tracker := seen.tracker(view.name)) is not None}
    probed = {name: tracker for name, tracker in trackers.items() if tracker["tracked"]}
    yield _gauge("interface_info", "Family, device and routing table of an interface; always 1.", [
        ({"interface": view.name, "family": view.family.value, "device": view.device or "", "table": str(view.id)}, 1)
        for view in views
    ])  # fmt: skip
    yield _gauge("interface_enabled", "Whether the configuration enables the interface.",
                 [({"interface": view.name}, view.enabled) for view in views])  # fmt: skip
    yield _gauge("interface_up", "Whether policies use the interface.",
                 [({"interface": view.name}, view.usable) for view in views])  # fmt: skip
    yield _gauge("interface_state", "1 for the state that the daemon says the interface has.", [
        ({"interface": name, "state": state}, tracker["status"] == state)
        for name, tracker in trackers.items()
        for state in _STATES
    ])  # fmt: skip
    yield _gauge("interface_state_age_seconds", "Time since the interface went online or offline.",
                 [({"interface": name}, tracker["since"]) for name, tracker in trackers.items()])  # fmt: skip
    yield _gauge("interface_score", "Score of an interface that is probed.",
                 [({"interface": name}, tracker["score"]) for name, tracker in probed.items()])  # fmt: skip
    yield _gauge("interface_score_top", "Highest score that the interface can have.",
                 [({"interface": name}, tracker["top"]) for name, tracker in probed.items()])  # fmt: skip
    yield _counter("interface_unmade_rounds", "Rounds of probes that the router itself could not make.", [
        ({"interface": name}, _told(tracker.get("unmade", 0))) for name, tracker in probed.items()
    ])  # fmt: skip


def _hosts(seen: Look) -> Iterator[Metric]:
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for view in seen.plan.interfaces:
        tracker = seen.tracker(view.name)
        for host in tracker["hosts"] if tracker and tracker["tracked"] else ():
            found.setdefault((view.name, host["host"]), host)
    places = [({"interface": interface, "host": name}, host) for (interface, name), host in found.items()]
    up = {"up": 1, "down": 0}
    yield _gauge("host_up", "Whether a probed host answered last; none where it was not asked.",
                 [(labels, up.get(host["state"])) for labels, host in places])  # fmt: skip
    yield _gauge("host_latency_seconds", "Round trip time of the last round that was answered.", [
        (labels, None if host["latency"] is None else round(host["latency"] / 1000, 7)) for labels, host in places
    ])  # fmt: skip
    yield _gauge("host_loss_ratio", "Part of the probes of the last rounds that was not answered, 0 to 1.", [
        (labels, None if host["loss"] is None else round(host["loss"] / 100, 5)) for labels, host in places
    ])  # fmt: skip


def _policies(seen: Look) -> Iterator[Metric]:
    shares: dict[tuple[str, str, str], float] = {}
    for tier in seen.plan.tiers:
        place = (tier.policy, tier.family.value)
        for idle in tier.layout:
            shares.setdefault((*place, idle.interface), 0.0)
        for share in tier.shares:
            key = (*place, share.interface)
            shares[key] = shares.get(key, 0.0) + float(share.share)
    yield _gauge("policy_usable", "Whether a policy has a member that can be used.", [
        ({"policy": tier.policy, "family": tier.family.value}, bool(tier.shares)) for tier in seen.plan.tiers
    ])  # fmt: skip
    yield _gauge("policy_share_ratio", "Part of a policy's new connections that an interface gets, 0 to 1.", [
        ({"policy": policy, "family": family, "interface": interface}, round(value, 9))
        for (policy, family, interface), value in shares.items()
    ])  # fmt: skip


def _rules(seen: Look) -> Iterator[Metric]:
    from connbal.plan.status import RuleCounters

    counted = [
        ({"rule": view.name, "policy": view.policy}, seen.counters.get(view.name, RuleCounters()))
        for view in seen.plan.rules
    ]
    yield _counter("rule_packets", "First packets of connections that a rule has matched.",
                   [(labels, one.packets) for labels, one in counted])  # fmt: skip
    yield _counter("rule_bytes", "Bytes of these packets, not of the connections.",
                   [(labels, one.bytes) for labels, one in counted])  # fmt: skip


def _connections(seen: Look, counted: Traffic) -> Iterator[Metric]:
    from connbal.kernel.conntrack import Tally

    if "connections" in counted.failed or not seen.plan.mask:
        return
    names = {number: name for name, number in seen.plan.ids.items()}
    by_interface = dict.fromkeys(names.values(), Tally())
    others = dict.fromkeys(("none", "default", "unreachable", "blackhole", "other"), Tally())
    for number, tally in _by_id(seen, counted).items():
        if number in names:
            by_interface[names[number]] += tally
        else:
            others[_meaning(seen, number)] += tally
    yield _gauge("interface_connections", "Connections that the kernel knows and that use the interface.",
                 [({"interface": name}, tally.connections) for name, tally in by_interface.items()])  # fmt: skip
    yield _gauge("connections", "Connections that use no interface of the configuration, by what their mark means.",
                 [({"mark": mark}, tally.connections) for mark, tally in others.items()])  # fmt: skip
    sums = [
        ({"interface": name, "direction": direction}, value)
        for name, tally in by_interface.items()
        for direction, value in (("original", tally.original), ("reply", tally.reply))
    ]
    accounted = any(tally.accounted for tally in counted.connections.values())
    yield _gauge("interface_connections_bytes", "Bytes of these connections so far; they fall as connections end.",
                 sums if accounted else [])  # fmt: skip


def _by_id(seen: Look, counted: Traffic) -> dict[int, Tally]:
    """Connections by the id in their marks."""
    from connbal.kernel.conntrack import Tally
    from connbal.model.marks import MarkSpace

    space = MarkSpace(seen.plan.mask)
    found: dict[int, Tally] = {}
    for mark, tally in counted.connections.items():
        number = space.id_of(mark)
        found[number] = found.get(number, Tally()) + tally
    return found


def _meaning(seen: Look, number: int) -> str:
    """What an id means that is no interface's."""
    from connbal.model.config import Verdict
    from connbal.model.marks import MarkSpace

    space = MarkSpace(seen.plan.mask)
    verdicts = {space.verdict_id(verdict): verdict.value for verdict in Verdict}
    return "none" if number == 0 else verdicts.get(number, "other")


def _devices(seen: Look, counted: Traffic) -> Iterator[Metric]:
    found = [
        ({"interface": view.name, "device": view.device}, counted.devices[view.device])
        for view in seen.plan.interfaces
        if view.device is not None and view.device in counted.devices
    ]
    yield _counter("device_receive_bytes", "Bytes that the interface's device received, of whatever traffic.",
                   [(labels, one.received) for labels, one in found])  # fmt: skip
    yield _counter("device_transmit_bytes", "Bytes that the interface's device sent, of whatever traffic.",
                   [(labels, one.sent) for labels, one in found])  # fmt: skip
