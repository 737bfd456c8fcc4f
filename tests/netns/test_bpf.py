"""The kernel hashes as connbal's arithmetic says: real packets, real xt_bpf, exact counts."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Sequence
from dataclasses import replace

import pytest

from connbal.kernel import exec as programs
from connbal.kernel.xtables import OVERRIDE, SystemXtables
from connbal.model.config import FAMILIES, Affinity, Family, IPAddress, WeightMode
from connbal.plan.affinity import SPACE, matches, seed
from connbal.plan.build import plan
from connbal.plan.iptables import rule_text
from connbal.plan.values import ChainRule, HashShare, SetMark
from tests.fakes.build import config, facts
from tests.netns.kernel.isolation import isolated, run

pytestmark = pytest.mark.netns

PORT = 9
PACKETS = 2000
#: Socket option that lets a socket use any address (linux/in6.h).
IPV6_FREEBIND = 78
SHARES = [
    HashShare(affinity, seed(level), low, size)
    for affinity in (Affinity.PAIR, Affinity.SOURCE)
    for level, low, size in ((0, 0, SPACE * 2 // 3), (1, SPACE // 3, SPACE // 3), (2, 0, 1), (3, 5, SPACE - 1))
]
#: Packets that were sent, by source and destination.
Sent = list[tuple[IPAddress, IPAddress]]


@pytest.fixture(params=["nft", "legacy"])
def xtables(request: pytest.FixtureRequest) -> SystemXtables:
    if programs.find(f"iptables-{request.param}-restore") is None:
        pytest.skip(f"iptables-{request.param} is not installed")
    return SystemXtables({OVERRIDE: request.param})


def crowd(family: Family) -> Sent:
    """Pairs of addresses that all belong to this machine once :func:`send` has been called."""
    chance = random.Random(family.value)
    if family is Family.IPV4:
        base, size = int(ipaddress.IPv4Address("127.0.0.0")), 1 << 24
        clients = [ipaddress.IPv4Address(base + chance.randrange(1, size - 1)) for _ in range(50)]
        return [(chance.choice(clients), ipaddress.IPv4Address(base + chance.randrange(1, size - 1)))
                for _ in range(PACKETS)]  # fmt: skip
    base6 = int(ipaddress.IPv6Address("fd00::"))
    clients6 = [ipaddress.IPv6Address(base6 + chance.randrange(1, 1 << 118)) for _ in range(50)]
    return [(chance.choice(clients6), ipaddress.IPv6Address(base6 + chance.randrange(1, 1 << 118)))
            for _ in range(PACKETS)]  # fmt: skip


def send(family: Family, pairs: Sent) -> None:
    """One datagram from each source to its destination, all by the loopback device."""
    if family is Family.IPV6:
        run("ip -6 route add local fd00::/10 dev lo")
    by_source: dict[IPAddress, list[IPAddress]] = {}
    for source, destination in pairs:
        by_source.setdefault(source, []).append(destination)
    for source, destinations in by_source.items():
        with socket.socket(family.af, socket.SOCK_DGRAM) as sender:
            if family is Family.IPV6:
                sender.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            sender.bind((str(source), 0))
            for destination in destinations:
                sender.sendto(b"x", (str(destination), PORT))


def restore(xtables: SystemXtables, family: Family, chain: str, rules: Sequence[ChainRule]) -> None:
    """Put ``rules`` into ``chain``, where every packet of :func:`send` comes by once, on its way out."""
    lines = [f"-A {chain} {rule_text(rule, family)}" for rule in rules]
    entrance = f"-A OUTPUT -p udp -m udp --dport {PORT} -j {chain}"
    xtables.restore(family, "\n".join(["*mangle", f":{chain} - [0:0]", *lines, entrance, "COMMIT", ""]))


def need_bpf(xtables: SystemXtables) -> None:
    if not xtables.knows_match("bpf"):
        pytest.skip("no xt_bpf in this kernel")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.value)
@isolated
def test_every_match_counts_what_the_hash_says(xtables: SystemXtables, family: Family) -> None:
    need_bpf(xtables)
    restore(xtables, family, "shares", [ChainRule((share,), SetMark(1, 1)) for share in SHARES])
    pairs = crowd(family)
    send(family, pairs)
    counted = [counter.packets for counter in xtables.counters(family)["shares"]]
    assert counted == [sum(matches(share, *pair) for pair in pairs) for share in SHARES]
    assert 0 < counted[0] < PACKETS


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.value)
@isolated
def test_a_policys_chain_gives_each_pair_its_member(xtables: SystemXtables, family: Family) -> None:
    need_bpf(xtables)
    words = " ".join(f"w{number}{':6' if family is Family.IPV6 else ''}" for number in range(4))
    wanted = config(words, {f"m{n}": (f"w{n}", 1, n + 1) for n in range(4)}, affinity=Affinity.PAIR,
                    weight_mode=WeightMode.INVERSE)  # fmt: skip
    found = plan(wanted, facts(words, offline="w1"))
    [chain] = [chain for chain in found.rulesets[family].chains if chain.name == "mwan3_policy_all"]
    restore(xtables, family, chain.name, [replace(rule, origin=None) for rule in chain.rules])
    pairs = crowd(family)
    send(family, pairs)
    counted = [counter.packets for counter in xtables.counters(family)[chain.name]]
    assert counted == expected(chain.rules, pairs)
    assert sum(counted) == PACKETS


def expected(rules: Sequence[ChainRule], pairs: Sent) -> list[int]:
    """How many pairs each rule takes: the first that matches, as it leaves a mark that the later ones do not want."""
    found = [0] * len(rules)
    for pair in pairs:
        for at, rule in enumerate(rules):
            if all(matches(match, *pair) for match in rule.matches if isinstance(match, HashShare)):
                found[at] += 1
                break
    return found
