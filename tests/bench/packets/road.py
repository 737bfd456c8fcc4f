"""A router with rules, and the way through it: from the LAN to a source, and back.

Frames are put in at one end and counted at the other, where the kernel throws them away unread: they are sent on to a
hardware address that nobody has. So what is measured is the router, with the two cables and the bridge.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.bench.packets.frames import Flow, frame
from tests.bench.packets.ring import Ring, image
from tests.bench.packets.text import CLIENT, configuration
from tests.lab import Lab, LabError, Node, openwrt

ROOT = Path(__file__).resolve().parents[3]
#: A locally administered address (IEEE 802) that is nobody's.
NOBODY = "02:00:00:00:00:fe"
SITE = {4: "203.0.113.{}", 6: "2001:db8:ffff::{:x}"}
PORT = 5000
#: Connections that are open at once while their packets are measured.
OPEN = 64
#: Packets of the kernel's own that may be met meanwhile.
_TALK = 16
NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE = 1, 2


@dataclass(frozen=True)
class Shape:
    """``rules`` 0: connbal was never there, and the mangle table neither. Each source is two interfaces."""

    xtables: str  #: nft or legacy
    sources: int
    rules: int
    affinity: str = "connection"

    @property
    def interfaces(self) -> int:
        return 2 * self.sources


class Road:
    """A lab of a shape, with images of frames for it. Use it with ``with``."""

    def __init__(self, shape: Shape, slots: int) -> None:
        self.shape, self._slots = shape, slots
        self.lab = Lab(tuple(f"s{number}" for number in range(1, shape.sources + 1)), xtables=shape.xtables, nat=False)
        self._stack = ExitStack()
        #: by family
        self._new: dict[int, bytes] = {}
        self._sent: dict[int, bytes] = {}
        self._received: dict[int, bytes] = {}

    def __enter__(self) -> Road:
        with ExitStack() as stack:
            stack.enter_context(self.lab)
            self._firewall()
            if self.shape.rules:
                self._apply()
            self._neighbours()
            self._near = stack.enter_context(_ring(self.lab.node("pc"), "eth0", self._slots))
            self._first = next(iter(self.lab.spec.links.values()))
            self._far = stack.enter_context(_ring(self.lab.internet(self._first.name), "router", self._slots))
            self._conntrack = stack.enter_context(_conntrack(self.lab.router))
            for family in (4, 6):
                self._images(family)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    @property
    def answers(self) -> bool:
        """Whether :meth:`received` can be measured: whether the source of a connection can be told beforehand."""
        return self.shape.affinity == "pair" or not self.shape.rules

    # --- what is measured: packets, or connections, a second --------------------------------------------------------

    def new(self, family: int) -> float:
        """First packets of connections."""
        self.forget()
        return self._burst(self._near, self._new[family], self._left)

    def sent(self, family: int) -> float:
        """Packets of open connections, from the LAN to the sources."""
        self.forget()
        self._burst(self._near, self._sent[family], self._left)
        return self._burst(self._near, self._sent[family], self._left)

    def received(self, family: int) -> float:
        """Packets of open connections, from the first source to the LAN. Where there are ``answers``."""
        self.forget()
        self._burst(self._near, self._sent[family], self._left)
        self._burst(self._far, self._received[family], self._arrived)
        return self._burst(self._far, self._received[family], self._arrived)

    def forget(self) -> None:
        """Have the router forget all connections."""
        kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
        self._conntrack.send(struct.pack("=IHHIIBBH", 20, kind, 5, 1, 0, 0, 0, 0))  # NLM_F_REQUEST | NLM_F_ACK
        (code,) = struct.unpack_from("=i", self._conntrack.recv(4096), 16)
        if code:
            raise OSError(-code, "the router's connections cannot be forgotten")

    def _burst(self, ring: Ring, frames: bytes, count: Callable[[], int]) -> float:
        before = count()
        with _undisturbed():
            wall = ring.send(frames)
        passed = count() - before
        if not self._slots <= passed < self._slots + _TALK:
            raise LabError(f"{self.shape}: {self._slots} packets were sent, {passed} came through")
        return self._slots / wall

    def _left(self) -> int:
        return sum(_received(self.lab.internet(name), "router") for name in self.lab.spec.sources)

    def _arrived(self) -> int:
        return _received(self.lab.node("pc"), "eth0")

    # --- building ---------------------------------------------------------------------------------------------------

    def _firewall(self) -> None:
        """What every router has: connections are tracked, and masqueraded."""
        text = "*nat\n-A POSTROUTING -o e-+ -j MASQUERADE\nCOMMIT\n"
        for tool in ("iptables-restore", "ip6tables-restore"):
            self.lab.router.run([openwrt.tool(tool, self.shape.xtables)], input=text)

    def _apply(self) -> None:
        text = configuration(self.lab.spec, self.shape.rules, self.shape.affinity)
        (self.lab.config_dir / "mwan3").write_text(text)
        where = ["--config-dir", str(self.lab.config_dir), "--run-dir", str(self.lab.run_dir)]
        router = self.lab.router
        router.run([sys.executable, "-m", "connbal.cli.main", *where, "apply"], cwd=ROOT, timeout=120)
        for tool in ("iptables-save", "ip6tables-save"):
            saved = router.run([tool, "-t", "mangle"]).stdout
            lines = saved.count("-A mwan3_rules ")
            assert lines == self.shape.rules, f"{tool}: {lines} lines in mwan3_rules for {self.shape}"

    def _neighbours(self) -> None:
        """Whom the router sends to is known and does not change; and nobody is there."""
        lines = []
        for source in self.lab.spec.links.values():
            for gateway in (source.gateway4, source.gateway6):
                lines.append(f"neigh replace {gateway} lladdr {NOBODY} dev {source.device} nud permanent")
        for address in CLIENT.values():
            lines.append(f"neigh replace {address} lladdr {NOBODY} dev br-lan nud permanent")
        self.lab.router.ip(*lines)
        port = self.lab.spec.clients["pc"].port
        self.lab.router.run(["bridge", "fdb", "replace", NOBODY, "dev", port, "master", "static"])

    def _images(self, family: int) -> None:
        lan = _hardware(self.lab.router, "br-lan")
        client, site = CLIENT[family], SITE[family]
        new = [Flow(client, 2048 + number, site.format(1 + number % 200), PORT) for number in range(self._slots)]
        flows = [Flow(client, 1024 + number, site.format(1 + number % 50), PORT) for number in range(OPEN)]
        self._new[family] = image([frame(flow, lan) for flow in new])
        self._sent[family] = self._repeated([frame(flow, lan) for flow in flows])
        if self.answers:
            self._received[family] = self._answers(family, flows, lan)

    def _answers(self, family: int, flows: list[Flow], lan: str) -> bytes:
        """Frames from the first source for the connections that use it."""
        first, found = self._first, []
        address = first.address4 if family == 4 else first.address6
        far = _hardware(self.lab.router, first.device)
        with _packet(self.lab.node("pc"), "eth0") as one:
            for flow in flows:
                before = _received(self.lab.internet(first.name), "router")
                one.send(frame(flow, lan))
                if _received(self.lab.internet(first.name), "router") > before:
                    found.append(frame(Flow(flow.dst, flow.dport, address, flow.sport), far))
        if not found:
            raise LabError(f"{self.shape}: of {len(flows)} connections none uses {first.name}")
        return self._repeated(found)

    def _repeated(self, frames: list[bytes]) -> bytes:
        return image([frames[number % len(frames)] for number in range(self._slots)])


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No other program gets this thread's processor meanwhile, or a busy machine would be measured with the router."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


# --- in namespaces ----------------------------------------------------------------------------------------------------


def _ring(node: Node, device: str, slots: int) -> Ring:
    with node.enter():
        return Ring(device, slots)


def _packet(node: Node, device: str) -> socket.socket:
    with node.enter():
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        one.bind((device, 0))
        return one


def _conntrack(node: Node) -> socket.socket:
    with node.enter():
        one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
        one.bind((0, 0))
        one.settimeout(10)
        return one


def _received(node: Node, device: str) -> int:
    """How many packets a device has received so far."""
    with node.enter():
        text = Path("/proc/thread-self/net/dev").read_text()
    found = re.search(rf"^ *{re.escape(device)}: *\d+ +(\d+)", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1])


def _hardware(node: Node, device: str) -> str:
    found = re.search(r"link/ether (\S+)", node.run(["ip", "link", "show", "dev", device]).stdout)
    assert found is not None, device
    return found[1]
