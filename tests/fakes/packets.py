"""Packets, rules at random, and whether a rule takes a packet, in the plainest words."""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass

from hypothesis import strategies as st

from connbal.model.config import Rule

TV = "192.168.1.178"

#: Options of a rule's section, without its policy being one that exists.
matches = st.fixed_dictionaries({}, optional={
    "src_ip": st.sampled_from([TV, "192.168.1.0/24", "!192.168.1.178", "fd01::178", "10.0.0.0/8"]),
    "dest_ip": st.sampled_from(["0.0.0.0/0", "203.0.113.0/24", "::/0", "!203.0.113.7"]),
    "proto": st.sampled_from(["all", "tcp", "udp", "icmp"]),
    "family": st.sampled_from(["ipv4", "ipv6", "any"]),
    "enabled": st.sampled_from(["0", "1"]),
    "src_mac": st.just("aa:bb:cc:00:11:22"),
    "use_policy": st.sampled_from(["default", "All_Policy", "SmartTV"]),
})  # fmt: skip


@dataclass(frozen=True)
class Packet:
    src: str
    dest: str
    proto: int
    port: int
    mac: str


address_of = functools.lru_cache(maxsize=256)(ipaddress.ip_address)


def takes(rule: Rule, packet: Packet) -> bool:
    """What the kernel would say, in the plainest words."""
    src, dest = address_of(packet.src), address_of(packet.dest)
    if not rule.enabled or (rule.family and rule.family.version != src.version):
        return False
    for match, address in ((rule.src, src), (rule.dest, dest)):
        if match is None:
            continue
        nets = [net for net in match.networks if net.version == address.version]
        if not nets or any(address in net for net in nets) == match.negated:
            return False
    protocols = {58 if number == 1 and src.version == 6 else number for number in rule.protocols}
    if protocols and packet.proto not in protocols:
        return False
    if rule.dest_ports and not any(each.first <= packet.port <= each.last for each in rule.dest_ports):
        return False
    return not rule.src_mac or packet.mac in rule.src_mac


PACKETS = [
    Packet(src, dest, proto, port, mac)
    for src, dest in [(src, dest) for src in (TV, "192.168.1.7", "10.1.1.1") for dest in ("203.0.113.7", "8.8.8.8")]
    + [(src, "2001:db8::9") for src in ("fd01::178", "fd01::7")]
    for proto, port in ((6, 443), (6, 80), (17, 53), (17, 443), (1 if "." in src else 58, 0))
    for mac in ("aa:bb:cc:00:11:22", "aa:bb:cc:00:11:33")
]
