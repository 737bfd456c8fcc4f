"""Sixteen configurations, each with a state of the machine, that a router may be taken through in any order."""

from __future__ import annotations

from collections.abc import Callable

from connbal.model.config import Affinity, Config, Policy, PortRange, Rule, Verdict, WeightMode
from connbal.model.facts import Health
from tests.fakes.build import V6, config, machine, network
from tests.fakes.router import Router, unplug

WORDS = "wan wan1 wan6:6 wan2"

Situation = Callable[[Router], Config]
LISTED = Rule("listed", "all", src=None, dest_ports=(PortRange(443, 443),), protocols=(6, 17))


def everything(router: Router) -> Config:
    return config(WORDS)


def pair(router: Router) -> Config:
    return config(WORDS, affinity=Affinity.PAIR, weight_mode=WeightMode.INVERSE,
                  members={"a": ("wan", 1, 1), "b": ("wan1", 1, 2), "c": ("wan6", 1, 1)})  # fmt: skip


def offline(router: Router) -> Config:
    router.machine.uplinks["wan"].health = Health(False, "lost")
    return config(WORDS, affinity=Affinity.PAIR)


def unplugged(router: Router) -> Config:
    unplug(router, "wan1")
    return config(WORDS)


def failover(router: Router) -> Config:
    router.machine.uplinks["wan2"].health = Health(True, "answers")
    return config(WORDS, members={"a": ("wan", 1, 1), "b": ("wan2", 2, 1)})


def all_away(router: Router) -> Config:
    for name in WORDS.replace(":6", "").split():
        unplug(router, name)
    return config(WORDS, policies=[Policy("all", ("wan", "wan1"), Verdict.BLACKHOLE)])


def sticky(router: Router) -> Config:
    return config(WORDS, rules=[Rule("tv", "all", sticky=True, timeout=300), Rule("rest", "all")])


def sticky_longer(router: Router) -> Config:
    router.machine.uplinks["wan1"].health = Health(False, "lost")
    return config(WORDS, rules=[Rule("tv", "all", sticky=True, timeout=900), Rule("rest", "default")])


def shifted(router: Router) -> Config:
    """The user put a section before all others: every id means another interface now."""
    return config("-new wan wan1 wan6:6 wan2", members={"a": ("wan", 1, 1), "b": ("wan1", 1, 3)})


def upside_down(router: Router) -> Config:
    return config("wan2 wan6:6 wan1 wan")


def fewer(router: Router) -> Config:
    return config("wan1 wan")


def mac(router: Router) -> Config:
    return config(WORDS, rules=[Rule("tv", "all", src_mac=("02:00:00:00:00:01",)), LISTED, Rule("rest", "all")])


def lan(router: Router) -> Config:
    return config(WORDS, logging=True, rules=[Rule("lan", "unreachable", src_iface=("lan",), logging=True), LISTED])


def missing_set(router: Router) -> Config:
    return config(WORDS, rules=[Rule("listed", "all", ipset="made_by_nobody"), Rule("known", "all", ipset="streaming")])


def nothing(router: Router) -> Config:
    return Config()


def many_networks(router: Router) -> Config:
    router.machine.extra_connected = (network("172.16.0.0/12"), network("fd99::/48"))
    router.machine.custom = (network("10.99.0.0/16"),)
    dns = Rule("dns", "one", dest_ports=(PortRange(53, 53),), protocols=(17,))
    return config(WORDS, policies={"all": "wan wan1", "one": "wan2", "six": "wan6"},
                  rules=[Rule("v6", "six", family=V6), dns, Rule("rest", "all")])  # fmt: skip


SITUATIONS: tuple[Situation, ...] = (
    everything, pair, offline, unplugged, failover, all_away, sticky, sticky_longer, shifted, upside_down,
    fewer, mac, lan, missing_set, nothing, many_networks,
)  # fmt: skip


def enter(router: Router, situation: Situation) -> Config:
    """Bring the machine into a situation; nothing is left of the one before."""
    fine = machine(WORDS)
    router.machine.uplinks = fine.uplinks
    router.machine.extra_connected = router.machine.custom = ()
    router.machine.bpf = True
    wanted = situation(router)
    router.kernel.routing.flush_lost()
    return wanted
