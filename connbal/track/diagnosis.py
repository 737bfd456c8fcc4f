"""What is wrong with a source: from evidence to steps in words, and one sentence. Pure.

The steps stand in the order of causes: what fails makes those after it fail too, or makes them pointless, and then they
are skipped. So the first that failed is what is wrong, with one exception: where DNS fails as everything else behind
the gateway does, the line is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from connbal.model import names
from connbal.model.config import Family
from connbal.model.marks import IIF_PRIORITY, MARK_PRIORITY, UNREACHABLE_PRIORITY
from connbal.plan import local_findings
from connbal.plan.chains import HOOK, IFACES_IN
from connbal.plan.describe import route_text, selector_text
from connbal.plan.locality import Judged
from connbal.plan.shares import percents
from connbal.plan.values import Tier
from connbal.track.api import HostResult, Miss
from connbal.track.evidence import Diagnosis, Evidence, Result, Step
from connbal.track.quality import needed, verdict
from connbal.uci.decode_match import is_address

_WORD = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
_AGAIN = "connbal apply puts it back"


def left_out(name: str) -> Diagnosis:
    """That of an interface whose section has a fault."""
    step = Step("section", Result.FAIL, "it is left out, because it is wrong", "see connbal check")
    return Diagnosis(name, None, None, (step,), step.text, step.remedy)


def diagnose(evidence: Evidence) -> Diagnosis:
    """What is wrong with a source, as far as the evidence goes."""
    found: dict[str, Step] = {}
    for name, needs, spoils, look in _STEPS:
        missing = next((one for one in needs if found[one].result is not Result.OK), None)
        missing = missing or next((one for one in spoils if found[one].result is Result.FAIL), None)
        found[name] = look(evidence, name) if missing is None else _skip(name, f"because of {missing}")
    steps = list(found.values())
    at = next(index for index, step in enumerate(steps) if step.name == "hosts")
    if steps[at].result is not Result.SKIPPED:
        steps[at + 1 : at + 1] = _each_host(evidence)
    wrong = _wrong(found, steps, evidence)
    interface = evidence.interface
    device = evidence.network.device if evidence.network is not None else None
    words = (wrong.text, wrong.remedy) if wrong is not None else ("", "")
    return Diagnosis(interface.name, interface.family, device, tuple(steps), *words)


def can_be_probed(evidence: Evidence) -> bool:
    """Whether there is a way by which probes could leave."""
    steps = {step.name: step.result for step in diagnose(evidence).steps}
    return steps["gateway"] is Result.OK and Result.FAIL not in (steps["ip rules"], steps["table"])


def _wrong(found: Mapping[str, Step], steps: Sequence[Step], evidence: Evidence) -> Step | None:
    """The step that is to blame."""
    hosts = evidence.answers.hosts or ()
    silent = bool(hosts) and not any(one.answered for one in hosts) and any(is_address(one.host) for one in hosts)
    if found["DNS"].result is Result.FAIL and found["neighbour"].result is not Result.FAIL and silent:
        return found["hosts"]
    return next((step for step in steps if step.result is Result.FAIL), None)


# --- the section and the network ------------------------------------------------------------------------------------


def _ok(name: str, text: str) -> Step:
    return Step(name, Result.OK, text)


def _fail(name: str, text: str, remedy: str) -> Step:
    return Step(name, Result.FAIL, text, remedy)


def _skip(name: str, text: str) -> Step:
    return Step(name, Result.SKIPPED, text)


def _section(evidence: Evidence, name: str) -> Step:
    if evidence.interface.enabled:
        return _ok(name, f"enabled, {_WORD[evidence.interface.family]}, number {evidence.id}")
    remedy = f"connbal interface enable {evidence.interface.name}"
    return _fail(name, "it is disabled: option enabled is not '1'", remedy)


def _forced(evidence: Evidence, name: str) -> Step:
    if evidence.forced is False:
        return _fail(name, "it is forced down by the user", f"connbal interface force {evidence.interface.name} auto")
    return _ok(name, "forced up by the user" if evidence.forced else "no")


def _network(evidence: Evidence, name: str) -> Step:
    network, own = evidence.network, evidence.interface.name
    if network is None or (network.device is None and not network.up):
        why = network.reason if network is not None else "no such network"
        remedy = f"look at {own} in /etc/config/network"
        return _fail(name, f"{why}: there is no network or device {own} in use", remedy)
    if not network.up and _link_trouble(evidence) is None and network.addresses:
        return _fail(name, network.reason, f"ifup {own}, and see what logread says")
    return _ok(name, f"known, {network.reason or 'up'}")


def _link_trouble(evidence: Evidence) -> tuple[str, str] | None:
    """What is wrong with the device, and what to do."""
    device = evidence.network.device if evidence.network is not None else None
    link = evidence.link
    if link is None:
        return f"device {device} does not exist", "is the modem or adapter there, and its driver?"
    if not link.up:
        return f"{link.name} is down", f"ifup {evidence.interface.name}"
    if not link.carrier:
        return f"no carrier on {link.name}", "plug the cable in; switch on what is at its other end"
    return None


def _link(evidence: Evidence, name: str) -> Step:
    trouble = _link_trouble(evidence)
    if trouble is not None:
        return _fail(name, *trouble)
    assert evidence.link is not None
    return _ok(name, f"{evidence.link.name} is up, with carrier")


def _address(evidence: Evidence, name: str) -> Step:
    network = evidence.network
    word = _WORD[evidence.interface.family]
    if network is not None and network.addresses:
        return _ok(name, ", ".join(str(address) for address in network.addresses))
    if network is not None and network.up:
        return _ok(name, "none of its own, but a prefix to hand on")
    device = network.device if network is not None else None
    remedy = f"ifup {evidence.interface.name}; is there a DHCP server, is the modem connected?"
    return _fail(name, f"no {word} address on {device}", remedy)


def _gateway(evidence: Evidence, name: str) -> Step:
    network = evidence.network
    if network is not None and network.defaults:
        gateway = evidence.gateway
        return _ok(name, f"default route by {gateway}" if gateway else f"default route straight onto {network.device}")
    remedy = f"give {evidence.interface.name} a gateway in /etc/config/network, or look why it was not told one"
    return _fail(name, f"no {_WORD[evidence.interface.family]} default route or gateway is known", remedy)


# --- what connbal has in the kernel ---------------------------------------------------------------------------------


def _applied(evidence: Evidence, name: str) -> Step:
    if evidence.applied:
        return _ok(name, "yes")
    return _fail(name, "the configuration is not applied: no traffic is balanced", "connbal apply, or start the daemon")


def _ip_rules(evidence: Evidence, name: str) -> Step:
    number = evidence.id
    wanted = (IIF_PRIORITY + number, MARK_PRIORITY + number, UNREACHABLE_PRIORITY + number)
    family = evidence.interface.family.value
    rules = [one for one in evidence.plan.ip_rules if one.family == family and one.priority in wanted]
    for rule in rules:
        if rule not in evidence.kernel.ip_rules:
            return _fail(name, f"ip rule {rule.priority} ({selector_text(rule)}) is missing", _AGAIN)
    return _ok(name, ", ".join(str(rule.priority) for rule in rules))


def _table(evidence: Evidence, name: str) -> Step:
    number, family = evidence.id, evidence.interface.family
    routes = [one for one in evidence.plan.routes if one.table == number and one.family is family]
    missing = [one for one in routes if one not in evidence.kernel.routes]
    if missing:
        first = min(missing, key=lambda one: one.destination.prefixlen)
        what = "its default route" if first.destination.prefixlen == 0 else "a route"
        return _fail(name, f"routing table {number} lacks {what}: {route_text(first)}", _AGAIN)
    return _ok(name, f"{number}: {len(routes)} routes, the default route among them")


def _chain(evidence: Evidence, name: str) -> Step:
    family = evidence.interface.family
    own = names.chain("iface_in", evidence.interface.name)
    there = evidence.kernel.chains.get(family, {})
    ruleset = evidence.plan.rulesets.get(family)
    planned = next((one for one in ruleset.chains if one.name == own), None) if ruleset is not None else None
    if planned is None:
        return _skip(name, f"no {_WORD[family]} chains here")
    if own not in there:
        return _fail(name, f"chain {own} is missing", _AGAIN)
    if len(there[own]) != len(planned.rules):
        return _fail(name, f"chain {own} has {len(there[own])} lines instead of {len(planned.rules)}", _AGAIN)
    for base, target in (("PREROUTING", HOOK), (IFACES_IN, own)):
        if not any(target in line.split() for line in there.get(base, ())):
            return _fail(name, f"chain {base} does not lead to {target}", _AGAIN)
    return _ok(name, own)


def _kernel(evidence: Evidence, name: str) -> Step:
    if not evidence.pending:
        return _ok(name, "as planned")
    count = len(evidence.pending)
    what = f"{count} change{' waits' if count == 1 else 's wait'} to be applied, the first: {evidence.pending[0]}"
    remedy = "connbal plan shows all of them, connbal apply makes them; the daemon does so by itself"
    return _fail(name, what, remedy)


# --- what answers ---------------------------------------------------------------------------------------------------


def _neighbour(evidence: Evidence, name: str) -> Step:
    gateway, answer = evidence.gateway, evidence.answers.gateway
    if gateway is None:
        return _skip(name, "it needs no gateway")
    if answer is None:
        return _skip(name, "not asked")
    if answer.answered:
        latency = "" if answer.latency is None else f" in {answer.latency:.1f} ms"
        return _ok(name, f"{gateway} answers{latency}")
    device = evidence.network.device if evidence.network is not None else None
    remedy = "is what is at the other end switched on, and is the address of the gateway right?"
    return _fail(name, f"gateway {gateway} does not answer on {device}: {answer.reason}", remedy)


def _dns(evidence: Evidence, name: str) -> Step:
    servers = evidence.answers.servers
    if servers is None:
        return _skip(name, "not asked")
    names_tracked = [host for host in evidence.interface.track_ip if not is_address(host)]
    if not servers:
        if not names_tracked:
            return _skip(name, "no DNS server of its own is known")
        remedy = f"list dns '...' for {evidence.interface.name} in /etc/config/network, or addresses in track_ip"
        return _fail(name, f"no DNS server is known, and track_ip has the name {names_tracked[0]}", remedy)
    silent = [one for one in servers if not one.answered]
    if len(silent) < len(servers):
        rest = f"; {silent[0].host} does not: {silent[0].reason}" if silent else ""
        return _ok(name, f"{next(one.host for one in servers if one.answered)} answers{rest}")
    listed = ", ".join(one.host for one in servers)
    remedy = "use other DNS servers for it in /etc/config/network, or addresses in track_ip"
    return _fail(name, f"no DNS server ({listed}) answers through it: {silent[0].reason}", remedy)


def _each_host(evidence: Evidence) -> Iterable[Step]:
    for one in evidence.answers.hosts or ():
        latency = "" if one.latency is None else f" in {one.latency:.1f} ms"
        label = f"host {one.host}"
        if one.answered:
            yield _ok(label, f"answers{latency}")
        elif one.miss is Miss.UNASKED:
            yield _skip(label, f"not asked: {one.reason}")
        elif one.miss is Miss.LEFT_OUT:
            remedy = f"connbal interface set {evidence.interface.name} --remove track_ip={one.host}, and name another"
            yield _fail(label, f"track host {one.host} is left out: {one.reason}", remedy)
        else:
            others = "; enough others do" if _enough(evidence) else ""
            remedy = f"if that stays so, connbal interface set {evidence.interface.name} --remove track_ip={one.host}"
            yield _fail(label, f"track host {one.host} does not answer ({one.reason}){others}", remedy)


def _enough(evidence: Evidence) -> bool:
    hosts = evidence.answers.hosts or ()
    good = sum(one.answered for one in hosts)
    out, unasked = (len(_missed(hosts, what)) for what in (Miss.LEFT_OUT, Miss.UNASKED))
    return verdict(evidence.interface.reliability, len(hosts), good, left_out=out, unasked=unasked) is True


def _missed(hosts: Sequence[HostResult], what: Miss) -> list[HostResult]:
    return [one for one in hosts if not one.answered and one.miss is what]


def _hosts(evidence: Evidence, name: str) -> Step:
    hosts, interface = evidence.answers.hosts, evidence.interface
    if not hosts:
        return _skip(name, "not asked" if interface.track_ip else "no track_ip: it is not probed")
    good = sum(one.answered for one in hosts)
    need = needed(interface.reliability, len(hosts), len(_missed(hosts, Miss.LEFT_OUT)))
    if _enough(evidence):
        return _ok(name, f"{good} of {len(hosts)} answer, {need} needed")
    lost = _missed(hosts, Miss.LOST)
    if interface.reliability > len(hosts):
        text = f"{interface.reliability} hosts must answer, but track_ip has {len(hosts)}"
        return _fail(name, text, f"connbal interface set {interface.name} --reliability {len(hosts)}")
    if not lost:
        other = next(one for one in hosts if not one.answered)
        remedy = "name hosts of the Internet in track_ip, and see connbal check"
        return _fail(name, f"no host of track_ip can be asked: {other.host}, {other.reason}", remedy)
    method = interface.track_method.value
    if good:
        text = f"only {good} of {good + len(lost)} hosts answer {method}, {need} needed"
        return _fail(name, text, "replace hosts that never answer, or lower reliability")
    what = f"host {lost[0].host} does not answer" if len(lost) == 1 else f"none of {len(lost)} hosts answers"
    behind = "the gateway answers, what is behind it does not: " if evidence.answers.gateway and (
        evidence.answers.gateway.answered
    ) else ""  # fmt: skip
    text = f"{behind}{what} {method} ({lost[0].reason})"
    return _fail(name, text, "ask the provider, restart the modem, or try other hosts in track_ip")


# --- what else is in the main table -----------------------------------------------------------------------------


def _routes(evidence: Evidence, name: str) -> Step:
    network, family = evidence.network, evidence.interface.family
    device = (network.device if network is not None else None) or ""
    judged = evidence.plan.judged.get(family, Judged())
    for finding in local_findings.covered(evidence.config, family, {device: evidence.interface.name}, judged):
        return _fail(name, finding.message, finding.remedy)
    own = [str(one.route.destination) for one in judged.kept if one.device == device]
    if not own:
        return _ok(name, "none takes anything from other sources")
    return _ok(name, f"{len(own)} by {device} for what it carries alone: {local_findings.some_of(own)}")


# --- what it is used for --------------------------------------------------------------------------------------------


def _policies(evidence: Evidence, name: str) -> Step:
    own = evidence.interface.name
    tiers = [tier for tier in evidence.plan.tiers if tier.family is evidence.interface.family]
    using = [tier for tier in tiers if own in evidence.config.interfaces_of(tier.policy)]
    if not using:
        remedy = f"add a member for it to a policy, or connbal interface disable {own}"
        return _fail(name, "no policy has a member for it: nothing is sent there", remedy)
    return _ok(name, ", ".join(_use(tier, own) for tier in using))


def _use(tier: Tier, interface: str) -> str:
    if tier.metric is None:
        return f"{tier.policy}: not now, no member is usable"
    values = percents([share.share for share in tier.shares])
    mine = sum(value for share, value in zip(tier.shares, values, strict=True) if share.interface == interface)
    used = any(share.interface == interface for share in tier.shares)
    return f"{tier.policy}: {mine} %" if used else f"{tier.policy}: not now, metric {tier.metric} is in use"


def _daemon(evidence: Evidence, name: str) -> Step:
    tracker = evidence.tracker
    if tracker is None:
        why = "it does not know this interface yet" if evidence.daemon else "not running: nothing is probed"
        return _skip(name, why)
    text = f"{tracker['status']}: {tracker['reason']}"
    if tracker["online"]:
        return _ok(name, text)
    back = "it comes back by itself after good rounds; connbal events says what happened"
    return _fail(name, f"the daemon counts it as {text}", back)


_Look = Callable[[Evidence, str], Step]
#: Name, steps that have to be ok for it, steps that must not have failed, and what looks.
_STEPS: tuple[tuple[str, tuple[str, ...], tuple[str, ...], _Look], ...] = (
    ("section", (), (), _section),
    ("network", ("section",), (), _network),
    ("link", ("network",), (), _link),
    ("address", ("link",), (), _address),
    ("gateway", ("address",), (), _gateway),
    ("applied", ("section",), (), _applied),
    ("ip rules", ("gateway", "applied"), (), _ip_rules),
    ("table", ("gateway", "applied"), (), _table),
    ("chain", ("gateway", "applied"), (), _chain),
    ("neighbour", ("gateway",), ("ip rules", "table"), _neighbour),
    ("DNS", ("gateway",), ("ip rules", "table"), _dns),
    ("hosts", ("gateway",), ("ip rules", "table"), _hosts),
    ("kernel", ("applied",), ("ip rules", "table", "chain"), _kernel),
    ("routes", ("section",), (), _routes),
    ("policies", ("section",), (), _policies),
    ("forced", ("section",), (), _forced),
    ("daemon", ("section",), ("forced", "hosts"), _daemon),
)
