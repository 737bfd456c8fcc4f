"""Names of chains and sets."""

from __future__ import annotations

import itertools
import string

from hypothesis import given
from hypothesis import strategies as st

from connbal.model import names
from tests.fakes.quick import quick

UCI = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=60)
FIXED = {
    "mwan3_hook", "mwan3_hook_out", "mwan3_rules", "mwan3_rules_out", "mwan3_ifaces_in", "mwan3_probe",
    *(f"mwan3_{kind}_ipv{version}" for kind in ("custom", "connected", "dynamic") for version in (4, 6)),
    *(f"mwan3_verdict_{verdict}" for verdict in ("default", "unreachable", "blackhole")),
}  # fmt: skip
#: Names that are near each other: prefixes, parts that join in another way, equal up to where they are cut.
HARD = [
    "wan1", "wan10", "zz", "zz_b", "a", "a_b", "b_c", "c", "b", "_", "__", "s", "out", "in", "default",
    "x" * 14, "x" * 15, "x" * 16, "x" * 10_000, "x" * 9_999 + "y", "x" * 10_001, "connected_ipv4",
]  # fmt: skip


def _chains(name: str) -> list[str]:
    return [names.chain(kind, name) for kind in ("iface_in", "policy", "rule")]


def test_names_are_those_of_mwan3_where_they_fit() -> None:
    assert names.chain("policy", "balanced") == "mwan3_policy_balanced"
    assert names.chain("iface_in", "wan1_6") == "mwan3_iface_in_wan1_6"
    assert names.ipset("sticky_v4", "https", "wan") == "mwan3_sticky_v4_https.wan"


@quick(300)
@given(UCI, UCI)
def test_names_are_never_too_long_and_never_need_quotes(first: str, second: str) -> None:
    allowed = set(string.ascii_letters + string.digits + "_.~")
    for chain in (*_chains(first), names.chain("rule", first, second)):
        assert len(chain) <= names.MAX_CHAIN
        assert set(chain) <= allowed
    found = names.ipset("sticky_v4", first, second)
    assert len(found) < names.MAX_SET
    assert set(found) <= allowed


@quick(300)
@given(st.lists(UCI, unique=True, max_size=20))
def test_different_sections_have_different_chains(found: list[str]) -> None:
    chains = [chain for name in found for chain in _chains(name)]
    assert len(set(chains)) == len(chains)
    assert not set(chains) & FIXED


def test_names_that_are_hard_to_tell_apart() -> None:
    chains = [chain for name in HARD for chain in _chains(name)]
    assert len(set(chains)) == len(chains)
    assert not set(chains) & FIXED
    pairs = list(itertools.product(HARD, HARD))
    sets = [names.ipset(kind, *pair) for kind in ("sticky_v4", "sticky_v6") for pair in pairs]
    assert len(set(sets)) == len(sets)
    assert max(map(len, sets)) < names.MAX_SET


def test_a_digest_is_not_confused_by_where_parts_are_joined() -> None:
    long = "x" * 20
    assert names.ipset("sticky_v4", "a", f"{long}_c") != names.ipset("sticky_v4", f"a_{long}", "c")


@quick(300)
@given(st.text(max_size=200), st.integers(1, 80))
def test_a_label_is_plain_whatever_it_is_made_from(text: str, limit: int) -> None:
    found = names.label(text, limit)
    assert len(found) <= limit
    assert found.isascii()
    assert found.isprintable()
    assert not set(found) & set("\"'\\ ;$`")


def test_labels_show_what_they_can() -> None:
    assert names.label("wan1_6") == "wan1_6"
    assert names.label('a"b\nc') == "a?b?c"
    assert names.label("abcdef", 4) == "abc~"
