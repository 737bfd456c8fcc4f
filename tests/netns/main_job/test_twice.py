"""What is as it should be is left alone: a second apply does nothing, and a change touches only what it is about."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing

import pytest

from tests.demo.config import examples
from tests.lab import Lab, snapshot
from tests.lab.openwrt import tool
from tests.netns.main_job.bench import Bench, member, policy, section
from tests.netns.main_job.listen import Listener

pytestmark = pytest.mark.netns

Benches = Callable[..., Bench]
SOURCES = ("wan", "wan1", "wan2", "wwan")


def log_programs(lab: Lab) -> None:
    """Put scripts in front of every program that can change the kernel; they write down that they were called."""
    names = [f"{name}{verb}" for name in ("iptables", "ip6tables") for verb in ("", "-restore", "-save")]
    real = {name: tool(name, lab.spec.xtables) for name in names}
    real |= {name: path for name in ("ipset", "conntrack", "nft") if (path := shutil.which(name))}
    for name, path in real.items():
        script = lab.bin_dir / name
        script.unlink(missing_ok=True)
        script.write_text(f'#!/bin/sh\necho "{name} $*" >>{lab.tmp}/programs\nexec {path} "$@"\n')
        script.chmod(0o755)


def programs(lab: Lab) -> list[str]:
    """What was called since the last time this was asked."""
    file = lab.tmp / "programs"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def test_a_second_apply_does_nothing(bench: Benches) -> None:
    """`apply` twice: the second starts nothing but programs that list, and no table, rule or route changes."""
    one = bench(SOURCES)
    log_programs(one.lab)
    one.configure(examples(one.lab))
    with closing(Listener(one.lab.router)) as listener:
        first = one.cli("apply")
        assert "changes" in first.stdout
        assert {"new route", "new rule"} <= set(listener.heard())
        assert any("-restore" in line for line in programs(one.lab))
        before = snapshot(one.lab.router)
        programs(one.lab)
        second = one.cli("apply")
        assert second.stdout == "nothing to change\n"
        called = programs(one.lab)
        assert called
        # Behind a script, the build of iptables can only be found out by asking for the version.
        assert all("-save -t mangle" in line or line.endswith("-restore --version") for line in called), called
        assert listener.heard() == []
        assert snapshot(one.lab.router) == before


@pytest.mark.traffic
def test_a_second_apply_forgets_no_connection(bench: Benches) -> None:
    """Open connections and their marks stay, even with every event in `flush_conntrack`."""
    one = bench(SOURCES)
    events = "\n".join(f"\tlist flush_conntrack '{event}'" for event in ("ifup", "ifdown", "connected"))
    assert one.apply(examples(one.lab).replace("\tlist flush_conntrack 'disconnected'", events)).writes
    with one.lab.stream("tv") as stream:
        marked = one.lab.router.run(["conntrack", "-L", "-o", "id"]).stdout
        for _ in range(3):
            done = one.apply()
            assert (done.stdout, done.writes, done.flushes) == ("nothing to change\n", (), ())
        assert stream.ask() == "wan2"
        ids = {line.rpartition("id=")[2] for line in marked.splitlines() if "dport=443" in line}
        after = one.lab.router.run(["conntrack", "-L", "-o", "id"]).stdout
        assert ids
        assert ids <= {line.rpartition("id=")[2] for line in after.splitlines()}
    one.lab.carrier("wan2", False)
    assert one.apply().flushes, "where there is something to forget that is seen"


def test_lost_memory_costs_one_rewrite(bench: Benches) -> None:
    """Without its run directory connbal writes every chain anew, ends at the same, and then is quiet again."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    before = snapshot(one.lab.router)
    (one.lab.run_dir / "connbal" / "ledger.json").unlink()
    one.apply()
    assert snapshot(one.lab.router) == before
    assert one.apply().stdout == "nothing to change\n"


def seen(one: Bench) -> Mapping[str, list[tuple[str, int]]]:
    """Counters of connbal's chains, IPv4."""
    return {name: rules for name, rules in one.counters().items() if name.startswith("mwan3_")}


def send(one: Bench) -> None:
    """Something for every rule to count."""
    assert not one.lab.tcp("tv", port=80, count=20).failures
    assert not one.lab.tcp("pc", port=443, count=20).failures
    assert not one.lab.tcp("pc", port=80, count=20).failures


def goes_on(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> bool:
    """The same rules, and no counter began anew. Late packets of connections that end may still be counted."""
    return [rule for rule, _ in before] == [rule for rule, _ in after] and all(
        old <= new for (_, old), (_, new) in zip(before, after, strict=True)
    )


@pytest.mark.traffic
def test_counters_survive_changes_elsewhere(bench: Benches) -> None:
    """When a policy changes, the counters of rules, hook and other policies go on; when a rule does, policies' do."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    send(one)
    before = seen(one)
    assert [count for rule, count in before["mwan3_rules"] if "SmartTV" in rule] == [20]
    one.apply(examples(one.lab, weights=(1, 5)))
    after = seen(one)
    assert after.pop("mwan3_policy_Split_Policy") != before["mwan3_policy_Split_Policy"]
    assert set(after) == set(before) - {"mwan3_policy_Split_Policy"}
    assert all(goes_on(before[name], rules) for name, rules in after.items())
    ping = section("rule", "Ping", ("proto", "icmp"), ("use_policy", "TV_Policy"))
    one.apply(ping, examples(one.lab, weights=(1, 5)))
    last = seen(one)
    assert len(last["mwan3_rules"]) == len(before["mwan3_rules"]) + 1
    assert all(goes_on(after[name], rules) for name, rules in last.items() if name in after and name != "mwan3_rules")


@pytest.mark.traffic
def test_counters_survive_a_source_that_leaves(bench: Benches) -> None:
    """A source that goes away changes the chains of policies it was part of, not those of others, nor the rules."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    send(one)
    before = seen(one)
    one.lab.carrier("wwan", False)
    one.apply()
    after = seen(one)
    for name in ("mwan3_rules", "mwan3_hook", "mwan3_policy_TV_Policy", "mwan3_policy_Split_Policy"):
        assert goes_on(before[name], after[name]), name


def test_an_unused_section_changes_nothing(bench: Benches) -> None:
    """A member nobody uses is no reason to touch the kernel; a policy nobody uses is one chain and no more."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    with closing(Listener(one.lab.router)) as listener:
        one.apply(examples(one.lab), member("Spare", "wan"))
        assert listener.heard() == []
        done = one.connbal("plan")
        assert done.stdout == "nothing to change\n"
        one.configure(examples(one.lab), member("Spare", "wan"), policy("Spare_Policy", "Spare"))
        assert {line.split(":")[0] for line in one.connbal("plan").stdout.splitlines()} == {
            "~ ipv4 chain mwan3_policy_Spare_Policy", "~ ipv6 chain mwan3_policy_Spare_Policy",
        }  # fmt: skip
