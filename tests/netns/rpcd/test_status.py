"""Calls over a real kernel, with a daemon and without: the contract's form, the truth in it, and what looking costs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connbal.rpcd import methods
from connbal.track import client
from tests import shapes
from tests.lab import Lab, snapshot
from tests.netns.daemon.checks import wait_until
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service, tracked
from tests.unit.rpcd.call import SCRIPTS, environment, only, shell
from tests.unit.rpcd.contract import check

pytestmark = [pytest.mark.netns]

Labs = Callable[..., Lab]

#: What answers a call, and then says which modules that took.
MODULES = """
import sys
from connbal.rpcd import run
try:
    run.main(sys.argv[1:])
except SystemExit:
    print(*sorted(sys.modules), file=sys.stderr)
"""
#: What a status from the daemon does without, and how many modules it may take beyond those that Python has when it
#: starts: each costs a small router milliseconds.
SLOW = {"pyroute2", "click", "asyncio", "icmplib", "decimal", "urllib.request", "difflib", "connbal.reconcile"}
MOST = 110
#: Answers to hostile questions, one a line, in one process.
ASK = """
import json, sys, time
from connbal.errors import ConnbalError
from connbal.rpcd import methods, run
for line in sys.stdin:
    name, given = json.loads(line)
    method = methods.find("connbal", name)
    try:
        said = run.answer("connbal", method, json.dumps(given).encode(), time.monotonic() + 60)
    except ConnbalError as error:
        said = {"schema": "error/1", "error": str(error), "code": error.kind}
    print(json.dumps(said), flush=True)
