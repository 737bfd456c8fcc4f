"""Marks, ids and priorities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Verdict
from connbal.model.marks import (
    IIF_PRIORITY,
    MAIN_TABLE_PRIORITY,
    MARK_PRIORITY,
    MAX_TABLE,
    UNREACHABLE_PRIORITY,
    MarkSpace,
    bridge_ids,
    gather,
    spread,
)
from tests.fakes.quick import quick


def _mask(bits: set[int]) -> int:
    return sum(1 << bit for bit in bits)


MASKS = st.sets(st.integers(0, 31), min_size=3).map(_mask)
#: Those that become rules. "default" needs none: such packets go on to the main table.
RULED = (Verdict.UNREACHABLE, Verdict.BLACKHOLE)


@quick(300)
@given(MASKS, st.integers(0, 2**32 - 1))
def test_gather_undoes_spread(mask: int, number: int) -> None:
    space = MarkSpace(mask)
    number %= space.highest + 1
    mark = spread(number, mask)
    assert mark & ~mask == 0
    assert gather(mark, mask) == number
    assert gather(mark | 0xFFFFFFFF & ~mask, mask) == number
    assert space.id_of(space.mark(number)) == number


@quick()
@given(MASKS, st.integers(0, 2**32 - 1))
def test_spread_undoes_gather(mask: int, mark: int) -> None:
    assert spread(gather(mark, mask), mask) == mark & mask


def test_marks_are_those_of_mwan3() -> None:
    space = MarkSpace(0x3F00)
    assert space.capacity == 60
    assert [space.mark(number) for number in (1, 2, 60)] == [0x100, 0x200, 0x3C00]
    assert {verdict: space.verdict_mark(verdict) for verdict in Verdict} == {
        Verdict.DEFAULT: 0x3F00, Verdict.UNREACHABLE: 0x3E00, Verdict.BLACKHOLE: 0x3D00,
    }  # fmt: skip
    assert [space.verdict_priority(verdict) for verdict in RULED] == [2062, 2061]


@pytest.mark.parametrize(("mask", "capacity"), [(0x7, 4), (0x3F00, 60), (0xFF0000, 252), (0xFFFFFFFF, 252), (0x111, 4)])
def test_capacity(mask: int, capacity: int) -> None:
    assert MarkSpace(mask).capacity == capacity


@pytest.mark.parametrize("mask", [0, 1, 3, 0x101, -1, 1 << 32, (1 << 33) - 1])
def test_a_mask_that_is_too_small_or_no_mask_is_refused(mask: int) -> None:
    with pytest.raises(ValueError, match="mask"):
        MarkSpace(mask)


@pytest.mark.parametrize("bits", range(3, 33))
def test_no_number_means_two_things(bits: int) -> None:
    space = MarkSpace((1 << bits) - 1)
    interfaces = range(1, space.capacity + 1)
    assert max(interfaces) <= MAX_TABLE
    assert len({space.verdict_id(verdict) for verdict in Verdict}) == len(Verdict)
    assert not {space.verdict_id(verdict) for verdict in Verdict} & {0, *interfaces}
    verdicts = [space.verdict_priority(verdict) for verdict in RULED]
    taken = {base + number for base in (IIF_PRIORITY, MARK_PRIORITY, UNREACHABLE_PRIORITY) for number in interfaces}
    assert len(set(verdicts)) == len(verdicts)
    assert not set(verdicts) & taken
    assert max(*verdicts, *taken) < MAIN_TABLE_PRIORITY
    assert min(verdicts) > MARK_PRIORITY


# --- from one assignment of ids to another -------------------------------------------------------------------------

NAMES = st.sampled_from([f"wan{number}" for number in range(12)])


def _assignments(capacity: int) -> st.SearchStrategy[dict[str, int]]:
    numbers = st.lists(st.integers(1, capacity), unique=True, max_size=min(capacity, 12))
    return numbers.flatmap(
        lambda found: st.lists(NAMES, unique=True, min_size=len(found), max_size=len(found)).map(
            lambda names: dict(zip(names, found, strict=True))
        )
    )


def _clash(first: dict[str, int], second: dict[str, int]) -> bool:
    """Whether some id means one interface in one and another in the other."""
    owners = {number: name for name, number in first.items()}
    return any(owners.get(number, name) != name for name, number in second.items())


@quick(400)
@given(st.data(), st.sampled_from([4, 12, 60]))
def test_no_id_ever_means_two_interfaces(data: st.DataObject, capacity: int) -> None:
    old, new = data.draw(_assignments(capacity)), data.draw(_assignments(capacity))
    step = bridge_ids(old, new, capacity)
    if step is None:
        crowded = len(set(old.values()) | set(new.values())) + sum(
            number in old.values() and old.get(name) != number for name, number in new.items()
        ) > capacity
        assert crowded or not _clash(old, new)
        return
    assert step.keys() == new.keys()
    assert len(set(step.values())) == len(step)
    assert all(1 <= number <= capacity for number in step.values())
    assert not _clash(old, step)
    assert not _clash(step, new)


def test_no_step_where_none_is_needed() -> None:
    assert bridge_ids({}, {"wan": 1}, 60) is None
    assert bridge_ids({"wan": 1}, {"wan": 1, "wan1": 2}, 60) is None
    assert bridge_ids({"wan": 1, "wan1": 2}, {"wan": 1}, 60) is None
    assert bridge_ids({"wan": 1}, {"wan": 2}, 60) is None


def test_only_those_that_move_take_the_step() -> None:
    assert bridge_ids({"wan": 1, "wan1": 2, "wan2": 3}, {"wan": 1, "wan1": 3, "wan2": 2}, 60) == {
        "wan": 1, "wan1": 60, "wan2": 59,
    }  # fmt: skip
