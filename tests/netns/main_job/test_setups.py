"""Whole configurations: more sources than the mask holds, mwan3's and ROOter's defaults, networks from either place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.demo.config import examples
from tests.lab import Lab
from tests.netns.main_job.bench import Bench, interfaces, member, only, policy, section, shares, state

pytestmark = pytest.mark.netns

Benches = Callable[..., Bench]
SOURCES = ("wan", "wan1", "wan2", "wwan")
VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "configs"
ROOTER = ("wan1", "wan2", "wan3", "wan", "wwan2")


def five(lab: Lab, *families: int) -> list[str]:
    """Five sources, equally shared, with a mask that has room for four."""
    names = list(lab.spec.sources)
    sections = [section("interface", name, ("enabled", "1")) for name in names]
    return [
        section("globals", "globals", ("mmx_mask", "0x700"), ("affinity", "pair")), *sections,
        *(section("member", f"m_{name}", ("interface", name)) for name in names),
        section("policy", "All", *(("use_member", f"m_{name}") for name in names)),
        section("policy", "Last", ("use_member", f"m_{names[-1]}"), ("use_member", f"m_{names[0]}")),
        section("rule", "Test_Net", ("dest_ip", "198.51.100.0/24"), ("use_policy", "Last")),
        section("rule", "All_Traffic", ("use_policy", "All")),
    ]  # fmt: skip


@pytest.mark.traffic
def test_more_sources_than_the_mask_holds(bench: Benches) -> None:
    """Mask 0x700 has ids 1 to 4: the fifth source is left out, by name, and traffic keeps to the other four."""
    one = bench(("wan", "wan1", "wan2", "wan3", "wan4"))
    one.configure(five(one.lab))
    done = one.connbal("apply")
    assert "wan4" in done.stderr
    assert "error" in done.stderr
    views = {view["name"]: view for view in one.status()["interfaces"]}
    assert {name: view["id"] for name, view in views.items() if view["present"]} == {
        "wan": 1, "wan1": 2, "wan2": 3, "wan3": 4,
    }  # fmt: skip
    share = dict.fromkeys(("wan", "wan1", "wan2", "wan3"), 0.25)
    shares(one.lab.tcp("pc", pairs=one.lab.pairs("pc", 2000)), tolerance=0.03, **share)
    only(one.lab.tcp("pc", "198.51.100.7", count=20), "wan")
    assert "priority 2005" not in one.lab.router.sh("ip rule")
    assert one.connbal("plan").stdout.splitlines()[-1] == "nothing to change"


def test_check_says_what_does_not_fit(bench: Benches) -> None:
    """The same is found without touching the kernel."""
    one = bench(("wan", "wan1", "wan2", "wan3", "wan4"))
    one.configure(five(one.lab))
    done = one.connbal("check", "--json", check=False)
    found = json.loads(done.stdout)["findings"]
    assert done.code == 1
    assert any("wan4" in json.dumps(finding) for finding in found), found


def in_place(one: Bench, rules: dict[str, tuple[int, ...]], policies: list[str]) -> None:
    """Every rule is a line that leads somewhere, in the right families, and every policy is a chain."""
    for family in (4, 6):
        chains = one.counters(family)
        assert {f"mwan3_policy_{name}" for name in policies} <= set(chains)
        lines = " ".join(line for line, _ in chains["mwan3_rules"])
        assert {name for name in rules if name in lines.replace('"', "").split()} == {
            name for name, families in rules.items() if family in families
        }


STOCK_RULES = {"https": (4, 6), "default_rule_v4": (4,), "default_rule_v6": (6,)}
STOCK_POLICIES = ["wan_only", "wanb_only", "balanced", "wan_wanb", "wanb_wan"]


@pytest.mark.traffic
@pytest.mark.parametrize("enabled", [False, True], ids=["as shipped", "all enabled"])
def test_mwan3_stock_default(bench: Benches, enabled: bool) -> None:
    """mwan3's own default configuration, unchanged and with every interface enabled."""
    one = bench(("wan", "wanb"))
    text = (VECTORS / "mwan3-stock-default").read_text()
    one.apply(text.replace("enabled '0'", "enabled '1'") if enabled else text)
    assert one.cli("check").returncode == 0
    in_place(one, STOCK_RULES, STOCK_POLICIES)
    pairs = one.lab.pairs("pc", 500, sources=50)
    udp = one.lab.udp("pc", pairs=pairs)
    if enabled:
        shares(udp, wan=0.5, wanb=0.5, tolerance=0.11)  # drawn anew each time: five standard deviations
        sticky = one.lab.tcp("pc", port=443, count=50, family=6)
        assert len(sticky.names) == 1
        assert not sticky.failures
    else:
        only(udp, "wan")
        assert one.lab.udp("pc", family=6, timeout=1).failures  # no IPv6 source: last_resort, unreachable


