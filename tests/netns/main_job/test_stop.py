"""Stop leaves the kernel as it was, whatever others have in it and wherever connbal was interrupted."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.demo.config import TV, examples
from tests.lab import Lab, snapshot
from tests.netns.main_job.bench import Bench, only, section

pytestmark = pytest.mark.netns

Benches = Callable[..., Bench]
SOURCES = ("wan", "wan1", "wan2", "wwan")

#: Others' chains and rules, before connbal's hook and (appended later) behind it; names that resemble connbal's too.
_OTHERS = """*mangle
:qos_mark - [0:0]
:mwan30_mine - [0:0]
:my_mwan3_rules - [0:0]
-I PREROUTING 1 -i br-lan -p tcp --dport 22 -j qos_mark
-A OUTPUT -p tcp --dport 22 -j my_mwan3_rules
-A POSTROUTING -o e-wan+ -j mwan30_mine
-A qos_mark -m comment --comment "mwan3_hook -j mwan3_rules" -j MARK --set-xmark 0x40000/0x40000
-A mwan30_mine -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu
-A my_mwan3_rules -j RETURN
COMMIT
"""
_OTHERS_LATER = """*mangle
-A PREROUTING -i br-lan -m mark --mark 0x40000/0x40000 -j ACCEPT
-A FORWARD -m mark --mark 0x100/0x3f00 -j ACCEPT
-A OUTPUT -d 192.0.2.77 -j MARK --set-xmark 0x80000/0x80000
COMMIT
"""


def others_settle(lab: Lab) -> None:
    """What other programs and the user have: chains, sets, rules of connbal's priorities, routes in its tables."""
    for tool in ("iptables-restore", "ip6tables-restore"):
        lab.router.run([tool, "--noflush"], input=_OTHERS)
    lab.router.run(["ipset", "restore"], input=(
        "create youtube hash:ip family inet\nadd youtube 203.0.113.9\n"
        "create mwan30 hash:net family inet\nadd mwan30 198.51.100.0/24\n"
        "create filled_by_dnsmasq hash:ip family inet\n"
    ))  # fmt: skip
    rules = (
        "priority 1000 to 192.0.2.1 lookup 100", "priority 1001 iif br-lan to 192.0.2.2 lookup 1",
        "priority 2003 fwmark 0x300/0x3f00 lookup 100", "priority 2999 from 192.0.2.9 lookup 3",
        "priority 3001 to 192.0.2.3 unreachable", "priority 3999 from all fwmark 0x1/0x1 lookup main",
    )  # fmt: skip
    lab.router.ip(*(f"rule add {rule}" for rule in rules))
    wan, wan2 = lab.source("wan"), lab.source("wan2")
    routes = (
        f"192.0.2.0/28 via {wan.gateway4} dev {wan.device} table 1",
        f"default via {wan.gateway4} dev {wan.device} table 100", "unreachable 192.0.2.128/25 table 3",
        f"192.0.2.64/28 via {wan2.gateway4} dev {wan2.device} table 5 proto static metric 7",
        f"default via {wan2.gateway4} dev {wan2.device} table 5 metric 4000", "blackhole 192.0.2.250/32 table 3999",
    )  # fmt: skip
    lab.router.ip(*(f"route add {route}" for route in routes))
    lab.router.ip(
        f"route add 2001:db8:1::/48 via {wan.gateway6} dev {wan.device} table 2",
        "route add unreachable 2001:db8:2::/48 table 1",
    )
    lab.router.sh("ip -6 rule add priority 2002 fwmark 0x200/0x3f00 lookup 77")


def others_append(lab: Lab, verb: str = "-A") -> None:
    for tool in ("iptables-restore", "ip6tables-restore"):
        address = "2001:db8::77" if tool.startswith("ip6") else "192.0.2.77"
        text = _OTHERS_LATER.replace("-A ", f"{verb} ").replace("192.0.2.77", address)
        lab.router.run([tool, "--noflush"], input=text)


def rich(lab: Lab) -> str:
    """The user's examples with every kind of thing connbal makes: address sets, sticky sets, named sets, logging."""
    many = [("dest_ip", f"198.51.100.{number}") for number in range(0, 40, 2)]
    extra = [
        section("rule", "Many", *many, ("use_policy", "TV_Policy")),
        section("rule", "Sticky", ("proto", "udp"), ("dest_port", "443"), ("sticky", "1"),
                ("use_policy", "Split_Policy")),
        section("rule", "Named", ("ipset", "youtube"), ("use_policy", "TV_Policy")),
        section("rule", "Named_2", ("ipset", "filled_by_dnsmasq"), ("use_policy", "Failover_Policy")),
        section("rule", "Mac", ("src_mac", "02:00:00:00:00:01"), ("use_policy", "TV_Policy")),
        section("rule", "Ssh", ("proto", "tcp"), ("dest_port", "22"), ("use_policy", "default")),
    ]  # fmt: skip
    return "\n".join([examples(lab), *extra])


