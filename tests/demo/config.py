"""The user's three examples together, as one configuration: a device on one source, failover, a weighted split."""

from __future__ import annotations

from collections.abc import Iterable

from tests.lab import Lab

TV = "192.168.1.178"
TV6 = "fd01::178"

#: How a source is probed, where it is: three rounds of 0.2 s, each given up after 0.2 s.
TRACKING = (("interval", "0.2"), ("timeout", "0.2"), ("down", "3"), ("up", "3"))
#: By 0.2 + (3 - 1) x 0.2 + 0.2 seconds a silent loss is found out, and by 0.2 + (3 - 1) x 0.2 a return.
DETECTION, RECOVERY = 0.8, 0.6
HOSTS = {4: ("203.0.113.1", "198.51.100.1"), 6: ("2001:db8:ffff::1", "2001:db8:ffff::2")}


def section(kind: str, name: str, *options: tuple[str, str]) -> str:
    """One section in UCI's form. An option that is given more than once is a list."""
    names = [option for option, _ in options]
    lines = [f"config {kind} '{name}'"]
    lines += [f"\t{'list' if names.count(key) > 1 else 'option'} {key} '{value}'" for key, value in options]
    return "\n".join(lines) + "\n"


def interfaces(lab: Lab, *, tracked: bool = False) -> Iterable[str]:
    """Every source of the lab, and its IPv6 half."""
    for source in lab.spec.links.values():
        for name, family in ((source.name, 4), (source.name6, 6)):
            options = [("enabled", "1"), ("family", f"ipv{family}"), ("flush_conntrack", "disconnected")]
            if tracked:
                options += [*TRACKING, *(("track_ip", host) for host in HOSTS[family])]
            yield section("interface", name, *options)


def member(name: str, interface: str, metric: int = 1, weight: int = 1) -> str:
    """A member for both families: two sections, ``NAME`` and ``NAME_6``."""
    interface6 = f"{interface}{'_' if interface[-1].isdigit() else ''}6"
    return "\n".join(
        section("member", label, ("interface", source), ("metric", str(metric)), ("weight", str(weight)))
        for label, source in ((name, interface), (f"{name}_6", interface6))
    )


def policy(name: str, *members: str) -> str:
    both = [("use_member", label) for one in members for label in (one, f"{one}_6")]
    return section("policy", name, *both)


def examples(
    lab: Lab,
    *,
    weight_mode: str = "inverse",
    affinity: str = "pair",
    weights: tuple[int, int] = (1, 2),
    tracked: bool = False,
) -> str:
    """The configuration of the demo.

    ``weights`` of wan1 and wan2 in the split; with ``inverse`` the lower weight gets more. ``tracked``: sources are
    probed, for the daemon.
    """
    parts = [
        section("globals", "globals", ("weight_mode", weight_mode), ("affinity", affinity)),
        *interfaces(lab, tracked=tracked),
        member("TV_Internet", "wan2"),
        policy("TV_Policy", "TV_Internet"),
        member("Primary", "wwan", metric=1),
        member("Secondary", "wan1", metric=2),
        policy("Failover_Policy", "Primary", "Secondary"),
        member("Source1", "wan1", weight=weights[0]),
        member("Source2", "wan2", weight=weights[1]),
        policy("Split_Policy", "Source1", "Source2"),
        section("rule", "SmartTV", ("src_ip", TV), ("src_ip", TV6), ("use_policy", "TV_Policy")),
        section("rule", "Https", ("proto", "tcp"), ("dest_port", "443"), ("use_policy", "Failover_Policy")),
        section("rule", "All_Traffic", ("use_policy", "Split_Policy")),
    ]
    return "\n".join(parts)
