"""Whole files: the one connbal ships, mwan3's and ROOter's; and how much work a large one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from connbal.errors import Severity
from connbal.model.config import Affinity, Config, Family, Verdict, WeightMode
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.fakes.work import calls
from tests.unit.uci_decode.build import run, section

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "files/etc/config/mwan3"
VECTORS = ROOT / "tests/vectors/configs"


def config_of(path: Path) -> Config:
    decoded = decode(parse(path.read_bytes(), "mwan3"))
    assert not [finding for finding in decoded.findings if finding.severity is not Severity.INFO]
    return decoded.config


def sizes(config: Config) -> tuple[int, int, int, int]:
    return len(config.interfaces), len(config.members), len(config.policies), len(config.rules)


@pytest.mark.parametrize(
    ("name", "expected"), [("mwan3-stock-default", (4, 10, 5, 3)), ("rooter-default", (22, 39, 3, 2))]
)
def test_configurations_of_others_mean_what_they_meant(name, expected):
    config = config_of(VECTORS / name)
    assert sizes(config) == expected
    assert config.globals.weight_mode is WeightMode.PROPORTIONAL
    assert config.globals.affinity is Affinity.CONNECTION


@pytest.fixture(scope="module")
def config() -> Config:
    return config_of(SHIPPED)


class TestShipped:
    """The user's document: sources wan, wan1, wan2, wwan; inverse weights; one device and site on one source."""

    def test_says_nothing_that_is_wrong(self):
        assert not decode(parse(SHIPPED.read_bytes(), "mwan3")).findings

    def test_states_mask_weights_and_affinity(self, config):
        assert config.globals.mmx_mask == 0x3F00
        assert config.globals.weight_mode is WeightMode.INVERSE
        assert config.globals.affinity is Affinity.PAIR

    def test_has_the_sources_of_the_document_and_of_rooter(self, config):
        enabled = {interface.name: interface.enabled for interface in config.interfaces}
        assert {name: enabled[name] for name in ("wan", "wan6", "wwan", "wan1", "wan2")} == {
            "wan": True, "wan6": True, "wwan": True, "wan1": False, "wan2": False,
        }  # fmt: skip
        assert len(enabled) == 24

    def test_keeps_the_numbers_rooters_interfaces_have(self, config):
        theirs = {interface.name: interface.id for interface in config_of(VECTORS / "rooter-default").interfaces}
        assert {interface.name: interface.id for interface in config.interfaces}.items() >= theirs.items()

    def test_probes_sparingly_and_finds_out_soon(self, config):
        for interface in config.interfaces:
            assert interface.interval >= 5
            assert interface.interval + (interface.down - 1) * interface.failure_interval + interface.timeout <= 10
            assert interface.reliability < len(interface.track_ip)
            assert interface.flush_conntrack == {"ifdown", "disconnected"}
            assert {":" in host for host in interface.track_ip} == {interface.family is Family.IPV6}

    def test_routes_all_of_both_families(self, config):
        assert [(rule.family, rule.use_policy, rule.protocols) for rule in config.rules] == [
            (Family.IPV4, "failover", ()), (Family.IPV6, "failover", ()),
        ]  # fmt: skip

    def test_fails_over_from_hotspot_to_wan_to_modems(self, config):
        members = {member.name: member for member in config.members}
        policies = {policy.name: policy for policy in config.policies}
        order = [members[name] for name in policies["failover"].members]
        metrics = {member.interface: member.metric for member in order}
        assert (metrics["wwan"], metrics["wan"], metrics["wan1"], metrics["wan2"]) == (1, 2, 3, 4)
        assert [member.metric for member in order] == sorted(member.metric for member in order)
        assert {members[name].metric for name in policies["balanced"].members} == {1}
        assert policies["failover"].last_resort is Verdict.DEFAULT
        for name in ("failover", "balanced"):
            used = {members[member].interface for member in policies[name].members}
            assert used == {interface.name for interface in config.interfaces} - {"wg0"}


def many_rules(number: int, **options: str) -> int:
    """Work of decoding that many rules."""
    rules = [section("rule", f"r{index}", use_policy="p", **options) for index in range(number)]

    def decode_them() -> None:
        decoded = run(section("policy", "p"), *rules)
        assert len(decoded.config.rules) in (0, number)

    return calls(decode_them)


@pytest.mark.parametrize(
    "options",
    [
        {
            "src_ip": "192.168.1.7",
            "dest_ip": "10.0.0.0/8,172.16.0.0/12",
            "proto": "tcp",
            "dest_port": "80,443,8000:8100",
        },
        {"src_ip": "x", "dest_ip": "y", "proto": "z", "wieght": "1", "comment": "c"},
        {"use_police": "q"},
    ],
)
def test_a_rule_takes_little_work(options):
    many_rules(10, **options)
    assert many_rules(1000, **options) < 1000 * 1500


def test_work_grows_as_the_file_does():
    def unknown(number: int) -> int:
        sections = [section("policy", f"p{index}", use_member=f"n{index}") for index in range(number)]
        sections += [section("rule", f"r{index}", use_policy=f"q{index}") for index in range(number)]
        sections += [section("member", f"m{index}", interface=f"w{index}") for index in range(number)]
        return calls(lambda: run(*sections))

    unknown(10)
    assert unknown(5000) < 20 * unknown(500)
