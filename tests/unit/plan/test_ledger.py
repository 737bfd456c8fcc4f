"""What is remembered, and how it survives being written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.plan.ledger import Ledger, digest
from tests.fakes.build import V4, V6
from tests.fakes.quick import quick

NAME = st.text(min_size=1, max_size=20)
NAMES = st.frozensets(NAME, max_size=4)
FAMILY = st.sampled_from([V4, V6])
LEDGERS = st.builds(
    Ledger,
    backend=NAME,
    chains=st.dictionaries(FAMILY, st.dictionaries(NAME, st.tuples(NAME, NAME), max_size=4)),
    ids=st.dictionaries(NAME, st.integers(1, 252), max_size=4),
    mask=st.sampled_from([0, 0x3F00, 0x7, 0xFFFFFFFF]),
    present=NAMES,
    usable=NAMES,
    active=st.dictionaries(NAME, NAMES, max_size=4),
    made_sets=NAMES,
    lacking=st.dictionaries(NAME, st.booleans(), max_size=4),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@quick(200)
@given(LEDGERS)
def test_a_ledger_comes_back_as_it_was(ledger: Ledger) -> None:
    assert Ledger.from_json(json.loads(json.dumps(ledger.as_json()))) == ledger


def test_an_empty_ledger_comes_back_empty() -> None:
    assert Ledger.from_json(Ledger().as_json()) == Ledger()


@quick(300)
@given(JSON)
def test_garbage_is_an_empty_ledger(data: Any) -> None:
    assert Ledger.from_json(data) == Ledger()


@quick(300)
@given(LEDGERS, st.data(), JSON)
def test_garbage_in_one_place_is_no_error(ledger: Ledger, data: st.DataObject, garbage: Any) -> None:
    held = ledger.as_json()
    held[data.draw(st.sampled_from(sorted(held)))] = garbage
    assert isinstance(Ledger.from_json(held), Ledger)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_version_is_an_empty_ledger(version: object) -> None:
    assert Ledger.from_json({**Ledger(mask=7).as_json(), "version": version}) == Ledger()


@pytest.mark.parametrize("mask", [1, 3, -1, 1 << 32, float("inf")])
def test_a_mask_that_cannot_be_is_an_empty_ledger(mask: float) -> None:
    """What builds on the ledger makes a MarkSpace of the mask."""
    assert Ledger.from_json({**Ledger(backend="nft").as_json(), "mask": mask}) == Ledger()


def test_digests_tell_lines_apart() -> None:
    assert digest(["a", "b"]) != digest(["b", "a"])
    assert digest(["a", "b"]) == digest(iter(["a", "b"]))
    assert digest(["\udcff"])
