"""Applying after an edit while the daemon runs: what was committed is in force when the command is over."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from connbal.cli.applying import Applied, NotApplied, apply_now
from connbal.cli.context import Session
from connbal.kernel.files import Lock
from connbal.track.pace import BURST
from tests.lab import Lab, snapshot
from tests.netns.daemon.checks import Labs, wait_until
from tests.netns.daemon.conftest import AsPlanned, MakeService
from tests.netns.daemon.service import PATIENCE, Service, tracked
from tests.netns.main_job.bench import only

pytestmark = [pytest.mark.netns]

#: What an editing command does after its commit, where commands run: in the router.
COMMAND = """
import json, sys
from pathlib import Path
from connbal.cli.applying import apply_now
from connbal.cli.context import Session
done = apply_now(Session(Path(sys.argv[1]), Path(sys.argv[2])))
print(json.dumps([done.by, len(done.changes), done.reason]))
"""
POLICY = "config policy '{0}_only'\n\tlist use_member '{0}_m'\n\tlist use_member '{1}_m'\n"


def argv(lab: Lab) -> list[str]:
    return [sys.executable, "-c", COMMAND, str(lab.config_dir), str(lab.run_dir)]


def session(lab: Lab) -> Session:
    return Session(lab.config_dir, lab.run_dir)


def by(lab: Lab, name: str) -> str:
    """A configuration that sends everything by one source."""
    rule = f"config rule 'everything'\n\toption use_policy '{name}_only'\n"
    policies = [POLICY.format(one, lab.source(one).name6) for one in lab.spec.sources]
    return tracked(lab, rules="\n".join([*policies, rule]))


def running(lab: Lab, daemon: Service) -> None:
    daemon.configure(by(lab, "wan"))
    daemon.start()
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "online")
    daemon.settled()


def rules(lab: Lab) -> set[str]:
    """The names of rules in the kernel."""
    found = set()
    for line in lab.router.sh("iptables-save -t mangle").splitlines():
        if line.startswith("-A mwan3_rules ") and "--comment " in line:
            found.add(line.split("--comment ")[1].split()[0].strip('"'))
    return found


def test_an_edit_is_in_force_when_it_is_over(lab: Labs, service: MakeService) -> None:
    """Again and again, faster than events are followed."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    running(one, daemon)
    last = daemon.last()
    for turn in range(2 * int(BURST)):
        name = ("wan1", "wan")[turn % 2]
        daemon.configure(by(one, name))
        done = apply_now(session(one))
        assert done.by == "daemon"
        assert done.changes
        assert done.interfaces["wan1"] == (True, done.interfaces["wan1"][1])
        if turn % 5 == 0:
            only(one.tcp("tv", count=10), name)
    found = [record for record in daemon.events(last) if record["kind"] == "reconcile" and record["changed"]]
    assert len(found) == 2 * BURST
    assert all("a command" in record["causes"] for record in found)
    assert apply_now(session(one)) == Applied("daemon", interfaces=done.interfaces)


