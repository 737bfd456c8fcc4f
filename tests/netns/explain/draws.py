"""Configurations and packets at random: everything a rule can say, and packets that it may concern."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.netns.mwan3.packets import ICMP, ICMPV6, TCP, UDP
from tests.netns.rivals.router import section

SOURCES = ("wan", "wan1", "wan2", "wwan")
INTERFACES = (*((name, 4) for name in SOURCES), ("wan6", 6), ("wan1_6", 6), ("wan2_6", 6), ("wwan6", 6))
VERDICTS = ("unreachable", "blackhole", "default")
MASKS = ("0x3F00", "0x3F00", "0x3F00", "0xff0000", "0xFC", "0x1f0f0000", "0x7")
MACS = ("02:00:00:00:00:99", "02:00:00:00:00:98", "02:aa:bb:cc:dd:ee")

LAN = {4: ("192.168.1.178", "192.168.1.20", "192.168.1.33"), 6: ("fd01::178", "fd01::20", "fd01::33")}
GUEST = {4: ("192.168.2.50", "192.168.2.60"), 6: ("fd02::50", "fd02::60")}
FAR = {  # what networks of rules hold, and what is just beside
    4: (
        "203.0.113.7",
        "203.0.113.77",
        "203.0.113.200",
        "198.51.100.9",
        "198.51.100.130",
        "8.8.8.8",
        "100.64.3.4",
        "203.0.113.63",
        "203.0.113.64",
        "203.0.113.80",
        "203.0.113.81",
        "203.0.113.95",
        "203.0.113.96",
    ),
    6: (
        "2001:db8:ffff::7",
        "2001:db8:ffff::77",
        "2001:db8:ffff:a::9",
        "2606:4700::1111",
        "2001:db8:ffff:b::1",
        "2001:db8:ffff:0:ffff:ffff:ffff:ffff",
        "2001:db8:ffff:a:ffff:ffff:ffff:ffff",
        "2606:4701::",
    ),
}
#: Where no source is needed, or where something special may happen.
NEAR = {
    4: ("192.168.1.1", "192.168.2.50", "192.168.1.44", "10.1.0.1", "10.2.0.77", "224.0.0.5", "239.1.2.3"),
    6: ("fd01::1", "fd02::50", "fd01::44", "fd00:1::1", "fd00:2::77", "ff0e::7"),
}
NETWORKS = {
    4: ("203.0.113.0/24", "203.0.113.0/26", "203.0.113.64/27", "198.51.100.0/24", "198.51.100.128/25", "0.0.0.0/0",
        "8.0.0.0/8", "203.0.113.5-203.0.113.80"),
    6: ("2001:db8:ffff::/48", "2001:db8:ffff::/64", "2001:db8:ffff:a::/64", "2606:4700::/32", "::/0"),
}  # fmt: skip
HOMES = {
    4: ("192.168.1.0/24", "192.168.1.0/26", "192.168.2.0/24", "192.168.0.0/16", "10.0.0.0/8"),
    6: ("fd01::/64", "fd02::/64", "fd00::/8", "fd01::100/120"),
}
PORTS = (22, 53, 80, 443, 5000, 8080)
#: How far a rule's range goes beyond a port; packets meet its ends, and what is beyond.
SPANS = (1, 10, 3000)
SPORTS = (1024, 4000, 4001, 20000, 40000, 65535)
#: Sets that somebody else made: name -> type, family, dimensions are those of the type.
SETS = {
    "names": ("hash:ip", 4), "names6": ("hash:ip", 6), "nets": ("hash:net", 4), "nets6": ("hash:net", 6),
    "services": ("hash:ip,port", 4), "services6": ("hash:ip,port", 6),
    "both": ("list:set", 0), "people": ("hash:net", 4), "people6": ("hash:ip", 6),
}  # fmt: skip
GRE = 47
#: A routing table of others, and its networks.
TABLE, ROUTED = 77, ("8.8.0.0/16", "2606:4700::/32")


@dataclass(frozen=True)
class Shot:
    """A packet to send. ``enters``: device of the router, or ``local``."""

    enters: str
    src: str  #: empty: the router chooses
    dst: str
    proto: int
    sport: int = 0
    dport: int = 0
    mac: str = MACS[0]
    told: bool = True  #: by which device it comes in is told, rather than to be found out
    blind: bool = False  #: source port and MAC address are not told
    bound: str = ""

    @property
    def version(self) -> int:
        return 6 if ":" in self.dst else 4


class Draws:
    """All that is drawn, from one seed."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self._sent: list[Shot] = []
        self._ends: list[int] = []  #: of ranges of ports that rules have now
        self._order, self._mask = list(INTERFACES), MASKS[0]

    def some(self, values: Sequence[str], most: int) -> list[str]:
        """One to ``most`` of them, in any order."""
        return self.rng.sample(values, self.rng.randint(1, min(most, len(values))))

    def chance(self, part: float) -> bool:
        return self.rng.random() < part

    # --- a configuration --------------------------------------------------------------------------------------------

    def configuration(self) -> tuple[str, list[str]]:
        """The text of /etc/config/mwan3, and which interfaces are forced down."""
        self._ends.clear()
        if self.chance(0.08):  # not each time: to give everything another number takes apply a step in between
            self._order, self._mask = self.rng.sample(INTERFACES, len(INTERFACES)), self.rng.choice(MASKS)
        options = {
            "mmx_mask": self._mask, "logging": self.rng.choice("01"), "loglevel": "debug",
            "weight_mode": self.rng.choice(("inverse", "proportional")),
            "affinity": self.rng.choice(("pair", "source", "connection", "connection")),
        }  # fmt: skip
        tables = {"rt_table_lookup": [str(TABLE)]} if self.chance(0.3) else {}
        parts = [section("globals", "globals", **options, **tables)]
        order = self._order[:4] if self._mask == "0x7" else self._order
        parts += [
            section("interface", name, enabled=int(self.chance(0.9)), family=f"ipv{family}") for name, family in order
        ]
        members = []
        for name, _ in order:
            for number in range(self.rng.randint(1, 2)):
                members.append(f"m{number}_{name}")
                parts.append(section("member", members[-1], interface=name, metric=self.rng.choice((1, 1, 1, 2)),
                                     weight=self.rng.randint(1, 6)))  # fmt: skip
        policies = [f"p{number}" for number in range(self.rng.randint(1, 4))]
        parts += [section("policy", name, **self._policy(members)) for name in policies]
        rules = self.rng.randint(1, 8)
        parts += [section("rule", f"r{number}", **self._rule(policies)) for number in range(rules)]
        if self.chance(0.7):
            parts.append(section("rule", "rest", use_policy=self.rng.choice(policies), sticky=int(self.chance(0.3))))
        return "\n".join(parts), [name for name, _ in order if self.chance(0.2)]

    def _policy(self, members: Sequence[str]) -> dict[str, str | list[str]]:
        options: dict[str, str | list[str]] = {"use_member": self.some(members, 8)}
        if self.chance(0.5):
            options["last_resort"] = self.rng.choice(VERDICTS)
        if self.chance(0.4):
            options["affinity"] = self.rng.choice(("pair", "source", "connection"))
        if self.chance(0.2):
            options["weight_mode"] = self.rng.choice(("inverse", "proportional"))
        return options

    def _rule(self, policies: Sequence[str]) -> dict[str, str | int | list[str]]:
        policy = self.rng.choice(VERDICTS) if self.chance(0.12) else self.rng.choice(policies)
        options: dict[str, str | int | list[str]] = {"use_policy": policy, "enabled": int(self.chance(0.9))}
        family = self.rng.choice((0, 0, 4, 6))
        versions = (4, 6) if family == 0 else (family,)
        if family or self.chance(0.5):
            options["family"] = f"ipv{family}" if family else "any"
        if self.chance(0.35):
            options["src_ip"] = self._addresses(versions, {v: LAN[v] + GUEST[v] + HOMES[v] for v in (4, 6)})
        if self.chance(0.4):
            options["dest_ip"] = self._addresses(versions, {v: FAR[v] + NETWORKS[v] for v in (4, 6)})
        if self.chance(0.5):
            self._protocol(options)
        if self.chance(0.12):
            options["src_iface"] = self.some(("lan", "guest", "wan", "br-lan", "nowhere"), 2)
        if self.chance(0.12):
            options["src_mac"] = self.some(MACS, 2)
        if self.chance(0.2):
            options["ipset"] = self.rng.choice((*SETS, "nobody"))
        if self.chance(0.12):
            options["ipset_src"] = self.rng.choice(("people", "people6", "both"))
        if self.chance(0.25):
            options |= {"sticky": 1, "timeout": 300}
        if self.chance(0.3):
            options["logging"] = 1
        return options

    def _addresses(self, versions: Sequence[int], pools: dict[int, tuple[str, ...]]) -> list[str]:
        found = [address for version in versions for address in self.some(pools[version], 4)]
        mark = "!" if self.chance(0.25) else ""
        return [f"{mark}{one}" for one in found]

    def _protocol(self, options: dict[str, str | int | list[str]]) -> None:
        word = self.rng.choice(("tcp", "udp", "icmp", "gre", "all", "tcp udp", "tcp udp", "tcp udp"))
        options["proto"] = word.split() if " " in word else word
        if "tcp" in word or "udp" in word:
            if self.chance(0.8):
                options["dest_port"] = self._ports(PORTS)
            if self.chance(0.25):
                options["src_port"] = self._ports(SPORTS)

    def _ports(self, pool: Sequence[int]) -> str:
        kind = self.rng.randrange(4)
        if kind in (0, 1):
            low = self.rng.choice(pool)
            high = min(low + self.rng.choice(SPANS), 65535)
            self._ends += [low, high]
            return f"{low}:{high}"
        if kind == 2:  # more than one multiport match can hold
            return ",".join(str(port) for port in (*range(100, 140, 2), self.rng.choice(pool)))
        return ",".join(map(str, self.rng.sample(list(pool), self.rng.randint(1, 3))))

    # --- what sets hold ---------------------------------------------------------------------------------------------

    def entries(self) -> list[str]:
        """Lines for ``ipset restore`` that fill the sets anew."""
        lines = [f"flush {name}" for name in SETS] + ["flush mwan3_dynamic_ipv4", "flush mwan3_dynamic_ipv6"]
        for version, suffix in ((4, ""), (6, "6")):
            far = FAR[version]
            nets = [one for one in NETWORKS[version] if "-" not in one and not one.endswith("/0")]
            lines += [f"add names{suffix} {one}" for one in self.some(far, 3)]
            lines += [f"add nets{suffix} {one}" for one in self.some(nets, 2)]
            if self.chance(0.5):
                lines.append(f"add nets{suffix} {far[0]} nomatch")
            lines += [f"add services{suffix} {one},{self.rng.choice(('tcp', 'udp'))}:{self.rng.choice(PORTS)}"
                      for one in self.some(far, 4)]  # fmt: skip
            lines += [f"add people{suffix} {one}" for one in self.some(LAN[version], 2)]
            if self.chance(0.3):
                where = "dynamic_names" if version == 4 else "mwan3_dynamic_ipv6"
                lines += [f"flush {where}", *(f"add {where} {one}" for one in self.some(far, 1))]
        if self.chance(0.3):
            lines.append("add mwan3_dynamic_ipv4 dynamic_names")
        lines += [f"add both {one}" for one in self.some(("names", "names6", "nets", "people", "people6"), 3)]
        return list(dict.fromkeys(lines))

    # --- packets ----------------------------------------------------------------------------------------------------

    def shot(self) -> Shot:
        """A packet; at times one that was sent before, whose connection may still be open."""
        if self._sent and self.chance(0.12):
            return replace(self.rng.choice(self._sent[-60:]), blind=False)
        shot = self._shot()
        if shot.proto in (TCP, UDP):
            self._sent.append(shot)
        return shot

    def _shot(self) -> Shot:
        version = self.rng.choice((4, 6))
        way = self.rng.choice(("lan", "lan", "lan", "guest", "wan", "local", "local"))
        proto = self.rng.choice((TCP, TCP, UDP, UDP, ICMP if version == 4 else ICMPV6, GRE))
        ports = (0, 0)
        if proto in (TCP, UDP):
            sport = self._near(SPORTS) if self.chance(0.25) else self.rng.randint(1025, 65000)
            ports = sport, self._near(PORTS)
        dst = self.rng.choice(NEAR[version] if self.chance(0.12) else FAR[version])
        if way == "wan":
            return self._inbound(version, proto, ports)
        if way == "local":
            own = ("", "192.168.1.1", "10.2.0.2") if version == 4 else ("fd01::1", "fd00:2::2")
            bound = f"e-{self.rng.choice(SOURCES)}" if self.chance(0.3) else ""
            dst = self.rng.choice(FAR[version])
            return Shot("local", self.rng.choice(own), dst, proto, *ports, bound=bound)
        device, pool = ("br-lan", LAN[version]) if way == "lan" else ("br-guest", GUEST[version])
        told, blind = self.chance(0.7), ports[0] > SPORTS[-2] and self.chance(0.4)
        return Shot(device, self.rng.choice(pool), dst, proto, *ports, self.rng.choice(MACS), told, blind)

    def _near(self, pool: Sequence[int]) -> int:
        """A port that rules name, or one at an end of a range, or just beyond."""
        port = self.rng.choice(pool)
        if self.chance(0.6):
            port = self.rng.choice(self._ends or [port]) + self.rng.choice((-1, 0, 0, 1))
        return max(1, min(port, 65535))

    def _inbound(self, version: int, proto: int, ports: tuple[int, int]) -> Shot:
        number = self.rng.randint(1, len(SOURCES))
        device = f"e-{SOURCES[number - 1]}"
        src = self.rng.choice(FAR[version])
        if self.chance(0.2):
            src = f"10.{number}.0.77" if version == 4 else f"fd00:{number}::77"
        dst = self.rng.choice((LAN[version][0], f"10.{number}.0.2" if version == 4 else f"fd00:{number}::2"))
        return Shot(device, src, dst, proto, *ports)