"""
HOSTILE = ["--help", "-x", "--", "$(reboot)", "`id`", ";ls", "a b", "a\nb", "../../etc/passwd", "'", '"', "\x1b[2J",
           "x" * 1000, "255.255.255.255", "::", "0", "-1", "99999", "wan\n"]  # fmt: skip


def variables(lab: Lab) -> dict[str, str]:
    return {"CONNBAL_CONFIG_DIR": str(lab.config_dir), "CONNBAL_RUN_DIR": str(lab.run_dir), "CONNBAL_UCI": "embedded"}


def call(lab: Lab, object_: str, method: str, **given: Any) -> dict[str, Any]:
    """What the script answers, in the router."""
    argv = [*shell(), str(SCRIPTS / object_), "call", method]
    path = environment()["PATH"] if lab.router.env.get("PATH") is None else (
        f"{Path(sys.executable).parent}:{lab.router.env['PATH']}"
    )  # fmt: skip
    done = lab.router.run(argv, input=json.dumps(given), env={**variables(lab), "PATH": path})
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = only(done.stdout.encode())
    return found


def status(lab: Lab, **given: Any) -> dict[str, Any]:
    found = call(lab, "mwan3", "status", **given)
    check(found, {given["section"]} if given.get("section") in ("interfaces", "connected", "policies") else None)
    return found


def states(lab: Lab) -> dict[str, tuple[Any, ...]]:
    found = status(lab, section="interfaces")["interfaces"]
    return {name: (one["status"], one["tracking"], one["running"], one["up"]) for name, one in found.items()}


GOOD, LOST = ("online", "active", True, True), ("offline", "active", True, True)


def test_status_from_start_to_stop(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one) + "\nconfig interface 'spare'\n\tlist track_ip '192.0.2.1'\n")

    stopped = status(one)
    assert {state[0] for state in states(one).values()} == {"unknown", "disabled"}
    assert stopped["policies"] == {"ipv4": {}, "ipv6": {}}
    assert stopped["connected"] == {"ipv4": [], "ipv6": []}

    daemon.connbal("apply")
    alone = status(one)
    assert states(one)["wan"] == ("online", "down", False, True)
    assert states(one)["spare"] == ("disabled", "down", False, False)
    assert alone["policies"]["ipv4"] == {"all": [{"interface": "wan", "percent": 100}]}

    daemon.start()
    daemon.wait_for(["wan", "wan1"], "online")
    wait_until(lambda: states(one)["wan"] == GOOD, "wan to be told as online")
    told = status(one)
    assert (told["policies"], told["connected"]) == (alone["policies"], alone["connected"])
    assert list(told["interfaces"]) == list(alone["interfaces"])
    assert "192.168.1.0/24" in told["connected"]["ipv4"]
    in_kernel = one.router.run(["ipset", "save", "mwan3_connected_ipv4"]).stdout.splitlines()
    assert set(told["connected"]["ipv4"]) == {line.split()[2] for line in in_kernel if line.startswith("add ")}
    wait_until(lambda: as_in_files(daemon, status(one)), "files and answers to agree")

    one.cut("wan")
    daemon.wait_for("wan", "offline")
    wait_until(lambda: status(one)["policies"]["ipv4"]["all"] == [{"interface": "wan1", "percent": 100}], "failover")
    assert states(one)["wan"] == LOST
    lost = status(one, interface="wan")["interfaces"]["wan"]
    assert (lost["online"], lost["score"]) == (0, 0)
    assert {host["status"] for host in lost["track_ip"]} == {"down"}
    one.restore("wan")
    daemon.wait_for("wan", "online")
    one.carrier("wan", False)
    daemon.wait_for("wan", "disabled")
    wait_until(lambda: states(one)["wan"] == ("disabled", "paused", False, False), "wan to be paused")
    one.carrier("wan", True)
    daemon.wait_for("wan", "online")

    daemon.kill()
    assert states(one)["wan"] == ("online", "down", False, True)
    daemon.connbal("stop")
    assert states(one)["wan"][0] == "unknown"


def as_in_files(daemon: Service, told: dict[str, Any]) -> bool:
    """Whether the tracker's files, written every few seconds, say the same."""
    for name in ("wan", "wan1"):
        directory, one = daemon.mwan3track(name), told["interfaces"][name]
        wanted = {key: str(one[key.lower()]) for key in ("STATUS", "SCORE", "LOST")}
        wanted["STARTED"] = str(int(one["running"]))
        wanted |= {f"TRACK_{host['ip']}": host["status"] for host in one["track_ip"]}
        if {key: read(directory / key) for key in wanted} != wanted:
            return False
    return True


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def test_netifd_tells_uptimes(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    one.router.env["PATH"] = f"{one.ubus_stub().parent}:{one.router.env.get('PATH', environment()['PATH'])}"
    daemon = service(one)
    daemon.configure(tracked(one))
    for path in one.tmp.rglob("dump.json"):
        entries = json.loads(path.read_text())
        for entry in entries["interface"]:
            entry["uptime"] = 5000 if entry["interface"] == "wan" else 70
        path.write_text(json.dumps(entries))
    with daemon:
        daemon.wait_for("wan", "online")
        wait_until(lambda: status(one)["interfaces"]["wan"]["uptime"] > 5000, "time to pass")
        assert status(one)["interfaces"]["wan"]["uptime"] < 5600
        assert 70 <= status(one)["interfaces"]["wan1"]["uptime"] < 600


def steady(document: dict[str, Any]) -> dict[str, Any]:
    """A ``status/1`` less what changes by itself."""
    found: dict[str, Any] = json.loads(json.dumps(document))
    found["daemon"] = {"pid": found["daemon"]["pid"]}
    for one in found["interfaces"]:
        for key in ("since", "round", "turn", "lost", "hosts", "score", "status", "reason"):
            del one["tracker"][key]
        del one["reason"]
    for rule in found["rules"]:
        del rule["packets"], rule["bytes"]
    return found


def test_the_daemons_status_is_that_of_the_command(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one) + "\nconfig policy 'lost'\n\tlist use_member 'nobody'\n")
    with daemon:
        daemon.wait_for(["wan", "wan1", "wan6"], "online")
        assert one.tcp("tv", "203.0.113.7", count=20).names["wan"] == 20
        wait_until(
            lambda: steady(call(one, "connbal", "status"))
            == steady(json.loads(daemon.connbal("status", "--json").stdout)), "both to say the same",
        )  # fmt: skip
        told = call(one, "connbal", "status")
        shapes.check(told)
        assert sum(rule["packets"] for rule in told["rules"]) >= 20
        assert any(finding["code"] for finding in told["findings"])


@pytest.mark.parametrize("object_", methods.OBJECTS)
def test_a_status_from_the_daemon_loads_nothing_slow(lab: Labs, service: MakeService, object_: str) -> None:
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one))
    with daemon:
        daemon.settled()
        argv = [sys.executable, "-I", "-c", MODULES, object_, "status"]
        done = one.router.run(argv, input="{}", env=variables(one))
        assert "error" not in json.loads(done.stdout)
        loaded = set(done.stderr.split())
        assert not sorted(loaded & SLOW)
        if object_ == "mwan3":
            assert "subprocess" not in loaded
            bare = one.router.run([sys.executable, "-I", "-c", "import sys; print(*sys.modules)"]).stdout.split()
            assert len(loaded - set(bare)) <= MOST, sorted(loaded - set(bare))


