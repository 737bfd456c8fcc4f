"""The other packages that are read: networks, dnsmasq's and the firewall's sets. An input is taken for each of them."""

from __future__ import annotations

from collections.abc import Iterator

from connbal.kernel.facts import networks_from_uci
from connbal.model.facts import Facts
from connbal.plan.build import plan
from connbal.uci.declared import declared_sets
from connbal.uci.decode import decode
from connbal.uci.package import Package, Section
from connbal.uci.sites import declared, findings, sites
from tests.fuzz import oracle, structure
from tests.fuzz.targets.netifd import _CONFIG, _STATE

TOKENS = (b"\0@interface ", b"\0@ipset ", b"\0@dnsmasq ", b"name+=", b"domain+=", b"ipset+=/", b"proto=pppoe",
          b"device=",
          b"ifname=@", b"device=@", b"gateway=", b"ip6gw=", b"metric=", b"dns+=", b"type=bridge", b"disabled=1",
          b"connbal_family=any", b"connbal_timeout=", b"family=ipv6", b"match=dest_net", b"storage=hash", b"wan",
          b"wan6",
          b"192.0.2.1", b"fe80::1%eth0", b"2001:db8::1", b"table_family=6", b"enabled=0", b"99999999999")  # fmt: skip

mutate = structure.of_parts


def seeds() -> Iterator[bytes]:
    yield _joined("@interface wan", "proto=static", "device=eth1", "gateway=192.0.2.1", "metric=10", "dns+=192.0.2.53",
                  "@interface wan6", "device=@wan", "ip6gw=fe80::1", "@interface wan1", "proto=pppoe", "ifname=ppp0",
                  "@interface lan", "type=bridge")  # fmt: skip
    yield _joined("@ipset yt", "name+=yt", "name+=yt6", "domain+=youtube.com", "connbal_family=any",
                  "connbal_timeout=1d", "@ipset ", "name+=a4", "domain+=example.com", "@dnsmasq ",
                  "ipset+=/example.org/set4,set6")  # fmt: skip
    yield _joined("@ipset fw", "name=fw", "match=dest_net", "family=ipv6", "timeout=60", "storage=hash", "@ipset off",
                  "name=off", "enabled=0")  # fmt: skip


def _joined(*parts: str) -> bytes:
    return "\0".join(parts).encode()


def check(data: bytes) -> None:
    package = oracle.sections(data, "dhcp")
    firewall = Package("firewall", package.sections)
    for site in sites(package):
        _is_one_line(site.conf_line())
    for finding in findings(package):
        oracle.is_message(str(finding))
    told = declared(package, firewall)
    declared_sets([package, firewall])
    networks = networks_from_uci(
        {one.name: one.options for one in package.sections if one.type == "interface"}, _STATE
    )
    for network in networks.values():
        oracle.is_message(network.reason)
        for route in network.defaults:
            assert 0 <= route.metric < 1 << 32, route
            assert "%" not in str(route.gateway), route
    facts = Facts(networks=networks, links=_STATE.links, declared=told)
    oracle.nothing_strange_is_written(plan(_CONFIG, facts))
    named = [Section(f"r{at}", "rule", False, {"ipset": name, "use_policy": "default"}) for at, name in enumerate(told)]
    oracle.nothing_strange_is_written(plan(decode(Package("mwan3", tuple(named))).config, facts))


def _is_one_line(line: str) -> None:
    assert line.isascii()
    assert line.isprintable()
    assert " " not in line
