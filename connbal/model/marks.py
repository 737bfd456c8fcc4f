"""Packet marks, routing tables and rule priorities: who gets which number.

The numbers follow mwan3, because other programs look at them: an interface's id is the 1-based position of its
section, its mark the id spread over the bits of ``mmx_mask``, its routing table the id, its priorities 1000+id,
2000+id and 3000+id. The three highest ids of a mask mean default, unreachable and blackhole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from connbal.frozen import dataclass
from connbal.model.config import Verdict

#: Priority of ``lookup main suppress_prefixlength 0``; id 0 is nobody's, so 1000 is free in mwan3's layout.
SUPPRESS_PRIORITY = 1000
#: Priority of what looks into the table of local routes, and that table's number: no interface's and none of the
#: kernel's, and neither is known to be anybody's.
LOCAL_PRIORITY = 999
LOCAL_TABLE = 131000
IIF_PRIORITY = 1000
MARK_PRIORITY = 2000
UNREACHABLE_PRIORITY = 3000
#: Where the kernel's own ``from all lookup main`` stands.
MAIN_TABLE_PRIORITY = 32766

#: Tables 253, 254 and 255 are the kernel's default, main and local: no interface may have them.
MAX_TABLE = 252
MIN_MASK_BITS = 3
#: ``connbal use`` runs a command with group id STEER_GROUP + id of the interface. Nobody else may have these.
STEER_GROUP = 51700


def spread(number: int, mask: int) -> int:
    """Put the bits of ``number``, lowest first, onto the set bits of ``mask``, lowest first.

    >>> hex(spread(5, 0x3F00))
    '0x500'
    >>> hex(spread(3, 0x1100))
    '0x1100'
    """
    mark = 0
    while mask and number:
        lowest = mask & -mask
        if number & 1:
            mark |= lowest
        mask ^= lowest
        number >>= 1
    return mark


def gather(mark: int, mask: int) -> int:
    """The number that :func:`spread` put into ``mark``; bits outside ``mask`` do not count."""
    number = 0
    position = 0
    while mask:
        lowest = mask & -mask
        if mark & lowest:
            number |= 1 << position
        mask ^= lowest
        position += 1
    return number


@dataclass(frozen=True)
class MarkSpace:
    """The marks one mask offers. ``mask``: 32 bits, any shape, at least MIN_MASK_BITS set (ValueError)."""

    mask: int

    def __post_init__(self) -> None:
        if not 0 < self.mask <= 0xFFFFFFFF or self.bits < MIN_MASK_BITS:
            raise ValueError(f"a mark mask needs at least {MIN_MASK_BITS} of 32 bits, not {self.mask:#x}")

    @property
    def bits(self) -> int:
        return bin(self.mask).count("1")

    @property
    def highest(self) -> int:
        """The highest id: all bits set, "default"."""
        return (1 << self.bits) - 1

    @property
    def capacity(self) -> int:
        """How many interfaces have an id of their own: 60 for the default mask."""
        return min(self.highest - 3, MAX_TABLE)

    def verdict_id(self, verdict: Verdict) -> int:
        """The id that stands for a verdict."""
        return self.highest - (Verdict.DEFAULT, Verdict.UNREACHABLE, Verdict.BLACKHOLE).index(verdict)

    def verdict_priority(self, verdict: Verdict) -> int:
        """Priority of the rule for a verdict: 2000+id as in mwan3, unless the main table would come before it or an
        interface has that priority.
        """
        number = self.verdict_id(verdict)
        priority = MARK_PRIORITY + number
        if UNREACHABLE_PRIORITY < priority <= UNREACHABLE_PRIORITY + MAX_TABLE or priority >= MAIN_TABLE_PRIORITY:
            priority = MARK_PRIORITY + MAX_TABLE + 1 + self.highest - number
        return priority

    def mark(self, number: int) -> int:
        """The mark of id ``number``."""
        return spread(number, self.mask)

    def verdict_mark(self, verdict: Verdict) -> int:
        return self.mark(self.verdict_id(verdict))

    def id_of(self, mark: int) -> int:
        """The id a packet mark carries; 0: none."""
        return gather(mark, self.mask)


def bridge_ids(
    old: Mapping[str, int], new: Mapping[str, int], capacity: int, underway: Iterable[tuple[str, int]] = ()
) -> dict[str, int] | None:
    """Ids for a step between two assignments, so that no id ever means two interfaces at once.

    Where an interface's new id was another's before, swapping rulesets and routes cannot be one atomic step: for a
    moment a mark would lead to the wrong table. Such interfaces spend the step on ids free in both assignments.

    ``underway``: further ids that interfaces may have in the kernel, because a change was cut short.

    Returns None where no step is needed, or where too few ids are free to make one.
    """
    held = {*((name, number) for name, number in old.items()), *underway}
    owners: dict[int, set[str]] = {}
    for name, number in held:
        owners.setdefault(number, set()).add(name)
    moving = [name for name, number in new.items() if owners.get(number, {name}) != {name}]
    if not moving:
        return None
    taken = set(owners) | set(new.values())
    free = [number for number in range(capacity, 0, -1) if number not in taken]
    if len(free) < len(moving):
        return None
    step = dict(new)
    for name, number in zip(moving, free, strict=False):
        step[name] = number
    return step


def bridge_masks(old: int, new: int) -> tuple[int, ...]:
    """Masks to go by on the way from ``old`` (0: none) to ``new``, so that no mark ever means two things.

    Ids move first, under the old mask: then no table changes hands together with the mask. Where the masks share
    bits, a third follows that has none of either, as wide as the wider; the highest bits, where fewest others look.
    Without so many free bits there is no third, and for a moment old marks may be taken for new ones.
    """
    if not old or old == new:
        return ()
    free = [1 << bit for bit in range(31, -1, -1) if not (old | new) >> bit & 1]
    width = max(bin(old).count("1"), bin(new).count("1"))
    if not old & new or len(free) < width:
        return (old,)
    return (old, sum(free[:width]))
