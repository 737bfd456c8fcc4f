"""The masks on the way from one to another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connbal.model.marks import MarkSpace, bridge_masks

MASKS = st.integers(1, 0xFFFFFFFF).filter(lambda mask: bin(mask).count("1") >= 3)


def test_nothing_to_bridge() -> None:
    assert bridge_masks(0, 0x3F00) == ()
    assert bridge_masks(0x3F00, 0x3F00) == ()


def test_masks_apart_need_no_third() -> None:
    assert bridge_masks(0x3F00, 0xFF0000) == (0x3F00,)


def test_masks_that_share_bits_meet_by_a_third() -> None:
    assert bridge_masks(0x3F00, 0xFC00) == (0x3F00, 0xFC000000)


def test_without_room_there_is_no_third() -> None:
    assert bridge_masks(0xFFFFFF00, 0xFFFF) == (0xFFFFFF00,)


@given(MASKS, MASKS)
def test_a_third_shares_no_bit_and_holds_as_many(old: int, new: int) -> None:
    for third in bridge_masks(old, new)[1:]:
        assert not third & (old | new)
        assert MarkSpace(third).capacity >= max(MarkSpace(old).capacity, MarkSpace(new).capacity)
