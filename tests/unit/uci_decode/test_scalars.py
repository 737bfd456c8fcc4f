"""Numbers, times, choices and yes or no, wherever options take them; a bad one costs itself and is reported."""

from __future__ import annotations

import pytest

from connbal.errors import Severity
from connbal.model.config import Affinity, Family, TrackMethod, Verdict, WeightMode
from tests.unit.uci_decode.build import brief, globals_of, interface_of, left_out, member_of, only, policy_of, rule_of

BAD_NUMBERS = [
    "-5", "+5", "0", "1e3", "1_000", "٣", "５", "five", "1.5", "0x10", "1,2", "1 2", "--", "-j", "$(id)", "1001",
    "9" * 10_000, "\u00a05", " ", "1\n-A OUTPUT", "\udcff", "'",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("08", 8), ("010", 10), (" 5 ", 5), ("\t7\n", 7), ("1000", 1000), ("0" * 5000 + "3", 3)],
)
def test_whole_numbers_are_decimal(text, value):
    member, decoded = member_of(weight=text)
    assert (member.weight, decoded.findings) == (value, ())


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_a_bad_number_means_the_default(text):
    member, decoded = member_of(weight=text, metric="7")
    assert (member.weight, member.metric) == (1, 7)
    finding = only(decoded)
    assert (finding.severity, finding.code, finding.place) == (Severity.ERROR, "bad-value", "mwan3.m.weight")
    assert finding.message.endswith(": the default, 1, is used")
    assert finding.remedy == "give a whole number from 1 to 1000"
    assert len(str(finding)) < 400
    assert str(finding).isascii()
    assert str(finding).isprintable()


def test_metric_256_is_the_last():
    assert member_of(metric="256")[0].metric == 256
    assert brief(member_of(metric="257")[1]) == [("error", "bad-value", "mwan3.m.metric")]


@pytest.mark.parametrize("option", ["reliability", "count", "size", "max_ttl", "down", "up"])
@pytest.mark.parametrize("text", ["99999", "x", "-1", ("1", "2")])
def test_bad_tuning_keeps_the_interface(option, text):
    interface, decoded = interface_of(**{option: text})
    assert interface == interface_of()[0]
    assert brief(decoded) == [("error", "bad-value", f"mwan3.wan.{option}")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.2", 0.2), ("200ms", 0.2), ("5s", 5.0), ("1m", 60.0), ("5", 5.0), ("05", 5.0), ("1h", 3600.0),
        ("1.5 m", 90.0), (".5", 0.5), ("2.", 2.0), ("5S", 5.0), (" 3 ", 3.0), ("300MS", 0.3),
    ],
)  # fmt: skip
def test_times(text, value):
    interface, decoded = interface_of(interval=text)
    assert (interface.interval, decoded.findings) == (value, ())


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "0.05", "1d", "1e1", "5 5", "1:30", "inf", "nan", "٣", "100000", "0x5", ".", "s", "1" * 500, "5;"],
)
def test_bad_times(text):
    interface, decoded = interface_of(interval=text)
    assert interface.interval == 10.0
    assert brief(decoded) == [("error", "bad-value", "mwan3.wan.interval")]


def test_intervals_default_to_interval():
    interface, _ = interface_of(interval="3", recovery_interval="1")
    assert (interface.failure_interval, interface.recovery_interval) == (3.0, 1.0)
    interface, decoded = interface_of(interval="3", failure_interval="soon")
    assert interface.failure_interval == 3.0
    assert only(decoded).message == "'soon' is not a time: the value of interval is used"


@pytest.mark.parametrize(("text", "value"), [("250", 250.0), ("250ms", 250.0), ("0.5s", 500.0), ("12.5", 12.5)])
def test_latencies_are_milliseconds(text, value):
    interface, decoded = interface_of(failure_latency=text)
    assert (interface.failure_latency, decoded.findings) == (value, ())


@pytest.mark.parametrize(("text", "value"), [("25", 25.0), ("25%", 25.0), ("2.5 %", 2.5), ("0", 0.0), ("100", 100.0)])
def test_losses_are_per_cent(text, value):
    interface, decoded = interface_of(recovery_loss=text)
    assert (interface.recovery_loss, decoded.findings) == (value, ())


@pytest.mark.parametrize("text", ["101", "-1", "25ms", "%"])
def test_bad_losses(text):
    interface, decoded = interface_of(recovery_loss=text)
    assert interface.recovery_loss == 10.0
    assert brief(decoded) == [("error", "bad-value", "mwan3.wan.recovery_loss")]


@pytest.mark.parametrize(
    ("text", "value"),
    [(text, True) for text in ("1", "on", "true", "yes", "enabled", "ON", " 1 ")]
    + [(text, False) for text in ("0", "off", "false", "no", "disabled", "Off")],
)
def test_booleans(text, value):
    for option in ("enabled", "check_quality", "httping_ssl", "keep_failure_interval", "track_gateway"):
        interface, decoded = interface_of(**{option: text})
        assert (getattr(interface, option), decoded.findings) == (value, ())


@pytest.mark.parametrize("text", ["2", "y", "maybe", "01", "1;reboot", "tru"])
def test_bad_booleans(text):
    interface, decoded = interface_of(enabled=text)
    assert interface.enabled is False
    assert brief(decoded) == [("error", "bad-value", "mwan3.wan.enabled")]
    rule, decoded = rule_of(enabled=text)
    assert rule.enabled is True
    assert brief(decoded) == [("error", "bad-value", "mwan3.r.enabled")]


