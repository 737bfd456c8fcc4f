"""From online to offline and back: what the daemon finds out by real probes, and what follows from it."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from connbal.kernel.conntrack import Connection, SystemConntrack
from connbal.model.config import TrackMethod
from connbal.model.marks import MarkSpace
from tests.lab import Lab
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import PATIENCE, Service, tracked
from tests.netns.main_job.bench import member, only, policy, section

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Labs = Callable[..., Lab]
Option = tuple[str, str]
FAMILIES = (4, 6)
HOSTS = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}
ON_LINK = (TrackMethod.ARPING, TrackMethod.NPING_ARP)
CONTRACT = {"STATUS", "TIME", "ONLINE", "OFFLINE", "SCORE", "LOST", "TURN", "STARTED", "PID"}


# --- what tests of the daemon have in common ----------------------------------------------------------------------


def started(service: MakeService, lab: Lab, text: str) -> Service:
    """The daemon with this configuration, once it has heard of every source that it probes."""
    daemon = service(lab)
    daemon.configure(text)
    daemon.start()

    def heard(status: dict[str, Any]) -> bool:
        return bool(running(status)) and all(one["round"] is not None for one in running(status))

    daemon.wait(heard, "the first rounds")
    return daemon


def running(status: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources that are being probed."""
    return [one for one in status["interfaces"].values() if one["running"]]


def halves(lab: Lab, *names: str) -> list[str]:
    """The interfaces of sources, both families."""
    return [half for name in names for half in (name, lab.source(name).name6)]


def half(lab: Lab, name: str, family: int, *options: Option, hosts: Sequence[str] = ()) -> str:
    """One family of a source as a section. Probes are quick unless ``options`` say something else."""
    quick = {"enabled": "1", "timeout": "0.5", "interval": "0.2", "down": "3", "up": "3"}
    label = name if family == 4 else lab.source(name).name6
    lines = [*(quick | {"family": f"ipv{family}"} | dict(options)).items()]
    text = section("interface", label, *lines)
    return text + "".join(f"\tlist track_ip '{host}'\n" for host in hosts)


def everything_by(*names: str) -> str:
    """One rule: these sources, the first that works."""
    parts = [member(f"{name}_m", name, metric=metric) for metric, name in enumerate(names, 1)]
    return "\n".join(
        [*parts, policy("all", *(f"{name}_m" for name in names)), section("rule", "everything", ("use_policy", "all"))]
    )


def followed(daemon: Service, after: int, *turns: str) -> None:
    """Wait until the kernel is as the daemon found out: ``wan disconnected``, after a record's number."""

    def good(_: object) -> bool:
        done = [one for one in daemon.events(after) if one["kind"] == "reconcile" and not one["error"]]
        return set(turns) <= {cause for one in done for cause in one["causes"]}

    daemon.wait(good, f"the kernel to follow {', '.join(turns)}")


def turned(daemon: Service, names: str | Sequence[str], state: str, after: int) -> None:
    """Wait until interfaces are ``online`` or ``offline``, and the kernel knows."""
    wanted = [names] if isinstance(names, str) else names
    daemon.wait_for(wanted, state)
    followed(daemon, after, *(f"{name} {'connected' if state == 'online' else 'disconnected'}" for name in wanted))


def steps(daemon: Service, name: str, after: int) -> list[tuple[str, str, str]]:
    """The events of an interface: kind, status before and after."""
    found = [one for one in daemon.events(after) if one.get("interface") == name]
    return [(one["kind"], one["old"], one["new"]) for one in found]


def rounds(daemon: Service, names: Iterable[str], count: int) -> dict[str, Any]:
    """Wait for so many further rounds of each interface."""
    first = daemon.status()
    assert first is not None
    wanted = {name: first["interfaces"][name]["turn"] + count for name in names}

    def good(status: dict[str, Any]) -> bool:
        # One that has connected meanwhile counts from the start again.
        return all(status["interfaces"][name]["turn"] >= turn for name, turn in wanted.items())

    return daemon.wait(good, f"{count} rounds")


