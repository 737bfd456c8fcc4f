"""Sections: names, order, and what they say of each other."""

from __future__ import annotations

import pytest

from connbal.errors import Severity
from connbal.uci.decode_reader import MAX_SUGGESTIONS
from tests.unit.uci_decode.build import brief, left_out, member_of, only, policy_of, rule_of, run, section

BAD_NAMES = [
    "",
    "a b",
    "a\nb",
    "a'b",
    'a"b',
    "-j",
    "a/b",
    "../x",
    "a.b",
    "ä",
    "\udcff",
    "a;b",
    "wan-1",
    "a\x00",
    "wan\n",
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("type_", ["interface", "member", "policy", "rule"])
def test_a_bad_name_costs_the_section(type_, name):
    decoded = run(
        section("interface", "wan"), section("policy", "p"), section(type_, name, interface="wan", use_policy="p")
    )
    errors = decoded.errors
    assert [finding.code for finding in errors] == ["bad-name"]
    assert str(errors[0]).isascii()
    assert str(errors[0]).isprintable()
    config = decoded.config
    assert [value.name for value in (*config.interfaces, *config.members, *config.policies, *config.rules)] == [
        "wan",
        "p",
    ]


@pytest.mark.parametrize("type_", ["member", "policy", "rule"])
def test_names_may_be_long(type_):
    name = "n" * 10_000
    decoded = run(
        section("interface", "wan"), section("policy", "p"), section(type_, name, interface="wan", use_policy="p")
    )
    assert not decoded.findings


def test_an_interface_has_a_directory_of_its_name():
    decoded = run(section("interface", "n" * 255), section("interface", "n" * 256))
    assert [interface.id for interface in decoded.config.interfaces] == [1]
    left_out(decoded, "bad-name", f"mwan3.{'n' * 254}~")


def test_ids_count_every_interface_section():
    decoded = run(
        section("interface", "a", enabled="1"), section("interface", "b"), section("interface", "c", family="x"),
        section("interface", "d e"), section("interface", "a"), section("interface", "f"),
    )  # fmt: skip
    assert [(interface.name, interface.id) for interface in decoded.config.interfaces] == [("a", 1), ("b", 2), ("f", 6)]


def test_more_interfaces_than_the_mask_has_marks():
    interfaces = [section("interface", f"wan{number}") for number in range(6)]
    decoded = run(
        section("globals", "globals", mmx_mask="0x0700"), *interfaces, section("member", "m", interface="wan5")
    )
    assert [interface.id for interface in decoded.config.interfaces] == [1, 2, 3, 4]
    assert brief(decoded) == [
        ("error", "too-many-interfaces", "mwan3.wan4"),
        ("error", "too-many-interfaces", "mwan3.wan5"),
        ("error", "unknown-interface", "mwan3.m.interface"),
    ]
    assert "is left out itself" in decoded.findings[-1].message


def test_sixty_interfaces_fit_the_default_mask():
    decoded = run(*(section("interface", f"w{number}") for number in range(61)))
    assert len(decoded.config.interfaces) == 60


@pytest.mark.parametrize("type_", ["interface", "member", "policy", "rule", "globals"])
def test_a_second_section_of_one_name_is_left_out(type_):
    name = "globals" if type_ == "globals" else "x"
    twice = [section(type_, name, interface="wan", use_policy="p", logging=flag, enabled=flag) for flag in "10"]
    decoded = run(section("interface", "wan"), section("policy", "p"), *twice)
    left_out(decoded, "duplicate-name", f"mwan3.{name}")
    if type_ == "globals":
        assert decoded.config.globals.logging is True


def test_one_name_in_several_types_is_fine():
    sections = [section("interface", "x"), section("member", "x", interface="x")]
    sections += [section("policy", "x", use_member="x"), section("rule", "x", use_policy="x")]
    decoded = run(*sections)
    assert not decoded.findings
    assert decoded.config.rules[0].use_policy == "x"


def test_globals_must_be_called_globals():
    decoded = run(section("globals", "cfg012345", anonymous=True, logging="1"))
    assert decoded.config.globals.logging is False
    assert brief(decoded) == [("warning", "wrong-globals", "mwan3.cfg012345")]


def test_anonymous_sections_are_named_both_ways():
    decoded = run(
        section("policy", "p"), section("rule", "a", use_policy="p"), section("rule", "b", use_policy="p"),
        section("rule", "cfg06a1b2", anonymous=True, use_policy="p", proto="x"),
    )  # fmt: skip
    finding = only(decoded)
    assert finding.place == "mwan3.cfg06a1b2.proto"
    assert "(@rule[2])" in finding.message


def test_an_anonymous_interface_belongs_to_no_network():
    decoded = run(section("interface", "cfg01a1b2", anonymous=True))
    assert brief(decoded) == [("warning", "unnamed", "mwan3.cfg01a1b2")]


@pytest.mark.parametrize("value", ["", (), ("",)])
def test_a_member_needs_an_interface(value):
    member, decoded = member_of(interface=value)
    assert member is None
    left_out(decoded, "missing-option", "mwan3.m.interface")


@pytest.mark.parametrize(
    ("value", "remedy"), [("wam", "did you mean wan?"), ("WAN", "did you mean wan?"), ("x", "add a section")]
)
def test_a_member_of_an_unknown_interface(value, remedy):
    member, decoded = member_of(interface=value)
    assert member is None
    left_out(decoded, "unknown-interface", "mwan3.m.interface")
    assert only(decoded).remedy.startswith(remedy)


def test_a_member_of_two_interfaces():
    member, decoded = member_of(interface=("wan", "wan2"))
    assert member is None
    left_out(decoded, "bad-value", "mwan3.m.interface")


def test_a_policy_keeps_the_members_it_knows():
    policy, decoded = policy_of(use_member=("n", "m", "x;reboot"))
    assert policy.members == ("m",)
    assert brief(decoded) == [("error", "unknown-member", "mwan3.p.use_member")] * 2
    assert [finding.message for finding in decoded.findings] == [
        "member 'n' does not exist: it is ignored", "member 'x;reboot' does not exist: it is ignored",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["a b", ("a", "b"), "a,b"])
def test_members_in_order(value):
    decoded = run(
        section("interface", "wan"), section("member", "b", interface="wan"), section("member", "a", interface="wan"),
        section("policy", "p", use_member=value),
    )  # fmt: skip
    assert decoded.config.policies[0].members == ("a", "b")
    assert not decoded.findings


def test_a_member_twice_in_a_policy_counts_once():
    policy, decoded = policy_of(use_member=("m", "m"))
    assert policy.members == ("m",)
    assert brief(decoded) == [("warning", "duplicate-value", "mwan3.p.use_member")]


def test_a_policy_may_have_no_members():
    policy, decoded = policy_of()
    assert (policy.members, decoded.findings) == ((), ())


@pytest.mark.parametrize("verdict", ["unreachable", "blackhole", "default"])
def test_verdicts_win_over_policies_of_that_name(verdict):
    decoded = run(section("policy", verdict), section("rule", "r", use_policy=verdict))
    assert decoded.config.rules[0].use_policy == verdict
    assert brief(decoded) == [("warning", "reserved-name", f"mwan3.{verdict}")]
    assert run(section("rule", "r", use_policy=verdict)).config.rules


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("q", "name a policy"), ("P", "did you mean p?"), ("blackhol", "did you mean blackhole?"), ("p p", "")],
)
def test_a_rule_of_an_unknown_policy(value, remedy):
    rule, decoded = rule_of(use_policy=value)
    assert rule is None
    left_out(decoded, "unknown-policy", "mwan3.r.use_policy")
    assert only(decoded).remedy.startswith(remedy)


