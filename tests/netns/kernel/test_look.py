"""Looks at the rules that start no program, against the real kernel: both builds, both families."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from connbal.kernel import exec as programs
from connbal.kernel.iptables_legacy import LegacyRules
from connbal.kernel.nftables import NftRules
from connbal.kernel.xtables import SystemXtables
from connbal.model.config import Family
from connbal.plan.state import ChainText
from tests.netns.kernel.isolation import isolated, run

pytestmark = pytest.mark.netns

SOME = (
    "-N c1", "-N c2", "-N c3", "-A c1 -p tcp -m multiport --dports 80,443 -m comment --comment one -j c2",
    "-A c1 -m statistic --mode random --probability 0.25 -j MARK --set-xmark 0x100/0x3f00", "-A c1 -i eth0 -g c2",
    "-A c1 -j c2", "-A c2 -p udp -j RETURN", "-A PREROUTING -j c1", "-A PREROUTING -m comment --comment x -j c1",
)  # fmt: skip

#: What others may do to a table, each on top of what was done before.
CHANGES = (
    "-A c1 -p tcp -j RETURN",
    "-I c1 -p tcp -j RETURN",
    "-D c1 1",
    "-D c1 -i eth0 -g c2",
    "-R c1 1 -p tcp -m multiport --dports 80,444 -m comment --comment one -j c2",
    "-R c1 1 -p tcp -m multiport --dports 80,444 -m comment --comment two -j c2",
    "-R c1 2 -m statistic --mode random --probability 0.5 -j MARK --set-xmark 0x100/0x3f00",
    "-R c1 2 -m statistic --mode random --probability 0.5 -j MARK --set-xmark 0x200/0x3f00",
    "-R c1 3 -j c3",
    "-R c1 3 -g c3",
    "-R c2 1 -p udp -j ACCEPT",
    "-R c2 1 -p udp",
    "-R c2 1 -p udp -j c3",
    "-A c2 -p udp",
    "-N c4",
    "-E c4 c5",
    "-X c5",
    "-D PREROUTING -j c1",
    "-F c2",
    "-F",
)


def table(xtables: SystemXtables, family: Family, *lines: str) -> None:
    tool = "iptables" if family is Family.IPV4 else "ip6tables"
    for line in lines:
        run(f"{tool}-{xtables.backend} -t mangle {line}")


def look(xtables: SystemXtables, family: Family) -> Mapping[str, ChainText]:
    """A look, which may start no program."""
    started = programs.executions
    found = xtables.look([family])[family]
    assert programs.executions == started
    return found


def lengths(chains: Mapping[str, ChainText]) -> dict[str, int]:
    """How many rules each chain has. With nft, built-in chains that nobody has used may be there or not."""
    return {name: len(lines) for name, lines in chains.items() if lines or not name.isupper()}


@isolated
def test_every_change_shows_and_nothing_else_does(xtables: SystemXtables, family: Family) -> None:
    table(xtables, family, *SOME)
    seen = [look(xtables, family)]
    for change in CHANGES:
        assert look(xtables, family) is seen[-1]
        table(xtables, family, change)
        found = look(xtables, family)
        assert found != seen[-1], change
        assert look(xtables, family) is found
        seen.append(found)
        # Chains have the rules that the program lists, by number.
        assert lengths(found) == lengths(xtables.save(family))


@isolated
def test_where_a_rule_leads_is_told(xtables: SystemXtables, family: Family) -> None:
    table(xtables, family, *SOME)
    found = look(xtables, family)
    assert found["PREROUTING"][0] == "-j c1"
    assert [line.split()[1:] for line in found["PREROUTING"][1:]] == [["-j", "c1"]]
    assert found["c1"][3] == "-j c2"
    assert [line.split()[1:] for line in found["c1"][:3]] == [["-j", "c2"], [], ["-g", "c2"]]
    assert found["c3"] == ()
    assert found["OUTPUT"] == () if xtables.backend == "legacy" else "OUTPUT" not in found


@isolated
def test_the_same_rules_look_the_same_wherever_they_come_from(xtables: SystemXtables, family: Family) -> None:
    """What a firewall restores, what another process sees, and what stands elsewhere in the table."""
    table(xtables, family, *SOME)
    tool = "iptables" if family is Family.IPV4 else "ip6tables"
    text = run(f"{tool}-{xtables.backend}-save -t mangle")
    run(f"{tool}-{xtables.backend}-restore", stdin=text)
    before = look(xtables, family)
    run(f"{tool}-{xtables.backend}-restore", stdin=text)
    assert look(xtables, family) == before
    assert look(SystemXtables({"CONNBAL_IPTABLES": xtables.backend}), family) == before
    table(xtables, family, "-N aaa", "-A aaa -p udp", "-I PREROUTING -j aaa")
    after = look(xtables, family)
    assert {name: after[name] for name in ("c1", "c2", "c3")} == {name: before[name] for name in ("c1", "c2", "c3")}


@isolated
def test_packets_are_no_change(xtables: SystemXtables) -> None:
    table(xtables, Family.IPV4, *SOME, "-A OUTPUT -m statistic --mode nth --every 3 --packet 0 -j c1")
    before = look(xtables, Family.IPV4)
    run("ping -c 5 -i 0.01 127.0.0.1")
    assert any(counter.packets for chain in xtables.counters(Family.IPV4).values() for counter in chain)
    assert look(xtables, Family.IPV4) == before
    table(xtables, Family.IPV4, "-N other")  # after which all is listed anew
    after = look(xtables, Family.IPV4)
    assert {name: after[name] for name in before} == before
    table(xtables, Family.IPV4, "-Z")
    assert look(xtables, Family.IPV4) == after


@isolated
def test_without_any_rules_there_is_nothing_to_see(xtables: SystemXtables, family: Family) -> None:
    assert all(lines == () for lines in look(xtables, family).values())


@isolated
def test_both_families_by_themselves(xtables: SystemXtables) -> None:
    table(xtables, Family.IPV4, "-N four")
    table(xtables, Family.IPV6, "-N six")
    found = xtables.look(list(Family))
    assert ["four" in chains for chains in found.values()] == [True, False]
    assert ["six" in chains for chains in found.values()] == [False, True]
    assert xtables.look([]) == {}


@isolated
def test_a_kernel_that_cannot_tell_is_looked_at_by_the_program(
    xtables: SystemXtables, family: Family
) -> None:
    table(xtables, family, *SOME)
    for kind in (NftRules, LegacyRules):
        kind.chains = lambda self, family: None  # type: ignore[method-assign]  # in this process, which ends
    started = programs.executions
    assert xtables.look([family]) == {family: xtables.save(family)}
    assert programs.executions == started + 2


@isolated
def test_rules_that_change_while_they_are_listed_are_listed_again() -> None:
    rules = NftRules("mangle")
    run("iptables-nft -t mangle -N c1")
    listed = NftRules._list
    others = iter(range(3))

    def disturbed(self: NftRules, family: Family) -> Mapping[str, ChainText]:
        found = listed(self, family)
        for _ in others:
            run("iptables-nft -t mangle -A c1 -p tcp")
            break
        return found

    NftRules._list = disturbed  # type: ignore[method-assign]  # in this process, which ends
    found = rules.chains(Family.IPV4)
    assert found is not None
    assert len(found["c1"]) == 3
    assert rules.chains(Family.IPV4) is found


@isolated
def test_what_somebody_does_between_two_looks_shows_without_one(xtables: SystemXtables, family: Family) -> None:
    table(xtables, family, *SOME)
    assert not xtables.disturbed()  # nothing was looked at
    look(xtables, family)
    started = programs.executions
    for change in CHANGES:
        assert not xtables.disturbed()
        table(xtables, family, "-Z", "-N others" if change == CHANGES[0] else "-Z others")
        look(xtables, family)
        table(xtables, family, "-Z")
        assert not xtables.disturbed(), "counters are no change"
        table(xtables, family, change)
        assert xtables.disturbed(), change
        look(xtables, family)
    assert not xtables.disturbed()
    assert programs.executions == started
