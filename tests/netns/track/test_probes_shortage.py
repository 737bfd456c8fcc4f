"""What this machine is short of, and what its own firewall drops, says nothing of a source."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from connbal.model.config import TrackMethod
from connbal.track.api import HostResult, Miss
from tests.lab import Lab
from tests.netns.daemon.conftest import MakeService, service
from tests.netns.daemon.service import Service, tracked
from tests.netns.daemon.test_transitions import until
from tests.netns.track.test_probes import (
    ALL,
    HOSTS,
    ON_LINK,
    Factory,
    asked,
    balanced,
    gateway,
    inside,
    interface,
    prober,
)

__all__ = ["service"]
pytestmark = pytest.mark.netns


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process cannot open another."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_no_method_takes_a_want_of_descriptors_for_a_loss(lab: Factory) -> None:
    """At the first round, and where a round or two have been before."""
    one = balanced(lab)
    for method, family in ALL:
        host = gateway(one, "wan1", family) if method in ON_LINK else HOSTS[family]

        async def main(
            method: TrackMethod = method, family: int = family, host: str = host
        ) -> tuple[HostResult, HostResult, HostResult]:
            asking = prober(one, "wan1", family, source=None)
            with no_descriptors():
                first = await asking.run(interface(method), [host])
            between = await asking.run(interface(method), [host])
            with no_descriptors():
                last = await asking.run(interface(method), [host])
            asking.close()
            return first.results[0], between.results[0], last.results[0]

        first, between, last = inside(one, main)
        assert between.answered, (method, family, between.reason)
        for found in (first, last):
            assert (found.answered, found.miss) == (False, Miss.UNASKED), (method, family, found)
            assert found.reason == "too many files are open in this process"


def test_a_name_that_could_not_be_asked_for_is_not_lost(lab: Factory) -> None:
    one = balanced(lab)

    async def main() -> tuple[HostResult, HostResult]:
        asking = prober(one, "wan1", 4, servers=(HOSTS[4],))
        assert (await asking.run(interface(timeout=2.0), ["www.example.com"])).results[0].answered
        spare = os.open("/dev/null", os.O_RDONLY)
        with no_descriptors():
            short = (await asking.run(interface(), ["other.example.com", HOSTS[4]])).results[0]
        os.close(spare)
        await asyncio.sleep(2.1)
        after = (await asking.run(interface(timeout=2.0), ["other.example.com"])).results[0]
        asking.close()
        return short, after

    short, after = inside(one, main)
    assert (short.answered, short.miss) == (False, Miss.UNASKED)
    assert after.answered, after.reason


def test_a_firewall_here_says_nothing_of_the_source(lab: Factory) -> None:
    one = balanced(lab)
    one.router.run(["iptables", "-I", "OUTPUT", "-o", "e-wan1", "-j", "DROP"])
    for method in (TrackMethod.PING, TrackMethod.NPING_UDP, TrackMethod.NSLOOKUP):
        found = asked(one, method, 4)
        assert (found.answered, found.miss) == (False, Miss.UNASKED), method
        assert found.reason.startswith("not permitted")


def test_ports_that_others_hold_say_nothing_of_the_source(lab: Factory) -> None:
    """Nobody needs to be root to hold them. Ping needs none."""
    one = balanced(lab)
    one.router.sysctl({"net/ipv4/ip_local_port_range": "40000 40003"})
    with one.router.enter(), contextlib.ExitStack() as held:
        for port in range(40000, 40004):
            sock = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind(("", port))
        for method in (TrackMethod.NPING_UDP, TrackMethod.NSLOOKUP):
            found = asked(one, method, 4)
            assert (found.answered, found.miss, found.reason) == (False, Miss.UNASKED, "no port is left here")
        for method in (TrackMethod.PING, TrackMethod.ARPING, TrackMethod.NPING_TCP):
            assert asked(one, method, 4).answered, method


# --- the daemon -------------------------------------------------------------------------------------------------------


def limit(daemon: Service, soft: int | None = None) -> int:
    """The daemon's limit of open files; with ``soft`` it is set."""
    before, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    if soft is not None:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
    return before


@pytest.mark.parametrize("method", ["ping", "nping-tcp", "nping-udp", "httping"])
def test_no_source_changes_for_want_of_descriptors(
    lab: Callable[..., Lab], service: MakeService, method: str
) -> None:
    one = lab(("wan", "wan1"))
    for name in one.spec.sources:
        for host in ("2001:db8:ffff::1", "2001:db8:ffff::2", "2001:db8:ffff::3"):
            one.internet(name).ip(f"addr add {host}/128 dev lo nodad")
        # Hosts say "port unreachable" seldom; here a round left unanswered would be taken for the shortage's.
        one.internet(name).sh("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
    daemon = service(one)
    daemon.configure(tracked(one, down=2, timeout="1", more=(("track_method", method),)))
    daemon.start()
    names = [half for name in one.spec.sources for half in (name, one.source(name).name6)]
    daemon.wait_for(names, "online")
    daemon.settled()
    last, usual = daemon.last(), limit(daemon)
    states = {name: (daemon.mwan3track(name) / "STATUS").read_text() for name in names}
    one.cut("wan")  # nothing of it is found out meanwhile
    limit(daemon, 3)
    daemon.signal(signal.SIGHUP)  # a run that finds nothing out either
    time.sleep(3.0)
    for name in names:
        assert (daemon.mwan3track(name) / "STATUS").read_text() == states[name]
    assert daemon.said().count("wan1: no round of probes can be made") == 1
    limit(daemon, usual)
    daemon.wait_for(["wan", "wan6"], "offline")
    daemon.wait_for(["wan1", one.source("wan1").name6], "online")
    happened = [(event.get("interface"), event["kind"]) for event in daemon.events(last)]
    assert {name for name, kind in happened if kind in ("disconnecting", "disconnected")} <= {"wan", "wan6"}, happened
    (line,) = (
        line for line in daemon.connbal("metrics").stdout.splitlines()
        if line.startswith('connbal_interface_unmade_rounds_total{interface="wan1"}')
    )  # fmt: skip
    assert int(line.split()[-1]) >= 2


def test_the_limit_is_raised_and_hooks_have_the_old_one(lab: Callable[..., Lab], service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = service(one)
    daemon.configure(tracked(one))
    told = one.tmp / "limit"
    daemon.user_script.write_text(f"#!/bin/sh\nulimit -n >>{told}\n")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    until(lambda: told.exists() and len(told.read_text().split()) >= 2, daemon.said)
    until(lambda: limit(daemon) == min(before[1], 4096), daemon.said)  # less while a hook is started
    assert set(told.read_text().split()) == {"512"}
