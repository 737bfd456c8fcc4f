"""The model: how things have to be, computed from the steps alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connbal.model.config import Verdict
from connbal.model.marks import LOCAL_TABLE, MarkSpace
from tests.demo.config import section
from tests.lab import Lab
from tests.netns.daemon.soak.values import HOSTS


@dataclass(frozen=True)
class Rule:
    """A rule for the TCP connections of a client ("": any) to a port (0: any)."""

    name: str
    client: str
    port: int
    policy: str


@dataclass(frozen=True)
class Conf:
    """A configuration. Policy ``all`` goes by the metrics, ``even`` uses all at once, ``one`` a single source."""

    order: tuple[str, ...]  #: interfaces in the file
    metric: Mapping[str, int]
    weight: Mapping[str, int]
    one: tuple[str, ...]
    rules: tuple[Rule, ...]
    doubted: frozenset[str] = frozenset()  #: interfaces that begin as offline
    off: frozenset[str] = frozenset()
    resort: str = "unreachable"
    mask: int = 0x3F00
    interval: str = "0.2"
    affinity: str = "connection"
    odd: str = ""

    @property
    def space(self) -> MarkSpace:
        return MarkSpace(self.mask)

    def id(self, half: str) -> int:
        return self.order.index(half) + 1

    @property
    def known(self) -> tuple[str, ...]:
        """The interfaces that the mask has room for; others are left out."""
        return self.order[: self.space.capacity]

    def enabled(self, half: str) -> bool:
        return half in self.known and half not in self.off


@dataclass
class World:
    """All that steps have done, and what follows from it. An interface is one family of a source: a half."""

    lab: Lab
    conf: Conf
    forced: dict[str, bool] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)  #: by netifd
    unplugged: set[str] = field(default_factory=set)
    bare: set[tuple[str, int]] = field(default_factory=set)  #: without an address
    cut: dict[str, tuple[int, ...]] = field(default_factory=dict)
    lossy: set[str] = field(default_factory=set)

    @property
    def halves(self) -> dict[str, tuple[str, int]]:
        found: dict[str, tuple[str, int]] = {}
        for source in self.lab.spec.links.values():
            found |= {source.name: (source.name, 4), source.name6: (source.name, 6)}
        return found

    def linked(self, half: str) -> bool:
        name, family = self.halves[half]
        return name not in self.down and name not in self.unplugged and (name, family) not in self.bare

    def answers(self, half: str) -> bool:
        name, family = self.halves[half]
        return self.linked(half) and family not in self.cut.get(name, ()) and name not in self.lossy

    def status(self, half: str) -> str:
        forced = self.forced.get(half)
        if not self.conf.enabled(half) or not self.linked(half) or forced is False:
            return "disabled"
        return "online" if forced or self.answers(half) else "offline"

    def tier(self, policy: str, family: int) -> set[str]:
        """The interfaces that share what a policy takes."""
        conf = self.conf
        known = {half for half in conf.known if self.halves[half][1] == family and self.status(half) == "online"}
        if policy == "one":
            return known & set(conf.one)
        first = min((conf.metric[half] for half in known), default=0)
        return {half for half in known if policy == "even" or conf.metric[half] == first}

    def way(self, client: str, family: int, port: int) -> tuple[set[str], bool] | None:
        """Which sources a new connection may take, and whether it is sure to be answered; None: as main says."""
        matching = (one for one in self.conf.rules if one.client in ("", client) and one.port in (0, port))
        policy = next((one.policy for one in matching), "default")
        if policy in ("default", "unreachable", "blackhole"):
            return None if policy == "default" else (set(), False)
        tier = self.tier(policy, family)
        if not tier:
            return None if policy == "one" and self.conf.resort == "default" else (set(), False)
        return {self.halves[half][0] for half in tier}, all(map(self.answers, tier))

    def text(self) -> str:
        """The configuration as a file."""
        conf, halves = self.conf, self.halves
        parts = [conf.odd if "config rule" in conf.odd else ""]
        parts.append(section("globals", "globals", ("mmx_mask", hex(conf.mask)), ("affinity", conf.affinity)))
        for half in conf.order:
            family = halves[half][1]
            options = {
                "enabled": str(int(half not in conf.off)), "family": f"ipv{family}", "interval": conf.interval,
                "timeout": "1", "down": "2", "up": "2", "flush_conntrack": "disconnected",
                "initial_state": "offline" if half in conf.doubted else "online",
            }  # fmt: skip
            parts.append(section("interface", half, *options.items(), *(("track_ip", host) for host in HOSTS[family])))
        for half in halves:
            for kind, metric in (("m", conf.metric[half]), ("e", 1)):
                options = {"interface": half, "metric": str(metric), "weight": str(conf.weight[half])}
                parts.append(section("member", f"{kind}_{half}", *options.items()))
        for policy, kind, members in (("all", "m", halves), ("even", "e", halves), ("one", "e", conf.one)):
            used = [("use_member", f"{kind}_{half}") for half in members]
            resort = conf.resort if policy == "one" else "unreachable"
            parts.append(section("policy", policy, *used, ("last_resort", resort)))
        parts += map(self._rule, conf.rules)
        parts.append("" if "config rule" in conf.odd else conf.odd)
        return "\n".join(parts)

    def _rule(self, rule: Rule) -> str:
        options = [("proto", "tcp"), ("dest_port", str(rule.port))] if rule.port else []
        if rule.client:
            client = self.lab.spec.clients[rule.client]
            options += [("src_ip", client.ipv4), ("src_ip", client.ipv6)]
        return section("rule", rule.name, *options, ("use_policy", rule.policy))

    def layout(self, family: int) -> tuple[set[int], set[int], set[str]]:
        """Priorities and tables of routing rules, and chains of interfaces, that there have to be."""
        space = self.conf.space
        known = [half for half in self.halves if self.halves[half][1] == family and self.conf.enabled(half)]
        present = [half for half in known if self.linked(half)]
        ids = {self.conf.id(half) for half in present}
        priorities = {999, 1000, *(space.verdict_priority(one) for one in (Verdict.BLACKHOLE, Verdict.UNREACHABLE))}
        priorities |= {base + number for base in (1000, 2000) for number in ids}
        priorities |= {3000 + self.conf.id(half) for half in known}
        return priorities, ids | {LOCAL_TABLE}, {f"mwan3_iface_in_{n}" for n in present}
