"""Affinity: which member a source (and destination) address hashes to, without any state.

Every member of a tier owns an interval of 0..2**32 as wide as its share, whether it is usable or not, so intervals
never move while sources come and go. An address pair takes the member in whose interval its first hash falls; where
that member is unusable, the next hash decides, and so on. So a member that leaves moves its own pairs and no others,
they spread over the rest by share, and they come back when it does.

The hash folds the address words by multiply-and-add, then mixes with the finaliser of MurmurHash3 (32 bits, public
domain). :mod:`connbal.plan.bpf` writes the same arithmetic as a classic-BPF program.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

from connbal.model.config import Affinity, IPAddress
from connbal.plan.values import HashShare, Share

SPACE = 1 << 32
FOLD = 0x9E3779B1  #: odd, near 2**32 / golden ratio
MIX_1 = 0x85EBCA6B
MIX_2 = 0xC2B2AE35
SEED_STEP = 0x7F4A7C15

#: Rounds go on until fewer pairs than this are without a member ...
RESIDUE = Fraction(1, 100)
#: ... or a policy's chain would grow longer than this many rules. The first round, which keeps everybody where they
#: were, is always there.
MAX_RULES = 64


def seed(level: int) -> int:
    """The seed of the hash of round ``level`` (0, 1, …)."""
    return (level + 1) * SEED_STEP % SPACE


def words(address: IPAddress) -> list[int]:
    """The 32-bit words of an address, in network order."""
    return [int.from_bytes(address.packed[at : at + 4], "big") for at in range(0, len(address.packed), 4)]


def hash_addresses(affinity: Affinity, seed_: int, source: IPAddress, destination: IPAddress) -> int:
    """The hash, 0..2**32-1, that the kernel computes for a packet between these addresses."""
    value = 0
    for word in words(source) + (words(destination) if affinity is Affinity.PAIR else []):
        value = (value + word) * FOLD % SPACE
    value = (value + seed_) % SPACE
    value ^= value >> 16
    value = value * MIX_1 % SPACE
    value ^= value >> 13
    value = value * MIX_2 % SPACE
    return value ^ value >> 16


def matches(share: HashShare, source: IPAddress, destination: IPAddress) -> bool:
    """Whether a packet between these addresses is within ``share``."""
    hashed = hash_addresses(share.affinity, share.seed, source, destination)
    return (hashed - share.low) % SPACE < share.size


def intervals(shares: Sequence[Share]) -> list[tuple[int, int]]:
    """``(low, size)`` of each share's interval; together they fill 0..2**32 without gap or overlap."""
    total = Fraction(0)
    bounds = [0]
    for share in shares:
        total += share.share
        bounds.append(round(total * SPACE))
    bounds[-1] = SPACE if shares else 0
    return [(low, high - low) for low, high in itertools.pairwise(bounds)]


def picks(
    affinity: Affinity, layout: Sequence[Share], usable: Sequence[Share]
) -> Iterator[tuple[HashShare | None, Share]]:
    """The choices in the order they are tried: the first whose HashShare matches wins; None matches always.

    ``layout``: every member of the tier with its share; ``usable``: those that can be used, shares summing to 1.
    """
    if len(usable) == 1:
        yield None, usable[0]
        return
    absent = 1 - sum((share.share for share in layout if share.usable), Fraction(0))
    level = 0
    if not absent:
        yield from _last_round(affinity, level, usable)
        return
    left = Fraction(1)
    while level == 0 or (left > RESIDUE and (level + 2) * len(usable) <= MAX_RULES):
        for share, (low, size) in zip(layout, intervals(layout), strict=True):
            if share.usable and size:
                yield HashShare(affinity, seed(level), low, size), share
        left *= absent
        level += 1
    yield from _last_round(affinity, level, usable)


def _last_round(affinity: Affinity, level: int, usable: Sequence[Share]) -> Iterator[tuple[HashShare | None, Share]]:
    for share, (low, size) in list(zip(usable, intervals(usable), strict=True))[:-1]:
        if size:
            yield HashShare(affinity, seed(level), low, size), share
    yield None, usable[-1]
