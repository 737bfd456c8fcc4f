"""A lab's router in which packets are sent one by one, each after connbal explain has said what will become of it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from connbal.cli.context import Session
from connbal.cli.explain_gather import Kernel, Look, Scene, answer, other_ways, scene
from connbal.cli.explain_question import Asked
from connbal.cli.machine import Machine
from connbal.kernel.conntrack import Connection
from connbal.model.facts import SetFacts
from connbal.plan.explain import Packet
from connbal.plan.explain_route import Way
from connbal.plan.explain_story import Ending
from tests.lab import Lab
from tests.netns.explain.draws import MACS, ROUTED, SETS, SOURCES, TABLE, Shot
from tests.netns.mwan3.packets import LOCAL, TCP, UDP, Log, Probe, Router, packet

#: Seconds within which the kernel has reported a packet that it met at all.
_PATIENCE = 0.5
_SYSCTLS = {"-net/netfilter/nf_conntrack_checksum": "0"}


@dataclass
class Compared:
    """One packet: what was said, and the mark it got (None: no hook met it)."""

    shot: Shot
    look: Look
    mark: int | None
    kept: int | None  #: mark of its connection; None: there is none
    ways: list[tuple[Ending, Way]] = field(default_factory=list)  #: endings whose way the kernel sees otherwise

    def expected(self) -> list[int]:
        return [ending.mark for ending in self.look.story.endings]


class Rig:
    """The router. Everything happens inside its namespace, in this process."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.session = Session(lab.config_dir, lab.run_dir)
        self._closing = contextlib.ExitStack()
        self._number = 0
        self._hooks: tuple[str, ...] = ()

    def __enter__(self) -> Rig:
        self.lab.router.sysctl(_SYSCTLS)
        path = os.environ["PATH"]
        os.environ["PATH"] = self.lab.router.env["PATH"]
        self._closing.callback(os.environ.__setitem__, "PATH", path)
        self._open_wires()
        source = self.lab.source(SOURCES[0])
        ways = zip(ROUTED, (source.gateway4, source.gateway6), strict=True)
        self.lab.router.ip(*(f"route add {network} via {gateway} table {TABLE}" for network, gateway in ways))
        self._closing.enter_context(self.lab.router.enter())
        devices = [self.lab.source(name).device for name in SOURCES]
        self._own = self._closing.enter_context(contextlib.closing(Router(devices)))
        self._log = self._closing.enter_context(contextlib.closing(Log()))
        self._log._socket.settimeout(_PATIENCE)
        self.machine: Machine = self._closing.enter_context(self.session.machine())
        self.kernel: Kernel = self._closing.enter_context(contextlib.closing(Kernel()))
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _open_wires(self) -> None:
        """A socket at the far end of each cable, and the MAC address of the router's end."""
        ends = [("tv", "eth0", "br-lan"), ("visitor", "eth0", "br-guest")]
        ends += [(self.lab.source(name).node, "router", self.lab.source(name).device) for name in SOURCES]
        self._wires = {}
        for node, device, router in ends:
            with self.lab.router.enter():
                mac = _mac_of(router)
            with self.lab.node(node).enter():
                one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                one.bind((device, 0))
            self._wires[router] = one, mac
            self._closing.callback(one.close)

    # --- configure --------------------------------------------------------------------------------------------------

    def make_sets(self) -> None:
        """The sets that rules may name."""
        families = {4: " family inet", 6: " family inet6", 0: ""}
        lines = [f"create {name} {kind}{families[family]}" for name, (kind, family) in SETS.items()]
        self.restore_sets([*lines, "create dynamic_names hash:ip"])

    def restore_sets(self, lines: list[str]) -> None:
        from connbal.kernel import exec as programs

        programs.run(["ipset", "restore", "-exist"], "".join(f"{line}\n" for line in lines), 30)

    def apply(self, text: str, down: list[str]) -> Scene:
        """Apply a configuration; what one look at the machine finds then."""
        (self.lab.config_dir / "mwan3").write_text(text)
        run = self.session.run()
        for name in set(run.forced()) - set(down):
            run.force(name, None)
        for name in down:
            run.force(name, "down")
        decoded = self.session.decoded()
        reconciler = self.machine.reconciler(lambda config, facts: run.health())
        report = reconciler.apply(decoded.config)
        self._watch(tuple(hook.chain for ruleset in report.plan.rulesets.values() for hook in ruleset.hooks))
        # What apply has found was before it made sets.
        sets = {name: SetFacts(name, held.type, held.family) for name, held in self.kernel.sets.headers().items()}
        facts = replace(report.facts, sets=sets)
        return Scene(decoded.config, report.plan, facts, self.kernel, True, 0)

    def look(self) -> Scene:
        """The same as the command looks for itself."""
        with scene(self.session, self.session.decoded().config) as found:
            return replace(found, kernel=self.kernel)

    def _watch(self, hooks: tuple[str, ...]) -> None:
        """Report each packet, with its mark, behind everything that may mark it."""
        if hooks == self._hooks:
            return
        from connbal.kernel import exec as programs

        what = f"-j NFLOG --nflog-group {Log.GROUP} --nflog-size 64 --nflog-threshold 1"
        ends = [f"{base} {what}" for base in ("PREROUTING", "OUTPUT")]
        old = [f"-D {end}" for end in ends] if self._hooks else []
        text = "\n".join(["*mangle", *old, *(f"-A {end}" for end in ends), "COMMIT", ""])
        for tool in ("iptables-restore", "ip6tables-restore"):
            programs.run([tool, "--noflush"], text, 30)
        self._hooks = hooks

    # --- packets ----------------------------------------------------------------------------------------------------

    def compare(self, seen: Scene, shot: Shot) -> Compared:
        """Have it explained, then send it."""
        look = answer(seen, asked(shot))
        mark = self._send(shot)
        packet = look.story.packet
        return Compared(shot, look, mark, self._kept(packet), list(other_ways(self.kernel, look.story)))

    def _send(self, shot: Shot) -> int | None:
        self._number = self._number % 0xFFF0 + 1
        probe = Probe(LOCAL if shot.enters == "local" else shot.enters, shot.src, shot.dst, shot.proto, shot.dport,
                      shot.sport, shot.bound)  # fmt: skip
        data = _made(probe, self._number)
        if probe.enters == LOCAL:
            self._own.send(probe, data)
        else:
            wire, to = self._wires[shot.enters]
            source = bytes.fromhex((shot.mac if shot.enters.startswith("br-") else MACS[0]).replace(":", ""))
            wire.send(to + source + (b"\x86\xdd" if shot.version == 6 else b"\x08\0") + data)
        return self._mark(probe, self._number)

    def _mark(self, probe: Probe, number: int) -> int | None:
        hook = Log.OUTPUT if probe.enters == LOCAL else Log.PREROUTING
        for where, mark, one in self._reports():
            if where == hook and one is not None and one.number == number and one.is_(probe):
                return mark
        return None

    def _reports(self) -> Iterator[tuple[int, int, object]]:
        from tests.netns.mwan3.packets import _report, seen

        while True:
            try:
                where, mark, data = _report(self._log._socket.recv(8192))
            except TimeoutError:
                return
            yield where, mark, seen(data)

    def _kept(self, packet: Packet) -> int | None:
        """The mark of the connection that the packet began, or belongs to."""
        if packet.protocol not in (TCP, UDP):
            return None
        found = self.kernel.conntrack.find(Connection(
            packet.family, packet.protocol, packet.source, packet.destination, packet.source_port or 0,
            packet.destination_port or 0, 0,
        ))  # fmt: skip
        return None if found is None else found.mark


def asked(shot: Shot) -> Asked:
    """The packet as it is asked about on the command line."""
    local = shot.enters == "local"
    return Asked(
        ipaddress.ip_address(shot.dst), ipaddress.ip_address(shot.src) if shot.src else None, shot.proto,
        None if shot.blind else shot.sport or None, shot.dport or None,
        None if local or not shot.told else shot.enters, shot.bound or None,
        None if local or shot.blind else shot.mac if shot.enters.startswith("br-") else MACS[0], local,
    )  # fmt: skip


def _made(probe: Probe, number: int) -> bytes:
    """The packet, from exactly the address it says."""
    data = packet(probe, number)
    if not probe.src:
        return data
    at, size = (8, 16) if probe.version == 6 else (12, 4)
    own = ipaddress.ip_address(probe.src).packed
    data = data[:at] + own + data[at + size :]
    if probe.version == 4:
        head = data[:10] + b"\0\0" + data[12:20]
        data = head[:10] + _checksum(head).to_bytes(2, "big") + data[12:]
    return data


def _checksum(head: bytes) -> int:
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, len(head), 2))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _mac_of(device: str) -> bytes:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as one:
        one.bind((device, 0))
        found: bytes = one.getsockname()[4]
    return found
