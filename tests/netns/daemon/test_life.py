"""The daemon's life: it starts with nothing, crashes, reloads, ends, and what worked goes on working."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import snapshot
from tests.netns.daemon.checks import (
    SITE6,
    Labs,
    causes,
    changes_of_state,
    reload,
    told_by_hooks,
    wait_until,
)
from tests.netns.daemon.conftest import AsPlanned, MakeService
from tests.netns.daemon.service import PATIENCE, Service, tracked
from tests.netns.main_job.bench import only

pytestmark = [pytest.mark.netns]

#: One rule, and one more for the same traffic: the plans differ, the ways do not.
EVERYTHING = "config rule 'everything'\n\toption use_policy 'all'\n"
RULES = (EVERYTHING, f"config rule 'tcp'\n\toption proto 'tcp'\n\toption use_policy 'all'\n\n{EVERYTHING}")


# --- nothing to start with ------------------------------------------------------------------------------------------


def test_starts_without_a_network(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """No source is up at the start, as after a boot; each is used once its network is."""
    one = lab(["wan", "wan1"])
    for name in one.spec.sources:
        one.ifdown(name)
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "disabled")
    as_planned(one)
    one.ifup("wan1")
    daemon.wait_for(["wan1", "wan1_6"], "online")
    as_planned(one)
    only(one.tcp("tv", count=10), "wan1")
    only(one.tcp("tv", count=10, family=6), "wan1")
    one.ifup("wan")
    daemon.wait_for(["wan", "wan6"], "online")
    as_planned(one)
    only(one.tcp("tv", count=10), "wan")


def test_starts_without_an_interface(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    one = lab(["wan"])
    daemon = service(one)
    daemon.configure("config globals 'globals'\n\toption mmx_mask '0x3F00'\n")
    daemon.start()
    assert daemon.status()["interfaces"] == {}  # type: ignore[index]
    as_planned(one)
    only(one.tcp("tv", count=10), "wan")
    daemon.configure(tracked(one))
    daemon.wait_for(["wan", "wan6"], "online")
    as_planned(one)
    only(one.tcp("tv", count=10), "wan")


def _missing(file: Path) -> None:
    file.unlink()


def _a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _no_uci(file: Path) -> None:
    file.write_text("config interface 'wan\n\toption enabled\n{[")


def test_waits_for_a_good_file(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """Without a configuration that can be read the kernel stays as it is; a good one is taken at once."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    file = one.config_dir / "mwan3"
    daemon.configure(tracked(one))
    daemon.start()
    as_planned(one)
    before = snapshot(one.router)
    assert daemon.stop() == 0
    _missing(file)
    daemon.start()
    for number, broken in enumerate((None, _no_uci, _a_directory), 1):
        if broken is not None:
            broken(file)
            daemon.signal(signal.SIGHUP)
        not_read(daemon, number, "the kernel stays as it is")
        assert snapshot(one.router) == before
    file.rmdir()
    reload(daemon, tracked(one, rules=RULES[1]), hangup=False)
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "online")
    as_planned(one)
    assert snapshot(one.router) != before

    # The same while it runs: what was read last stays in force, and is kept up.
    before, last = snapshot(one.router), daemon.last()
    _no_uci(file)
    not_read(daemon, 1, "the last configuration stays in force")
    one.router.sh("ip rule del priority 2001")
    wait_until(lambda: snapshot(one.router) == before, "the rule to be back")
    assert changes_of_state(daemon, last) == []


def not_read(daemon: Service, times: int, kept: str) -> None:
    """Wait until the journal has said so often that the configuration cannot be read, and what is kept instead."""

    def told() -> bool:
        texts = [str(record["text"]) for record in daemon.events() if record["kind"] == "daemon"]
        return sum(text.startswith("configuration not read") and kept in text for text in texts) == times

    wait_until(told, "a word on the broken file")
    assert kept in daemon.said()


def _of_nul_bytes(file: Path) -> None:
    file.write_bytes(bytes(1 << 20))


def _with_a_tail_of_nul_bytes(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100] + bytes(4096))


def _emptied(file: Path) -> None:
    file.write_bytes(b"")


def _enormous(file: Path) -> None:
    with file.open("ab") as stream:
        stream.truncate(20 << 30)  # of which the disk holds nothing


