"""Which packets to send for a configuration: what its rules say and what lies just beside it, and some at random."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator

from tests.netns.mwan3.packets import (
    ICMP,
    ICMPV6,
    LOCAL,
    TCP,
    UDP,
    Probe,
    boundaries,
    random_address,
    unicast_source,
)
from tests.netns.mwan3.vector import Vector

#: Drawn anew for each configuration, and the same each time.
RANDOM = 150
GRE, ESP = 47, 50

_ADDRESS = re.compile(r"(?<![\w.:])(?:\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f:]*:[0-9a-f:]*)(?:/\d+)?(?![\w.:])")
#: A client of each network, which no rule names.
_CLIENTS = {("br-lan", 4): "192.168.1.50", ("br-guest", 4): "192.168.2.50", ("br-lan", 6): "fd01::50"}
_FAR = {4: ("203.0.113.77", "198.51.100.9", "8.8.8.8"), 6: ("2001:db8:ffff::77", "2606:4700::1111")}
#: Where something special happens, or might.
_SPECIAL = {
    4: ("224.0.0.5", "239.255.255.250", "240.0.0.1", "255.255.255.255", "223.255.255.255", "100.64.0.1",
        "169.254.7.7", "127.0.0.9", "192.0.2.1"),
    6: ("ff02::1:3", "ff0e::7", "fe80::77", "fec0::1", "fe80:1::1", "::1", "2001:db8::1", "fd00::1"),
}  # fmt: skip


def probes(vector: Vector) -> list[Probe]:
    """Each once, in an order that is always the same."""
    rng = random.Random(vector.name)
    found = [*_exempt(vector), *_rules(vector), *_odd(), *_inbound(vector), *_local(vector), *_drawn(vector, rng)]
    return list(dict.fromkeys(probe for probe in found if _possible(probe)))


def answers(asked: Iterable[Probe]) -> list[Probe]:
    """The replies to what came in from outside, by whoever it was for."""
    return [
        Probe(_home(probe), probe.dst, probe.src, probe.proto, probe.sport, probe.dport)
        for probe in asked
        if probe.sport and probe.enters.startswith("wan")
    ]


def _home(probe: Probe) -> str:
    if probe.dst.startswith(("192.168.1.1", "10.")) and probe.dst != "192.168.1.50":
        return LOCAL
    return "br-guest" if probe.dst.startswith("192.168.2.") else "br-lan"


def _possible(probe: Probe) -> bool:
    if probe.enters == LOCAL and not probe.bound and probe.dst.startswith("fe80:"):
        return False  # every link has that network: which one the router takes is chance
    return not probe.src or unicast_source(probe.src)


def _addresses(texts: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, dict[str, None]] = {4: {}, 6: {}}
    for network in _ADDRESS.findall("\n".join(texts)):
        for address in boundaries(network):
            found[6 if ":" in network else 4].setdefault(address)
    return {version: list(addresses) for version, addresses in found.items()}


def _clients(version: int) -> list[tuple[str, str]]:
    return [(device, address) for (device, kind), address in _CLIENTS.items() if kind == version]


def _exempt(vector: Vector) -> Iterator[Probe]:
    """What needs no source, and what is next to it; and what is in any other set."""
    networks = (line.split()[2] for line in vector.data["ipset"] if line.startswith("add"))
    for version, found in _addresses(networks).items():
        for dst in (*found, *_SPECIAL[version]):
            for device, src in _clients(version):
                yield Probe(device, src, dst, UDP, 53)
            yield Probe("br-lan", _CLIENTS["br-lan", version], dst, TCP, 443)


def _options(vector: Vector, *names: str) -> list[str]:
    words = "|".join(names)
    return re.findall(rf"(?:option|list) (?:{words}) '([^']*)'", vector.config)


def _rules(vector: Vector) -> Iterator[Probe]:
    """Every address and port that a rule says, and their neighbours, from everywhere."""
    ports = sorted({port for text in _options(vector, "dest_port", "src_port") for number in re.findall(r"\d+", text)
                    for port in (int(number) - 1, int(number), int(number) + 1)})  # fmt: skip
    targets, origins = (_addresses(_options(vector, name)) for name in ("dest_ip", "src_ip"))
    for version in (4, 6):
        far = [*targets[version], *_FAR[version]]
        for device, src in _clients(version):
            for dst, proto in itertools.product(far, (TCP, UDP)):
                yield Probe(device, src, dst, proto, 1000)
            for port, proto in itertools.product(ports, (TCP, UDP)):
                yield Probe(device, src, far[-1], proto, port)
        for src, dst in itertools.product(origins[version], far):
            yield Probe("br-lan", src, dst, TCP, 1000)


def _odd() -> Iterator[Probe]:
    """Protocols without ports, and the ones that must be left alone."""
    for version in (4, 6):
        for device, src in _clients(version):
            for dst in _FAR[version]:
                yield Probe(device, src, dst, ICMP if version == 4 else ICMPV6)
                for proto in (GRE, ESP, 89):
                    yield Probe(device, src, dst, proto)
    for kind in range(132, 139):
        for dst in ("2001:db8:ffff::77", "fd01::1", "fe80::77", "ff02::1"):
            yield Probe("br-lan", "fd01::50", dst, ICMPV6, type=kind)


def _inbound(vector: Vector) -> Iterator[Probe]:
    """From outside: to the LAN, to the router, through it, and from networks that are exempt."""
    for number, device in enumerate(vector.devices[2:], 1):
        for dst in ("192.168.1.50", "192.168.2.50", f"10.{number}.0.2", "192.168.1.1", "8.8.4.4", "172.30.0.7"):
            yield Probe(device, "203.0.113.77", dst, UDP, 40000, 40000 + number)
            yield Probe(device, "203.0.113.77", dst, TCP, 22)
        for src in (f"10.{number}.0.1", "172.31.0.9", "192.168.2.77", "100.64.0.1"):
            yield Probe(device, src, "192.168.1.50", UDP, 40001, 41000 + number)
        yield Probe(device, "203.0.113.77", "10.1.0.77", UDP, 40002)
        for src, dst in (("2001:db8::77", "fd01::50"), ("fd00:1::1", "fd01::50"), ("2001:db8::77", "2600::1")):
            yield Probe(device, src, dst, UDP, 40000, 40000 + number)
            yield Probe(device, src, dst, TCP, 22)


def _local(vector: Vector) -> Iterator[Probe]:
    """What the router itself sends, to everywhere, and by a device that somebody chose."""
    for version, own in ((4, ""), (6, "fd01::1")):
        targets = _addresses(_options(vector, "dest_ip"))[version]
        for dst in (*targets, *_FAR[version], *_SPECIAL[version], "192.168.1.50" if version == 4 else "fd01::50"):
            yield Probe(LOCAL, own, dst, UDP, 53)
            yield Probe(LOCAL, own, dst, TCP, 80)
        for device, dst in itertools.product(vector.devices[2:], (*targets, *_FAR[version])):
            yield Probe(LOCAL, own, dst, UDP, 53, bound=device)


def _drawn(vector: Vector, rng: random.Random) -> Iterator[Probe]:
    devices = [device for device in vector.devices if not device.startswith("br-")]
    for _ in range(RANDOM):
        version = rng.choice((4, 4, 6))
        device, src = rng.choice(_clients(version))
        if rng.random() < 0.2:
            device, src = rng.choice(devices), random_address(rng, version)
        dst = random_address(rng, version)
        yield Probe(device, src, dst, rng.choice((TCP, UDP)), rng.choice((22, 53, 80, 443, rng.randrange(1, 65536))))
