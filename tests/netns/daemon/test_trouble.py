"""Trouble that is not the daemon's own: programs that hang or fail, files that cannot be written, time that stops.

Probes, state files and the other sources go on meanwhile, and afterwards everything is as if nothing had been.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import connbal.track
from connbal.kernel.files import Lock
from connbal.track import client
from tests.lab import Lab
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service, Status, tracked
from tests.netns.daemon.test_transitions import (
    FAMILIES,
    HOSTS,
    everything_by,
    followed,
    half,
    halves,
    new_connections,
    rounds,
    started,
    steps,
    told,
    turned,
    until,
)
from tests.netns.main_job.bench import only

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Labs = Callable[..., Lab]
ROOTER = Path(__file__).parents[2] / "vectors" / "configs" / "rooter-default"
HANGS = "while :; do sleep 1; done"


# --- programs -------------------------------------------------------------------------------------------------------


def script(path: Path, *lines: str) -> None:
    """Put a shell script in the place of whatever is there, in one step."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text("\n".join(("#!/bin/sh", *lines, "")))
    scratch.chmod(0o755)
    scratch.rename(path)


@contextlib.contextmanager
def replaced(path: Path, *lines: str) -> Iterator[None]:
    """A script in the place of a program, which is put back."""
    kept = path.with_name(f".{path.name}.kept")
    kept.hardlink_to(path) if not path.is_symlink() else kept.symlink_to(os.readlink(path))
    script(path, *lines)
    try:
        yield
    finally:
        kept.rename(path)


def inside(lab: Lab) -> dict[int, str]:
    """The processes in the router."""
    router = os.stat(lab.router.path).st_ino
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            with contextlib.suppress(OSError):
                if os.stat(directory / "ns/net").st_ino == router:
                    found[int(directory.name)] = (directory / "cmdline").read_text().replace("\0", " ")
    return found


def end(pids: Path) -> None:
    """End the scripts whose process ids a file holds."""
    for pid in pids.read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def failed(daemon: Service) -> Status:
    """Wait for a run that failed."""
    return daemon.wait(lambda status: (status["reconciles"]["last"] or {}).get("error"), "a run that fails")


def converged(daemon: Service) -> None:
    """Wait until runs work again, and the kernel is as planned."""
    daemon.wait(lambda status: not status["reconciles"]["last"]["error"], "a run that works")
    until(lambda: "nothing to change" in daemon.connbal("plan").stdout.lower(), lambda: daemon.connbal("plan").stdout)


def truth(daemon: Service, names: Sequence[str], state: str) -> None:
    """Wait until status and state files agree on it."""
    daemon.wait_for(names, state)
    for name in names:
        told(daemon, name, STATUS=state)