@pytest.mark.parametrize("damage", [_of_nul_bytes, _with_a_tail_of_nul_bytes, _emptied, _enormous])
def test_a_damaged_file_leaves_all_as_it_is(
    lab: Labs, service: MakeService, as_planned: AsPlanned, damage: Callable[[Path], None]
) -> None:
    """As power cuts and full disks leave it: what was read last is kept up, and nothing of the file is used."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    file = one.config_dir / "mwan3"
    daemon.configure(tracked(one))
    daemon.start()
    as_planned(one)
    before = snapshot(one.router)
    damage(file)
    not_read(daemon, 1, "the last configuration stays in force")
    one.router.sh("ip rule del priority 2001")
    wait_until(lambda: snapshot(one.router) == before, "the rule to be back")
    if damage is _emptied:
        return
    assert daemon.connbal("apply", check=False).returncode == 1
    assert snapshot(one.router) == before
    # And after a boot, with nothing to go by: nothing is applied, nothing is taken away.
    assert daemon.stop() == 0
    daemon.start()
    not_read(daemon, 1, "the kernel stays as it is")
    assert snapshot(one.router) == before
    file.write_text("\n")  # says nothing, and means it
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: snapshot(one.router) != before, "the rules to be gone")


# --- start and end --------------------------------------------------------------------------------------------------


def test_only_one_runs(lab: Labs, service: MakeService) -> None:
    """The second says who is there already and goes; the first takes no notice."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    daemon.settled()
    last, before = daemon.last(), snapshot(one.router)
    second = daemon.connbal("daemon", "--log", "stderr", check=False)
    assert second.returncode == 1
    assert f"as process {daemon.pid}" in second.stderr
    assert (one.run_dir / "connbal" / "daemon.pid").read_text().split() == [str(daemon.pid)]
    assert snapshot(one.router) == before
    daemon.hotplug("ifupdate", "wan")
    wait_until(lambda: "ifupdate wan" in causes(daemon, last), "a word from the pipe")
    assert changes_of_state(daemon, last) == []
    assert daemon.stop() == 0


def test_ends_without_a_trace_but_the_kernel(lab: Labs, service: MakeService) -> None:
    """SIGTERM: connections go on, rules stay; files that say that it runs are gone. Stop takes away the rest."""
    one = lab(["wan", "wan1"])
    untouched = snapshot(one.router)
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "online")
    daemon.settled()
    run = one.run_dir
    assert (run / "mwan3").is_dir()
    assert (run / "connbal" / "daemon.pid").read_text().split() == [str(daemon.pid)]
    assert (daemon.mwan3track("wan1") / "STATUS").read_text() == "online\n"
    before = snapshot(one.router)
    with one.stream("tv") as four, one.stream("pc", SITE6) as six, one.constant("tv", rate=50) as traffic:
        assert daemon.stop() == 0
        assert snapshot(one.router) == before
        traffic.wait_for(len(traffic.so_far) + 20, PATIENCE)
        assert (four.ask(), six.ask()) == ("wan", "wan")
        only(traffic.stop(), "wan")
    pid_file = run / "connbal" / "daemon.pid"
    assert not pid_file.exists() or pid_file.read_text() == ""
    for gone in ("mwan3", "mwan3track", "connbal/events", "connbal/control"):
        assert not (run / gone).exists(), gone
    assert "daemon: not running" in daemon.connbal("status").stdout
    daemon.connbal("stop")
    assert snapshot(one.router) == untouched


def test_stop_ends_a_daemon_that_runs(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    untouched = snapshot(one.router)
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    daemon.connbal("stop")
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE) == 0
    assert snapshot(one.router) == untouched
    only(one.tcp("tv", count=10), "wan")


# --- crashes --------------------------------------------------------------------------------------------------------


@pytest.mark.traffic
def test_killed_at_any_moment(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """Killed ten times: while it starts, while it runs, while it changes the kernel.

    The first source is dead all the time and would be used at once by a daemon that had forgotten that. Nobody loses a
    connection, nobody is told of a change, and in the end it comes back.
    """
    one = lab(["wan", "wan1", "wan2"])
    daemon = service(one)
    told = told_by_hooks(daemon)
    daemon.configure(tracked(one, timeout="1"))
    daemon.start()
    one.cut("wan")
    daemon.wait_for(["wan", "wan6"], "offline")
    wait_until(lambda: told.read_text().count("disconnected") == 2, "the hooks to be told of the loss")
    as_planned(one)
    known, moment = told.read_text(), random.Random(1)
    with (
        one.constant("tv", rate=50) as four, one.constant("pc", SITE6, rate=50) as six,
        one.stream("tv") as stream4, one.stream("pc", SITE6) as stream6,
    ):  # fmt: skip
        for turn in range(1, 6):
            daemon.configure(tracked(one, timeout="1", rules=RULES[turn % 2]))
            daemon.signal(signal.SIGHUP)
            time.sleep(moment.uniform(0, 0.3))
            daemon.kill()
            daemon.start(ready=False)
            time.sleep(moment.uniform(0.1, 0.6))
            daemon.kill()
            daemon.start()
            as_planned(one)
            assert changes_of_state(daemon) == []
            daemon.wait_for(["wan", "wan6"], "offline")
            daemon.wait_for(["wan1", "wan1_6", "wan2", "wan2_6"], "online")
        assert (stream4.ask(PATIENCE), stream6.ask(PATIENCE)) == ("wan1", "wan1")
        only(four.stop(), "wan1")
        only(six.stop(), "wan1")
    assert told.read_text() == known
    one.restore("wan")
    daemon.wait_for(["wan", "wan6"], "online")
    as_planned(one)
    only(one.tcp("tv", count=10), "wan")
    wait_until(lambda: sorted(told.read_text()[len(known) :].splitlines()) == ["wan connected", "wan6 connected"],
               "the hooks to be told that it is back")  # fmt: skip
