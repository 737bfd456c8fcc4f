"""What there is to say about the routes of the main table: those for one source alone, and those that take most of the
Internet from all sources. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from connbal.errors import Finding, Severity
from connbal.model.config import PACKAGE, Config, Family, SourceRoutes
from connbal.plan.locality import EXAMPLES, Judged, Kept, Why, sane

_WORD = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
#: Codes of the findings.
KEPT, COVERED = "source-routes", "covered"


def findings(config: Config, sources: Mapping[str, str], judged: Mapping[Family, Judged]) -> tuple[Finding, ...]:
    """At most two for each source and reason, and one for each device and family that takes most of the Internet.

    ``sources``: devices of sources, with the name of each.
    """
    found: list[Finding] = []
    for family, one in judged.items():
        found += _kept(family, sources, one.kept)
        found += covered(config, family, sources, one)
    return tuple(found)


def covered(config: Config, family: Family, sources: Mapping[str, str], judged: Judged) -> Iterator[Finding]:
    """The devices that take most of the Internet from all sources."""
    for device, some in judged.covering:
        yield _covered(config, family, device, sources, map(str, some))


def _kept(family: Family, sources: Mapping[str, str], kept: Iterable[Kept]) -> Iterator[Finding]:
    grouped: dict[tuple[Severity, str, Why], list[str]] = {}
    for one in kept:
        severity = _severity(family, one)
        if severity is not None:
            grouped.setdefault((severity, one.device, one.why), []).append(str(one.route.destination))
    for (severity, device, why), routes in grouped.items():
        name = sources.get(device, device)
        what, counts = ("a route", "counts") if len(routes) == 1 else (f"{len(routes)} routes", "count")
        yield Finding(
            severity, KEPT, f"{PACKAGE}.{name}",
            f"{what} by {device} ({some_of(routes)}) {counts} for {_WORD[family]} that {name} carries, and for nothing "
            f"else: {why.value}",
            remedy(name),
        )  # fmt: skip


def _severity(family: Family, kept: Kept) -> Severity | None:
    """How worth telling it is; None: not at all. Honest providers have neighbours on the link: a gateway, the other end
    of PPP, an advertised network. Routes to what is elsewhere, and networks larger than any link, are another matter.
    """
    route = kept.route
    if kept.why is Why.NOTHING:
        return Severity.INFO
    if kept.why is not Why.PUBLIC or any(hop.gateway is not None for hop in route.hops) or not sane(
        family, route.destination
    ):
        return Severity.WARNING
    return None if route.destination.prefixlen == route.destination.max_prefixlen else Severity.INFO


def some_of(routes: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    listed = list(routes)
    more = len(listed) - EXAMPLES
    return ", ".join(listed[:EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def remedy(name: str) -> str:
    """What to do where a route of a source is meant for everybody."""
    return (
        f"nothing, if they are not meant for everybody; else a route section in /etc/config/network for interface "
        f"{name}, or connbal globals set --source-routes {SourceRoutes.ALL.value}"
    )


def _covered(
    config: Config, family: Family, device: str, sources: Mapping[str, str], some: Iterable[str]
) -> Finding:
    name = sources.get(device)
    listed = some_of(some)
    if name is not None and config.globals.source_routes is SourceRoutes.ALL:
        cure = f"connbal globals set --source-routes {SourceRoutes.PRIVATE.value}"
    elif name is not None:
        cure = f"take the route sections of interface {name} out of /etc/config/network"
    else:
        cure = (
            f"if {device} is to be one of the sources, make it a network with an interface section; else keep these "
            "routes out (OpenVPN: route-nopull, or pull-filter ignore redirect-gateway; WireGuard: smaller allowed_ips)"
        )
    return Finding(
        Severity.WARNING, COVERED, f"{PACKAGE}.{name or 'globals'}",
        f"routes by {device} ({listed}) take most of {_WORD[family]} before any rule is asked: whatever source a rule "
        f"chooses, it leaves by {device}", cure,
    )  # fmt: skip