def test_hooks_that_hang_hold_nobody_up_and_end_with_the_daemon(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1", "wan2"))
    daemon = service(one)
    daemon.configure(tracked(one))
    begun = one.tmp / "begun"
    # One of them ignores signals, and has a child.
    daemon.user_script.write_text(f"echo $ACTION $INTERFACE >>{begun}\ntrap '' TERM HUP\nsleep 1000 & sleep 1001\n")
    script(daemon.hotplug_call, f"echo $ACTION $INTERFACE >>{begun}", "exec sleep 1002")
    daemon.start()
    until(lambda: begun.exists() and len(begun.read_text().splitlines()) >= 4, lambda: "no hook was run")
    daemon.wait_for(halves(one, *one.spec.sources), "online")
    for name, after in (("wan", "wan1"), ("wan1", "wan2")):
        mark = daemon.last()
        one.cut(name)
        turned(daemon, halves(one, name), "offline", mark)
        new_connections(one, after)
    mark = daemon.last()
    one.restore("wan")
    turned(daemon, halves(one, "wan"), "online", mark)
    new_connections(one, "wan")
    assert any("sleep 100" in line for line in inside(one).values())
    assert daemon.stop() == 0
    assert inside(one) == {}


def test_hosts_and_name_servers_that_hang_delay_nothing_else(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    network = one.config_dir / "network"
    own = "config interface 'wan'\n"
    network.write_text(network.read_text().replace(own, f"{own}\tlist dns '203.0.113.53'\n"))
    for tool, hole in (("iptables", "203.0.113.66"), ("ip6tables", "2001:db8:ffff::66"), ("iptables", "203.0.113.53")):
        one.internet("wan").run([tool, "-A", "INPUT", "-d", hole, "-j", "DROP"])
    slow = (("timeout", "20"), ("reliability", "1"))
    hosts = {4: ["hanging.example.com", "203.0.113.66", HOSTS[4]], 6: ["2001:db8:ffff::66", HOSTS[6]]}
    parts = [half(one, "wan", family, *slow, hosts=hosts[family]) for family in FAMILIES]
    parts += [half(one, "wan1", family, hosts=[HOSTS[family]]) for family in FAMILIES]
    daemon = started(service, one, "\n".join([*parts, everything_by("wan1", "wan")]))
    # One round that waits for them would take 20 s.
    status = rounds(daemon, halves(one, "wan", "wan1"), 20)
    for name in halves(one, "wan", "wan1"):
        assert status["interfaces"][name]["status"] == "online", status["interfaces"][name]
    mark = daemon.last()
    one.cut("wan1")
    turned(daemon, halves(one, "wan1"), "offline", mark)
    new_connections(one, "wan")
    status = daemon.wait(lambda status: status["interfaces"]["wan"]["hosts"][0]["fault"], "the name's fault", 60)
    assert status["interfaces"]["wan"]["hosts"][0]["fault"].startswith("name not resolved: ")
    daemon.wait_for(halves(one, "wan"), "online")


# --- names ----------------------------------------------------------------------------------------------------------


def rooter(lab: Lab) -> str:
    """ROOter's configuration as it is, but quicker. The lab's networks name servers that are in each Internet."""
    network = lab.config_dir / "network"
    servers = "\tlist dns '203.0.113.53'\n\tlist dns '2001:db8:ffff::53'\n"
    text = re.sub(r"(config interface '(?!loopback|lan)\w+'\n)", rf"\g<1>{servers}", network.read_text())
    network.write_text(text)
    times = r"(option (?:timeout|interval|failure_interval|recovery_interval)) '[\d.]+'"
    return re.sub(times, r"\1 '0.3'", ROOTER.read_text())


def dns(lab: Lab, rule: str | None) -> None:
    """What becomes of questions for names: a target, or an answer."""
    for name in lab.spec.sources:
        for tool in ("iptables", "ip6tables"):
            lab.internet(name).run([tool, "-F"])
            if rule is not None:
                lab.internet(name).run([tool, "-A", "INPUT", "-p", "udp", "--dport", "53", "-j", rule])


def test_rooters_configuration_waits_for_names(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1", "wan2", "wwan2"))
    dns(one, "DROP")
    daemon = started(service, one, rooter(one))
    names = ["wan", "wan6", "wan1_6", "wan2_6", "wwan2"]

    def waiting(status: Status) -> bool:
        found = [status["interfaces"][name] for name in names]
        return all(one["status"] == "offline" and "name not resolved" in one["reason"] for one in found)

    status = daemon.wait(waiting, "names that cannot be resolved")
    assert status["interfaces"]["wan1"]["status"] == "disabled"
    # Nothing works: the router's own table decides, by last_resort default.
    followed(daemon, 0, "wan disconnected", "wan6 disconnected", "wwan2 disconnected")
    new_connections(one, "wan")
    mark = daemon.last()
    dns(one, None)
    turned(daemon, names, "online", mark)
    new_connections(one, "wwan2", "wan")
    # The network comes up anew, so names are asked for anew; there is nobody to ask.
    dns(one, "REJECT")
    one.ifdown("wan")
    daemon.wait_for(["wan", "wan6"], "disabled")
    mark = daemon.last()
    one.ifup("wan")
    daemon.wait(lambda status: all(status["interfaces"][name]["running"] for name in ("wan", "wan6")), "probes")
    status = rounds(daemon, ["wan", "wan6"], 8)
    counted = one.internet("wan").run(["iptables-save", "-c", "-t", "filter"]).stdout
    assert re.search(r"^\[[1-9].*--dport 53 -j REJECT", counted, re.MULTILINE), counted
    for name in ("wan", "wan6"):
        assert status["interfaces"][name]["status"] == "online", status["interfaces"][name]
        assert "disconnected" not in [kind for kind, _, _ in steps(daemon, name, mark)]


# --- the way to the kernel ------------------------------------------------------------------------------------------


def test_while_others_hold_the_lock_probes_go_on(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = started(service, one, tracked(one))
    with Lock(one.run_dir / "connbal" / "lock"):
        daemon.settled()  # what was run before the lock was taken has been recorded by then
        mark = daemon.last()
        one.cut("wan")
        truth(daemon, halves(one, "wan"), "offline")
        one.cut("wan1", families=(6,))
        truth(daemon, ["wan1_6"], "offline")
        one.restore("wan")
        truth(daemon, halves(one, "wan"), "online")
        one.cut("wan")
        truth(daemon, halves(one, "wan"), "offline")
        assert "reconcile" not in [record["kind"] for record in daemon.events(mark)]
    converged(daemon)
    only(one.tcp("pc", count=5), "wan1")
    assert one.tcp("pc", family=6, timeout=1).failures


def test_iptables_that_fails_or_hangs_is_tried_again(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = started(service, one, tracked(one))
    restore = one.bin_dir / "iptables-restore"
    with replaced(restore, "echo it is broken >&2", "exit 1"):
        one.cut("wan")
        truth(daemon, halves(one, "wan"), "offline")
        status = failed(daemon)
        assert "it is broken" in status["reconciles"]["last"]["error"]
        count = status["reconciles"]["count"]
        daemon.wait(lambda status: status["reconciles"]["count"] >= count + 1, "further attempts")
    converged(daemon)
    new_connections(one, "wan1")
    assert re.search(r"not reconciled, next attempt in \d.*it is broken", daemon.said())
    with replaced(restore, f"echo $$ >>{one.tmp}/hangs", HANGS):
        one.restore("wan")
        until((one.tmp / "hangs").exists, daemon.said)
        truth(daemon, halves(one, "wan"), "online")
        one.cut("wan1")
        truth(daemon, halves(one, "wan1"), "offline")
    end(one.tmp / "hangs")
    converged(daemon)
    new_connections(one, "wan")


def test_what_was_remembered_waits_for_a_kernel_that_can_be_changed(lab: Labs, service: MakeService) -> None:
    """A daemon that is started again must not take sources for lost because its first run fails."""
    one = lab(("wan", "wan1"))
    daemon = started(service, one, tracked(one))
    one.cut("wan1")
    truth(daemon, halves(one, "wan1"), "offline")
    daemon.settled()
    daemon.kill()
    one.router.sh("iptables -t mangle -F mwan3_rules")  # something to do
    with replaced(one.bin_dir / "iptables-restore", '[ "$1" = --version ] && echo "(nf_tables)" && exit', "exit 1"):
        daemon.start()
        failed(daemon)
    converged(daemon)
    truth(daemon, halves(one, "wan"), "online")
    truth(daemon, halves(one, "wan1"), "offline")
    assert not [record for record in daemon.events() if record["kind"] in ("connected", "disconnected", "ifdown")]


def test_ubus_that_lies_or_hangs_keeps_nobody_from_another_source(lab: Labs, service: MakeService) -> None:
    """What it said before counts; what is lost meanwhile is known from probes and netlink."""
    one = lab(("wan", "wan1"))
    ubus = one.ubus_stub() / "ubus"
    daemon = started(service, one, tracked(one))
    for line in ("head -c 5000 /dev/urandom", "echo '{\"interface\": 7}'", "exit 4"):
        with replaced(ubus, line):
            said = daemon.said().count("what netifd said before counts")
            daemon.hotplug("ifupdate", "wan")
            one.cut("wan")
            truth(daemon, halves(one, "wan"), "offline")
            new_connections(one, "wan1")
            assert daemon.said().count("what netifd said before counts") > said, line
        one.restore("wan")
        truth(daemon, halves(one, "wan"), "online")
        converged(daemon)
        new_connections(one, "wan")
    with replaced(ubus, f"echo $$ >>{one.tmp}/hangs", HANGS):
        daemon.hotplug("ifupdate", "wan")
        until((one.tmp / "hangs").exists, daemon.said)
        one.cut("wan")
        truth(daemon, halves(one, "wan"), "offline")
        new_connections(one, "wan1")
    end(one.tmp / "hangs")
    converged(daemon)


def test_without_netifd_from_the_start_it_waits_for_it(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    with replaced(one.ubus_stub() / "ubus", "exit 4"):
        daemon = service(one)
        daemon.configure(tracked(one))
        daemon.start()
        failed(daemon)
    # An event is heeded at once, however long the next attempt would be off.
    daemon.hotplug("ifup", "wan")
    daemon.wait_for(halves(one, "wan", "wan1"), "online")
    converged(daemon)


# --- files ----------------------------------------------------------------------------------------------------------


def test_state_files_that_cannot_be_written_are_written_later(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = started(service, one, tracked(one))
    root = daemon.mwan3track("wan").parent
    root.rename(one.tmp / "aside")
    root.write_text("in the way")
    mark = daemon.last()
    one.cut("wan")
    turned(daemon, halves(one, "wan"), "offline", mark)
    new_connections(one, "wan1")
    until(lambda: str(root) in daemon.said(), daemon.said)
    root.unlink()
    for name in halves(one, "wan"):
        told(daemon, name, STATUS="offline")
    assert daemon.stop() == 0


class Confined(Service):
    """Its run directory is a small file system that nobody else sees."""

    def argv(self, *arguments: str) -> list[str]:
        argv = super().argv(*arguments)
        mount = f"mount -t tmpfs -o size=1m none {self.lab.run_dir} && exec \"$@\""
        return ["unshare", "--mount", "sh", "-c", mount, "sh", *argv] if "daemon" in arguments else argv

    @property
    def run_dir(self) -> Path:
        """As seen from here."""
        return Path(f"/proc/{self.pid}/root{self.lab.run_dir}")

    def status(self) -> Status | None:
        return client.status(self.run_dir)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        return list(client.events(self.run_dir, after))

    def mwan3track(self, interface: str) -> Path:
        return self.run_dir / "mwan3track" / interface


def test_a_full_run_directory_does_not_keep_sources_from_being_switched(lab: Labs) -> None:
    one = lab(("wan", "wan1"))
    daemon = Confined(one)
    daemon.configure(tracked(one))
    with daemon:
        daemon.wait_for(halves(one, "wan", "wan1"), "online")
        daemon.settled()
        full = daemon.run_dir / "full"
        with full.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(1 << 12))
        mark = daemon.last()
        one.cut("wan")
        turned(daemon, halves(one, "wan"), "offline", mark)
        new_connections(one, "wan1")
        full.unlink()
        for name in halves(one, "wan"):
            told(daemon, name, STATUS="offline")
        one.restore("wan")
        daemon.wait_for(halves(one, "wan"), "online")
        until(lambda: one.tcp("pc", timeout=1).names == {"wan": 1}, daemon.said)


# --- time -----------------------------------------------------------------------------------------------------------


def test_only_the_journal_asks_for_the_wall_clock() -> None:
    """It may jump by years when a router without a clock has found its time server."""
    wall = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
    found = set()
    root = Path(connbal.track.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
                if (owner, node.attr) in wall:
                    found.add(str(path.relative_to(root)))
            elif isinstance(node, ast.ImportFrom) and node.module == "time":
                assert not {alias.name for alias in node.names} & {"time", "time_ns"}, path
    # The kernel stamps packets by the wall clock; what comes of a jump is never older than the probe itself.
    assert found <= {"journal.py", "probes/icmp.py"}


def test_a_daemon_that_was_stopped_for_a_while_loses_no_source(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1", "wan2", "wwan"))
    methods = {"wan": "ping", "wan1": "nping-tcp", "wan2": "nslookup", "wwan": "httping"}
    options = (("timeout", "2"), ("interval", "0.5"), ("down", "2"))
    parts = [
        half(one, name, family, ("track_method", method), *options, hosts=[HOSTS[family]])
        for name, method in methods.items() for family in FAMILIES
    ]  # fmt: skip
    daemon = started(service, one, "\n".join([*parts, everything_by(*methods)]))
    names, mark = halves(one, *methods), daemon.last()
    daemon.signal(signal.SIGSTOP)
    time.sleep(3)
    daemon.signal(signal.SIGCONT)
    # One round may have been under way, two would take a source offline.
    status = rounds(daemon, names, 3)
    for name in names:
        assert status["interfaces"][name]["status"] == "online", status["interfaces"][name]
        assert "disconnected" not in [kind for kind, _, _ in steps(daemon, name, mark)]
    # What happened meanwhile is found out at once.
    daemon.signal(signal.SIGSTOP)
    one.cut("wan")
    one.ifdown("wan1")
    daemon.signal(signal.SIGCONT)
    turned(daemon, halves(one, "wan"), "offline", mark)
    daemon.wait_for(halves(one, "wan1"), "disabled")
    new_connections(one, "wan2")
