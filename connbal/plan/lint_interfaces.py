"""Checks of interfaces: tracking that cannot work, costs, names, and what happens to open connections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from connbal.errors import Severity
from connbal.model.checks import Hit, listed
from connbal.model.config import FAMILIES, Family, Interface, TrackMethod
from connbal.plan import probed
from connbal.plan.lint_subject import WORD, Subject, check

#: Protocols of /etc/config/network whose link is a modem, which usually costs by volume.
MODEMS = frozenset({"3g", "directip", "mbim", "modemmanager", "ncm", "qmi", "wwan"})
#: Seconds until a silent loss is found out from which it is mentioned.
SLOW = 30.0
#: Megabytes a month from which the traffic of probes is mentioned.
COSTLY = 300
#: Protocols by which a device has one network: static addresses may be several, and PPP makes a device of its own.
_OWN_DEVICE = frozenset({"dhcp", "dhcpv6", "directip", "mbim", "modemmanager", "ncm", "qmi"})
_MONTH = 30 * 86400
_PINGS = frozenset({TrackMethod.PING, TrackMethod.NPING_ICMP})
#: Bytes of IP and ICMP headers of an echo.
_HEADERS = {Family.IPV4: 28, Family.IPV6: 48}
_SUFFIX = {Family.IPV4: "_4", Family.IPV6: "_6"}


@check("nothing-enabled", Severity.WARNING, "no interface is enabled")
def nothing_enabled(subject: Subject) -> Iterator[Hit]:
    if subject.config.interfaces and not subject.enabled:
        name = subject.config.interfaces[0].name
        message = "no interface is enabled: every policy is at its last resort"
        yield Hit("", "", message, f"connbal interface enable {name}")


@check("unused-interface", Severity.WARNING, "an enabled interface that is in no policy")
def unused_interface(subject: Subject) -> Iterator[Hit]:
    used = {name for policy in subject.config.policies for name in subject.config.interfaces_of(policy.name)}
    for interface in subject.enabled:
        if interface.name not in used:
            message = "it is enabled, but no policy has a member for it: nothing is sent there"
            remedy = f"add a member for it to a policy, or connbal interface disable {interface.name}"
            yield Hit(interface.name, "", message, remedy)


# --- tracking -------------------------------------------------------------------------------------------------------


@check("reliability", Severity.WARNING, "an interface that needs more hosts to answer than it probes")
def reliability(subject: Subject) -> Iterator[Hit]:
    for interface in _tracked(subject):
        hosts = len(interface.track_ip) + interface.track_gateway
        if interface.reliability > hosts:
            message = (
                f"{interface.reliability} hosts must answer, but {hosts} {'is' if hosts == 1 else 'are'} probed: "
                "it can never be online"
            )
            remedy = f"connbal interface set {interface.name} --reliability {hosts}"
            yield Hit(interface.name, "reliability", message, remedy)


@check("track-family", Severity.WARNING, "a host to probe that is an address of the other family")
def track_family(subject: Subject) -> Iterator[Hit]:
    for interface in _tracked(subject):
        for host in interface.track_ip:
            address = probed.address(host)
            family = None if address is None else Family.of(address)
            if family not in (None, interface.family):
                message = f"{host} is not an {WORD[interface.family]} address: it never answers for this interface"
                remedy = f"connbal interface set {interface.name} --remove track_ip={host}"
                yield Hit(interface.name, "track_ip", message, remedy)


@check(probed.CODE, Severity.ERROR, "a host to probe that is this router itself, or no single host")
def track_host(subject: Subject) -> Iterator[Hit]:
    for interface in _tracked(subject):
        for host in interface.track_ip:
            why = probed.fault(host, subject.own)
            if why:
                yield Hit(interface.name, "track_ip", *probed.words(interface.name, host, why))


@check("not-tracked", Severity.INFO, "enabled interfaces that are never probed")
def not_tracked(subject: Subject) -> Iterator[Hit]:
    names = [one.name for one in subject.enabled if not one.track_ip and not one.track_gateway]
    if names:
        message = f"{listed(names)}: not probed, so a source whose link is up but which is dead counts as up"
        yield Hit(names[0], "track_ip", message, f"connbal interface set {names[0]} --add track_ip=ADDRESS")


@check("timeout-over-interval", Severity.INFO, "probes that wait longer than the time between rounds")
def timeout_over_interval(subject: Subject) -> Iterator[Hit]:
    names = [one.name for one in _tracked(subject) if one.timeout > one.interval]
    if names:
        message = (
            f"{listed(names)}: timeout is longer than interval, so rounds overlap: each is judged when it is over, and "
            "a loss is found out the later"
        )
        yield Hit(names[0], "timeout", message, "make timeout the longest answer you would still call good")


@check("slow-detection", Severity.INFO, "interfaces whose silent loss is found out late")
def slow_detection(subject: Subject) -> Iterator[Hit]:
    found: dict[float, list[str]] = defaultdict(list)
    for interface in _tracked(subject):
        latest = interface.interval + (interface.down - 1) * interface.failure_interval + interface.timeout
        if latest > SLOW:
            found[latest].append(interface.name)
    for latest, names in found.items():
        message = (
            f"{listed(names)}: a source that is silent is found out after up to {latest:g} s (interval + (down - 1) x "
            "failure_interval + timeout)"
        )
        remedy = f"connbal interface set {names[0]} --interval 5 --failure-interval 1 --timeout 2 --down 3 makes it 9 s"
        yield Hit(names[0], "interval", message, remedy)


@check("probe-traffic", Severity.INFO, "modems on which probes alone are much traffic")
def probe_traffic(subject: Subject) -> Iterator[Hit]:
    for interface in _tracked(subject):
        network = subject.networks.get(interface.name)
        if network is None or network.proto not in MODEMS or interface.track_method not in _PINGS:
            continue
        hosts = len(interface.track_ip) + interface.track_gateway
        echo = 2 * (interface.size + _HEADERS[interface.family]) * interface.count * hosts
        megabytes = echo * _MONTH / interface.interval / 1e6
        if megabytes >= COSTLY:
            message = f"its probes are about {_rounded(megabytes)} MB a month, and {network.proto} is a modem"
            remedy = f"connbal interface set {interface.name} --interval {2 * interface.interval:g} halves it"
            yield Hit(interface.name, "interval", message, remedy)


def _rounded(number: float) -> str:
    """Two digits are all that such a guess is worth."""
    return f"{float(f'{number:.2g}'):g}" if number < 100_000 else f"{number:.0f}"


@check("no-flush", Severity.INFO, "interfaces whose open connections wait for them when others take over")
def no_flush(subject: Subject) -> Iterator[Hit]:
    alternatives = set()
    for policy in subject.config.policies:
        for family in FAMILIES:
            live = {member.interface for member in subject.live_members(policy, family)}
            if len(live) > 1 and policy.name in subject.used_policies:
                alternatives |= live
    names = [
        one.name for one in subject.enabled
        if one.name in alternatives and not one.flush_conntrack & {"disconnected", "ifdown"}
    ]  # fmt: skip
    if names:
        message = f"{listed(names)}: connections open when it goes offline stay with it, and hang, until it is back"
        remedy = (
            f"connbal interface set {names[0]} --add flush_conntrack=disconnected --add flush_conntrack=ifdown "
            "forgets them, and no others"
        )
        yield Hit(names[0], "flush_conntrack", message, remedy)


def _tracked(subject: Subject) -> Iterator[Interface]:
    return (one for one in subject.enabled if one.track_ip or one.track_gateway)


# --- names and networks ---------------------------------------------------------------------------------------------


@check("same-network", Severity.WARNING, "two enabled interfaces that are one network in one family")
def same_network(subject: Subject) -> Iterator[Hit]:
    found: dict[tuple[Family, str], str] = {}
    for interface in subject.enabled:
        for key in _networks(subject, interface):
            other = found.setdefault((interface.family, key), interface.name)
            if other != interface.name:
                word = WORD[interface.family]
                message = f"it is the same {word} network as interface {other}: one source, counted twice"
                yield Hit(interface.name, "", message, f"connbal interface disable {interface.name}")
                break


def _networks(subject: Subject, interface: Interface) -> Iterator[str]:
    """What must differ among interfaces of a family: the network, where a modem's halves are one, and the device."""
    yield interface.name.removesuffix(_SUFFIX[interface.family])
    network = subject.networks.get(interface.name)
    if network is not None and network.device and network.proto in _OWN_DEVICE:
        device = network.device
        yield device[1:].removesuffix(_SUFFIX[interface.family]) if device.startswith("@") else f"device {device}"


@check("similar-names", Severity.WARNING, "names that differ in nothing but capital letters")
def similar_names(subject: Subject) -> Iterator[Hit]:
    config = subject.config
    sections: tuple[tuple[str, Iterable[str]], ...] = (
        ("interface", (one.name for one in config.interfaces)),
        ("member", (one.name for one in config.members)),
        ("policy", (one.name for one in config.policies)),
        ("rule", (one.name for one in config.rules)),
    )
    for kind, names in sections:
        seen: dict[str, str] = {}
        for name in names:
            other = seen.setdefault(name.lower(), name)
            if other != name:
                message = f"its name differs from that of {kind} {other} in capital letters only; they are two"
                yield Hit(name, "", message, f"connbal {kind} rename {name} NEW")
