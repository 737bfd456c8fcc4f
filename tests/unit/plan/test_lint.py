"""Each check: a configuration in which it finds something, the command it names, and one in which it finds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.cli.main import cli
from connbal.errors import Finding
from connbal.plan.lint import CHECKS, Subject, lint
from connbal.plan.lint_subject import NetworkSection
from connbal.uci import luci
from connbal.uci.decode import decode
from connbal.uci.package import Package, Section
from connbal.uci.schema import SECTIONS
from connbal.uci.text import parse
from tests.unit.test_checks import words_of
from tests.unit.test_docs import accepted

BASE = """
config globals 'globals'
	option weight_mode 'inverse'
	option affinity 'pair'
"""


def interface(name: str, family: str = "ipv4", **options: str) -> str:
    """An enabled interface that nothing can be said against."""
    host = "192.0.2.1" if family == "ipv4" else "2001:db8::1"
    chosen = {
        "enabled": "1", "family": family, "track_ip": host, "flush_conntrack": "disconnected", "timeout": "2",
        "interval": "5", "failure_interval": "1", "down": "3", **options,
    }
    return section("interface", name, **chosen)


def section(type_: str, name: str, **options: str) -> str:
    lines = [f"\toption {key} '{value}'" for key, value in options.items() if value]
    return "\n".join([f"config {type_} '{name}'", *lines, ""])


def policy(name: str, *members: str, **options: str) -> str:
    return section("policy", name, **options) + "".join(f"\tlist use_member '{member}'\n" for member in members)


def member(name: str, of: str, **options: str) -> str:
    return section("member", name, interface=of, **options)


def rule(name: str, use: str = "p", **options: str) -> str:
    return section("rule", name, use_policy=use, **options)


WAN, WAN6 = interface("wan"), interface("wan6", "ipv6")
M, M6 = member("m", "wan"), member("m6", "wan6")
#: Two sources, of both families, and rules for everything.
GOOD = "\n".join([BASE, WAN, WAN6, M, M6, policy("p", "m", "m6"), rule("all")])


def found_in(text: str, **known: object) -> list[Finding]:
    package = parse(text.encode(), "mwan3")
    decoded = decode(package)
    stated = package.get("globals")
    subject = Subject(decoded.config, frozenset(stated.options if stated else ()), **known)  # type: ignore[arg-type]
    return [*lint(subject), *luci.lint(package)]


@dataclass(frozen=True)
class Case:
    """``parts`` of a configuration, whose findings with the code are at ``places`` and have ``words``."""

    code: str
    places: Sequence[str]
    words: str
    parts: Sequence[str]
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.words[:20]}"


ONE = [BASE, WAN, M, policy("p", "m")]
BOTH = [BASE, WAN, WAN6, M, M6, policy("p", "m", "m6")]
TWO = [BASE, WAN, interface("wan2"), M, member("m2", "wan2")]
ALL4 = rule("all", family="ipv4")

CASES = [
    Case("shadowed", ["mwan3.tv"], "rule all above it takes all", [*ONE, policy("q", "m"), ALL4, rule("tv", "q",
         src_ip="192.0.2.1")], "connbal rule move tv --before all"),
    Case("shadowed", ["mwan3.tv"], "rules a and b above it take all",
         [*ONE, rule("a", src_ip="10.0.0.0/9"), rule("b", src_ip="10.128.0.0/9"), rule("tv", src_ip="10.0.0.0/8")],
         "all of them use p, so it can go: connbal rule delete tv"),
    Case("repeated-rule", ["mwan3.b"], "the same as rule a", [*ONE, rule("a", proto="tcp", dest_port="80"),
         rule("b", proto="6", dest_port="80-80")], "delete one of the two: connbal rule delete b"),
    Case("partly-shadowed", ["mwan3.rest"], "it is reached for IPv6 only", [*BOTH, ALL4, rule("rest")],
         "connbal rule set rest --family ipv6"),
    Case("unmatched-traffic", ["mwan3"], "no rule is for all IPv6", [*BOTH, rule("all", dest_ip="0.0.0.0/0")]),
    Case("unmatched-traffic", ["mwan3", "mwan3"], "no rule is for all IPv4", [*BOTH, rule("web", dest_port="80",
         proto="tcp")]),
    Case("no-member-of-family", ["mwan3.six.use_policy"], "these connections are refused (unreachable)",
         [BASE, WAN, WAN6, M, M6, policy("p", "m"), policy("q", "m6"), rule("x", "q", family="ipv6", proto="udp"),
          rule("six", family="ipv6")], "connbal policy set p --add use_member=m6"),
    Case("refuses-family", ["mwan3.all.family"], "IPv6 connections are refused",
         [BASE, WAN, WAN6, M, M6, policy("p", "m"), policy("q", "m6"), rule("x", "q", family="ipv6", proto="udp"),
          rule("all")],
         "connbal policy set p --add use_member=m6, or connbal rule set all --family ipv4"),
    Case("no-source-of-family", ["mwan3.all.family"], "no interface is enabled and IPv6", [*ONE, rule("all")],
         "connbal rule set all --family ipv4"),
    Case("sticky-without-effect", ["mwan3.a.sticky"], "policy p has one interface", [*ONE, rule("a", sticky="1")],
         "connbal rule set a --no-sticky"),
    Case("sticky-without-effect", ["mwan3.a.sticky"], "use_policy default", [*ONE, rule("a", "default", sticky="1")]),
    Case("logging-off", ["mwan3.a.logging"], "nothing is logged for a", [*ONE, rule("a", logging="1")],
         "connbal globals set --logging"),
    Case("empty-policy", ["mwan3.e.use_member"], "it has no member", [*ONE, policy("e")]),
    Case("dead-policy", ["mwan3.q.use_member"], "none of its interfaces (off)",
         [*ONE, interface("off", enabled="0"), member("o", "off"), policy("q", "o"), rule("a", "q")],
         "connbal interface enable off"),
    Case("disabled-members", ["mwan3.q.use_member"], "1 of its interfaces is disabled: off",
         [*ONE, interface("off", enabled="0"), member("o", "off"), policy("q", "o", "m"), rule("a", "q")],
         "connbal interface enable off"),
    Case("unused-policy", ["mwan3.p"], "no enabled rule", [*ONE, rule("a", enabled="0")], "connbal rule enable a"),
    Case("unused-policy", ["mwan3.q"], "no enabled rule", [*ONE, policy("q", "m"), ALL4], "connbal policy delete q"),
    Case("unused-member", ["mwan3.x"], "no policy has it", [*ONE, member("x", "wan"), ALL4],
         "connbal member delete x"),
    Case("same-interface", ["mwan3.p.use_member"], "member n (metric 2) is never used",
         [BASE, WAN, M, member("n", "wan", metric="2"), policy("p", "m", "n")],
         "connbal policy set p --remove use_member=n"),
    Case("same-interface", ["mwan3.p.use_member"], "it gets two shares", [BASE, WAN, M, member("n", "wan"),
         policy("p", "m", "n")]),
    Case("weight-mode-unstated", ["mwan3.p.weight_mode"],
         "wan 33 % and wan2 67 %; inverse would be: wan 67 % and wan2 33 %",
         [WAN, interface("wan2"), M, member("m2", "wan2", weight="2"), policy("p", "m", "m2")],
         "connbal globals set --weight-mode inverse"),
    Case("affinity-unstated", ["mwan3.globals.affinity"], "policy p shares out each connection by itself",
         [*TWO[1:], policy("p", "m", "m2"), ALL4], "connbal globals set --affinity pair"),
    Case("one-source-a-device", ["mwan3.p.affinity"], "a device alone never uses more than one",
         [*TWO, policy("p", "m", "m2", affinity="source"), ALL4], "connbal policy set p --affinity pair"),
    Case("default-last-resort", ["mwan3.p.last_resort"], "while no member of p works",
         [BASE, WAN, M, policy("p", "m", last_resort="default"), ALL4],
         "connbal policy set p --last-resort unreachable"),
    Case("nothing-enabled", ["mwan3"], "no interface is enabled", [BASE, interface("wan", enabled="0")],
         "connbal interface enable wan"),
    Case("unused-interface", ["mwan3.wan2"], "no policy has a member for it", [*ONE, interface("wan2")],
         "connbal interface disable wan2"),
    Case("reliability", ["mwan3.wan.reliability"], "it can never be online", [BASE, interface("wan", reliability="2")],
         "connbal interface set wan --reliability 1"),
    Case("track-family", ["mwan3.wan.track_ip"], "2001:db8::1 is not an IPv4 address",
         [BASE, interface("wan", track_ip="2001:db8::1")], "connbal interface set wan --remove track_ip=2001:db8::1"),
    Case("track-host", ["mwan3.wan.track_ip", "mwan3.wan2.track_ip"], "says nothing of the source",
         [BASE, interface("wan", track_ip="127.0.0.1"), interface("wan2", track_ip="localhost")],
         "connbal interface set wan --remove track_ip=127.0.0.1, and add a host of the Internet"),
    Case("not-tracked", ["mwan3.wan.track_ip"], "not probed", [BASE, interface("wan", track_ip="")]),
    Case("timeout-over-interval", ["mwan3.wan.timeout"], "rounds overlap", [BASE, interface("wan", timeout="6")]),
    Case("slow-detection", ["mwan3.wan.interval"], "after up to 39 s", [BASE, interface("wan", interval="35")]),
    Case("no-flush", ["mwan3.wan2.flush_conntrack"], "stay with it, and hang",
         [BASE, WAN, interface("wan2", flush_conntrack="ifup"), M, member("m2", "wan2"), policy("p", "m", "m2"), ALL4],
         "--add flush_conntrack=ifdown"),
    Case("same-network", ["mwan3.wan_4"], "the same IPv4 network as interface wan", [BASE, WAN, interface("wan_4")],
         "connbal interface disable wan_4"),
    Case("similar-names", ["mwan3.WAN"], "that of interface wan", [BASE, WAN, interface("WAN")],
         "connbal interface rename WAN NEW"),
    Case("luci-name", ["mwan3.a_name_of_more_than_15"], "over 15 characters", [*ONE, rule("a_name_of_more_than_15")]),
    Case("luci-choice", ["mwan3.wan.interval"], "does not offer '0.2'", [BASE, interface("wan", interval="0.2")]),
    Case("luci-refused", ["mwan3.a.src_ip"], "one address or network, not '!192.0.2.1' (also: b)",
         [*ONE, rule("a", src_ip="!192.0.2.1"), rule("b", src_ip="192.0.2.1 192.0.2.2")]),
    Case("luci-refused", ["mwan3.a.timeout"], "1 to 1000000 seconds", [*ONE, rule("a", timeout="2000000")]),
    Case("luci-drops", ["mwan3.wan.check_quality"], "with track_method ping alone",
         [BASE, interface("wan", track_method="nping-icmp", check_quality="1")]),
    Case("luci-drops", ["mwan3.wan.recovery_interval"], "and interval holds (also: wan2)",
         [BASE, *(interface(name, interval="10", recovery_interval="5") for name in ("wan", "wan2")),
          interface("wan3", interval="5s", recovery_interval="5")],
         "connbal interface set wan --recovery-interval 05"),
    Case("luci-drops", ["mwan3.wan.failure_interval"], "takes 5 for the default",
         [BASE, interface("wan", interval="", failure_interval="5")]),
    Case("luci-drops", ["mwan3.a.dest_port"], "removes them on a save",
         [*ONE, rule("a", proto="tcp udp", dest_port="80"), rule("b", proto="tcp", dest_port="80")]),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_finds(case: Case) -> None:
    found = [one for one in found_in("\n".join(case.parts)) if one.code == case.code]
    assert [one.place for one in found] == case.places
    assert case.words in found[0].message
    assert case.remedy in found[0].remedy


@pytest.mark.parametrize("case", CASES, ids=str)
def test_remedies_are_commands_that_exist(case: Case) -> None:
    for one in found_in("\n".join(case.parts)):
        for command in one.remedy.split("connbal ")[1:]:
            words = words_of(command.split(",")[0].rstrip(";"))
            if not words.startswith(("ipset", "apply")):
                assert accepted(f"connbal {words}"), one.remedy


#: What stands for a name that only the user knows, and remedies that are not for the finding alone.
PLACEHOLDERS = ("MEMBER", "POLICY", "ADDRESS", "NEW")
NO_CURE = {"luci-refused"}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_remedies_cure(case: Case, tmp_path: Path) -> None:
    """Who does what a remedy says does not hear of it again."""
    text = "\n".join(case.parts)
    file = tmp_path / "mwan3"
    file.write_text(text)
    first = next(one for one in found_in(text) if one.code == case.code)
    _, found, command = first.remedy.partition("connbal ")
    words = words_of(command.split(",")[0]).split()
    if not found or case.code in NO_CURE or any(name in word for name in PLACEHOLDERS for word in words):
        return
    done = CliRunner().invoke(cli, ["--config-dir", str(tmp_path), *words, "--no-apply"])
    assert done.exit_code == 0, (words, done.output, done.exception)
    after = [(one.code, one.place, one.message) for one in found_in(file.read_text())]
    assert (first.code, first.place, first.message) not in after


def test_nothing_is_said_against_what_is_good() -> None:
    assert found_in(GOOD) == []


def test_every_check_has_a_case() -> None:
    special = {"missing-set", "undeclared-set", "probe-traffic"}
    assert {case.code for case in CASES} | special == {*CHECKS, *luci.CHECKS}


NAMED = "\n".join([*ONE, rule("site", ipset="youtube"), rule("rest", family="ipv4")])


@pytest.mark.parametrize(
    ("declared", "live", "code"),
    [
        (None, None, None),
        ({}, None, "undeclared-set"),
        ({"youtube": "dhcp"}, None, None),
        ({"youtube": "firewall"}, None, None),
        ({}, frozenset({"youtube"}), None),
        ({}, frozenset(), "missing-set"),
        (None, frozenset(), "missing-set"),
        ({"youtube": "dhcp"}, frozenset(), None),
        ({"youtube": "firewall"}, frozenset(), "missing-set"),
    ],
)
def test_sets(declared: dict[str, str] | None, live: frozenset[str] | None, code: str | None) -> None:
    found = [one for one in found_in(NAMED, declared_sets=declared, live_sets=live) if one.code.endswith("-set")]
    assert [one.code for one in found] == ([code] if code else [])
    assert all(one.place == "mwan3.site.ipset" for one in found)


def test_probes_of_a_modem() -> None:
    text = "\n".join([BASE, interface("wan", interval="1"), interface("wan2", interval="1")])
    networks = {"wan": NetworkSection("qmi", "/dev/cdc-wdm0"), "wan2": NetworkSection("dhcp", "eth1")}
    (found,) = [one for one in found_in(text, networks=networks) if one.code == "probe-traffic"]
    assert found.place == "mwan3.wan.interval"
    assert "about 440 MB a month" in found.message


def test_one_device_under_two_names() -> None:
    text = "\n".join([BASE, WAN, interface("dsl"), WAN6])
    networks = {"wan": NetworkSection("dhcp", "eth1"), "dsl": NetworkSection("dhcp", "eth1"),
                "wan6": NetworkSection("dhcpv6", "@wan")}
    assert [one.place for one in found_in(text, networks=networks) if one.code == "same-network"] == ["mwan3.dsl"]


@pytest.mark.parametrize("proto", ["static", "pppoe"])
def test_devices_that_several_networks_may_have(proto: str) -> None:
    networks = {"wan": NetworkSection(proto, "eth1"), "dsl": NetworkSection("dhcp", "eth1")}
    found = found_in("\n".join([BASE, WAN, interface("dsl")]), networks=networks)
    assert not [one for one in found if one.code == "same-network"]


def test_nothing_is_said_of_families_that_only_a_set_decides() -> None:
    parts = [BASE, WAN, WAN6, M, M6, policy("p", "m"), policy("q", "m6"), rule("site", ipset="youtube")]
    codes = {one.code for one in found_in("\n".join([*parts, rule("six", "q", family="ipv6")]))}
    assert not codes & {"refuses-family", "no-source-of-family", "partly-shadowed"}


NAMES = st.sampled_from(["wan", "WAN", "wan_4", "m", "p", "q", "r", "globals", "ü", "\x1b[2J", "a" * 40])
VALUES = st.one_of(
    NAMES,
    st.sampled_from([
        "0", "1", "-1", "256", "0.2", "999999999", "ipv4", "ipv6", "any", "default", "inverse", "ping", "10.0.0.0/8",
        "!10.0.0.0/8 !::/0", "::/0", "0.0.0.0/0", "tcp udp", "icmp", "all", "80,443", "0:65535", "192.0.2.1",
        "2001:db8::1", "disconnected", "youtube", "lan", "02:00:00:00:00:01", "\udcff", "",
    ]),
)  # fmt: skip
OPTIONS = sorted({option for spec in SECTIONS.values() for option in spec.options})
PACKAGES = st.lists(
    st.builds(
        Section,
        NAMES,
        st.sampled_from([*SECTIONS, "rule", "rule", "member", "ipset"]),
        st.booleans(),
        st.dictionaries(st.sampled_from(OPTIONS), VALUES | st.lists(VALUES, max_size=3).map(tuple), max_size=8),
    ),
    max_size=14,
).map(lambda sections: Package("mwan3", tuple(sections)))


@settings(max_examples=300, deadline=None)
@given(PACKAGES)
def test_whatever_is_written_nothing_is_raised(package: Package) -> None:
    config = decode(package).config
    for known in ({}, {"declared_sets": {}}, {"live_sets": frozenset()}):
        for one in [*lint(Subject(config, **known)), *luci.lint(package)]:  # type: ignore[arg-type]  # one of its sets
            assert str(one).isprintable()
            assert one.code in {*CHECKS, *luci.CHECKS}
            assert one.remedy


def test_nothing_a_terminal_would_obey_is_said() -> None:
    text = GOOD + rule("x", src_ip="\x1b[2Jno", timeout="\x1b[2J") + interface("w", interval="\x1b]0;x\x07")
    for one in found_in(text, declared_sets={}):
        assert str(one).isprintable()
