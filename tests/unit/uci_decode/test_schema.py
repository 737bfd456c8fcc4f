"""The tables agree with the model and with themselves."""

from __future__ import annotations

import dataclasses

import pytest

from connbal.model.config import Globals, Interface, Member, Policy, Rule
from connbal.uci.decode_reader import PARSERS, check_option
from connbal.uci.schema import SECTIONS, Cost, Kind
from connbal.uci.values import BadValue, expected
from tests.unit.uci_decode.build import run, section

MODELS = {"globals": Globals, "interface": Interface, "member": Member, "policy": Policy, "rule": Rule}
#: What does not come from an option.
GIVEN = {"name", "id"}
OPTIONS = [(spec, option) for spec in SECTIONS.values() for option in spec.options.values()]
IDS = [f"{spec.type}.{option.name}" for spec, option in OPTIONS]


@pytest.mark.parametrize("type_", MODELS)
def test_every_attribute_of_the_model_has_one_option(type_):
    attributes = [field.name for field in dataclasses.fields(MODELS[type_]) if field.name not in GIVEN]
    assert sorted(option.target for option in SECTIONS[type_].options.values()) == sorted(attributes)


def test_an_empty_section_is_the_models_defaults():
    config = run(
        section("globals", "globals"), section("interface", "wan"), section("member", "m", interface="wan"),
        section("policy", "p"), section("rule", "r", use_policy="p"),
    ).config  # fmt: skip
    assert config.globals == Globals()
    assert config.interfaces == (Interface("wan", 1),)
    assert config.members == (Member("m", "wan"),)
    assert config.policies == (Policy("p"),)
    assert config.rules == (Rule("r", "p"),)


@pytest.mark.parametrize(("spec", "option"), OPTIONS, ids=IDS)
def test_every_option_is_documented_in_one_line_and_consistent(spec, option):
    assert option.doc
    assert "\n" not in option.doc
    assert not option.doc.endswith(".")
    assert len(option.doc) <= 100
    assert expected(option)
    assert (option.kind is Kind.CHOICE) == bool(option.choices)
    assert (option.kind is Kind.REFERENCE) == (option.refers_to in SECTIONS)
    assert set(option.synonyms.values()) <= set(option.choices)
    assert (option.low is None) == (option.high is None)
    assert option.cost is not Cost.ITEM or option.is_list
    assert not option.default_from or option.default_from in spec.options
    if option.default is not None:
        PARSERS[option.kind](option.default, option)


@pytest.mark.parametrize(("spec", "option"), [pair for pair in OPTIONS if pair[1].low is not None])
def test_ranges_include_their_ends_and_nothing_beyond(spec, option):
    for good in (option.low, option.high):
        assert not check_option(spec.type, option.name, f"{good:.15g}")
    assert check_option(spec.type, option.name, f"{option.high + 1:.15g}")
    if option.low > 0:
        assert check_option(spec.type, option.name, "0")


def test_check_option_judges_one_value_by_itself():
    (finding,) = check_option("member", "weight", "1001")
    assert str(finding) == "weight: '1001' is too large; give a whole number from 1 to 1000"
    assert not check_option("member", "weight", "1000")
    assert not check_option("rule", "dest_ip", ("10.0.0.0/8", "2001:db8::/32"))
    assert check_option("rule", "dest_ip", ("10.0.0.0/8", "example.org"))
    assert check_option("interface", "track_ip", ("1.1.1.1", "no way;"))


def test_parsers_exist_for_every_kind():
    assert set(PARSERS) == set(Kind)
    with pytest.raises(BadValue):
        PARSERS[Kind.BOOL]("maybe", SECTIONS["rule"].options["sticky"])
