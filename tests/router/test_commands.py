"""mwan3's commands as scripts and pages use them."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.lab import snapshot
from tests.router.configs import balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router

pytestmark = pytest.mark.netns


@pytest.fixture
def machine(router: MakeRouter) -> Router:
    """A router with two sources and the service running."""
    one = router(["wan", "wan1"], config=balanced({"wan": True, "wan1": True}))
    one.run(["/etc/init.d/mwan3", "start"])
    for name in ("wan", "wan1"):
        one.wait(lambda name=name: one.read(f"/var/run/mwan3track/{name}/STATUS") == "online", f"{name} to be online")
    return one


def test_each_command_prints_something(machine: Router) -> None:
    """Contract: interfaces, policies, connected, rules, status, internal [ipv4|ipv6]."""
    several = ("interfaces", "policies", "connected", "rules", "status", "internal", "internal ipv4", "internal ipv6")
    for words in several:
        assert machine.run(["/usr/sbin/mwan3", *words.split()]).stdout.strip(), words
    assert "interface wan is online" in machine.run(["mwan3", "interfaces"]).stdout
    assert re.search(r"balanced:\n.*wan \(50%\)", machine.run(["mwan3", "policies"]).stdout)


def test_internal_has_titles_underlined(machine: Router) -> None:
    """Contract: a section is a title line followed by a line of at least ten dashes."""
    lines = machine.run(["mwan3", "internal", "ipv4"]).stdout.splitlines()
    titles = [above for above, below in itertools.pairwise(lines) if re.fullmatch("-{10,}", below)]
    assert len(titles) >= 3
    assert all(title.strip() for title in titles)


def test_use_leaves_by_the_source_that_is_named(machine: Router) -> None:
    """Contract: `use` prints its banner to stderr, and returns the command's exit code."""
    done = machine.run(["mwan3", "use", "wan1", "/bin/sh", "-c", "echo out; exit 7"], check=False)
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert "wan1" in done.stderr
    for name in ("wan", "wan1"):
        # The static busybox, so nothing but the kernel can have chosen.
        done = machine.run(["mwan3", "use", name, "/bin/nc", "-w", "3", "203.0.113.1", "5000"], input="\n", check=False)
        assert done.stdout.split() == [name]
    assert machine.run(["mwan3", "use", "wan1", "/bin/id", "-u"]).stdout == "0\n"


def test_restart_changes_nothing_the_second_time(machine: Router) -> None:
    """Contract: `restart` is idempotent."""
    before = snapshot(machine.lab.router)
    for _ in range(3):
        assert machine.run(["/usr/sbin/mwan3", "restart"]).stdout == ""
    machine.sh("sleep 1")
    assert snapshot(machine.lab.router) == before


def test_ifdown_and_ifup(machine: Router) -> None:
    """Contract: `ifdown IF` takes a source out, `ifup IF` back in."""
    machine.run(["mwan3", "ifdown", "wan1"])
    machine.wait(lambda: set(machine.lab.tcp("tv", count=20).names) == {"wan"}, "wan to carry all")
    machine.run(["mwan3", "ifup", "wan1"])
    machine.wait(lambda: set(machine.lab.tcp("tv", count=60).names) == {"wan", "wan1"}, "both to carry connections")


def test_stop_ends_it_and_start_begins_again(machine: Router) -> None:
    """Contract: start and stop."""
    machine.run(["/usr/sbin/mwan3", "stop"])
    assert machine.run(["/etc/init.d/mwan3", "running"], check=False).returncode != 0
    assert "mwan3" not in machine.sh("iptables -t mangle -S")
    machine.run(["/usr/sbin/mwan3", "start"])
    machine.wait(lambda: "mwan3_hook" in machine.sh("iptables -t mangle -S"), "the rules to be there again")
