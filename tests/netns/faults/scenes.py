"""What the walk leads through: a configuration and a state of the machine, then another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.demo.config import TV, TV6, member, policy, section
from tests.lab import Lab

SOURCES = ("wan", "wan1", "wan2")
PC, PC6 = "192.168.1.20", "fd01::20"
#: Destinations of rule Many: of either family so many that they are a set.
MANY = tuple(f"198.51.100.{n}" for n in range(2, 14, 2)) + tuple(f"2001:db8:ffff:a::{n:x}" for n in range(2, 14, 2))


@dataclass(frozen=True)
class Scene:
    """``text``: the configuration; None: connbal is stopped. ``down``: sources without a carrier."""

    text: str | None
    down: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()  #: further ones of the main table, over the LAN


@dataclass(frozen=True)
class Transition:
    """From one scene to another by a command of connbal."""

    name: str
    before: Scene
    after: Scene

    @property
    def command(self) -> str:
        return "stop" if self.after.text is None else "apply"


def configuration(
    *,
    order: Sequence[str] = SOURCES,
    mask: str = "0x3f00",
    failover: Sequence[str] = ("wan", "wan1"),
    weights: Sequence[int] = (1, 2),
    many: Sequence[str] = MANY,
    extra: Sequence[str] = (),
    sticky_timeout: int = 300,
) -> str:
    """Every kind of thing that connbal makes, in few sections."""
    options = [("enabled", "1"), ("flush_conntrack", "disconnected")]
    parts = [section("globals", "globals", ("weight_mode", "inverse"), ("affinity", "pair"), ("mmx_mask", mask))]
    for name in order:
        parts.append(section("interface", name, ("family", "ipv4"), *options))
        parts.append(section("interface", _six(name), ("family", "ipv6"), *options))
    parts += [
        member("Tv", "wan2"), policy("Tv_Policy", "Tv"),
        *(member(f"Failover_{at}", name, metric=at) for at, name in enumerate(failover, 1)),
        policy("Failover_Policy", *(f"Failover_{at}" for at, _ in enumerate(failover, 1))),
        member("Split_1", "wan1", weight=weights[0]), member("Split_2", "wan2", weight=weights[1]),
        policy("Split_Policy", "Split_1", "Split_2"),
        section("rule", "SmartTV", ("src_ip", TV), ("src_ip", TV6), ("use_policy", "Tv_Policy")),
        *extra,
        section("rule", "Many", *(("dest_ip", one) for one in many), ("use_policy", "Tv_Policy")),
        section("rule", "Named", ("ipset", "youtube"), ("proto", "tcp"), ("use_policy", "Tv_Policy")),
        section("rule", "Sticky", ("proto", "udp"), ("dest_port", "443"), ("sticky", "1"),
                ("timeout", str(sticky_timeout)), ("use_policy", "Split_Policy")),
        section("rule", "Https", ("proto", "tcp"), ("dest_port", "443"), ("use_policy", "Failover_Policy")),
        section("rule", "All", ("use_policy", "Split_Policy")),
    ]  # fmt: skip
    return "\n".join(parts)


def _six(name: str) -> str:
    return f"{name}{'_' if name[-1].isdigit() else ''}6"


BASE = configuration()
_STOPPED = Scene(None)
_BASE = Scene(BASE)

TRANSITIONS = {
    one.name: one
    for one in (
        Transition("first start", _STOPPED, _BASE),
        Transition("policy edit", _BASE, Scene(configuration(failover=("wan1", "wan")))),
        Transition("rule edit", _BASE, Scene(configuration(extra=(
            section("rule", "Dns", ("proto", "udp"), ("dest_port", "53"), ("use_policy", "Failover_Policy")),
            section("rule", "Other", ("ipset", "made_by_connbal"), ("use_policy", "Tv_Policy")),
        )))),
        Transition("rules go", Scene(configuration(extra=(
            section("rule", "Dns", ("dest_ip", "203.0.113.1"), ("dest_ip", "203.0.113.3"), ("proto", "udp"),
                    ("sticky", "1"), ("use_policy", "Failover_Policy")),
        ))), _BASE),
        Transition("set edit", _BASE, Scene(configuration(many=(*MANY[2:], "203.0.113.7", "2001:db8:ffff::7")))),
        Transition("sticky edit", _BASE, Scene(configuration(sticky_timeout=900))),
        Transition("local network", _BASE, Scene(BASE, routes=("203.0.113.64/26", "2001:db8:ffff:64::/64"))),
        Transition("interface goes", _BASE, Scene(BASE, down=("wan1",))),
        Transition("interface comes", Scene(BASE, down=("wan1",)), _BASE),
        Transition("ids shift", _BASE, Scene(configuration(order=("wan2", "wan", "wan1")))),
        Transition("interface removed", _BASE, Scene(configuration(order=("wan1", "wan2"), failover=("wan1",)))),
        Transition("mask change", _BASE, Scene(configuration(mask="0x7e00"))),
        Transition("stop", _BASE, _STOPPED),
    )
}  # fmt: skip

#: Others' chains and rules, some of names that resemble connbal's.
_OTHERS = """*mangle
:qos_mark - [0:0]
:my_mwan3_rules - [0:0]
-A PREROUTING -i br-lan -p tcp --dport 22 -j qos_mark
-A OUTPUT -p tcp --dport 22 -j my_mwan3_rules
-A POSTROUTING -o e-wan+ -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu
-A qos_mark -m comment --comment "mwan3_hook -j mwan3_rules" -j MARK --set-xmark 0x40000/0x40000
-A my_mwan3_rules -j RETURN
COMMIT
"""
_SETS = """create youtube hash:ip family inet
add youtube 203.0.113.9
create mwan30 hash:net family inet
add mwan30 198.51.100.0/24
"""


def others_settle(lab: Lab) -> None:
    """What other programs have in the kernel, some of it in connbal's own numbers."""
    for tool in ("iptables-restore", "ip6tables-restore"):
        lab.router.run([tool, "--noflush"], input=_OTHERS)
    lab.router.run(["ipset", "restore"], input=_SETS)
    wan = lab.source("wan")
    lab.router.ip(
        "rule add priority 1000 to 192.0.2.1 lookup 100",
        "rule add priority 2003 fwmark 0x300/0x3f00 to 192.0.2.9 lookup 100",
        "rule add priority 3001 to 192.0.2.3 unreachable", "route add unreachable 192.0.2.128/25 table 3",
        f"route add 192.0.2.0/28 via {wan.gateway4} dev {wan.device} table 1",
        f"route add 2001:db8:1::/48 via {wan.gateway6} dev {wan.device} table 2",
    )  # fmt: skip


