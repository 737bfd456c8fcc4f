"""Everything the user's document sets by hand, set by commands: section by section, and by ``connbal setup``.

It begins as the document does, with the interfaces there and none of them enabled. Both ways must come to the same,
each command takes effect at once, and real connections go where the document says.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from connbal.plan.build import plan
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.demo.config import HOSTS, TV, TV6
from tests.fakes.build import machine
from tests.netns.daemon.service import Service
from tests.netns.main_job.bench import Bench, only, section, shares

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Benches = Callable[..., Bench]
SOURCES = ("wan", "wan1", "wan2", "wwan")
FAMILIES = (4, 6)

GLOBALS = section("globals", "globals", ("weight_mode", "inverse"), ("affinity", "pair"))

#: Section by section, each field that the document names, in its order: rule after policy after member, because a
#: rule needs its policy; and the television's to the top at last.
DEVICE = """
    interface enable wan1
    interface enable wan2
    member add TV_Internet --interface wan2 --metric 1 --weight 1
    policy add TV_Policy --use-member TV_Internet
    member add All_Internet --interface wan1 --metric 1 --weight 1
    policy add All_Policy --use-member All_Internet
    rule add All_Traffic --dest-ip 0.0.0.0/0 --proto all --use-policy All_Policy
    rule add SmartTV --src-ip 192.168.1.178 --dest-ip 0.0.0.0/0 --proto all --use-policy TV_Policy
    rule move SmartTV --first
"""
FAILOVER = """
    interface enable wwan
    interface enable wan1
    member add Primary --interface wwan --metric 1 --weight 1
    member add Secondary --interface wan1 --metric 2 --weight 1
    policy add All_Policy --use-member Primary --use-member Secondary
    rule add All_Traffic --dest-ip 0.0.0.0/0 --proto all --use-policy All_Policy
"""
SPLIT = """
    interface enable wan1
    interface enable wan2
    member add Source1 --interface wan1 --metric 1 --weight 1
    member add Source2 --interface wan2 --metric 1 --weight 2
    policy add All_Policy --use-member Source1 --use-member Source2
    rule add All_Traffic --dest-ip 0.0.0.0/0 --proto all --use-policy All_Policy
"""
SPLIT_75 = SPLIT + "    member set Source2 --weight 3\n"
#: "A specific device using only one Internet source, traffic being split and failover, all at the same time."
ALL = SPLIT + """
    member add TV_Internet --interface wan2 --metric 1 --weight 1
    policy add TV_Policy --use-member TV_Internet
    rule add SmartTV --src-ip 192.168.1.178 --dest-ip 0.0.0.0/0 --proto all --use-policy TV_Policy --first
    interface enable wwan
    member add Web_Primary --interface wwan --metric 1 --weight 1
    member add Web_Secondary --interface wan1 --metric 2 --weight 1
    policy add Web_Policy --use-member Web_Primary --use-member Web_Secondary
    rule add Web --dest-ip 0.0.0.0/0 --proto tcp --dest-port 443 --use-policy Web_Policy --after SmartTV