def test_findings_come_back(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    daemon = service(one)
    running(one, daemon)
    rule = "config rule 'sites'\n\toption ipset 'nobodys'\n\toption use_policy 'wan_only'\n"
    daemon.configure(by(one, "wan").replace("config rule", f"{rule}\nconfig rule", 1))
    done = apply_now(session(one))
    assert [finding.code for finding in done.findings] == ["missing-set"]
    assert done.findings[0].place == "mwan3.sites.ipset"
    assert any("nobodys" in change for change in done.changes)


def test_what_is_forced_is_so_at_once(lab: Labs, service: MakeService) -> None:
    """The command says what the daemon found, and is over when the kernel is so."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "online")
    daemon.settled()
    assert daemon.connbal("interface", "force", "wan", "down").stdout == "wan is down: forced down by the user\n"
    only(one.tcp("tv", count=10), "wan1")
    assert daemon.connbal("interface", "force", "wan", "auto").stdout.startswith("wan is up: ")
    only(one.tcp("tv", count=10), "wan")
    assert "next apply" in daemon.connbal("interface", "force", "wan", "down", "--no-apply").stdout


def test_many_at_once_share_runs(lab: Labs, service: MakeService) -> None:
    """Each adds a rule and finds it in the kernel afterwards; twenty need a few runs."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    running(one, daemon)
    last, count = daemon.last(), 20

    def edit(number: int) -> str:
        with session(one).store().transaction("mwan3") as editor:
            name = f"added{number}"
            editor.set(name, "rule")
            editor.set(name, "src_port", str(1000 + number))
            editor.set(name, "proto", "tcp")
            editor.set(name, "use_policy", "wan1_only")
        done = apply_now(session(one))
        assert name in rules(one)
        return done.by

    with ThreadPoolExecutor(count) as pool:
        assert set(pool.map(edit, range(count))) == {"daemon"}
    found = [record for record in daemon.events(last) if "a command" in record.get("causes", ())]
    assert 0 < len(found) < count


def test_commands_at_once_beside_the_daemon(lab: Labs, service: MakeService) -> None:
    """Whole commands: none loses what another has written, and each is over when its own rule is in the kernel."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    running(one, daemon)

    def add(number: int) -> str:
        name = f"added{number}"
        options = ("--src-ip", f"192.168.1.{number + 1}", "--use-policy", "wan1_only")
        document = json.loads(one.router.run(daemon.argv("rule", "add", name, *options, "--json")).stdout)
        assert name in rules(one)
        return str(document["applied"]["by"])

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(add, range(12))) == {"daemon"}
    assert rules(one) == {"everything", *(f"added{number}" for number in range(12))}


def test_a_daemon_that_is_killed_meanwhile(lab: Labs, service: MakeService, as_planned: AsPlanned) -> None:
    """While it has the request and does nothing, and at any other moment: the command does it then."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    running(one, daemon)
    moment = random.Random(3)
    for turn in range(6):
        name = ("wan1", "wan")[turn % 2]
        if turn < 2:
            daemon.signal(signal.SIGSTOP)
        daemon.configure(by(one, name))
        with one.router.popen(argv(one), stdout=subprocess.PIPE, text=True) as command:
            if turn < 2:
                wait_until(lambda: connected(one), "the command to ask")
            else:
                time.sleep(moment.uniform(0.1, 0.6))
            daemon.kill()
            said, _ = command.communicate(timeout=PATIENCE)
        assert json.loads(said)[0] == "command" if turn < 2 else json.loads(said)[0] in ("command", "daemon")
        only(one.tcp("tv", count=10), name)
        as_planned(one)
        daemon.start()
        daemon.settled()


def connected(lab: Lab) -> bool:
    """Whether somebody waits at the control socket of a daemon that is stopped and takes nobody."""
    path = os.fspath(lab.run_dir / "connbal" / "control")
    return sum(line.endswith(path) for line in lab.router.run(["cat", "/proc/net/unix"]).stdout.splitlines()) > 1


def test_a_daemon_that_ends_and_connbal_that_is_stopped(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    untouched = snapshot(one.router)
    daemon = service(one)
    daemon.configure(by(one, "wan"))
    assert "nothing has been applied yet" in run(one)[2]
    assert snapshot(one.router) == untouched
    daemon.start()
    daemon.settled()
    assert daemon.stop() == 0
    daemon.configure(by(one, "wan1"))
    assert run(one)[0] == "command"
    only(one.tcp("tv", count=10), "wan1")
    daemon.connbal("stop")
    daemon.configure(by(one, "wan"))
    assert "connbal is stopped" in run(one)[2]
    assert snapshot(one.router) == untouched


def run(lab: Lab) -> list[str]:
    found: list[str] = json.loads(lab.router.run(argv(lab)).stdout)
    return found


def test_what_cannot_be_applied_is_said(lab: Labs, service: MakeService) -> None:
    """Somebody holds the run lock; the file is no UCI. It goes on once that is over."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    running(one, daemon)
    before = snapshot(one.router)
    with Lock(one.run_dir / "connbal" / "lock"):
        daemon.configure(by(one, "wan1"))
        with pytest.raises(NotApplied, match=r"committed, but whether it is applied is not known: .*within 0\.5 s"):
            apply_now(session(one), wait=0.5)
        assert snapshot(one.router) == before
    assert apply_now(session(one)).by == "daemon"
    only(one.tcp("tv", count=10), "wan1")
    before = snapshot(one.router)
    daemon.configure("config interface 'wan\n")
    with pytest.raises(NotApplied, match=r"committed, but not applied: .*line 1"):
        apply_now(session(one))
    assert snapshot(one.router) == before
    daemon.configure(by(one, "wan"))
    assert apply_now(session(one)).changes
    only(one.tcp("tv", count=10), "wan")