def new_connections(lab: Lab, source4: str, source6: str | None = None) -> None:
    """New connections of a client take these sources, by IPv4 and by IPv6, and none is lost."""
    for family, name in ((4, source4), (6, source6 or source4)):
        for send in (lab.tcp, lab.udp):
            only(send("pc", count=5, family=family), name)


def until(good: Callable[[], object], what: Callable[[], object]) -> None:
    """Wait until something is so; else say ``what`` is instead."""
    end = time.monotonic() + PATIENCE
    while not good():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


# --- silent loss ----------------------------------------------------------------------------------------------------


def test_a_silent_cut_moves_new_connections_and_they_come_back(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = started(service, one, tracked(one))
    new_connections(one, "wan")
    mark = daemon.last()
    one.cut("wan")
    turned(daemon, halves(one, "wan"), "offline", mark)
    new_connections(one, "wan1")
    status = daemon.wait_for(halves(one, "wan"), "offline")
    for name, host in (("wan", "203.0.113.2"), ("wan6", "2001:db8:ffff::2")):
        assert steps(daemon, name, mark)[-2:] == [
            ("disconnecting", "online", "disconnecting"), ("disconnected", "disconnecting", "offline"),
        ]  # fmt: skip
        reason = status["interfaces"][name]["reason"]
        assert reason.startswith("0 of 3 hosts answered, 1 needed: ")
        assert f"{host} timeout" in reason
    with one.stream("pc") as stream:
        assert stream.ask() == "wan1"
        mark = daemon.last()
        one.restore("wan")
        turned(daemon, halves(one, "wan"), "online", mark)
        new_connections(one, "wan")
        for name in halves(one, "wan"):
            assert steps(daemon, name, mark)[-2:] == [
                ("connecting", "offline", "connecting"), ("connected", "connecting", "online"),
            ]  # fmt: skip
        # Nothing in the configuration throws away what works elsewhere.
        assert stream.ask() == "wan1"
    mark = daemon.last()
    one.cut("wan", families=(4,))
    turned(daemon, "wan", "offline", mark)
    daemon.wait_for(("wan6", "wan1", "wan1_6"), "online")
    new_connections(one, "wan1", "wan")


def test_a_host_that_is_lost_among_others_is_shown_and_changes_nothing(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = started(service, one, tracked(one, interval="0.4"))
    mark = daemon.last()
    lost = "203.0.113.2"
    one.internet("wan").run(["iptables", "-A", "INPUT", "-d", lost, "-j", "DROP"])

    def shown(status: dict[str, Any]) -> bool:
        wan = status["interfaces"]["wan"]
        (host,) = [host for host in wan["hosts"] if host["host"] == lost]
        return bool(
            host["state"] == "down" and host["fault"] == "timeout" and host["loss"] > 0
            and wan["reason"] == f"2 of 3 hosts answered, 1 needed: {lost} timeout"
        )  # fmt: skip

    daemon.wait(shown, "the host's loss")
    rounds(daemon, ["wan"], 5)
    daemon.wait(shown, "the host's loss, still")
    daemon.wait_for("wan", "online")
    assert "disconnected" not in [kind for kind, _, _ in steps(daemon, "wan", mark)]
    new_connections(one, "wan")
    shown_as = [line.split() for line in daemon.connbal("status").stdout.splitlines()]
    (row,) = [row for row in shown_as if row[:2] == ["wan", lost]]
    assert "%" in row


# --- quality --------------------------------------------------------------------------------------------------------


def test_loss_takes_a_source_offline_and_little_loss_does_not_bring_it_back(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    judged = (("check_quality", "1"), ("quality_window", "2"), ("reliability", "3"), ("failure_loss", "40"),
              ("recovery_loss", "10"), ("failure_latency", "60000"), ("recovery_latency", "60000"))  # fmt: skip
    daemon = started(service, one, tracked(one, timeout="0.5", more=judged))
    mark = daemon.last()
    one.loss("wan", 0.7, families=(4,))
    turned(daemon, "wan", "offline", mark)
    daemon.wait(lambda status: "%, limit 40 %" in status["interfaces"]["wan"]["reason"], "the reason in words")
    new_connections(one, "wan1", "wan")

    # Each fourth probe of each host: more than what brings a source back, less than what takes it offline.
    one.restore("wan")
    every_fourth = ("-p", "icmp", "-m", "statistic", "--mode", "nth", "--every", "4", "--packet", "0", "-j", "DROP")
    for host in (HOSTS[4], "203.0.113.2", "198.51.100.1"):
        one.internet("wan").run(["iptables", "-A", "INPUT", "-d", host, *every_fourth])
    daemon.wait(lambda status: "%, back at 10 %" in status["interfaces"]["wan"]["reason"], "less loss")
    mark = daemon.last()
    status = rounds(daemon, ["wan"], 10)
    assert status["interfaces"]["wan"]["status"] == "offline", status
    assert steps(daemon, "wan", mark) == []

    one.internet("wan").run(["iptables", "-F"])
    turned(daemon, "wan", "online", mark)
    new_connections(one, "wan")


class SlowHost:
    """Answers pings to one address in place of the kernel, ``delay`` seconds late."""

    def __init__(self, lab: Lab, name: str, address: str) -> None:
        self.delay = 0.0
        lab.internet(name).sysctl({"net/ipv4/icmp_echo_ignore_all": "1"})
        with lab.internet(name).enter():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.bind((address, 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> SlowHost:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        self._socket.close()

    def _answer(self) -> None:
        waiting: list[tuple[float, bytes, Any]] = []
        while not self._over.is_set():
            if select.select([self._socket], [], [], 0.01)[0]:
                packet, peer = self._socket.recvfrom(2048)
                if packet[20] == 8:
                    waiting.append((time.monotonic() + self.delay, reply(packet[20:]), peer))
            now = time.monotonic()
            for _, answer, peer in [one for one in waiting if one[0] <= now]:
                self._socket.sendto(answer, peer)
            waiting = [one for one in waiting if one[0] > now]


def reply(request: bytes) -> bytes:
    """The answer to an echo request: type 0 for 8, which the checksum makes up for."""
    checksum = int.from_bytes(request[2:4], "big") + 0x800
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    return bytes(2) + checksum.to_bytes(2, "big") + request[4:]


def test_latency_takes_a_source_offline_and_back(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    judged = (("check_quality", "1"), ("quality_window", "1"), ("failure_latency", "700"),
              ("recovery_latency", "400"), ("timeout", "3"), ("failure_loss", "100"))  # fmt: skip
    parts = [half(one, "wan", 4, *judged, hosts=[HOSTS[4]]), half(one, "wan1", 4, hosts=[HOSTS[4]])]
    with SlowHost(one, "wan", HOSTS[4]) as host:
        daemon = started(service, one, "\n".join([*parts, everything_by("wan", "wan1")]))
        mark = daemon.last()
        host.delay = 1.0
        turned(daemon, "wan", "offline", mark)
        status = daemon.wait(lambda status: "limit 700 ms" in status["interfaces"]["wan"]["reason"], "the reason")
        assert status["interfaces"]["wan"]["hosts"][0]["latency"] >= 700
        only(one.tcp("pc", count=5), "wan1")
        host.delay = 0.0
        turned(daemon, "wan", "online", mark)


# --- methods --------------------------------------------------------------------------------------------------------


def by_all_methods(lab: Lab) -> str:
    """A source for each method, named after it, in both families. A rule sends everything by ``wan``, another one."""
    parts = []
    for method in TrackMethod:
        source = lab.source(method.value.replace("-", "_"))
        for family in FAMILIES:
            gateway = source.gateway4 if family == 4 else source.gateway6
            host = gateway if method in ON_LINK else HOSTS[family]
            options = (("track_method", method.value), ("timeout", "3"), ("interval", "0.5"), ("down", "2"),
                       ("quality_window", "0"))  # fmt: skip
            parts.append(half(lab, source.name, family, *options, hosts=[host]))
    untracked = [half(lab, "wan", family) for family in FAMILIES]
    return "\n".join([*parts, *untracked, everything_by("wan")])


def prepare_hosts(lab: Lab, names: Sequence[str]) -> None:
    for name in names:
        # As a host has it: what says "port unreachable" has the address that was asked, and says it every time.
        lab.internet(name).ip(f"addr add {HOSTS[6]}/128 dev lo nodad")
        lab.internet(name).sysctl({"net/ipv4/icmp_ratelimit": "0", "net/ipv6/icmp/ratelimit": "0"})


def neighbour(lab: Lab, name: str, *, answers: bool) -> None:
    """Whether the gateway of a source answers ARP and neighbour solicitations, which a cut does not stop."""
    lab.internet(name).sysctl({"net/ipv4/conf/router/arp_ignore": "0" if answers else "8"})
    lab.internet(name).run(["ip6tables", "-F"] if answers else ["ip6tables", "-A", "INPUT", "-j", "DROP"])


def test_each_method_probes_by_its_own_source_whatever_the_rules_say(lab: Labs, service: MakeService) -> None:
    names = [method.value.replace("-", "_") for method in TrackMethod]
    one = lab(("wan", *names))
    prepare_hosts(one, names)
    daemon = started(service, one, by_all_methods(one))
    daemon.wait_for(halves(one, *names), "online")
    new_connections(one, "wan")
    # Were their probes to leave by the rule, they would be lost here ...
    mark = daemon.last()
    one.cut("wan")
    status = rounds(daemon, halves(one, *names), 4)
    for name in halves(one, *names):
        assert status["interfaces"][name]["online"], status["interfaces"][name]
        assert status["interfaces"][name]["hosts"][0]["latency"] is not None
        assert "disconnected" not in [kind for kind, _, _ in steps(daemon, name, mark)]
    # ... and answered here.
    one.restore("wan")
    on_link = {method.value.replace("-", "_") for method in ON_LINK}
    for name in names:
        neighbour(one, name, answers=False) if name in on_link else one.cut(name)
    daemon.wait_for(halves(one, *names), "offline")
    new_connections(one, "wan")
    for name in names:
        neighbour(one, name, answers=True) if name in on_link else one.restore(name)
    daemon.wait_for(halves(one, *names), "online")
    # What was lost meanwhile is not taken for answered now.

    def prompt(status: dict[str, Any]) -> bool:
        latencies = [one["hosts"][0]["latency"] for one in running(status)]
        return all(latency is not None and latency < 1000 for latency in latencies)

    daemon.wait(prompt, "every method to be answered within a second")


def test_a_gateway_can_be_all_that_is_probed(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    parts = [half(one, name, family, ("track_gateway", "1")) for name in ("wan", "wan1") for family in FAMILIES]
    daemon = started(service, one, "\n".join([*parts, everything_by("wan", "wan1")]))
    source, both = one.source("wan"), halves(one, "wan")
    mark = daemon.last()
    # A modem that is well itself looks well, whatever lies behind it.
    one.cut("wan", gateway_answers=True)
    status = rounds(daemon, both, 6)
    for name, gateway in zip(both, (source.gateway4, source.gateway6), strict=True):
        assert [host["host"] for host in status["interfaces"][name]["hosts"]] == [gateway]
        assert status["interfaces"][name]["online"]
        assert "disconnected" not in [kind for kind, _, _ in steps(daemon, name, mark)]
    one.cut("wan")
    turned(daemon, both, "offline", mark)
    status = daemon.wait_for(both, "offline")
    assert status["interfaces"]["wan6"]["reason"] == f"0 of 1 host answered, 1 needed: {source.gateway6} timeout"
    new_connections(one, "wan1")
    one.restore("wan")
    turned(daemon, both, "online", mark)


# --- connections that are under way ---------------------------------------------------------------------------------


def connections(lab: Lab, name: str) -> set[Connection]:
    """The clients' connections that the router sends by a source, by their marks."""
    space = MarkSpace(0x3F00)
    numbers = {2 * lab.source(name).index - 1, 2 * lab.source(name).index}
    table = SystemConntrack()
    with lab.router.enter(), contextlib.closing(table):
        found = list(table.connections())
    own = {space.mark(number) for number in numbers}
    return {one for one in found if one.mark & 0x3F00 in own and str(one.source).startswith(("192.168.", "fd01:"))}


def test_only_connections_of_the_lost_and_the_displaced_source_are_forgotten(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1", "wan2"))
    rules = "\n".join([
        section("policy", "third", ("use_member", "wan2_m"), ("use_member", "wan2_6_m")),
        section("rule", "tv", ("src_ip", "192.168.1.178"), ("src_ip", "fd01::178"), ("use_policy", "third")),
        section("rule", "everything", ("use_policy", "all")),
    ])  # fmt: skip
    flush = "\tlist flush_conntrack 'disconnected'\n"
    text = tracked(one, rules=rules).replace(flush, f"{flush}\tlist flush_conntrack 'connected'\n")
    daemon = started(service, one, text)
    with contextlib.ExitStack() as stack:
        old, old6, tv, tv6 = (
            stack.enter_context(one.stream(client, HOSTS[family])) for client in ("pc", "tv") for family in FAMILIES
        )
        assert [stream.ask() for stream in (old, old6, tv, tv6)] == ["wan", "wan", "wan2", "wan2"]
        others = connections(one, "wan2")
        assert len(others) == 2
        assert len(connections(one, "wan")) == 2
        mark = daemon.last()
        one.cut("wan")
        assert old.ask(timeout=0.2) is None
        turned(daemon, halves(one, "wan"), "offline", mark)
        new_connections(one, "wan1")
        assert connections(one, "wan") == set()
        assert connections(one, "wan2") >= others
        assert [stream.ask() for stream in (tv, tv6)] == ["wan2", "wan2"]
        # Its client hears that it is over, from the end that it reaches now, and does not wait for minutes.
        until(lambda: old.ask(timeout=1) is None and old.error, lambda: "the old connection was not refused")

        new = stack.enter_context(one.stream("pc"))
        assert new.ask() == "wan1"
        assert connections(one, "wan1")
        mark = daemon.last()
        one.restore("wan")
        turned(daemon, halves(one, "wan"), "online", mark)
        assert connections(one, "wan1") == set()
        new_connections(one, "wan")
        assert connections(one, "wan2") >= others
        assert [stream.ask() for stream in (tv, tv6)] == ["wan2", "wan2"]


# --- what others are told -------------------------------------------------------------------------------------------


def hooks(lab: Lab, daemon: Service, directory: Path) -> None:
    """Both hooks write a line for each event. The user's also writes its environment, and the rules as they are."""
    environment = "tr '\\0' ' ' </proc/$$/environ"
    # A file of another name first: whoever sees it sees all of it.
    rules = f"{lab.bin_dir}/iptables-save -t mangle >{directory}/.new; mv {directory}/.new {directory}/$ACTION.rules"
    daemon.user_script.write_text(
        f"[ $INTERFACE = wan ] && {{ {rules}; }}\n"
        f"echo \"$ACTION $INTERFACE $DEVICE: $({environment})\" >>{directory}/user\n"
    )  # fmt: skip
    daemon.user_script.chmod(0o644)
    daemon.hotplug_call.write_text(f'#!/bin/sh\necho "$ACTION $INTERFACE $DEVICE: $*" >>{directory}/hotplug\n')
    daemon.hotplug_call.chmod(0o755)


def policy_marks(rules: Path) -> list[str]:
    """The marks that the policy set when a hook ran."""
    lines = [line for line in rules.read_text().splitlines() if line.startswith("-A mwan3_policy_all ")]
    return [line.partition("--set-xmark ")[2] for line in lines]


def said(directory: Path, file: str) -> list[str]:
    """What a hook has said of ``wan``: a line for each event."""
    with contextlib.suppress(FileNotFoundError):
        return [line for line in (directory / file).read_text().splitlines() if " wan " in line]
    return []


def says(directory: Path, file: str, expected: Sequence[str]) -> list[str]:
    """Wait until a hook was run for these events of ``wan``, in this order, besides rounds that a busy machine lost."""

    def found() -> list[str]:
        events = [line.partition(":")[0] for line in said(directory, file)]
        return [event for event in events if not event.startswith(("connecting", "disconnecting"))]

    until(lambda: len(found()) >= len(expected), found)
    assert found() == list(expected)
    return said(directory, file)


def test_hooks_are_told_of_each_event_once_the_kernel_is_so(lab: Labs, service: MakeService, tmp_path: Path) -> None:
    one = lab(("wan", "wan1"))
    daemon = service(one)
    daemon.configure(tracked(one))
    hooks(one, daemon, tmp_path)
    daemon.start()
    events = ["connected wan e-wan"]
    says(tmp_path, "user", events)

    mark = daemon.last()
    (tmp_path / "connected.rules").unlink()
    one.cut("wan")
    turned(daemon, halves(one, "wan"), "offline", mark)
    events += ["disconnected wan e-wan"]
    says(tmp_path, "user", events)
    assert policy_marks(tmp_path / "disconnected.rules") == ["0x300/0x3f00"]
    one.restore("wan")
    turned(daemon, halves(one, "wan"), "online", mark)
    events += ["connected wan e-wan"]
    says(tmp_path, "user", events)
    assert policy_marks(tmp_path / "connected.rules") == ["0x100/0x3f00"]
    one.ifdown("wan")
    daemon.wait_for(halves(one, "wan"), "disabled")
    one.ifup("wan")
    daemon.wait_for(halves(one, "wan"), "online")
    events += ["ifdown wan e-wan", "disconnected wan e-wan", "ifup wan e-wan", "connected wan e-wan"]

    for line in says(tmp_path, "user", events):
        event, _, environment = line.partition(": ")
        action, interface, device = event.split()
        assert action not in ("connecting", "disconnecting")
        assert sorted(environment.split()) == [f"ACTION={action}", f"DEVICE={device}", f"INTERFACE={interface}"]
    calls = says(tmp_path, "hotplug", [event for event in events if event.startswith(("connected", "disconnected"))])
    assert {line.split()[0] for line in calls} == {"connected", "disconnected", "connecting", "disconnecting"}
    assert {line.split(" ", 1)[1] for line in calls} == {"wan e-wan: iface"}


def files(daemon: Service, interface: str) -> dict[str, str]:
    """The state files of an interface."""
    with contextlib.suppress(FileNotFoundError):
        # What is being written has a name with a dot.
        paths = [path for path in daemon.mwan3track(interface).iterdir() if path.name[0] != "."]
        return {path.name: path.read_text().strip() for path in paths}
    return {}


Expected = dict[str, str | range]


def told(daemon: Service, interface: str, **expected: str | range) -> dict[str, str]:
    """Wait until state files say so, exactly or (a range) about."""

    def good() -> bool:
        found = files(daemon, interface)
        return all(
            int(found.get(name, "-1")) in value if isinstance(value, range) else found.get(name) == value
            for name, value in expected.items()
        )

    until(good, lambda: (interface, expected, files(daemon, interface)))
    return files(daemon, interface)


def test_state_files_tell_others_of_every_state(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1", "wan2"))
    hosts = ["203.0.113.1", "203.0.113.2"]
    parts = [
        half(one, "wan", 4, hosts=hosts),
        half(one, "wan1", 4, ("down", "1000"), hosts=hosts),
        half(one, "wan2", 4, ("up", "1000"), ("initial_state", "offline"), hosts=hosts),
        half(one, "wan2", 6, ("enabled", "0"), hosts=[HOSTS[6]]),
    ]
    daemon = started(service, one, "\n".join([*parts, everything_by("wan")]))
    recently = range(1, int(time.clock_gettime(time.CLOCK_BOOTTIME)) + 600)
    some = range(1, 100_000)
    always: Expected = {"PID": str(daemon.pid), "TIME": recently}
    of_hosts = {f"{kind}_{host}" for kind in ("TRACK", "LATENCY", "LOSS") for host in hosts}
    up: Expected = {f"TRACK_{hosts[0]}": "up", f"LOSS_{hosts[0]}": range(101), f"LATENCY_{hosts[0]}": range(500)}
    down: Expected = {f"TRACK_{hosts[0]}": "down", f"LOSS_{hosts[0]}": range(1, 101)}
    counts: Expected = {"TURN": some, "STARTED": "1"}

    found = told(daemon, "wan", **always, **counts, **up, STATUS="online", SCORE="6", LOST="0", ONLINE=recently,
                 OFFLINE="0")  # fmt: skip
    assert set(found) <= CONTRACT | of_hosts
    assert set(found) >= CONTRACT
    told(daemon, "wan2", **always, **counts, **up, STATUS="connecting", SCORE=range(1, 1000), LOST="0", ONLINE="0",
         OFFLINE=recently)  # fmt: skip
    found = told(daemon, "wan2_6", PID=str(daemon.pid), STATUS="disabled", SCORE="0", LOST="0", TURN="0", STARTED="0",
                 ONLINE="0", TIME="0")  # fmt: skip
    assert set(found) == CONTRACT

    for name in one.spec.sources:
        one.cut(name)
    found = told(daemon, "wan", **always, **counts, **down, STATUS="offline", SCORE="0", LOST=some, ONLINE="0",
                 OFFLINE=recently)  # fmt: skip
    assert set(found) >= CONTRACT
    told(daemon, "wan1", **always, **counts, **down, STATUS="disconnecting", SCORE=range(4, 1003), LOST=some,
         ONLINE=recently, OFFLINE="0")  # fmt: skip
    told(daemon, "wan2", **down, STATUS="offline", SCORE="0", LOST=some)

    one.ifdown("wan1")
    told(daemon, "wan1", PID=str(daemon.pid), STATUS="disabled", SCORE="0", STARTED="0", ONLINE="0", OFFLINE=recently)
    until(lambda: set(files(daemon, "wan1")) == CONTRACT, lambda: files(daemon, "wan1"))
    daemon.stop()
    assert not daemon.mwan3track("wan").parent.exists()


# --- dampening ------------------------------------------------------------------------------------------------------


def test_a_source_that_flaps_is_held_back_and_let_go(lab: Labs, service: MakeService) -> None:
    one = lab(("wan", "wan1"))
    daemon = started(service, one, tracked(one, more=[("dampening", "3")]))
    for _ in range(12):
        one.carrier("wan", False)
        daemon.wait_for(halves(one, "wan"), "disabled")
        one.carrier("wan", True)
        status = daemon.wait(lambda status: all(status["interfaces"][name]["running"] for name in halves(one, "wan")),
                             "the link")  # fmt: skip
        if all(status["interfaces"][name]["status"] == "connecting" for name in halves(one, "wan")):
            break
    else:
        raise AssertionError(f"it was never held back: {status}")
    mark = daemon.last()
    for name in halves(one, "wan"):
        assert status["interfaces"][name]["reason"].startswith("held back, it went offline too often")
        assert not status["interfaces"][name]["online"]
    new_connections(one, "wan1")
    turned(daemon, halves(one, "wan"), "online", mark)
    new_connections(one, "wan")
    assert ("connected", "connecting", "online") in steps(daemon, "wan", mark)
