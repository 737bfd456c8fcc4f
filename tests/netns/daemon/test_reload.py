"""Reloads: what did not change is left alone, what did is judged anew, and no connection is lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.lab import snapshot
from tests.lab.openwrt import tool
from tests.netns.daemon.checks import (
    SITE6,
    Labs,
    changes_of_state,
    reload,
    told_by_hooks,
    wait_until,
    with_option,
    working,
)
from tests.netns.daemon.conftest import AsPlanned, MakeService
from tests.netns.daemon.service import Service, Status, tracked
from tests.netns.main_job.bench import only

pytestmark = [pytest.mark.netns]

#: One round at the start, and no more unless it is bad or the source is judged anew.
ONE_ROUND: dict[str, Any] = {"interval": "60", "timeout": "1", "more": (("failure_interval", "0.2"),)}


def test_reload_leaves_alone_what_did_not_change(lab: Labs, service: MakeService) -> None:
    """Sources whose section changed are judged anew, from where they stand; of the others nothing is asked again."""
    one = lab(["wan", "wan1", "wan2"])
    one.cut("wan1")
    daemon = service(one)
    text = tracked(one, **ONE_ROUND)
    daemon.configure(text)
    daemon.start()
    daemon.wait_for(["wan1", "wan1_6"], "offline")
    last, changed = daemon.last(), ("wan", "wan1")
    for hangup in (True, False):
        before = daemon.wait(lambda status: all(seen["round"] and seen["round"] > 0.3 for seen in seen_by(status)),
                             "figures of some age")["interfaces"]  # fmt: skip
        began = time.monotonic()
        for name in changed:
            text = with_option(text, name, "down", str(before[name]["top"]))
        reload(daemon, text, hangup=hangup)
        after = judged_since(daemon, began, changed)
        for name, was in before.items():
            now = after[name]
            assert (now["online"], now["status"]) == (was["online"], was["status"])
            assert now["since"] >= was["since"]
            if name in changed:
                assert now["top"] > was["top"]
            else:
                assert now["round"] >= was["round"]
                assert all(now[figure] == was[figure] for figure in ("score", "lost", "turn", "hosts")), (was, now)
    assert changes_of_state(daemon, last) == []
    assert {record["changed"] for record in daemon.events(last) if record["kind"] == "reconcile"} == {0}


def judged_since(daemon: Service, moment: float, names: Sequence[str]) -> dict[str, Any]:
    """The sources, once there was a round of some of them since a moment."""
    found = daemon.wait(
        lambda status: all(status["interfaces"][name]["round"] < time.monotonic() - moment for name in names),
        f"a round of {names}",
    )
    return dict(found["interfaces"])


def seen_by(status: Status) -> list[dict[str, Any]]:
    return list(status["interfaces"].values())


def test_sections_that_come_and_go(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """A new source starts and an old one leaves without a trace; those behind it, whose numbers shift, go on."""
    one = lab(["wan", "wan1", "wan2"])
    others = ["wan1", "wan1_6", "wan2", "wan2_6"]
    fewer, more = tracked(one, ["wan1", "wan2"]), tracked(one, ["wan", "wan1", "wan2"])
    daemon = service(one)
    daemon.configure(fewer)
    daemon.start()
    before = daemon.wait_for(others, "online")["interfaces"]
    as_planned(one)
    without, last = snapshot(one.router), daemon.last()
    reload(daemon, more, hangup=False)
    daemon.wait_for(["wan", "wan6"], "online")
    as_planned(one)
    assert changes_of_state(daemon, last) == ["wan connected", "wan6 connected"]
    assert (daemon.mwan3track("wan") / "STATUS").read_text() == "online\n"
    only(one.tcp("tv", count=10), "wan")
    last = daemon.last()
    reload(daemon, fewer)
    as_planned(one)
    assert snapshot(one.router) == without
    assert sorted(changes_of_state(daemon, last)) == ["wan disconnected", "wan6 disconnected"]
    assert not daemon.mwan3track("wan").exists()
    after = daemon.status()["interfaces"]  # type: ignore[index]
    assert list(after) == others
    for name in others:
        assert after[name]["since"] >= before[name]["since"]
        assert after[name]["turn"] >= before[name]["turn"]
        assert after[name]["score"] == after[name]["top"]
    # Its probes leave by its own way, whatever its number.
    one.cut("wan2")
    daemon.wait_for(["wan2", "wan2_6"], "offline")
    daemon.wait_for(["wan1", "wan1_6"], "online")


def test_numbers_shift_on_a_slow_machine(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """Probes that meet rules half changed, and so find no way out, say nothing of their source."""
    one = lab(["wan", "wan1"])
    for name in ("iptables-restore", "ip6tables-restore"):
        script = one.bin_dir / name
        script.unlink()
        script.write_text(f'#!/bin/sh\necho >>{one.tmp}/slow-{name}\nsleep 0.3\nexec {tool(name, "nft")} "$@"\n')
        script.chmod(0o755)
    daemon = service(one)
    daemon.configure(tracked(one, timeout="2", down=2))
    daemon.start()
    working(daemon, "wan", "wan6", "wan1", "wan1_6")
    as_planned(one)
    last = daemon.last()
    slow = [one.tmp / "slow-iptables-restore", one.tmp / "slow-ip6tables-restore"]
    for file in slow:
        file.unlink()
    reload(daemon, tracked(one, ["wan1", "wan"], timeout="2", down=2))
    as_planned(one)
    assert all(file.exists() for file in slow)
    assert changes_of_state(daemon, last) == []
    working(daemon, "wan", "wan6", "wan1", "wan1_6")


@pytest.mark.traffic
def test_many_reloads_lose_and_leave_nothing(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """Every number shifts at every reload: no new connection is lost, no descriptor and no child of the daemon is left.

    One source is dead, and is never used though it is the first of all at every third reload.
    """
    one = lab(["wan", "wan1", "wan2"])
    orders = [["wan", "wan1", "wan2"], ["wan1", "wan2", "wan"], ["wan2", "wan", "wan1"]]
    daemon = service(one)
    told_by_hooks(daemon)
    daemon.configure(tracked(one, timeout="1"))
    daemon.start()
    one.cut("wan2")
    daemon.wait_for(["wan2", "wan2_6"], "offline")
    as_planned(one)
    last, before = daemon.last(), descriptors(daemon)
    with one.constant("tv", rate=50) as four, one.constant("pc", SITE6, rate=50) as six:
        for turn in range(10):
            reload(daemon, tracked(one, orders[(turn + 1) % 3], timeout="1"))
        as_planned(one)
        for answers in (four.stop(), six.stop()):
            assert set(answers.names) == {"wan", "wan1"}
            assert not answers.errors, answers.errors
    assert changes_of_state(daemon, last) == []
    wait_until(lambda: descriptors(daemon) <= before, "descriptors to be closed")
    wait_until(lambda: children(daemon) == [], "children to be reaped")


def descriptors(daemon: Service) -> int:
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))


def children(daemon: Service) -> list[str]:
    """The daemon's children, dead ones included."""
    return Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
