"""What others break, the next apply mends: the state is as before, and traffic is right again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.demo.config import examples
from tests.lab import Lab
from tests.netns.main_job.bench import Bench, only, section, shares, state

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Benches = Callable[..., Bench]
SOURCES = ("wan", "wan1", "wan2", "wwan")

#: What somebody does to the router, as shell; @4 stands for iptables -t mangle, then for ip6tables -t mangle.
BOTH = {
    "mangle flushed": "@4 -F",
    "mangle flushed, chains deleted": "@4 -F; @4 -X",
    "a chain's rules deleted": "@4 -F mwan3_rules",
    "the hook chain's rules deleted": "@4 -F mwan3_hook",
    "one rule inside a chain deleted": "@4 -D mwan3_rules 2",
    "one rule inside the hook deleted": "@4 -D mwan3_hook 1",
    "a rule put in front": "@4 -I mwan3_rules 1 -j RETURN",
    "a rule put into a policy": "@4 -I mwan3_policy_TV_Policy 1 -j MARK --set-xmark 0x100/0x3f00",
    "a rule changed": "@4 -R mwan3_policy_TV_Policy 1 -j MARK --set-xmark 0x100/0x3f00",
    "rules in another order": "@4 -D mwan3_rules 1; @4 -A mwan3_rules -j mwan3_policy_TV_Policy",
    "the hook's jump deleted": "@4 -D PREROUTING -j mwan3_hook",
    "the hook's jump of OUTPUT deleted": (
        "iptables -t mangle -D OUTPUT -j mwan3_hook; ip6tables -t mangle -D OUTPUT -j mwan3_hook_out"
    ),
    "the hook's jump doubled": "@4 -A PREROUTING -j mwan3_hook; @4 -I PREROUTING 1 -j mwan3_hook",
    "a chain of a name like ours added": "@4 -N mwan3_stray; @4 -A mwan3_stray -j DROP",
}
ONCE = {
    "an ip rule of a source deleted": "ip rule del priority 2005; ip -6 rule del priority 2006",
    "all ip rules of a source deleted": "for p in 1005 2005 3005; do ip rule del priority $p; done",
    "every ip rule flushed": (
        "for f in -4 -6; do ip $f rule flush; ip $f rule add priority 32766 lookup main; done;"
        " ip rule add priority 32767 lookup default"
    ),
    "the rule for local networks deleted": "ip rule del priority 999; ip -6 rule del priority 999",
    "a source's table emptied": "ip route flush table 5; ip -6 route flush table 6",
    "every table emptied": "for t in 1 2 3 4 5 6 7 8; do ip route flush table $t; ip -6 route flush table $t; done",
    "a default route replaced": (
        "ip route replace default via 10.1.0.1 dev e-wan table 5 metric 30;"
        " ip -6 route replace default via fd00:1::1 dev e-wan table 6 metric 30"
    ),
    "a connected set emptied": "ipset flush mwan3_connected_ipv4; ipset flush mwan3_connected_ipv6",
    "a wrong entry in the connected set": "ipset add mwan3_connected_ipv4 203.0.113.0/24",
    "an address set emptied": "for s in $(ipset list -n | grep mwan3_addr); do ipset flush $s; done",
    "a set destroyed": "iptables -t mangle -F; iptables -t mangle -X; ipset destroy mwan3_connected_ipv4",
    "all sets destroyed": (
        "for t in iptables ip6tables; do $t -t mangle -F; $t -t mangle -X; done; ipset destroy"
    ),
    "a set swapped": (
        "ipset create other hash:net family inet; ipset add other 203.0.113.0/24;"
        " ipset swap other mwan3_connected_ipv4; ipset destroy other"
    ),
    "an interface's device taken down and up": (
        "ip link set e-wan2 down; ip link set e-wan2 up;"
        " ip route replace default via 10.3.0.1 dev e-wan2 proto static metric 30;"
        " ip -6 route replace default via fd00:3::1 dev e-wan2 proto static metric 30"
    ),
}  # fmt: skip


def script(text: str) -> str:
    if "@4" not in text:
        return text
    return "; ".join(text.replace("@4", f"{tool} -t mangle") for tool in ("iptables", "ip6tables"))


def with_sets(lab: Lab) -> str:
    """The examples, and a rule whose many addresses are in sets."""
    many = [("dest_ip", f"198.51.100.{number}") for number in (1, 3, 5)]
    many += [("dest_ip", f"2001:db8:ffff:5::{number}") for number in (1, 3, 5)]
    return "\n".join([section("rule", "Many", *many, ("use_policy", "TV_Policy")), examples(lab)])


def traffic_is_right(lab: Lab) -> None:
    """Each kind of rule, in both families."""
    for family, site in ((4, "198.51.100.3"), (6, "2001:db8:ffff:5::3")):
        only(lab.tcp("tv", count=10, family=family), "wan2")
        only(lab.tcp("pc", count=10, family=family), "wwan")
        only(lab.udp("pc", site, count=10), "wan2")
        shares(lab.udp("pc", pairs=lab.pairs("pc", 150, family)), wan1=2 / 3, wan2=1 / 3, tolerance=0.1)


def test_damage_is_mended(bench: Benches, xtables: str) -> None:
    """For each kind of damage: it shows, one apply mends it, traffic is right, and then there is nothing to do.

    What is not about chains is the same with either build of iptables; of that, the second sees every other kind.
    """
    one = bench(SOURCES)
    one.apply(with_sets(one.lab))
    before = state(one.lab)
    for title, damage in [*BOTH.items(), *list(ONCE.items())[:: 1 if xtables == "nft" else 2]]:
        one.lab.router.run(["sh", "-c", script(damage)])
        # The chain of others that PREROUTING leads to is not connbal's to bring back.
        others_back(one.lab)
        assert state(one.lab) != before, f"{title}: no damage done"
        one.apply()
        assert state(one.lab) == before, title
        assert one.connbal("plan").stdout == "nothing to change\n", title
        if title in TRAFFIC:
            traffic_is_right(one.lab)
    traffic_is_right(one.lab)


#: After these, traffic is sent too; the others differ from them in detail only.
TRAFFIC = {
    "mangle flushed, chains deleted", "one rule inside a chain deleted", "the hook's jump doubled",
    "every ip rule flushed", "every table emptied", "all sets destroyed", "an interface's device taken down and up",
}  # fmt: skip


def others_back(lab: Lab) -> None:
    """What the lab itself had in the mangle table, as a firewall would write it anew."""
    for tool in ("iptables", "ip6tables"):
        lab.router.sh(
            f"{tool} -t mangle -N others_mangle 2>/dev/null || true;"
            f" {tool} -t mangle -C PREROUTING -j others_mangle 2>/dev/null ||"
            f" {tool} -t mangle -I PREROUTING 1 -j others_mangle"
        )


def test_traffic_meets_no_gap_while_nothing_is_broken(bench: Benches) -> None:
    """Repairs of one family's chains do not disturb the other family's traffic, nor what was whole."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    with one.lab.constant("tv", "2001:db8:ffff::1", rate=200) as six, one.lab.constant("tv", rate=200) as four:
        for _ in range(5):
            one.lab.router.sh("iptables -t mangle -D mwan3_rules 3; ipset flush mwan3_connected_ipv4")
            one.apply()
        only(six.stop(), "wan2")
        only(four.stop(), "wan2")
