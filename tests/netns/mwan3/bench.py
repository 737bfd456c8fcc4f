"""A router in a namespace and, in another, the far ends of all its cables. Nothing at the far ends ever answers."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.lab import openwrt
from tests.lab.node import Node, ip_batch
from tests.lab.owners import TMP_PREFIX, State, remove, start_time, sweep
from tests.netns.mwan3.packets import LOCAL, MAX_NUMBER, UDP, Log, Probe, Router, Wire, packet
from tests.netns.mwan3.vector import Vector
from tests.netns.rivals import zygote

#: What happened to one packet: its mark, and the device it left by (empty: it did not).
Outcome = tuple[int, str]
#: Packets sent before the sockets are emptied: fewer than their buffers hold.
_BATCH = 2000

_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
    # The packets' checksums are left out.
    "-net/netfilter/nf_conntrack_checksum": "0",
}


class Bench:
    """One router, with nothing of mwan3 or connbal in it yet."""

    def __init__(self, vector: Vector, xtables: str) -> None:
        self.vector, self.xtables = vector, xtables
        self.prefix = f"cb{secrets.token_hex(3)}"
        self.tmp = Path(tempfile.gettempdir()) / f"{TMP_PREFIX}{self.prefix}"
        self.router, self.far = (Node(name, f"{self.prefix}-{name}") for name in ("router", "far"))
        self.config_dir, self.run_dir, self.bin_dir = (self.tmp / name for name in ("config", "run", "bin"))
        self.router.env["PATH"] = f"{self.bin_dir}:{os.environ.get('PATH', os.defpath)}"
        self._closing = contextlib.ExitStack()
        self._count = itertools.count()

    # --- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Bench:
        sweep()
        spec = {"sources": list(self.vector.devices), "guest": True, "xtables": self.xtables, "nat": False}
        state = State(self.prefix, os.getpid(), start_time(os.getpid()), str(self.tmp), spec)
        state.write()
        self._closing.callback(remove, state)
        try:
            self._build()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _build(self) -> None:
        for directory in (self.tmp, self.config_dir, self.run_dir, self.bin_dir):
            directory.mkdir()
        openwrt.write_xtables(self.xtables, self.bin_dir)
        devices = self.vector.devices
        macs = {device: f"02:00:00:00:01:{number:02x}" for number, device in enumerate(devices)}
        ip_batch([f"netns add {node.netns}" for node in (self.router, self.far)])
        self.router.sysctl(_SYSCTLS)
        self.far.sysctl({"net/ipv6/conf/all/disable_ipv6": "1", "net/ipv6/conf/default/disable_ipv6": "1"})
        ip_batch(
            f"link add {device} address {macs[device]} netns {self.router.netns} "
            f"type veth peer name {device} netns {self.far.netns}"
            for device in devices
        )
        self.far.ip(*(f"link set {device} up" for device in devices))
        # Without ARP every neighbour is known, so a packet that has a route leaves at once.
        self.router.ip("link set lo up", *(f"link set {device} arp off up" for device in devices))
        for version in (4, 6):
            self._ip(version, self.vector.environment(version))
        if sets := self.vector.foreign_sets():
            self.router.run(["ipset", "restore"], input=sets)
        self._open(macs)

    def _ip(self, version: int, lines: Iterable[str]) -> None:
        self.router.run(["ip", f"-{version}", "-batch", "-"], input="".join(f"{line}\n" for line in lines))

    def _open(self, macs: dict[str, str]) -> None:
        closing = self._closing
        with self.far.enter():
            wires = {name: contextlib.closing(Wire(name, mac)) for name, mac in macs.items()}
            self._wires = {name: closing.enter_context(wire) for name, wire in wires.items()}
        with self.router.enter():
            self._own = closing.enter_context(contextlib.closing(Router(self.vector.devices)))
            self._log = closing.enter_context(contextlib.closing(Log()))

    # --- who decides ----------------------------------------------------------------------------------------------

    def load_mwan3(self) -> None:
        """Put mwan3's captured state into the kernel as it is."""
        self.router.run(["ipset", "restore"], input=self.vector.own_sets())
        for tool, version in (("iptables-restore", 4), ("ip6tables-restore", 6)):
            self.router.run([tool], input=self.vector.mangle(version))
        for version in (4, 6):
            self._ip(version, self.vector.policy_routing(version))
        self._watch()

    def load_connbal(self, down: Iterable[str] = ()) -> None:
        """Let connbal apply the same configuration. ``down``: interfaces that were offline."""
        (self.config_dir / "mwan3").write_text(self.vector.config)
        dump = self.tmp / "dump.json"
        dump.write_text(json.dumps(self.vector.data["netifd"]))
        ubus = self.bin_dir / "ubus"
        ubus.write_text(f"#!/bin/sh\nexec cat '{dump}'\n")
        ubus.chmod(0o755)
        for name in down:
            self.connbal("interface", "force", name, "down", "--no-apply")
        self.connbal("apply")
        self._watch()

    def connbal(self, *arguments: str) -> str:
        """Run connbal in the router, and return what it prints."""
        where = ["--config-dir", str(self.config_dir), "--run-dir", str(self.run_dir)]
        done = zygote.run(self.router.path, [*where, *arguments], self.router.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _watch(self) -> None:
        """Report each packet, with its mark, behind everything that may mark it."""
        what = f"-j NFLOG --nflog-group {Log.GROUP} --nflog-size 64 --nflog-threshold 1"
        text = f"*mangle\n-A PREROUTING {what}\n-A OUTPUT {what}\nCOMMIT\n"
        for tool in ("iptables-restore", "ip6tables-restore"):
            self.router.run([tool, "--noflush"], input=text)

    # --- packets --------------------------------------------------------------------------------------------------

    def ask(self, probes: Sequence[Probe], copies: int) -> list[Counter[Outcome]]:
        """Send ``copies`` of each probe, and say what became of them. Those that no hook saw are not counted."""
        found: list[Counter[Outcome]] = [Counter() for _ in probes]
        jobs = [position for position in range(len(probes)) for _ in range(copies)]
        with _one_cpu():
            for at in range(0, len(jobs), _BATCH):
                self._batch(probes, jobs[at : at + _BATCH], found)
        return found

    def _batch(self, probes: Sequence[Probe], jobs: Sequence[int], found: list[Counter[Outcome]]) -> None:
        # Numbers are not used again in a bench's life as long as there are enough: each is a connection of its own.
        numbers = {}
        for position in jobs:
            number = self._number()
            numbers[number] = position
            self._send(probes[position], packet(probes[position], number))
        marks, devices = self._collect(probes, numbers)
        for number, mark in marks.items():
            found[numbers[number]][mark & self.vector.mask, devices.get(number, "")] += 1

    def _number(self) -> int:
        return next(self._count) % (MAX_NUMBER - 1) + 1

    def _send(self, probe: Probe, data: bytes) -> None:
        if probe.enters == LOCAL:
            self._own.send(probe, data)
        else:
            self._wires[probe.enters].send(data)

    def _collect(self, probes: Sequence[Probe], numbers: dict[int, int]) -> tuple[dict[int, int], dict[int, str]]:
        last = Probe("br-lan", "192.168.1.250", "192.168.1.1", UDP, 9, 9)
        self._wires["br-lan"].send(packet(last, MAX_NUMBER))
        marks: dict[int, int] = {}
        for hook, mark, one in self._log.until(MAX_NUMBER):
            if one.number in numbers:
                probe = probes[numbers[one.number]]
                if one.is_(probe) and hook == (Log.OUTPUT if probe.enters == LOCAL else Log.PREROUTING):
                    marks[one.number] = mark
        stamp = secrets.token_bytes(8)
        self._own.sentinels(stamp)
        left: dict[int, list[str]] = defaultdict(list)
        for name, wire in self._wires.items():
            for one in wire.until_sentinel(stamp):
                if one.number in numbers and one.is_(probes[numbers[one.number]]):
                    left[one.number].append(name)
        return marks, {number: "+".join(names) for number, names in left.items()}


@contextlib.contextmanager
def _one_cpu() -> Iterator[None]:
    """Keep this thread on one processor: what it sends is then worked through in order, and the last is the last."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
