"""A daemon's runs that have nothing to do: they start no program, and what others break is found by the next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from connbal.cli.context import Session
from connbal.cli.daemon import SystemWorld
from connbal.kernel import exec as programs
from connbal.kernel.netlink import Channel
from connbal.kernel.rundir import PatientMemory
from connbal.track.worker import Job, Worker
from tests.lab import Lab
from tests.netns.main_job.bench import state
from tests.netns.main_job.test_damage import BOTH, ONCE, SOURCES, others_back, script, with_sets

pytestmark = pytest.mark.netns

#: Further damage, to what the others leave alone.
MORE = {
    "an entry of an address set deleted": (
        "for s in $(ipset list -n | grep mwan3_addr_ipv4); do ipset del $s 198.51.100.3; done"
    ),
    "an entry of an address set changed for another": (
        "for s in $(ipset list -n | grep mwan3_addr_ipv4);"
        " do ipset del $s 198.51.100.3; ipset add $s 198.51.100.4; done"
    ),
    "a rule of connbal's added": "ip rule add priority 2099 fwmark 0x300/0x3f00 lookup 99 protocol 131",
    "a route of connbal's added": "ip route add 192.0.2.0/24 via 10.1.0.1 dev e-wan table 1 proto 131",
    "a route of a table deleted": "ip route del default table 1",
}


class Daemon:
    """A daemon's runs, in this process and the namespace of a lab's router."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.changes: list[str] = []

    def run(self) -> tuple[int, list[str]]:
        """A run; how many programs it started, and what it asked netlink to list."""
        started = programs.executions
        _LISTED.clear()
        outcome = self._worker._run(Job({}))  # in this thread, which is in the router's namespace
        assert not outcome.error, outcome.error
        assert outcome.report is not None
        self.changes = outcome.report.changes
        return programs.executions - started, list(_LISTED)


_LISTED: list[str] = []


@pytest.fixture
def daemon(lab: Callable[..., Lab], xtables: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Daemon, Lab]]:
    """A daemon that has applied a configuration with everything in it."""
    one = lab(SOURCES, xtables=xtables)
    dump = Channel.dump

    def listed(self: Channel, message: object, number: int, command: str, *more: object) -> object:
        _LISTED.append(command)
        return dump(self, message, number, command, *more)  # type: ignore[call-overload]  # as it was asked

    monkeypatch.setattr(Channel, "dump", listed)
    for name, value in one.router.env.items():
        monkeypatch.setenv(name, value)
    (one.config_dir / "mwan3").write_text(with_sets(one))
    with one.router.enter(), contextlib.ExitStack() as stack:
        session = Session(one.config_dir, one.run_dir)
        machine = stack.enter_context(session.machine())
        worker = Worker(SystemWorld(session, machine, PatientMemory(session.run())))
        stack.callback(worker.close)
        yield Daemon(worker), one


def test_damage_is_found_by_the_run_after_one_that_had_nothing_to_do(daemon: tuple[Daemon, Lab]) -> None:
    one, lab = daemon
    one.run()
    one.run()
    before = state(lab)
    for title, damage in {**BOTH, **ONCE, **MORE}.items():
        assert one.run()[0] == 0, f"before: {title}"
        assert not one.changes
        lab.router.run(["sh", "-c", script(damage)])
        others_back(lab)
        one.run()
        assert one.changes, title
        assert state(lab) == before, title


def test_a_run_with_nothing_to_do_lists_each_table_once(daemon: tuple[Daemon, Lab]) -> None:
    one, _ = daemon
    one.run()
    one.run()
    started, listed = one.run()
    assert not one.changes
    assert started == 0
    tables = [command for command in listed if not command.startswith("ipset list mwan3_")]
    assert tables == ["ip link", "ip address", "ip route show table all", "ip rule", "ipset list -t", *tables[5:]]
    assert set(tables[5:]) <= {"ipset list"}


def test_a_change_of_one_family_starts_one_program(daemon: tuple[Daemon, Lab]) -> None:
    one, lab = daemon
    one.run()
    one.run()
    lab.router.sh("iptables -t mangle -F mwan3_policy_TV_Policy")
    assert one.run()[0] == 1
    assert one.changes == ["~ ipv4 chain mwan3_policy_TV_Policy: 1 rules"]


def test_another_build_of_iptables_starts_anew(daemon: tuple[Daemon, Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon keeps to the build that it began with; another process with the other one writes its own tables, and
    the ledger says whose they are.
    """
    one, lab = daemon
    one.run()
    before = state(lab)
    monkeypatch.setenv("CONNBAL_IPTABLES", "legacy" if lab.spec.xtables == "nft" else "nft")
    session = Session(lab.config_dir, lab.run_dir)
    with session.machine() as machine:
        other = machine.reconciler(lambda config, facts: {}).apply(session.decoded().config)
    assert any("chain mwan3_hook" in change for change in other.changes)
    one.run()
    assert one.changes  # whose the ledger was not: each chain once more
    assert one.run()[0] == 0
    assert not one.changes
    assert [part for part in state(lab).split("=== ") if part in before.split("=== ")]