def test_a_rule_without_a_policy():
    rule, decoded = rule_of(use_policy="")
    assert rule is None
    left_out(decoded, "missing-option", "mwan3.r.use_policy")


def test_rules_keep_their_order_around_one_left_out():
    rules = [
        section("rule", name, use_policy="default", proto=proto)
        for name, proto in (("b", "tcp"), ("x", "?"), ("a", "udp"))
    ]
    assert [rule.name for rule in run(*rules).config.rules] == ["b", "a"]


@pytest.mark.parametrize(
    ("type_", "option", "meant"),
    [
        ("member", "wieght", "weight"), ("rule", "dst_ip", "dest_ip"), ("rule", "src_prot", "src_port"),
        ("interface", "track_ips", "track_ip"), ("policy", "use_members", "use_member"),
        ("rule", "dest_ports", "dest_port"), ("interface", "Enabled", "enabled"), ("globals", "mmx_mark", "mmx_mask"),
    ],
)  # fmt: skip
def test_misspelt_options_are_mentioned(type_, option, meant):
    sections = {"globals": section("globals", "globals", **{option: "1"})}
    decoded = run(
        section("interface", "wan"),
        sections.get(type_) or section(type_, "x", interface="wan", use_policy="default", **{option: "1"}),
    )
    found = [finding for finding in decoded.findings if finding.place.endswith(f".{option}")]
    assert [(finding.severity, finding.code, finding.remedy) for finding in found] == [
        (Severity.WARNING, "unknown-option", f"did you mean {meant}?")
    ]


@pytest.mark.parametrize(
    "option", ["comment", "note", "local_source", "rtmon_interval", "ubus_name", "x" * 10_000, "in\nterval"]
)
def test_other_options_are_nobodys_business(option):
    decoded = run(section("globals", "globals", **{option: "1"}), section("interface", "wan", **{option: "1"}))
    found = [finding for finding in decoded.findings if finding.place.startswith("mwan3.globals")]
    assert not found


def test_unknown_section_types():
    decoded = run(section("polcy", "x"), section("polcy", "y"), section("nonsense", "z"), section("\n", "q"))
    assert brief(decoded) == [("info", "unknown-section", "mwan3.x")]
    assert only(decoded).remedy == "did you mean policy?"


def test_nothing_at_all():
    decoded = run()
    assert not decoded.findings
    assert not decoded.config.interfaces


def test_suggestions_end_where_everything_is_wrong():
    members = [section("member", f"m{number}", interface="wam") for number in range(100)]
    decoded = run(section("interface", "wan"), *members)
    assert sum("did you mean" in finding.remedy for finding in decoded.findings) == MAX_SUGGESTIONS
    assert len(decoded.errors) == 100
