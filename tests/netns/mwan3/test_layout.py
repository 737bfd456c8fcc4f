"""What other programs look at: rules, tables, chains and sets lie where mwan3 has them, under the same names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator

import pytest

from tests.netns.mwan3.bench import Bench
from tests.netns.mwan3.vector import NAMES, Vector

pytestmark = pytest.mark.netns

OFFLINE = {"06-last-resort": ("wanb",)}
#: The fifth interface of a mask with room for four, which connbal leaves out (19c): its id, and its name.
FIFTH, W5 = 5, "w5"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@pytest.fixture(scope="module", params=NAMES)
def bench(request: pytest.FixtureRequest, lab_available: None) -> Iterator[Bench]:
    vector = Vector.load(request.param)
    with Bench(vector, "nft") as one:
        one.load_connbal(OFFLINE.get(vector.name, ()))
        yield one


def crowded(bench: Bench) -> bool:
    return bench.vector.name.startswith("19c")


#: For each source and table of rt_table_lookup; mwan3 copies the routes instead.
TO_FURTHER_TABLE = re.compile(r"1000: from all iif wan[12] lookup (220|300) suppress_prefixlength 0")


def rules(lines: Iterable[str]) -> set[str]:
    """Rules without the spelling that differs between versions of ``ip``, and without who made them."""
    return {re.sub(r" proto \S+", "", re.sub(r"\s+", " ", line.strip())) for line in lines if line.strip()}


@pytest.mark.parametrize("version", [4, 6])
def test_rules(bench: Bench, version: int) -> None:
    wanted = rules(bench.vector.rules(version))
    found = rules(bench.router.run(["ip", f"-{version}", "rule"]).stdout.splitlines())
    found = {rule for rule in found if not rule.startswith(("0:", "32766:", "32767:"))}
    if crowded(bench):
        wanted = {rule for rule in wanted if int(rule.split(":")[0]) % 1000 != FIFTH}
        wanted.add("2005: from all fwmark 0x500/0x700 blackhole")
    more = {rule for rule in found - wanted if not TO_FURTHER_TABLE.fullmatch(rule)}
    further = {re.sub(r"0x[0-9a-f]+/0x[0-9a-f]+", "DEFAULT", rule) for rule in more}
    assert further == {
        "999: from all lookup 131000", "1000: from all fwmark DEFAULT lookup main suppress_prefixlength 0"
    }  # fmt: skip
    assert more == found - wanted or bench.vector.name == "20-rt-table"
    assert wanted <= found


def defaults(lines: Iterable[str]) -> set[tuple[str, str]]:
    """Gateway and device of default routes; metrics are whose who made the main table."""
    found = (re.match(r"default via (\S+) dev (\S+)", line) for line in lines)
    return {(match[1], match[2]) for match in found if match}


@pytest.mark.parametrize("version", [4, 6])
def test_tables(bench: Bench, version: int) -> None:
    for table, lines in bench.vector.tables(version).items():
        show = ["ip", f"-{version}", "route", "show", "table", str(table)]
        found = bench.router.run(show, check=False).stdout.splitlines()
        if crowded(bench) and table == FIFTH:
            assert found == []
        else:
            assert defaults(found) == defaults(lines)


def chains(lines: Iterable[str]) -> set[str]:
    return {line[1:].split()[0] for line in lines if line.startswith(":mwan3_")}


@pytest.mark.parametrize("version", [4, 6])
def test_chains(bench: Bench, version: int) -> None:
    tool = "iptables-save" if version == 4 else "ip6tables-save"
    saved = bench.router.run([tool, "-t", "mangle"]).stdout.splitlines()
    captured = bench.vector.mangle(version).splitlines()
    wanted = {chain for chain in chains(captured) if not (crowded(bench) and chain.endswith(W5))}
    assert wanted <= chains(saved)
    # What there is besides are verdicts as chains, which mwan3 writes out in each rule; and for IPv6 the way into the
    # hook from OUTPUT, where the router's own neighbour discovery is told apart. In mwan3's hook everybody's is exempt.
    besides = {chain for chain in chains(saved) - wanted if not chain.startswith("mwan3_verdict_")}
    assert besides <= ({"mwan3_hook_out"} if version == 6 else set())
    for base, chain in (("PREROUTING", "mwan3_hook"), ("OUTPUT", "mwan3_hook_out" if version == 6 else "mwan3_hook")):
        assert f"-A {base} -j {chain}" in saved
    # Neighbour discovery is told apart otherwise.
    found, wanted_lines = ([line for line in hook(text) if "icmp6" not in line] for text in (saved, captured))
    assert found == wanted_lines


def hook(lines: Iterable[str]) -> list[str]:
    """The hook's rules, in order."""
    return [line.strip() for line in lines if line.startswith(("-A mwan3_hook ", "-A mwan3_connected_"))]


def headers(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Type and family of each set."""
    found = (re.match(r"create (\S+) (\S+)(?: family (\S+))?", line) for line in lines)
    return {match[1]: (match[2], match[3] or "") for match in found if match}


def members(lines: Iterable[str], name: str) -> list[Network]:
    """Exactly the addresses a set holds, however they are written."""
    words = (line.split() for line in lines)
    networks = [ipaddress.ip_network(word[2]) for word in words if word[:2] == ["add", name]]
    return list(ipaddress.collapse_addresses(networks))


#: What connbal says of IPv6 as mwan3 does of IPv4 (tests.netns.mwan3.differences): multicast, and the router itself.
MORE = (ipaddress.ip_network("ff00::/8"), ipaddress.ip_network("::1/128"))


def test_sets(bench: Bench) -> None:
    saved = bench.router.run(["ipset", "save"]).stdout.splitlines()
    captured = bench.vector.data["ipset"]
    wanted, found = headers(captured), headers(saved)
    assert wanted.items() <= found.items()
    assert all(name.startswith(("mwan3_addr_", "nosuchset")) for name in found.keys() - wanted.keys())
    for name, (kind, _) in wanted.items():
        if kind == "hash:net":
            right = members(captured, name)
            more = MORE if name == "mwan3_connected_ipv6" else ()
            assert without(members(saved, name), more) == right, name


def without(networks: Collection[Network], more: Collection[Network]) -> list[Network]:
    assert set(more) <= set(networks)
    return [network for network in networks if network not in more]