def test_what_reads_changes_nothing(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.connbal("apply")
    before, files, state = snapshot(one.router), content(one.config_dir), content(one.run_dir)
    questions: list[tuple[str, dict[str, Any]]] = [
        ("status", {}), ("check", {}), ("list", {"type": "rule"}), ("show", {"type": "policy", "name": "all"}),
        ("explain", {"src": "192.168.1.20", "dst": "203.0.113.9"}), ("diagnose", {"interface": "wan"}),
    ]  # fmt: skip
    assert {name for name, _ in questions} == {method.name for method in methods.CONNBAL if not method.writes}
    for text in HOSTILE:
        questions += [
            ("explain", {"src": text, "dst": "203.0.113.9"}), ("explain", {"src": "192.168.1.20", "dst": text}),
            ("explain", {"src": "192.168.1.20", "dst": "203.0.113.9", "proto": text}),
            ("explain", {"src": "192.168.1.20", "dst": "203.0.113.9", "proto": "tcp", "dport": text}),
            ("explain", {"src": "192.168.1.20", "dst": "203.0.113.9", "iif": text, "mac": text}),
            ("diagnose", {"interface": text}), ("show", {"type": "rule", "name": text}),
        ]  # fmt: skip
    asked = "".join(f"{json.dumps(question)}\n" for question in questions)
    done = one.router.run([sys.executable, "-c", ASK], input=asked, env=variables(one), timeout=600.0)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(questions)
    for question, answer in zip(questions, answers, strict=True):
        shapes.check(answer)
        assert "unexpected" not in str(answer.get("error")), question
    assert [answer["schema"] for answer in answers[:6]] == [
        "status/1", "check/1", "rule-list/1", "policy/1", "explain/1", "diagnose/1",
    ]  # fmt: skip
    check(status(one))
    assert snapshot(one.router) == before
    assert (content(one.config_dir), content(one.run_dir)) == (files, state)


def content(directory: Path) -> dict[str, bytes]:
    found = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.parent.name != "turns"]
    return {str(path): path.read_bytes() for path in found}


def test_edits_are_applied_by_the_daemon(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one))
    with daemon:
        daemon.wait_for(["wan", "wan1"], "online")
        done = call(one, "connbal", "setup", scenario="failover", options={"interfaces": ["wan1", "wan"]})
        shapes.check(done)
        assert (done["schema"], done["error"], done["applied"]["by"]) == ("edit/1", None, "daemon")
        done = call(one, "connbal", "move", name=done["rules"][0]["rule"], place="first")
        assert done["number"] == 1
        assert one.tcp("tv", "203.0.113.7", count=10).names["wan1"] == 10
        assert status(one)["policies"]["ipv4"]["All_Policy"] == [{"interface": "wan1", "percent": 100}]
        assert call(one, "connbal", "apply")["schema"] == "apply/1"


def test_a_changed_file_is_seen_at_once(lab: Labs, service: MakeService) -> None:
    """Between a commit and the daemon's next look, its last run is not how things are."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one))
    with daemon:
        daemon.settled()
        daemon.configure(tracked(one) + "\nconfig interface 'spare'\n")
        assert "spare" in status(one)["interfaces"]


def test_a_file_that_cannot_be_read_leaves_what_is_in_force(lab: Labs, service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one))
    with daemon:
        daemon.wait_for("wan", "online")
        good = set(status(one)["interfaces"])
        daemon.configure("config interface 'wan")
        wait_until(lambda: set(status(one)["interfaces"]) == good, "the daemon to have seen it")
        assert call(one, "connbal", "check")["schema"] == "error/1"
        assert call(one, "connbal", "list", type="rule")["code"] == "config"


def test_where_the_kernel_cannot_be_set_up_the_plan_is_worked_out(lab: Labs, service: MakeService) -> None:
    """A run that failed leaves no view of how things are."""
    one = lab(["wan", "wan1"])
    daemon = service(one)
    daemon.configure(tracked(one))
    with daemon:
        daemon.wait_for("wan", "online")
        tool = one.bin_dir / "iptables-restore"
        good = one.tmp / "good" / tool.name
        good.parent.mkdir()
        tool.rename(good)
        tool.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {good} --version\nexit 1\n')
        tool.chmod(0o755)
        try:
            daemon.configure(tracked(one).replace("'all'", "'other'"))
            daemon.wait(lambda found: (found["reconciles"]["last"] or {}).get("error"), "a run to fail")
            answer = client.view(one.run_dir)
            assert answer is not None
            assert answer["view"] is None
            assert set(status(one)["policies"]["ipv4"]) == {"other"}
        finally:
            good.replace(tool)
        daemon.wait(lambda found: (found["reconciles"]["last"] or {}).get("error") is None, "a run to succeed")
        wait_until(lambda: (client.view(one.run_dir) or {}).get("view"), "the view")