def test_rules_can_be_switched_off():
    assert rule_of(enabled="0")[0].enabled is False


def test_family_of_an_interface():
    assert interface_of(family="ipv6")[0].family is Family.IPV6
    assert interface_of(family="IPv4")[0].family is Family.IPV4


@pytest.mark.parametrize("text", ["any", "4", "ipv5", "", ("ipv4", "ipv6")])
def test_a_bad_family_costs_the_interface(text):
    interface, decoded = interface_of(family=text)
    if text == "":
        assert interface.family is Family.IPV4
    else:
        assert interface is None
        left_out(decoded, "bad-value", "mwan3.wan.family")


@pytest.mark.parametrize("method", list(TrackMethod))
def test_track_methods(method):
    assert interface_of(track_method=method.value)[0].track_method is method


def test_choices_of_interfaces():
    assert interface_of(initial_state="offline")[0].initial_online is False
    interface, decoded = interface_of(initial_state="up", track_method="curl")
    assert (interface.initial_online, interface.track_method) == (True, TrackMethod.PING)
    assert [code for _, code, _ in brief(decoded)] == ["bad-value", "bad-value"]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_last_resorts(verdict):
    assert policy_of(last_resort=verdict.value)[0].last_resort is verdict


def test_a_bad_last_resort_is_unreachable():
    policy, decoded = policy_of(last_resort="nonsense", use_member="m")
    assert (policy.last_resort, policy.members) == (Verdict.UNREACHABLE, ("m",))
    assert only(decoded).message == "'nonsense' is not one of the possible values: the default, unreachable, is used"
    assert only(decoded).remedy == "give one of unreachable, blackhole, default"


def test_weight_mode_and_affinity():
    found, decoded = globals_of(weight_mode="inverse", affinity="pair")
    assert (found.weight_mode, found.affinity, decoded.findings) == (WeightMode.INVERSE, Affinity.PAIR, ())
    policy, decoded = policy_of(weight_mode="proportional", affinity="source")
    assert (policy.weight_mode, policy.affinity) == (WeightMode.PROPORTIONAL, Affinity.SOURCE)
    policy, decoded = policy_of(weight_mode="reverse", affinity="none")
    assert (policy.weight_mode, policy.affinity) == (None, None)
    assert [place for _, _, place in brief(decoded)] == ["mwan3.p.weight_mode", "mwan3.p.affinity"]


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("0x3F00", 0x3F00), ("0x3f00", 0x3F00), ("16128", 0x3F00), ("0xFFFFFFFF", 0xFFFFFFFF),
        ("0x80000003", 0x80000003), ("0X7", 7), ("07", 7), ("0x000000000000ff0000", 0xFF0000),
    ],
)  # fmt: skip
def test_masks(text, mask):
    found, decoded = globals_of(mmx_mask=text)
    assert (found.mmx_mask, decoded.findings) == (mask, ())


@pytest.mark.parametrize(
    "text", ["0", "0x3", "0x100000000", "3F00", "0x", "-1", "0x3F00/0x3F00", "f" * 9999, "0x" + "f" * 9999]
)
def test_bad_masks(text):
    found, decoded = globals_of(mmx_mask=text, logging="1")
    assert (found.mmx_mask, found.logging) == (0x3F00, True)
    assert brief(decoded) == [("error", "bad-value", "mwan3.globals.mmx_mask")]
    assert "the default, 0x3F00, is used" in only(decoded).message


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("debug", "debug"),
        ("err", "error"),
        ("warn", "warning"),
        ("panic", "emerg"),
        ("critical", "crit"),
        ("INFO", "info"),
    ],
)
def test_log_levels(text, level):
    found, decoded = globals_of(loglevel=text)
    assert (found.loglevel, decoded.findings) == (level, ())


def test_a_bad_log_level_is_notice():
    found, decoded = globals_of(loglevel="5")
    assert found.loglevel == "notice"
    assert brief(decoded) == [("error", "bad-value", "mwan3.globals.loglevel")]


@pytest.mark.parametrize(("text", "seconds"), [("1", 1), ("10m", 600), ("0900", 900), ("2147483", 2147483)])
def test_sticky_timeouts(text, seconds):
    rule, decoded = rule_of(timeout=text, sticky="1")
    assert (rule.timeout, rule.sticky, decoded.findings) == (seconds, True, ())
    assert isinstance(rule.timeout, int)


@pytest.mark.parametrize("text", ["0", "0.5", "2147484", "300ms", "-1", "never"])
def test_bad_sticky_timeouts(text):
    rule, decoded = rule_of(timeout=text)
    assert rule.timeout == 600
    assert brief(decoded) == [("error", "bad-value", "mwan3.r.timeout")]


def test_an_empty_text_is_no_value():
    member, decoded = member_of(weight="", metric=("",))
    assert (member.weight, member.metric, decoded.findings) == (1, 1, ())


def test_a_list_of_one_is_a_scalar_and_a_longer_one_is_not():
    assert member_of(weight=("3",))[0].weight == 3
    member, decoded = member_of(weight=("3", "4"))
    assert member.weight == 1
    assert only(decoded).message == "2 values are given where one is wanted: the default, 1, is used"
