"""The checks of the configuration, put together: what they look at, and all they find."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping

from connbal.cli.context import Session
from connbal.errors import ConfigError, Finding
from connbal.model.config import FAMILIES, PACKAGE, Config, IPAddress
from connbal.plan import probed
from connbal.plan.lint import CHECKS as PLAN_CHECKS
from connbal.plan.lint import lint as plan_lint
from connbal.plan.lint_subject import NetworkSection, Subject
from connbal.plan.local_findings import COVERED, KEPT
from connbal.uci import luci
from connbal.uci.declared import DHCP, FIREWALL, declared_sets, text
from connbal.uci.package import Package, Value

#: What decoding finds; docs/configuration.md says what each means.
DECODING = (
    "bad-value", "missing-option", "unknown-interface", "unknown-member", "unknown-policy", "matches-nothing",
    "narrowed", "wrong-family", "duplicate-name", "duplicate-value", "bad-name", "unnamed", "reserved-name",
    "wrong-globals", "too-many-interfaces", "unknown-option", "unknown-section",
)  # fmt: skip
#: What is found about routes in the kernel, with ``--live``.
ROUTES = (KEPT, COVERED)
#: What else only ``--live`` finds: ``connbal.kernel.scripts.UNTRUSTED``.
LIVE = ("untrusted-script",)
#: That a change waits for its confirmation.
UNCONFIRMED = "unconfirmed"
#: Every code of a finding that ``connbal check`` may print.
CODES = (*DECODING, *PLAN_CHECKS, *luci.CHECKS, *ROUTES, *LIVE, UNCONFIRMED)


def lint(session: Session, package: Package, config: Config, live: bool = False) -> Iterator[Finding]:
    """What is probably not meant in a configuration and the ``package`` it was decoded from.

    ``live``: ask the kernel which ipsets exist, too, and look whether root's scripts are root's. KernelError where it
    does not answer.
    """
    yield from plan_lint(subject(session, package, config, live))
    yield from luci.lint(package)
    if live:
        from connbal.kernel import scripts

        yield from scripts.findings()


def subject(session: Session, package: Package, config: Config, live: bool = False) -> Subject:
    """What the checks look at. Other files are read only where something depends on them, and need not exist."""
    globals_ = package.get("globals")
    named = any(rule.ipset or rule.ipset_src for rule in config.rules)
    return Subject(
        config,
        stated=frozenset(globals_.options if globals_ is not None else ()),
        declared_sets=_declared_sets(session) if named else None,
        live_sets=_live_sets() if named and live else None,
        networks=_networks(session) if any(one.enabled for one in config.interfaces) else {},
        own=_own(session) | (_live_own(config) if live else frozenset()) if _probed(config) else frozenset(),
    )


def _probed(config: Config) -> frozenset[IPAddress]:
    """The addresses that enabled interfaces probe."""
    hosts = (host for one in config.interfaces if one.enabled for host in one.track_ip)
    return frozenset(found for host in hosts if (found := probed.address(host)) is not None)


def _own(session: Session) -> frozenset[IPAddress]:
    """The addresses that ``/etc/config/network`` gives this router."""
    package = _load(session, "network")
    found = set()
    for section in package.of_type("interface") if package is not None else ():
        for option in ("ipaddr", "ip6addr"):
            value = section.options.get(option, ())
            for word in " ".join([value] if isinstance(value, str) else value).split():
                with contextlib.suppress(ValueError):
                    found.add(ipaddress.ip_interface(word).ip)
    return frozenset(found)


def _live_own(config: Config) -> frozenset[IPAddress]:
    """Those of the probed addresses that the kernel answers at itself."""
    from connbal.kernel.own import OwnAddresses

    with contextlib.closing(OwnAddresses()) as own:
        return frozenset(one for one in _probed(config) if own.whose(one))


def live_routes(session: Session, config: Config) -> Iterator[Finding]:
    """What there is to say of the routes in the main table. KernelError where nobody can say which there are."""
    from connbal.plan import local_findings
    from connbal.plan.locality import judgement, source_devices

    with session.machine() as machine:
        facts = machine.facts(config, lambda config, facts: {})
    yield from local_findings.findings(config, source_devices(config, facts), judgement(config, facts, FAMILIES))


def _declared_sets(session: Session) -> Mapping[str, str] | None:
    """None where there is neither file, so that nothing can be said."""
    packages = [package for name in (DHCP, FIREWALL) if (package := _load(session, name)) is not None]
    return declared_sets(packages) if packages else None


def _networks(session: Session) -> dict[str, NetworkSection]:
    package = _load(session, "network")
    sections = package.of_type("interface") if package is not None else ()
    return {one.name: _network(one.options) for one in sections}


def _network(options: Mapping[str, Value]) -> NetworkSection:
    return NetworkSection(text(options.get("proto")), text(options.get("device", options.get("ifname"))))


def _load(session: Session, name: str) -> Package | None:
    """Another package; None where there is none, or its file is not to be read: its owner will say so."""
    assert name != PACKAGE
    if not (session.config_dir / name).exists():
        return None
    try:
        return session.store().load(name)
    except ConfigError:
        return None


def _live_sets() -> frozenset[str]:
    from connbal.kernel.ipset import SystemSets

    with contextlib.closing(SystemSets()) as sets:
        return frozenset(sets.headers())
