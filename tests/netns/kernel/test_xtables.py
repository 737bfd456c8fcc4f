"""SystemXtables against the real kernel: both builds, both families."""

from __future__ import annotations

import pytest

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel.xtables import SystemXtables
from connbal.model.config import Family
from tests.netns.kernel.isolation import isolated, run

pytestmark = pytest.mark.netns


def mangle(*lines: str) -> str:
    return "\n".join(["*mangle", *lines, "COMMIT", ""])


@isolated
def test_a_fresh_namespace_has_no_rules(xtables: SystemXtables, family: Family) -> None:
    assert all(rules == () for rules in xtables.save(family).values())


@isolated
def test_what_is_restored_is_what_is_saved(xtables: SystemXtables, family: Family) -> None:
    xtables.restore(
        family,
        mangle(
            ":mwan3_hook - [0:0]",
            "-A mwan3_hook -m mark ! --mark 0x0/0x3f00 -j RETURN",
            '-A mwan3_hook -m comment --comment "two words" -j MARK --set-xmark 0x100/0x3f00',
            "-A PREROUTING -j mwan3_hook",
        ),
    )
    saved = xtables.save(family)
    assert saved["mwan3_hook"] == (
        "-m mark ! --mark 0x0/0x3f00 -j RETURN",
        '-m comment --comment "two words" -j MARK --set-xmark 0x100/0x3f00',
    )
    assert saved["PREROUTING"] == ("-j mwan3_hook",)
    assert saved["OUTPUT"] == ()


@isolated
def test_chains_that_are_not_mentioned_keep_rules_and_counters(xtables: SystemXtables) -> None:
    family = Family.IPV4
    xtables.restore(
        family, mangle(":kept - [0:0]", ":other - [0:0]", "[3:400] -A kept -j RETURN", "-A other -j RETURN")
    )
    xtables.restore(family, mangle(":other - [0:0]", "-A other -p tcp"))
    counters = xtables.counters(family)
    assert [(counter.packets, counter.bytes, counter.rule) for counter in counters["kept"]] == [(0, 0, "-j RETURN")]
    assert [counter.rule for counter in counters["other"]] == ["-p tcp"]


@isolated
def test_all_or_nothing(xtables: SystemXtables, family: Family) -> None:
    before = xtables.save(family)
    with pytest.raises(KernelError):
        xtables.restore(family, mangle(":good - [0:0]", "-A good -j RETURN", "-A good --nonsense"))
    assert [chain for chain in xtables.save(family) if chain not in before and chain == "good"] == []


#: With a condition: legacy does not look at what follows an unconditional RETURN.
GOOD = "-A c1 -p tcp -j RETURN"


@pytest.mark.parametrize(
    ("bad", "lineno"),
    [
        (["-A c1 --nonsense -j RETURN"], 4),
        (["-A c1 -m nomatch -j RETURN"], 4),
        (["-A c1 -j NOTARGET"], 4),
        (["-A c1 -j nochain"], 4),
        (["-A c1 -g nochain", "-A c1 -j MARK --set-xmark 0x1/0x1"], 4),
        (["-A c1 -m set --match-set nosuch dst -j RETURN"], 4),
        (["-A c1 -m set --match-set a123456789012345678901234567890123456 dst"], 4),
        (["-A c1 -p tcp -m multiport --dports 99999"], 4),
        (["-A c1 -i a234567890123456 -j RETURN"], 4),
        (["-A c1 -s no.such.host.invalid -j RETURN"], 4),
        ([":c1234567890123456789012345678901 - [0:0]"], 4),
        (["-A nochain -j RETURN"], 4),
        (["-D c1 -p udp -j RETURN"], 4),
        (["rubbish"], None),
    ],
)
@isolated
def test_the_line_at_fault_is_named(xtables: SystemXtables, family: Family, bad: list[str], lineno: int | None) -> None:
    text = mangle(":c1 - [0:0]", GOOD, *bad, GOOD)
    with pytest.raises(KernelError) as caught:
        xtables.restore(family, text)
    assert caught.value.lineno == lineno, caught.value.output
    assert caught.value.line == (None if lineno is None else bad[0])
    assert caught.value.output
    assert caught.value.command.endswith("-restore")


@isolated
def test_no_innocent_is_blamed_where_the_kernel_refuses_a_whole_chain(xtables: SystemXtables, family: Family) -> None:
    """A MAC match is allowed until something leads to it from OUTPUT: nft then names the jump, legacy COMMIT."""
    mac = "-A c1 -m mac --mac-source 00:11:22:33:44:55 -j RETURN"
    with pytest.raises(KernelError) as caught:
        xtables.restore(family, mangle(":c1 - [0:0]", mac, GOOD, "-A OUTPUT -j c1"))
    assert caught.value.lineno is None


@isolated
def test_a_mac_match_in_a_chain_that_output_reaches_already(xtables: SystemXtables, family: Family) -> None:
    xtables.restore(family, mangle(":c1 - [0:0]", "-A OUTPUT -j c1"))
    mac = "-A c1 -m mac --mac-source 00:11:22:33:44:55 -j RETURN"
    with pytest.raises(KernelError) as caught:
        xtables.restore(family, mangle(":c1 - [0:0]", GOOD, mac, GOOD))
    assert caught.value.lineno == (4 if xtables.backend == "nft" else None)


@isolated
def test_a_loop_and_a_chain_in_use_blame_nobody(xtables: SystemXtables, family: Family) -> None:
    loop = mangle(":c1 - [0:0]", ":c2 - [0:0]", "-A c1 -j c2", "-A c2 -j c1", "-A OUTPUT -j c1")
    with pytest.raises(KernelError) as caught:
        xtables.restore(family, loop)
    assert caught.value.lineno is None
    xtables.restore(family, mangle(":c1 - [0:0]", ":c2 - [0:0]", "-A c1 -j c2"))
    with pytest.raises(KernelError) as caught:
        xtables.restore(family, mangle(":c2 - [0:0]", "-X c2"))
    assert caught.value.lineno in (None, 3)


@isolated
def test_a_comment_with_a_line_feed_hides_no_chain(xtables: SystemXtables) -> None:
    family = Family.IPV4
    tool = f"iptables-{xtables.backend} -t mangle"
    run(
        f"{tool} -N c1",
        f"{tool} -A c1 -m comment --comment 'a\n-A OUTPUT -j ACCEPT\n' -j RETURN",
        f"{tool} -A c1 -m comment --comment '\\\\' -p tcp",
    )
    saved = xtables.save(family)
    assert saved["OUTPUT"] == ()
    assert len(saved["c1"]) == 2
    assert saved["c1"][1].startswith("-p tcp")


@isolated
def test_available_and_known_matches(xtables: SystemXtables, family: Family) -> None:
    assert xtables.available(family)
    before = xtables.save(family)
    started = programs.executions
    assert xtables.knows_match("mark")
    assert not xtables.knows_match("nonsense")
    assert xtables.available(family)
    assert programs.executions == started
    after = xtables.save(family)
    assert {name: after[name] for name in after if name not in before and not name.isupper()} == {}


def test_the_plain_programs_are_those_of_the_system() -> None:
    started = programs.executions
    assert SystemXtables({}).backend in ("nft", "legacy")
    assert programs.executions == started
    with pytest.raises(KernelError, match="must be one of"):
        SystemXtables({"CONNBAL_IPTABLES": "other"})
