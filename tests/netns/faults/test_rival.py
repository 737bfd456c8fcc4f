"""Another program edits the same tables at the same time, or holds the lock."""

from __future__ import annotations

import fcntl
from collections.abc import Callable

import pytest

from tests.lab import Lab
from tests.netns.faults.scenes import SOURCES, TRANSITIONS
from tests.netns.faults.test_walk import ALL
from tests.netns.faults.walk import Walk

pytestmark = pytest.mark.netns

ROUNDS = 60 if ALL else 3
#: Ends by itself.
_LIMIT = 60 * ROUNDS
#: Its own lines, in the chains that connbal hooks into, and chains of its own.
MODEST = """
for n in $(seq LIMIT); do
	for tool in iptables ip6tables; do
		$tool -w -t mangle -A PREROUTING -p tcp --dport 7 -j RETURN
		$tool -w -t mangle -N busy_$n; $tool -w -t mangle -A OUTPUT -p tcp --dport 9 -j busy_$n
		$tool -w -t mangle -D OUTPUT -p tcp --dport 9 -j busy_$n; $tool -w -t mangle -X busy_$n
		$tool -w -t mangle -D PREROUTING -p tcp --dport 7 -j RETURN
	done
done
"""
#: connbal's as well.
WILD = """
for n in $(seq LIMIT); do
	for tool in iptables ip6tables; do
		$tool -w -t mangle -D PREROUTING -j mwan3_hook; $tool -w -t mangle -F mwan3_rules
		$tool -w -t mangle -I mwan3_hook -j RETURN; $tool -w -t mangle -A mwan3_hook -p tcp --dport 7 -j mwan3_rules
		$tool -w -t mangle -A OUTPUT -j mwan3_hook
	done
	ip rule del priority 2003 proto 131; ip -6 route flush table 6 proto 131; ipset flush mwan3_connected_ipv4
done
"""


_CLEAN_UP = """
for tool in iptables ip6tables; do
	{
		$tool -t mangle -S | grep -E 'busy_|dport 7 ' | grep ^-A | sed s/^-A/-D/
		$tool -t mangle -S | sed -n 's/^-N \\(busy_.*\\)/-X \\1/p'
	} | while read -r line; do $tool -t mangle $line; done
done
"""


@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_beside_one_that_minds_its_own_lines_packets_go_as_planned(lab: Callable[..., Lab], xtables: str) -> None:
    transition = TRANSITIONS["policy edit"]
    with Walk(lab(SOURCES, xtables=xtables)) as walk:
        course = walk.course(transition)
        rival = walk.lab.router.popen(["sh", "-c", MODEST.replace("LIMIT", str(_LIMIT)) + "2>/dev/null"])
        try:
            for _ in range(ROUNDS):
                for scene, allowed in ((transition.before, course.new), (transition.after, course.new_after)):
                    walk.enter(scene)
                    done = walk.command("apply")
                    assert done["code"] == 0, done["stderr"]
                    assert not walk.witness.astray(allowed, open=False)
            assert rival.poll() is None, "it ended too early"
        finally:
            rival.kill()
            rival.wait()
        clean_up(walk)
        assert not walk.check_after(transition, course, late=False, left_out=False)


@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_after_one_that_edits_our_lines_all_is_as_planned(lab: Callable[..., Lab], xtables: str) -> None:
    transition = TRANSITIONS["policy edit"]
    with Walk(lab(SOURCES, xtables=xtables), kept=True) as walk:
        course = walk.course(transition)
        rival = walk.lab.router.popen(["sh", "-c", f"{{ {WILD.replace('LIMIT', str(_LIMIT))} }} 2>/dev/null"])
        try:
            for _ in range(ROUNDS):
                for scene in (transition.before, transition.after):
                    walk.enter(scene)
                    done = walk.command("apply")
                    assert "Traceback" not in done["stderr"], done["stderr"]
                    assert "left out" not in done["stderr"], done["stderr"]
            assert rival.poll() is None, "it ended too early"
        finally:
            rival.kill()
            rival.wait()
        walk.enter(transition.after)
        wrong = walk.check_after(transition, course, late=False, left_out=False)
        assert not wrong, wrong


def clean_up(walk: Walk) -> None:
    """What the rival had no time for."""
    walk.worker.run([_CLEAN_UP])


def test_while_the_lock_is_held_all_stays_as_it_was(lab: Callable[..., Lab]) -> None:
    """Only the legacy build has one: it waits for 5 seconds."""
    transition = TRANSITIONS["policy edit"]
    one = lab(SOURCES, xtables="legacy")
    with Walk(one) as walk:
        course = walk.course(transition)
        walk.arrive(transition.before)
        walk.enter(transition.after)
        with open(one.router.env["XTABLES_LOCKFILE"], "w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            done = walk.command("apply")
            assert done["code"] == 1
            assert "xtables lock" in done["stderr"]
            assert not walk.check_moment(course, left_out=False)
        assert not walk.check_after(transition, course, late=False, left_out=False)
