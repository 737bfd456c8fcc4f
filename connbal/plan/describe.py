"""Changes in words, one line each: what ``connbal plan`` prints and ``connbal apply`` logs."""

from __future__ import annotations

from collections.abc import Iterator

from connbal.model.facts import MainRoute, RouteHop
from connbal.plan.diff import Changes
from connbal.plan.values import IpRoute, IpRule, SetSpec


def describe(changes: Changes) -> Iterator[str]:
    """One line per change, in the order they are made. ``+`` makes, ``~`` changes, ``-`` takes away."""
    for spec in changes.create_sets:
        yield f"+ set {_set(spec)}"
    for spec in changes.replace_sets:
        yield f"~ set {_set(spec)}"
    for route in changes.put_routes:
        yield f"+ route {route_text(route)}"
    for copy in changes.copy_routes:
        yield f"+ local route {main_text(copy)}"
    for rule in changes.add_rules:
        yield f"+ rule {rule_text(rule)}"
    for family, transaction in changes.transactions.items():
        for line in transaction.lines:
            if line.text.startswith(":"):
                chain = line.text[1:].split()[0]
                written = transaction.chains.get(chain)
                gone = f"- {family.value} chain {chain}"
                yield gone if written is None else f"~ {family.value} chain {chain}: {len(written)} rules"
            elif line.text.startswith(("-A PREROUTING", "-A OUTPUT", "-D ")):
                yield f"{'-' if line.text.startswith('-D') else '+'} {family.value} hook {line.text[3:]}"
    for name in changes.flush_sets:
        yield f"~ set {name}: emptied"
    for rule in changes.delete_rules:
        yield f"- rule {rule_text(rule)}"
    for route in changes.delete_routes:
        yield f"- route {route_text(route)}"
    for copy in changes.delete_copies:
        yield f"- local route {main_text(copy)}"
    for name in changes.destroy_sets:
        yield f"- set {name}"


def _set(spec: SetSpec) -> str:
    content = "" if spec.entries is None else f": {len(spec.entries)} entries"
    return f"{spec.name} ({spec.type}{', ' + spec.family.value if spec.family else ''}){content}"


def rule_text(rule: IpRule) -> str:
    """As ``ip rule`` shows it, after the family."""
    return f"{rule.family} {rule.priority}: from all {selector_text(rule)}"


def selector_text(rule: IpRule) -> str:
    """What a rule looks at and what it does, in the words of ``ip rule``."""
    words = []
    if rule.mask:
        words.append(f"fwmark {rule.mark:#x}/{rule.mask:#x}")
    if rule.iif:
        words.append(f"iif {rule.iif}")
    words.append(f"lookup {rule.table}" if rule.action == "lookup" else rule.action)
    if rule.suppress_prefixlen >= 0:
        words.append(f"suppress_prefixlength {rule.suppress_prefixlen}")
    return " ".join(words)


def route_text(route: IpRoute) -> str:
    """What follows ``ip route add`` on a command line."""
    words = ["default" if route.destination.prefixlen == 0 else str(route.destination)]
    if route.source is not None:
        words.append(f"from {route.source}")
    if route.gateway is not None:
        words.append(f"via {route.gateway}")
    words.append(f"dev {route.device} table {route.table}")
    if route.metric:
        words.append(f"metric {route.metric}")
    if route.prefsrc is not None:
        words.append(f"src {route.prefsrc}")
    if route.onlink:
        words.append("onlink")
    return " ".join(words)


def main_text(route: MainRoute) -> str:
    """A route of the main table in the words of ``ip route``."""
    words = [*(() if route.kind == "unicast" else (route.kind,)), str(route.destination)]
    if route.source is not None:
        words.append(f"from {route.source}")
    if len(route.hops) == 1:
        words.append(_hop(route.hops[0]))
    words += [f"nexthop {_hop(hop)}" for hop in route.hops if len(route.hops) > 1]
    if route.metric:
        words.append(f"metric {route.metric}")
    if route.prefsrc is not None:
        words.append(f"src {route.prefsrc}")
    return " ".join(words)


def _hop(hop: RouteHop) -> str:
    gateway = f"via {hop.gateway} " if hop.gateway is not None else ""
    return f"{gateway}dev {hop.device}{' onlink' if hop.onlink else ''}"
