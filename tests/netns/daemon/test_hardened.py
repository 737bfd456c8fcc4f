"""The daemon with no more rights than its unit for systemd gives it: all works, and scripts have no more than that."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.lab import Lab
from tests.netns.daemon.checks import Labs, wait_until, working
from tests.netns.daemon.service import Service, tracked
from tests.netns.main_job.bench import only
from tests.unit.files.unit import capabilities

pytestmark = [pytest.mark.netns]

#: How sources are probed, and by which hosts: by raw, packet, datagram and stream sockets, bound to devices.
METHODS = {
    "wan": ("ping", ("203.0.113.1", "203.0.113.2")),
    "wan1": ("arping", ("10.2.0.1",)),
    "wan2": ("httping", ("203.0.113.1",)),
    "wan3": ("nslookup", ("203.0.113.1",)),
    "wan4": ("nping-tcp", ("203.0.113.1",)),
    "wan5": ("nping-udp", ("203.0.113.1",)),
}
#: Addresses enough for a set.
RULES = """\
config rule 'some'
	option src_ip '192.168.1.178,192.168.1.179,192.168.9.0/24'
	option use_policy 'all'

config rule 'rest'
	option use_policy 'all'
"""
HOOK = """\
#!/bin/sh
grep -e CapEff -e NoNewPrivs /proc/self/status >{0}.rights
su -s /bin/sh nobody -c 'id -un' >{0}.user
chown nobody {0}.user
ip route show table 1 >{0}.routes
echo "$ACTION $INTERFACE" >>{0}
"""


class Bounded(Service):
    """A daemon as systemd starts it: no capabilities but some, and none to be had by programs."""

    def start(self, *, ready: bool = True) -> Service:
        mine = ",".join(f"+{name}" for name in capabilities())
        bounded = ["setpriv", "--no-new-privs", "--inh-caps", "-all", "--bounding-set", f"-all,{mine}"]
        start = self.lab.router.popen

        def popen(argv: Sequence[str], **options: object) -> object:
            return start([*bounded, *argv], **options)

        self.lab.router.popen = popen  # type: ignore[method-assign,assignment]
        try:
            return super().start(ready=ready)
        finally:
            self.lab.router.popen = start  # type: ignore[method-assign]


@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_failover(lab: Labs, xtables: str) -> None:
    """Rules, sets, routes, probes, forgotten connections, scripts."""
    one: Lab = lab(["wan", "wan1"], xtables=xtables)
    daemon = Bounded(one)
    told = one.tmp / "told"
    daemon.user_script.write_text(HOOK.format(told))
    daemon.configure(tracked(one, rules=RULES))
    with daemon:
        working(daemon, "wan", "wan6", "wan1", "wan1_6")
        only(one.tcp("tv", count=10), "wan")
        only(one.tcp("tv", count=10, family=6), "wan")
        last = daemon.last()
        one.cut("wan")
        daemon.wait_for(["wan", "wan6"], "offline")
        only(one.tcp("tv", count=10), "wan1")
        only(one.tcp("pc", count=10, family=6), "wan1")
        assert sum(event.get("flushed", 0) for event in daemon.events(last) if event["kind"] == "reconcile")
        wait_until(lambda: told.exists() and "disconnected wan\n" in told.read_text(), "the hook")
        one.restore("wan")
        daemon.wait_for(["wan", "wan6"], "online")
        only(one.tcp("tv", count=10), "wan")
        assert "error" not in daemon.said()
        assert "warning" not in daemon.said()
    rights = dict(line.split() for line in told.with_suffix(".rights").read_text().splitlines())
    assert int(rights["CapEff:"], 16).bit_count() == len(capabilities())
    assert rights["NoNewPrivs:"] == "1"
    assert told.with_suffix(".user").read_text() == "nobody\n"
    assert "default" in told.with_suffix(".routes").read_text()
    daemon.connbal("stop")
    assert "mwan3" not in one.router.sh("iptables-save; ipset list -n")


def test_every_probe(lab: Labs) -> None:
    daemon = Bounded(lab(list(METHODS)))
    daemon.configure(every_method())
    with daemon:
        working(daemon, *METHODS)


def every_method() -> str:
    """A configuration in which each source is probed in another way, and is not online before it has answered."""
    parts = []
    for name, (method, hosts) in METHODS.items():
        options = {"enabled": "1", "interval": "0.2", "timeout": "0.5", "initial_state": "offline", "up": "2",
                   "track_method": method}  # fmt: skip
        parts.append(f"config interface '{name}'\n")
        parts += [f"\toption {key} '{value}'\n" for key, value in options.items()]
        parts += [f"\tlist track_ip '{host}'\n" for host in hosts]
    return "".join(parts)