@pytest.mark.traffic
@pytest.mark.parametrize("enabled", [False, True], ids=["as shipped", "all enabled"])
def test_rooter_default(bench: Benches, enabled: bool) -> None:
    """ROOter's default configuration: 22 interfaces, most of them modems that are not there."""
    one = bench(ROOTER)
    text = (VECTORS / "rooter-default").read_text()
    one.apply(text.replace("enabled '0'", "enabled '1'") if enabled else text)
    assert one.cli("check").returncode == 0
    in_place(one, {"rule_v4": (4,), "rule_v6": (6,)}, ["balanced", "failover", "wireguard"])
    if not enabled:
        return
    for family in (4, 6):
        answers = one.lab.udp("pc", count=300, family=family)
        assert not answers.failures
        assert set(answers.names) <= set(ROOTER)
    present = {view["name"] for view in one.status()["interfaces"] if view["up"]}
    assert set(ROOTER) <= present


def test_a_modem_that_connects_is_used_without_a_restart(bench: Benches) -> None:
    """As ROOter does it: wan2 is enabled when its modem connects. Until then `last_resort` is `default`: by main."""
    one = bench(("wan1", "wan2"))
    text = (VECTORS / "rooter-default").read_text()
    head, interface, tail = text.partition("config interface 'wan2'\n")
    one.apply(text)
    only(one.lab.udp("pc", count=20), "wan1")
    one.apply(head + interface + tail.replace("enabled '0'", "enabled '1'", 1))
    only(one.lab.udp("pc", count=20), "wan2")
    one.apply(text)
    only(one.lab.udp("pc", count=20), "wan1")


@pytest.mark.traffic
def test_networks_from_ubus_and_from_uci_are_alike(bench: Benches) -> None:
    """With netifd's answer and with /etc/config/network alone the same ends up in the kernel."""
    one = bench(SOURCES)
    one.apply(examples(one.lab))
    before = state(one.lab)
    one.lab.ubus_stub()
    assert one.apply().stdout == "nothing to change\n"
    one.connbal("stop")
    one.apply()
    assert state(one.lab) == before
    only(one.lab.tcp("tv", count=10), "wan2")
    one.lab.ifdown("wan2")
    one.apply()
    assert one.lab.tcp("tv", timeout=1).failures
    one.lab.ifup("wan2")
    one.apply()
    assert state(one.lab) == before
    only(one.lab.tcp("tv", count=10, family=6), "wan2")


LONG = "a_name_of_forty_characters_is_no_trouble"


@pytest.mark.traffic
def test_names_of_forty_characters(bench: Benches) -> None:
    """For every kind of section; two that differ in the last character only are two."""
    assert len(LONG) == 40
    names = [f"{LONG[:-1]}{end}" for end in "ab"]
    one = bench(names)
    parts = [*interfaces(one.lab)]
    for name, rest in zip(names, ([("dest_port", "443"), ("proto", "tcp")], []), strict=True):
        both = [(f"{kind}{name[1:]}", source) for kind, source in (("m", name), ("n", one.lab.source(name).name6))]
        parts += [section("member", label, ("interface", source)) for label, source in both]
        parts.append(section("policy", f"p{name[1:]}", *(("use_member", label) for label, _ in both)))
        parts.append(section("rule", f"r{name[1:]}", *rest, ("use_policy", f"p{name[1:]}"), ("sticky", "1")))
    one.apply(parts)
    for family in (4, 6):
        only(one.lab.tcp("pc", count=20, family=family), names[0])
        only(one.lab.udp("pc", count=20, family=family), names[1])
    assert one.apply().stdout == "nothing to change\n"


@pytest.mark.traffic
def test_sources_whose_names_begin_alike(bench: Benches) -> None:
    """wan1 and wan10, zz and zz_b: what happens to one does not touch the other."""
    one = bench(("wan1", "wan10", "zz", "zz_b"))
    everything = [member(f"m_{name}", name) for name in one.lab.spec.sources]
    everything += [policy(f"p_{name}", f"m_{name}") for name in one.lab.spec.sources]
    ports = {"wan1": "80", "wan10": "443", "zz": "853", "zz_b": "8080"}
    rules = [section("rule", f"r_{name}", ("proto", "tcp"), ("dest_port", port), ("use_policy", f"p_{name}"))
             for name, port in ports.items()]  # fmt: skip
    one.apply(interfaces(one.lab), everything, rules)
    one.lab.carrier("wan1", False)
    one.lab.carrier("zz", False)
    one.apply()
    for family in (4, 6):
        only(one.lab.tcp("pc", port=443, count=10, family=family), "wan10")
        only(one.lab.tcp("pc", port=8080, count=10, family=family), "zz_b")
        assert one.lab.tcp("pc", port=80, timeout=1, family=family).failures
