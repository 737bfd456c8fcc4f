"""The lab itself: builds the namespaces, breaks sources, sends traffic, and takes everything away again."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab import openwrt, topology
from tests.lab.faults import Fault, restore_text
from tests.lab.node import LabError, Node, end_group, ip_batch
from tests.lab.owners import TMP_PREFIX, State, find, remove, start_time, sweep
from tests.lab.results import Answers
from tests.lab.topology import Source, Spec
from tests.lab.traffic import ConstantTraffic, Pair, Stream, client_job, numbered, run_batch, start_agent

_ANY = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}


class Lab:
    """A router, its LAN and its Internet sources.

    Attributes: `prefix` of the namespaces' names; `spec`; `nodes` by name; `router`; `config_dir` with a
    UCI file `network`; `run_dir`, empty; `bin_dir`, first in the PATH of programs run in the router,
    with the lab's choice of `iptables`.
    """

    def __init__(
        self,
        sources: Sequence[str] = topology.DEFAULT_SOURCES,
        *,
        guest: bool = False,
        xtables: str = "nft",
        nat: bool = True,
        lifetime: float = 3600.0,
    ) -> None:
        """Describe a lab; `up` or a `with` block builds it.

        `sources` are UCI interface names, in order of metric. `guest` adds a second LAN with the client
        `visitor`. `xtables` is "nft" or "legacy". `nat` False leaves masquerading out: the Internets then
        see the clients' own addresses. `lifetime` in seconds bounds the servers. Raises ValueError.
        """
        self.spec = Spec(tuple(sources), guest, xtables, nat)
        self.lifetime = lifetime
        self.prefix = f"cb{secrets.token_hex(3)}"
        self.tmp = Path(tempfile.gettempdir()) / f"{TMP_PREFIX}{self.prefix}"
        self._servers: list[subprocess.Popen[bytes]] = []
        self._up: dict[str, bool] = {}
        self._ubus = False
        self._addresses: dict[tuple[str, int], list[str]] = {}
        self._prepare_nodes()

    def _prepare_nodes(self) -> None:
        self.config_dir, self.run_dir, self.bin_dir = (self.tmp / name for name in ("config", "run", "bin"))
        # Each has the lock of iptables-legacy for itself, as it has the tables that this guards.
        self.nodes = {
            name: Node(name, f"{self.prefix}-{name}", {"XTABLES_LOCKFILE": str(self.tmp / f"xtables-{name}.lock")})
            for name in self.spec.nodes
        }
        self.router = self.nodes["router"]
        self.router.env["PATH"] = f"{self.bin_dir}:{os.environ.get('PATH', os.defpath)}"

    # -- life

    def up(self, keep: bool = False) -> Lab:
        """Build it (about 0.1 s for four sources, 0.4 s for sixty) after sweeping away labs whose owner is dead.

        With `keep` it outlives this process: it then belongs to its server, for `lifetime` seconds.
        Raises LabError, leaving nothing behind, when it cannot be built.
        """
        if reason := unavailable():
            raise LabError(reason)
        sweep()
        self._state(os.getpid()).write()
        try:
            self._build(keep)
        except BaseException:
            self.close()
            raise
        return self

    def _state(self, pid: int, kept: bool = False) -> State:
        return State(self.prefix, pid, start_time(pid), str(self.tmp), asdict(self.spec), kept)

    def _build(self, keep: bool) -> None:
        spec = self.spec
        self.tmp.mkdir(mode=0o755)
        for directory in (self.config_dir, self.run_dir, self.bin_dir):
            directory.mkdir()
        (self.config_dir / "network").write_text(openwrt.network_config(spec))
        openwrt.write_xtables(spec.xtables, self.bin_dir)
        lines = topology.creation(spec, self.prefix)
        ip_batch(line for line in lines if line.startswith("netns"))
        internets = [(self.nodes[source.node], source.name) for source in spec.links.values()]
        server = self._start_server(internets, topology.TCP_PORTS, topology.UDP_PORTS, keep)
        for name, node in self.nodes.items():
            node.sysctl(topology.sysctls(name))
        ip_batch(line for line in lines if line.startswith("link"))
        self.router.ip(*topology.router(spec))
        for client in spec.clients.values():
            self.nodes[client.name].ip(*topology.client(spec, client))
        for source in spec.links.values():
            self.nodes[source.node].ip(*topology.internet(source))
        if spec.nat:
            for tool in ("iptables-restore", "ip6tables-restore"):
                self.router.run([openwrt.tool(tool, spec.xtables)], input=topology.nat(spec))
        self._await_ready(server)
        if keep:
            self._state(server.pid, kept=True).write()

    def _start_server(
        self, nodes: Iterable[tuple[Node, str]], tcp: Sequence[int], udp: Sequence[int], keep: bool
    ) -> subprocess.Popen[bytes]:
        job = {
            "nodes": [(node.path, name) for node, name in nodes],
            "tcp": tcp,
            "udp": udp,
            "seconds": self.lifetime,
        }
        server = start_agent("server", job, None, keep)
        if not keep:
            self._servers.append(server)
        return server

    @staticmethod
    def _await_ready(server: subprocess.Popen[bytes]) -> None:
        assert server.stdout is not None
        if server.stdout.readline() != b"ready\n":
            raise LabError("the lab's server did not start; its error is above")

    def close(self) -> None:
        """Take everything away. May be called twice, and on a lab that is half built."""
        for node in self.nodes.values():
            node.end_children()
        for server in self._servers:
            end_group(server)
        self._servers.clear()
        remove(self._state(0))

    def __enter__(self) -> Lab:
        return self.up()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @classmethod
    def attach(cls, prefix: str) -> Lab:
        """A lab that another process built and kept; do not `close` it unless it shall end.

        Raises LabError when there is none.
        """
        state = find(prefix)
        spec: dict[str, Any] = state.spec
        lab = cls(spec["sources"], guest=spec["guest"], xtables=spec["xtables"], nat=spec["nat"])
        lab.prefix, lab.tmp = state.prefix, Path(state.tmp)
        lab._prepare_nodes()
        lab._ubus = (lab.bin_dir / "ubus").exists()
        return lab

    # -- looking things up

    def node(self, name: str) -> Node:
        """The namespace `router`, `tv`, `pc`, `visitor` or `inet-SOURCE`. Raises LabError for others."""
        if name not in self.nodes:
            raise LabError(f"no node {name!r}; there are: {', '.join(self.nodes)}")
        return self.nodes[name]

    def source(self, name: str) -> Source:
        """Addresses, device and metric of a source. Raises LabError for an unknown one."""
        if name not in self.spec.links:
            raise LabError(f"no source {name!r}; there are: {', '.join(self.spec.links)}")
        return self.spec.links[name]

    def internet(self, name: str) -> Node:
        """The namespace behind a source."""
        return self.nodes[self.source(name).node]

    def exec_in(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program in a namespace; `options` as for Node.run."""
        return self.node(node).run(argv, **options)

    def ubus_stub(self) -> Path:
        """Make `ubus call network.interface dump` work in the router; return the directory of `ubus`."""
        self._ubus = True
        self._write_ubus()
        return self.bin_dir

    def _write_ubus(self) -> None:
        if self._ubus:
            openwrt.write_ubus(self.spec, self.tmp / "ubus", self.bin_dir, self._up)

    def netifd_says(self, name: str, up: bool) -> None:
        """Whether the listing that `ubus` gives has a source as up."""
        self._up[name] = up
        self._write_ubus()

    # -- faults

    def fault(self, name: str, fault: Fault) -> None:
        """Make the Internet of a source misbehave; each call replaces what the last one did."""
        source, variant = self.source(name), "legacy" if shutil.which("iptables-legacy-restore") else "nft"
        for family, tool in ((4, "iptables-restore"), (6, "ip6tables-restore")):
            self.internet(name).run([openwrt.tool(tool, variant)], input=restore_text(source, fault, family))

    def cut(self, name: str, *, families: Sequence[int] = (4, 6), gateway_answers: bool = False) -> None:
        """Silent loss: the Internet of a source no longer answers, in neither direction; the link stays up.

        ARP and neighbour discovery go on. With `gateway_answers` the gateway itself still answers.
        """
        self.fault(name, Fault(1.0, tuple(families), gateway_answers))

    def loss(self, name: str, part: float, *, families: Sequence[int] = (4, 6)) -> None:
        """Lose this part (0..1) of the round trips of a source, at random."""
        self.fault(name, Fault(part, tuple(families)))

    def restore(self, name: str) -> None:
        """End a `cut` or a `loss`."""
        self.fault(name, Fault())

    def carrier(self, name: str, present: bool) -> None:
        """Pull the cable of a source, or put it back. The router keeps its addresses and routes.

        The listing that `ubus` gives does not change, see `netifd_says`: netifd, too, is some time behind.
        """
        source = self.source(name)
        self.internet(name).ip(*(topology.internet_link(source) if present else ["link set router down"]))

    def remove_address(self, name: str, family: int) -> None:
        """Take the router's address on a source away (IPv4: the default route with it)."""
        self.router.ip(*topology.addresses(self.source(name), "del", (family,)), force=True)

    def add_address(self, name: str, family: int) -> None:
        """Give the router its address and default route on a source back."""
        source = self.source(name)
        self.router.ip(*topology.addresses(source, "replace", (family,)))
        self.router.ip(*topology.default_routes(source, "replace", (family,)))

    def ifdown(self, name: str) -> None:
        """As netifd takes an interface down: routes and addresses go, the device is set down."""
        source = self.source(name)
        lines = [*topology.default_routes(source, "del"), *topology.addresses(source, "del")]
        self.router.ip(*lines, f"link set {source.device} down", force=True)
        self.netifd_says(name, False)

    def ifup(self, name: str) -> None:
        """As netifd brings it up again."""
        source = self.source(name)
        self.router.ip(f"link set {source.device} up", *topology.addresses(source), *topology.default_routes(source))
        self.netifd_says(name, True)

    # -- traffic

    def add_addresses(self, client: str, count: int, family: int = 4, *, routed: bool | None = None) -> list[str]:
        """`count` further source addresses of a LAN client; they may be asked for again at no cost.

        Up to 50 are addresses of the LAN itself (per client: 192.168.1.x). More, or `routed`, are taken
        from a block that the router then sends to this client (IPv4 /16, IPv6 /64: at most 65,000).
        """
        device = self.spec.clients.get(client)
        if device is None:
            raise LabError(f"no client {client!r}; there are: {', '.join(self.spec.clients)}")
        if not 0 <= count <= 65_000 or (routed is False and count > 50):
            raise LabError(f"0 to 65000 addresses, of them 50 in the LAN, not {count}")
        block = count > 50 if routed is None else routed
        if block:
            return self._routed_addresses(device, count, family)
        first = 25 + 50 * device.index  # tv 75.., pc 125.., both clear of .1, .20 and .178
        net, end = (device.ipv4.rpartition(".")[0] + ".", "/24") if family == 4 else (f"fd01::{device.index}:", "/64")
        if family == 6 and device.lan != "lan":
            net = f"fd02::{device.index}:"
        found = [f"{net}{first + number}" for number in range(count)]
        dad = " nodad" if family == 6 else ""
        self.nodes[client].ip(*(f"addr replace {address}{end} dev eth0{dad}" for address in found))
        return found

    def _routed_addresses(self, device: topology.Client, count: int, family: int) -> list[str]:
        block, via = (device.block4, device.ipv4) if family == 4 else (device.block6, device.ipv6)
        self.nodes[device.name].ip(f"route replace local {block} dev lo")
        self.router.ip(f"route replace {block} via {via} dev {device.bridge} proto static")
        if family == 4:
            net = block.partition(".0.0/")[0]
            return [f"{net}.{number >> 8}.{number & 255}" for number in range(1, count + 1)]
        return [f"{block.partition('/')[0]}{number:x}" for number in range(1, count + 1)]

    @staticmethod
    def destinations(count: int, family: int = 4) -> list[str]:
        """`count` (at most 65,000) different addresses that every Internet answers."""
        return list(numbered(count, family))

    def pairs(self, client: str, count: int, family: int = 4, *, sources: int = 50) -> list[Pair]:
        """`count` different address pairs: `sources` addresses of the client, each with as many destinations."""
        own = self.add_addresses(client, max(1, min(sources, count)), family)
        far = self.destinations(-(-count // len(own)), family)
        return [(src, dst) for dst in far for src in own][:count]

    def tcp(self, client: str, dst: str | None = None, port: int = 443, **options: Any) -> Answers:
        """Open TCP connections from a node and report which source answered each; see `_send`."""
        return self._send("tcp", client, dst, port, **options)

    def udp(self, client: str, dst: str | None = None, port: int = 5000, **options: Any) -> Answers:
        """Send UDP questions from a node, each from a port of its own; see `_send`."""
        return self._send("udp", client, dst, port, **options)

    def _send(
        self,
        proto: str,
        client: str,
        dst: str | None,
        port: int,
        *,
        count: int = 1,
        pairs: Iterable[Pair] | None = None,
        family: int = 4,
        parallel: int = 64,
        timeout: float = 3.0,
        peer: bool = False,
        device: str = "",
        mark: int = 0,
    ) -> Answers:
        """`count` connections to `dst`, or one for each of `pairs` (source or "", destination).

        Without either, to the first test address of `family`. `timeout` in seconds is for each, `parallel`
        are under way at once. `peer` asks for the address the server saw. `device` and `mark` are
        SO_BINDTODEVICE and SO_MARK, for connections from the router itself.
        """
        wanted = self._wanted(dst, pairs, count, family)
        job = client_job(
            proto, port, wanted, parallel=parallel, timeout=timeout, peer=peer, device=device, mark=mark
        )
        return run_batch(self.node(client), job)

    @staticmethod
    def _wanted(dst: str | None, pairs: Iterable[Pair] | None, count: int, family: int) -> list[Pair]:
        return list(pairs) if pairs is not None else [("", dst or _ANY[family])] * count

    def constant(
        self,
        client: str,
        dst: str | None = None,
        port: int = 443,
        *,
        proto: str = "tcp",
        pairs: Iterable[Pair] | None = None,
        family: int = 4,
        rate: float = 100.0,
        count: int = 20_000,
        seconds: float = 120.0,
        timeout: float = 3.0,
        peer: bool = False,
    ) -> ConstantTraffic:
        """New connections all the time in the background: `rate` a second, `pairs` in a circle.

        Ends by itself after `count` connections or `seconds` (at most 600).
        """
        wanted = self._wanted(dst, pairs, 1, family)
        job = client_job(
            proto, port, wanted, parallel=512, timeout=timeout, peer=peer, rate=rate, count=count, seconds=seconds
        )
        return ConstantTraffic(self.node(client), job)

    def stream(
        self, client: str, dst: str = _ANY[4], port: int = 443, *, src: str = "", timeout: float = 3.0
    ) -> Stream:
        """One TCP connection that stays open. Raises OSError when it cannot be made."""
        return Stream(self.node(client), dst, port, src, timeout)

    def serve(self, node: str, tcp: Sequence[int] = (5000,), udp: Sequence[int] = (5000,)) -> None:
        """Let another node answer too, with its own name: the router or a client, for inbound connections."""
        self._await_ready(self._start_server([(self.node(node), node)], tcp, udp, False))


def unavailable() -> str | None:
    """Why no lab can be built here, or None."""
    if os.geteuid() != 0:
        return "the lab needs root"
    for program in ("ip", "iptables", "unshare"):
        if shutil.which(program) is None:
            return f"the lab needs the program {program}"
    # Tried without leaving a name that would be in the way if this process died here.
    argv = ["unshare", "--net", "--mount", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return f"the lab cannot make network namespaces: {done.stderr.strip()}" if done.returncode else None
