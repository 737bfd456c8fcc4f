"""For each state that the real mwan3 left in a kernel: after taking over, it is as if mwan3 had never been there."""

from __future__ import annotations

import difflib
import json
import shutil

import pytest

from tests.lab import snapshot
from tests.lab.node import Node
from tests.netns.main_job.bench import ordered
from tests.netns.mwan3.bench import Bench
from tests.netns.mwan3.vector import NAMES, Vector

pytestmark = pytest.mark.netns

LEGACY = ("05-metric-groups", "09-family", "19a-mask-ff0000")
CASES = [(name, "nft") for name in NAMES] + [(name, "legacy") for name in LEGACY]

#: What others have in mwan3's numbers and under names like its own. None of it is mwan3's.
FOREIGN_RULES = (
    "priority 1000 to 192.0.2.1 lookup 100", "priority 1001 iif br-lan to 192.0.2.2 lookup 1",
    "priority 1007 iif br-lan lookup 7", "priority 2003 fwmark 0x300/0x3f00 lookup 100",
    "priority 2009 fwmark 0x9/0xf lookup 9", "priority 2999 from 192.0.2.9 lookup 3",
    "priority 3001 to 192.0.2.3 unreachable", "priority 3999 fwmark 0x1/0x1 lookup main",
    # What the kernel would take for mwan3's, where only what mwan3's rule has is asked for.
    "priority 2001 fwmark 0x100/0x3f00 lookup 1 protocol 77",
)  # fmt: skip
FOREIGN_ROUTES = (
    "unreachable 192.0.2.128/25 table 3", "192.0.2.0/28 dev br-lan table 1", "blackhole 192.0.2.250/32 table 3999",
    "203.0.113.0/24 dev br-lan table 9",
)  # fmt: skip
FOREIGN_SETS = "create mwan3_mine hash:ip family inet\nadd mwan3_mine 203.0.113.9\n"


def same(node: Node, wanted: str) -> None:
    """The kernel is as ``wanted``; else what differs is said."""
    old, new = sorted_rules(wanted), sorted_rules(ordered(snapshot(node)))
    assert not "\n".join(difflib.unified_diff(old, new, n=0))


def sorted_rules(text: str) -> list[str]:
    """Lines, with those of rules sorted: equal ones of one priority may stand in any order."""
    found = []
    for part in text.split("=== "):
        title, *lines = part.splitlines() or [""]
        found += [title, *(sorted(lines) if title.endswith(" rule") else lines)]
    return found


def settle(one: Bench) -> None:
    """Others' things."""
    one.router.ip(*(f"rule add {rule}" for rule in FOREIGN_RULES), *(f"route add {route}" for route in FOREIGN_ROUTES))
    one.router.run(["ipset", "restore"], input=FOREIGN_SETS)


def plant(one: Bench) -> None:
    """mwan3's captured state, and a sticky set of each of the names that its versions gave them.

    Those are of type hash:ip,mark, which not every kernel has; another that connbal does not use stands for it.
    """
    one.router.run(["ipset", "restore"], input=one.vector.own_sets() + (
        "create mwan3_sticky_v4_web hash:net family inet\nadd mwan3_sticky_v4_web 192.0.2.7\n"
        "create mwan3_rule_ipv4_web hash:net family inet\n"
    ))  # fmt: skip
    for tool, version in (("iptables-restore", 4), ("ip6tables-restore", 6)):
        one.router.run([tool], input=one.vector.mangle(version))
    for version in (4, 6):
        text = "".join(f"{line}\n" for line in one.vector.policy_routing(version))
        one.router.run(["ip", f"-{version}", "-batch", "-"], input=text)


def configure(one: Bench) -> None:
    (one.config_dir / "mwan3").write_text(one.vector.config)
    dump = one.tmp / "dump.json"
    dump.write_text(json.dumps(one.vector.data["netifd"]))
    ubus = one.bin_dir / "ubus"
    ubus.write_text(f"#!/bin/sh\nexec cat '{dump}'\n")
    ubus.chmod(0o755)


@pytest.mark.parametrize(("name", "xtables"), CASES, ids=lambda case: str(case))
def test_after_taking_over_mwan3_was_never_there(name: str, xtables: str, lab_available: None) -> None:
    assert shutil.which(f"iptables-{xtables}-restore")
    vector = Vector.load(name)
    with Bench(vector, xtables) as taken, Bench(vector, xtables) as fresh:
        for one in (taken, fresh):
            configure(one)
            settle(one)
        plant(taken)
        before = ordered(snapshot(taken.router))
        taken.connbal("doctor")
        taken.connbal("doctor", "--take-over", "--dry-run")
        same(taken.router, before)
        taken.connbal("doctor", "--take-over")
        fresh.connbal("apply")
        same(taken.router, ordered(snapshot(fresh.router)))
        after = snapshot(taken.router)
        taken.connbal("doctor", "--take-over")
        assert snapshot(taken.router) == after
        assert json.loads(taken.connbal("doctor", "--json"))["well"]


@pytest.mark.parametrize(("name", "xtables"), [("05-metric-groups", "nft"), ("09-family", "legacy")])
def test_after_cleaning_up_only_others_are_there(name: str, xtables: str, lab_available: None) -> None:
    with Bench(Vector.load(name), xtables) as one:
        configure(one)
        settle(one)
        before = ordered(snapshot(one.router))
        plant(one)
        planted = ordered(snapshot(one.router))
        assert planted != before
        one.connbal("doctor", "--clean", "--dry-run")
        same(one.router, planted)
        one.connbal("doctor", "--clean")
        same(one.router, before)
