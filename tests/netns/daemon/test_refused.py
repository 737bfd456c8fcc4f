"""What the kernel refuses for good costs its own source, and nobody else anything."""

from __future__ import annotations

import json
import time

import pytest

from tests.lab import Lab, openwrt
from tests.netns.daemon.checks import Labs, wait_until, working
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service, tracked
from tests.netns.daemon.test_trouble import replaced
from tests.netns.main_job.bench import only

pytestmark = [pytest.mark.netns]


def started(service: MakeService, lab: Lab) -> Service:
    daemon = service(lab)
    daemon.configure(tracked(lab, timeout="1"))
    daemon.start()
    working(daemon, "wan1", "wan1_6")
    daemon.settled()
    return daemon


def runs(daemon: Service, seconds: float) -> int:
    """So many runs in so many seconds."""
    before = daemon.status()
    time.sleep(seconds)
    after = daemon.status()
    assert before is not None
    assert after is not None
    return int(after["reconciles"]["count"]) - int(before["reconciles"]["count"])


def takes(lab: Lab, daemon: Service) -> float:
    """Seconds from a pulled cable to the end of the run that follows, as the daemon tells."""
    last = daemon.last()
    lab.carrier("wan1", False)

    def done() -> list[dict[str, object]]:
        return [one for one in daemon.events(last) if one["kind"] == "reconcile" and "link e-wan1" in one["causes"]]

    wait_until(done, "the run")
    gone = next(one for one in daemon.events(last) if one.get("interface") == "wan1")
    lab.carrier("wan1", True)
    working(daemon, "wan1", "wan1_6")
    record = done()[0]
    return float(str(record["seconds"])) + max(0.0, float(str(record["uptime"])) - float(gone["uptime"]))


def bears_it(lab: Lab, daemon: Service) -> None:
    """It hardly ever runs, its journal stays, and another source is switched as quickly as ever."""
    daemon.settled()
    mark = daemon.last()
    assert runs(daemon, 3.0) <= 3
    assert len([one for one in daemon.events(mark) if one["kind"] == "reconcile"]) <= 2
    assert takes(lab, daemon) < 0.15
    daemon.settled()


def test_ipv6_that_is_switched_off_where_netifd_says_it_is_up(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    one.ubus_stub()
    one.router.sh("sysctl -qw net.ipv6.conf.e-wan.disable_ipv6=1")
    daemon = started(service, one)
    status = daemon.wait_for("wan6", "disabled")
    assert "IPv6 is disabled" in status["interfaces"]["wan6"]["reason"]
    assert daemon.said().count("the kernel refused interface wan6") == 1
    bears_it(one, daemon)
    only(one.tcp("tv", count=5, family=6), "wan1")
    only(one.tcp("tv", count=5), "wan")
    # It is tried again by itself.
    one.router.sh("sysctl -qw net.ipv6.conf.e-wan.disable_ipv6=0")
    one.add_address("wan", 6)
    working(daemon, "wan6")
    only(one.tcp("tv", count=5, family=6), "wan")


def with_gateway(lab: Lab, gateway: str) -> None:
    """netifd, or the file where there is none, names this gateway for wan or wan6; the kernel has no other."""
    family, known = ("-6", "fd00:1::1") if ":" in gateway else ("-4", "10.1.0.1")
    lab.router.sh(f"ip {family} route del default dev e-wan")
    network, dump = lab.config_dir / "network", lab.tmp / "ubus/dump.json"
    text = network.read_text().replace(f"option gateway '{known}'", f"option gateway '{gateway}'")
    if ":" in gateway:
        own = "config interface 'wan6'\n"
        text = text.replace(own, f"{own}\toption ip6gw '{gateway}'\n")
    assert gateway in text
    network.write_text(text)
    if dump.exists():
        dump.write_text(dump.read_text().replace(f'"nexthop": "{known}"', f'"nexthop": "{gateway}"'))


BAD = ("127.0.0.1", "224.0.0.1", "255.255.255.255", "10.1.0.2", "10.1.0.255", "0.0.0.1", "::1", "ff02::2", "fd00:1::2")


@pytest.mark.parametrize("netifd", [True, False], ids=["netifd", "network"])
@pytest.mark.parametrize("gateway", BAD)
def test_a_gateway_that_cannot_be_one_is_named(lab: Labs, service: MakeService, netifd: bool, gateway: str) -> None:
    one = lab(("wan", "wan1"))
    if netifd:
        one.ubus_stub()
    with_gateway(one, gateway)
    daemon = started(service, one)
    bad, other = ("wan6", "wan") if ":" in gateway else ("wan", "wan6")
    status = daemon.wait_for(bad, "disabled")["interfaces"]
    assert status[bad]["reason"].startswith(f"no usable gateway: {gateway} is ")
    assert not status[bad]["running"]
    assert status[other]["running"]
    said = f"mwan3.{bad}: interface {bad}: the gateway {gateway}, which {'netifd' if netifd else '/etc/config/network'}"
    assert said in daemon.said()
    assert runs(daemon, 1.5) <= 1
    findings = json.loads(daemon.connbal("status", "--json").stdout)["findings"]
    assert [one["code"] for one in findings] == ["bad-gateway"]


@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_a_chain_that_is_refused(lab: Labs, service: MakeService, xtables: str) -> None:
    one = lab(("wan", "wan1"), xtables=xtables)
    real = openwrt.tool("iptables-restore", xtables)
    refuse = (
        'text=$(cat; echo .)',
        'case "$text" in *"-i e-wan "*"0x100/"*) echo "iptables-restore: line 99 failed" >&2; exit 1;; esac',
        f'printf %s "${{text%.}}" | exec {real} "$@"',
    )
    with replaced(one.bin_dir / "iptables-restore", '[ "$1" = --version ] && exec ' + f'{real} "$@"', *refuse):
        daemon = started(service, one)
        status = daemon.wait_for("wan", "disabled")
        assert status["interfaces"]["wan"]["reason"]
        bears_it(one, daemon)
        only(one.tcp("tv", count=5), "wan1")
    # The module is installed, say.
    working(daemon, "wan")
    only(one.tcp("tv", count=5), "wan")