"""

#: Name -> the two ways.
WAYS = {
    "device": (DEVICE, "setup device --ip 192.168.1.178 --use wan2 --else wan1 --name SmartTV"),
    "failover": (FAILOVER, "setup failover wwan wan1"),
    "split": (SPLIT, "setup split wan1=2 wan2=1"),
    "split-75": (SPLIT_75, "setup split wan1=75 wan2=25"),
    "all": (ALL, """
        setup split wan1=2 wan2=1
        setup device --ip 192.168.1.178 --use wan2 --name SmartTV
        setup failover wwan wan1 --proto tcp --dest-port 443 --name Web
    """),
}  # fmt: skip


def interfaces(*, six: bool = False) -> str:
    """The interfaces as ROOter has them: there, probed, and not enabled."""
    names = [*SOURCES, *(("wan6", "wan1_6", "wan2_6", "wwan6") if six else ())]
    return "\n".join(
        section("interface", name, ("enabled", "0"), ("family", "ipv6" if name[-1] == "6" else "ipv4"),
                *(("track_ip", host) for host in HOSTS[6 if name[-1] == "6" else 4]))
        for name in names
    )  # fmt: skip


def begun(bench: Benches, *, six: bool = False) -> Bench:
    """A router on which connbal is at work, with interfaces and nothing else."""
    one = bench(SOURCES)
    one.configure(GLOBALS, interfaces(six=six))
    one.connbal("apply")
    return one


def carry_out(one: Bench, commands: str, *further: str) -> None:
    for line in filter(None, map(str.strip, commands.splitlines())):
        one.connbal(*shlex.split(line), *further)


def file(one: Bench) -> bytes:
    return (one.lab.config_dir / "mwan3").read_bytes()


# --- both ways ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WAYS)
def test_both_ways_come_to_the_same(bench: Benches, name: str) -> None:
    """The same plan; and in the kernel, after the one the other has nothing to change."""
    one, plans = begun(bench), []
    for number, commands in enumerate(WAYS[name]):
        one.configure(GLOBALS, interfaces())
        carry_out(one, commands, *(["--no-apply"] if number else []))
        found = decode(parse(file(one), "mwan3"))
        assert not found.findings
        plans.append(plan(found.config, machine(" ".join(SOURCES)).facts()))
        if number:
            assert one.connbal("plan").stdout == "nothing to change\n"
    assert plans[0] == plans[1]


@pytest.mark.parametrize("way", [0, 1], ids=["by-hand", "setup"])
def test_one_device_on_one_source(bench: Benches, way: int) -> None:
    """The television by the second modem, everything else by the first, from the last command on."""
    one = begun(bench)
    carry_out(one, WAYS["device"][way])
    for source, client in (("wan2", "tv"), ("wan1", "pc")):
        for port in (80, 443):
            only(one.lab.tcp(client, port=port, count=50), source)
        only(one.lab.udp(client, count=50), source)


def test_before_it_is_moved_to_the_top_the_rule_is_not_reached(bench: Benches) -> None:
    """As the document warns, and what ``rule move`` is for; setup needs no such step."""
    one = begun(bench)
    carry_out(one, DEVICE.replace("rule move SmartTV --first", ""))
    only(one.lab.tcp("tv", count=30), "wan1")
    one.connbal("rule", "move", "SmartTV", "--before", "All_Traffic")
    only(one.lab.tcp("tv", count=30), "wan2")


@pytest.mark.parametrize("way", [0, 1], ids=["by-hand", "setup"])
def test_failover_and_back(bench: Benches, way: int) -> None:
    """Hotspot, modem, hotspot: as the user says it, and as the cable does."""
    one = begun(bench)
    carry_out(one, WAYS["failover"][way])
    for state, wanted in (("auto", "wwan"), ("down", "wan1"), ("auto", "wwan")):
        one.connbal("interface", "force", "wwan", state)
        only(one.lab.tcp("pc", count=50), wanted)
        only(one.lab.udp("tv", count=50), wanted)
    for present, wanted in ((False, "wan1"), (True, "wwan")):
        one.lab.carrier("wwan", present)
        one.connbal("apply")
        only(one.lab.tcp("pc", count=50), wanted)


@pytest.mark.parametrize("way", [0, 1], ids=["by-hand", "setup"])
def test_splits(bench: Benches, way: int) -> None:
    """66 % and 33 %; then, of the same sections, 75 % and 25 %."""
    one = begun(bench)
    carry_out(one, WAYS["split"][way])
    pairs = one.lab.pairs("pc", 2000)
    shares(one.lab.tcp("pc", port=80, pairs=pairs), wan1=2 / 3, wan2=1 / 3)
    carry_out(one, ("member set Source2 --weight 3", "setup split wan1=75 wan2=25")[way])
    shares(one.lab.tcp("pc", port=80, pairs=pairs), wan1=3 / 4, wan2=1 / 4)
    one.lab.carrier("wan1", False)
    one.connbal("apply")
    only(one.lab.tcp("pc", count=50), "wan2")


@pytest.mark.parametrize("way", [0, 1], ids=["by-hand", "setup"])
def test_all_three_at_once(bench: Benches, way: int) -> None:
    one = begun(bench)
    carry_out(one, WAYS["all"][way])
    lab, pairs = one.lab, one.lab.pairs("pc", 2000)
    for state, web in (("auto", "wwan"), ("down", "wan1"), ("auto", "wwan")):
        one.connbal("interface", "force", "wwan", state)
        only(lab.tcp("tv", port=443, count=30), "wan2")
        only(lab.tcp("tv", port=80, count=30), "wan2")
        only(lab.tcp("pc", port=443, count=30), web)
    shares(lab.tcp("pc", port=80, pairs=pairs), wan1=2 / 3, wan2=1 / 3)


#: "There is a large section devoted to setting up the ping test": every field of it.
PING = """
    --enabled --initial-state online --family ipv4 --track-ip 203.0.113.1 --track-ip 198.51.100.1 --track-method ping
    --reliability 1 --count 1 --size 56 --max-ttl 60 --timeout 0.2 --interval 0.2 --failure-interval 0.2
    --recovery-interval 0.2 --no-keep-failure-interval --down 3 --up 3 --no-check-quality --failure-latency 1000
    --recovery-latency 500 --failure-loss 40 --recovery-loss 10 --flush-conntrack disconnected
    --flush-conntrack ifdown