def test_stop_leaves_an_untouched_machine(bench: Benches) -> None:
    """`connbal stop` on a machine where nobody else is, with the real commands; twice is as good as once."""
    one = bench(SOURCES)
    before = snapshot(one.lab.router)
    one.configure(examples(one.lab))
    one.cli("apply")
    assert snapshot(one.lab.router) != before
    one.cli("stop")
    assert snapshot(one.lab.router) == before
    assert one.cli("stop").stdout == "nothing to stop\n"
    assert snapshot(one.lab.router) == before


@pytest.mark.traffic
def test_stop_leaves_what_others_have(bench: Benches) -> None:
    """Foreign chains, rules, sets, ip rules and routes in connbal's own numbers all stay, and so does the LAN's NAT."""
    one = bench(SOURCES)
    others_settle(one.lab)
    before = snapshot(one.lab.router)
    one.apply(rich(one.lab))
    only(one.lab.tcp("tv", count=20), "wan2")
    only(one.lab.tcp("tv", count=20, family=6), "wan2")
    others_append(one.lab)
    one.apply()
    one.connbal("stop")
    assert snapshot(one.lab.router) != before
    others_append(one.lab, "-D")
    assert snapshot(one.lab.router) == before
    assert not one.lab.tcp("tv", count=20).failures  # by the main table again, with the LAN's own NAT


def test_what_others_have_survives_every_apply(bench: Benches) -> None:
    """Lines of the snapshot that were there before are all there while connbal runs, in the same order."""
    one = bench(SOURCES)
    others_settle(one.lab)
    before = snapshot(one.lab.router).splitlines()
    for text in (rich(one.lab), examples(one.lab), rich(one.lab)):
        one.apply(text)
        now = iter(snapshot(one.lab.router).splitlines())
        missing = [line for line in before if line not in now]  # `in` consumes: order counts
        assert missing == []


def shuffled(text: str) -> str:
    """The same with its interfaces the other way round, so that every id means another one."""
    parts = text.split("\n\n")
    places = [at for at, part in enumerate(parts) if part.lstrip().startswith("config interface")]
    for at, part in zip(places, [parts[at] for at in reversed(places)], strict=True):
        parts[at] = part
    return "\n\n".join(parts)


@pytest.mark.traffic
def test_a_killed_apply_harms_nobody(bench: Benches, xtables: str) -> None:
    """However often runs are cut short, ids shifting meanwhile: the TV goes by wan2 all the same."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    draw = random.Random(f"harm {xtables}")
    with one.lab.constant("tv", rate=150) as four, one.lab.constant("tv", "2001:db8:ffff::1", rate=150) as six:
        killed = 0
        for number in range(24):
            text = examples(one.lab, weights=(draw.randint(1, 9), draw.randint(1, 9)))
            mask = section("globals", "globals", ("mmx_mask", draw.choice(["0x3f00", "0x3f00", "0xfc00"])))
            noise = section("rule", "Noise", ("dest_ip", "198.51.100.7"), ("use_policy", draw.choice(
                ["TV_Policy", "Failover_Policy", "unreachable"])))  # fmt: skip
            one.configure(mask, noise, draw.choice([text, shuffled(text)]))
            killed += one.connbal("apply", kill_at=draw.randint(1, 60), check=False).code == -9
            if number % 4 == 3:
                one.apply()
        for answers in (four.stop(), six.stop()):
            # One that is open while its entry is flushed may be lost.
            assert set(answers.names) == {"wan2"}, answers.names
            assert len(answers.failures) <= len(answers) // 50, answers.errors
        assert killed >= 5, killed


def test_foreign_jump_into_our_chain(bench: Benches) -> None:
    """A user's own rule that leads into a chain of connbal's keeps that chain, empty; nothing else stays."""
    one = bench(SOURCES)
    before = snapshot(one.lab.router)
    one.apply(examples(one.lab))
    rule = ["POSTROUTING", "-s", TV, "-j", "mwan3_policy_TV_Policy"]
    one.lab.router.run(["iptables", "-t", "mangle", "-A", *rule])
    one.connbal("stop")
    one.lab.router.run(["iptables", "-t", "mangle", "-D", *rule])
    one.lab.router.run(["iptables", "-t", "mangle", "-X", "mwan3_policy_TV_Policy"])
    assert snapshot(one.lab.router) == before
