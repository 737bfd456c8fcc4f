"""Others who undo connbal's rules: put back soon, counted, and named once they do it again and again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.netns.daemon.checks import Labs, wait_until, working
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service, tracked
from tests.netns.daemon.test_trouble import script
from tests.netns.main_job.bench import only

pytestmark = [pytest.mark.netns]

FLUSH = "iptables -t mangle -F mwan3_hook"


def started(service: MakeService, lab: Lab) -> Service:
    daemon = service(lab)
    daemon.configure(tracked(lab, timeout="1"))
    daemon.start()
    working(daemon, "wan", "wan6", "wan1", "wan1_6")
    daemon.settled()
    return daemon


def repairs(daemon: Service) -> dict[str, object]:
    status = daemon.status()
    assert status is not None
    found: dict[str, object] = status["reconciles"]["repairs"]
    return found


def whole(lab: Lab) -> bool:
    return "mwan3_rules" in lab.router.sh("iptables -t mangle -S mwan3_hook")


@pytest.mark.parametrize(("xtables", "seconds"), [("nft", 0.5), ("legacy", 2.0)])
def test_a_flush_is_repaired_soon_and_counted(lab: Labs, service: MakeService, xtables: str, seconds: float) -> None:
    one = lab(("wan", "wan1"), xtables=xtables)
    daemon = started(service, one)
    assert repairs(daemon)["count"] == 0
    for number, damage in enumerate((FLUSH, "ip6tables -t mangle -F", "iptables -t mangle -F mwan3_policy_all"), 1):
        one.router.sh(damage)
        began = time.monotonic()
        wait_until(lambda wanted=number: repairs(daemon)["count"] == wanted, f"repair of {damage}")  # type: ignore[misc]
        assert time.monotonic() - began < seconds, damage
    only(one.tcp("tv", count=5), "wan")
    only(one.tcp("tv", count=5, family=6), "wan")
    assert repairs(daemon)["text"] == ""
    # Counters are no change, and nor is what others do to what is theirs.
    status = daemon.settled()
    one.router.sh("iptables -t mangle -Z; iptables -t filter -A FORWARD -s 192.0.2.7 -j DROP")
    time.sleep(1.5)
    assert repairs(daemon)["count"] == 3
    if xtables == "legacy":
        assert daemon.settled()["reconciles"]["count"] == status["reconciles"]["count"]


def test_a_second_program_is_named_and_not_fought_at_full_speed(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = started(service, one)
    rival = one.tmp / "rivald"
    script(rival, f"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do {FLUSH}; sleep 0.3; done")
    # As a program of its own, not a shell: its name is what people look for.
    copy = one.tmp / "rivalsh"
    copy.write_bytes(Path("/bin/sh").read_bytes())
    copy.chmod(0o755)
    before = daemon.status()
    assert before is not None
    one.router.run([str(copy), str(rival)])
    after = daemon.settled(1.0)
    told = after["reconciles"]["repairs"]
    assert 8 <= told["count"] <= 13, told
    assert after["reconciles"]["count"] - before["reconciles"]["count"] < 20
    assert "iptables" in told["by"]
    assert "started by rivalsh (process " in told["by"], told
    wait_until(lambda: whole(one), "the last repair")
    for said in (daemon.said(), json.dumps(daemon.events()), daemon.connbal("status").stdout.replace("\n", " ")):
        assert "undone by somebody else" in said
        assert "rivalsh" in said
    assert f"connbal_repairs_total {told['count']}" in daemon.connbal("metrics").stdout


def test_two_changes_by_connbal_itself_are_none_of_anybodys(lab: Labs, service: MakeService) -> None:
    """Commands beside the daemon, edits, and sources that come and go."""
    one = lab(("wan", "wan1"))
    daemon = started(service, one)
    daemon.connbal("apply")
    daemon.connbal("interface", "force", "wan", "down")
    daemon.wait_for("wan", "disabled")
    daemon.connbal("interface", "force", "wan", "auto")
    working(daemon, "wan")
    one.carrier("wan1", False)
    daemon.wait_for("wan1", "disabled")
    one.carrier("wan1", True)
    working(daemon, "wan1", "wan1_6")
    daemon.configure(tracked(one, ["wan1", "wan"], timeout="1"))
    daemon.connbal("apply")
    daemon.settled(1.0)
    assert repairs(daemon)["count"] == 0