"""


@pytest.mark.parametrize("way", [0, 1], ids=["by-hand", "setup"])
def test_failover_by_ping_test(bench: Benches, way: int) -> None:
    """With the daemon, from a file that says nothing: a source that falls silent is left, and used again later."""
    one = bench(SOURCES)
    one.configure(GLOBALS)
    with Service(one.lab) as daemon:
        for name in ("wwan", "wan1"):
            daemon.connbal("interface", "add", name, *PING.split())
        for line in filter(None, map(str.strip, WAYS["failover"][way].splitlines())):
            if "interface enable" not in line:
                daemon.connbal(*line.split())
        daemon.wait_for(("wwan", "wan1"), "online")
        daemon.settled()
        only(one.lab.tcp("pc", count=30), "wwan")
        for fault, state, wanted in ((one.lab.cut, "offline", "wan1"), (one.lab.restore, "online", "wwan")):
            fault("wwan")
            daemon.wait_for("wwan", state)
            daemon.settled()
            only(one.lab.tcp("pc", count=30), wanted)
        assert not decode(parse(file(one), "mwan3")).findings


# --- setup only -----------------------------------------------------------------------------------------------------


def test_setup_takes_ipv6_along(bench: Benches) -> None:
    """Where interfaces have IPv6 halves, one command is for both families."""
    one = begun(bench, six=True)
    one.connbal("setup", "device", "--ip", TV, "--ip", TV6, "--use", "wan2", "--else", "wan1")
    for family in FAMILIES:
        only(one.lab.tcp("tv", count=30, family=family), "wan2")
        only(one.lab.tcp("pc", count=30, family=family), "wan1")
    one.connbal("setup", "failover", "wwan", "wan1")
    for family in FAMILIES:
        only(one.lab.tcp("tv", count=30, family=family), "wan2")
        only(one.lab.tcp("pc", count=30, family=family), "wwan")
    one.connbal("setup", "split", "wan1=3", "wan2=1")
    for family in FAMILIES:
        answers = one.lab.tcp("pc", port=80, pairs=one.lab.pairs("pc", 1500, family))
        shares(answers, tolerance=0.04, wan1=3 / 4, wan2=1 / 4)


def test_setup_knows_a_device_by_its_mac(bench: Benches) -> None:
    """In both families, whatever addresses it takes."""
    one = begun(bench, six=True)
    one.connbal("setup", "split", "wan=1", "wan1=1")
    link = one.lab.node("tv").run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
    one.connbal("setup", "device", "--mac", link, "--use", "wan2", "--use", "wwan")
    for family in FAMILIES:
        only(one.lab.tcp("tv", count=30, family=family), "wan2")
        assert set(one.lab.tcp("pc", pairs=one.lab.pairs("pc", 60, family)).names) == {"wan", "wan1"}
    one.connbal("interface", "force", "wan2", "down")
    only(one.lab.tcp("tv", count=30), "wwan")


def test_setup_for_sites_in_a_set(bench: Benches) -> None:
    """The document's IPset element: what goes to a site by name has a source of its own."""
    one = begun(bench)
    one.connbal("setup", "failover", "wan", "wan1")
    site, other = one.lab.destinations(2)
    one.lab.router.run(["ipset", "create", "youtube", "hash:ip"])
    one.lab.router.run(["ipset", "add", "youtube", site])
    one.connbal("setup", "failover", "wan2", "wwan", "--ipset", "youtube")
    only(one.lab.tcp("pc", site, count=30), "wan2")
    only(one.lab.tcp("pc", other, count=30), "wan")


def test_a_second_time_and_a_rehearsal_change_nothing(bench: Benches) -> None:
    one = begun(bench)
    carry_out(one, WAYS["all"][1], "--dry-run")
    assert b"config rule" not in file(one)
    carry_out(one, WAYS["all"][1])
    before = file(one)
    carry_out(one, WAYS["all"][1])
    assert file(one) == before
    assert one.connbal("plan").stdout == "nothing to change\n"
