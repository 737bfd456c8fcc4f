"""The same packets through a router with mwan3's captured state and one with connbal's, for each captured case.

Every packet's mark is read behind the hook, and the device it leaves by at that device's far end. What one router does
and the other does not must be in :mod:`tests.netns.mwan3.differences`.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.netns.mwan3.bench import Bench, Outcome
from tests.netns.mwan3.differences import DIFFERENCES, Case, Difference, expected_device, stated
from tests.netns.mwan3.packets import UDP, Probe
from tests.netns.mwan3.probes import answers, probes
from tests.netns.mwan3.shares import shares
from tests.netns.mwan3.vector import NAMES, Vector

pytestmark = pytest.mark.netns

#: Interfaces that were offline when mwan3's state was captured.
OFFLINE = {"06-last-resort": ("wanb",)}
#: Both builds where the configurations differ most; elsewhere the rules are the same but for numbers.
LEGACY = ("05-metric-groups", "06-last-resort", "09-family", "19c-mask-7")

#: Copies of each packet, so that one that is drawn shows all its marks; where the routers seem to differ, more.
COPIES, MORE = 12, 100
#: For shares. The tolerance is 5 standard deviations: one false alarm in two million.
DRAWS, SIGMAS = 4000, 5.0

Outcomes = Counter[Outcome]


@dataclass
class Pair:
    """Two routers that should do the same."""

    vector: Vector
    mwan3: Bench
    connbal: Bench
    asked: list[tuple[Probe, Outcomes, Outcomes]] = field(default_factory=list)
    answered: list[tuple[Probe, Outcomes, Outcomes]] = field(default_factory=list)

    def ask(self, wanted: Sequence[Probe], copies: int) -> list[tuple[Probe, Outcomes, Outcomes]]:
        return list(zip(wanted, self.mwan3.ask(wanted, copies), self.connbal.ask(wanted, copies), strict=True))


CASES = [(name, "nft") for name in NAMES] + [(name, "legacy") for name in LEGACY]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def pair(request: pytest.FixtureRequest, lab_available: None) -> Iterator[Pair]:
    name, xtables = request.param
    if shutil.which(f"iptables-{xtables}-restore") is None:
        pytest.skip(f"iptables-{xtables} is not installed")
    vector = Vector.load(name)
    with Bench(vector, xtables) as mwan3, Bench(vector, xtables) as connbal:
        mwan3.load_mwan3()
        connbal.load_connbal(OFFLINE.get(name, ()))
        both = Pair(vector, mwan3, connbal)
        both.asked = both.ask(probes(vector), COPIES)
        both.answered = both.ask(answers(row[0] for row in both.asked), 2)
        yield both


def marks(outcomes: Outcomes) -> frozenset[int]:
    return frozenset(mark for mark, _ in outcomes)


def shown(outcomes: Outcomes) -> str:
    return ", ".join(sorted(f"{mark:#x} by {device or 'none'}" for mark, device in outcomes)) or "nothing"


def unstated(pair: Pair, rows: Sequence[tuple[Probe, Outcomes, Outcomes]], answer: bool) -> list[Probe]:
    """The probes that fared differently and are in no list."""
    return [
        probe
        for probe, old, new in rows
        if set(old) != set(new) and stated(Case(pair.vector, probe, marks(old), answer)) is None
    ]


def test_there_is_enough_to_compare(pair: Pair) -> None:
    met = [row for row in pair.asked if row[1] and row[2]]
    assert len(met) > 400
    assert {probe.version for probe, _, _ in met} == {4, 6}
    left = {device for _, old, _ in met for _, device in old}
    assert left >= set(pair.vector.devices[:3]) - {"br-guest"}
    assert len(pair.answered) >= 20


def test_every_packet_gets_the_same_mark_and_leaves_by_the_same_device(pair: Pair) -> None:
    suspects = unstated(pair, pair.asked, answer=False)
    again = pair.ask(suspects, MORE)
    wrong = unstated(pair, again, answer=False)
    assert not wrong, "\n".join(
        f"{probe}: mwan3 {shown(old)}; connbal {shown(new)}" for probe, old, new in again if probe in wrong
    )


def test_answers_to_what_came_in_leave_the_same_way(pair: Pair) -> None:
    suspects = unstated(pair, pair.answered, answer=True)
    assert not suspects, "\n".join(map(str, suspects))


def test_where_they_differ_connbal_is_right(pair: Pair) -> None:
    reached: dict[tuple[Difference, frozenset[int]], set[int]] = {}
    for rows, answer in ((pair.asked, False), (pair.answered, True)):
        for probe, old, new in rows:
            case = Case(pair.vector, probe, marks(old), answer)
            difference = stated(case) if set(old) != set(new) else None
            if difference is None:
                continue
            right = frozenset(difference.marks(case))
            assert marks(new) <= right, (str(probe), shown(new), difference.reason)
            reached.setdefault((difference, right), set()).update(marks(new))
            for mark, device in new:
                wanted = expected_device(case, difference, mark)
                assert wanted in (None, device), (str(probe), shown(new), difference.reason)
    # Where several marks are right, all of them occur; and no difference is stated that there is not.
    assert all(found == right for (_, right), found in reached.items())
    assert {difference for difference, _ in reached} == {one for one in DIFFERENCES if one.concerns(pair.vector)}


def test_shares_are_those_of_the_weights(pair: Pair) -> None:
    wanted = shares(pair.vector, OFFLINE.get(pair.vector.name, ()))
    done: set[frozenset[int]] = set()
    for probe, old, new in pair.asked:
        # Packets of one protocol with ports: each is a connection of its own.
        if probe.proto != UDP or probe.sport or len(marks(new)) < 2 or marks(new) in done or probe.bound:
            continue
        done.add(marks(new))
        for bench, seen in ((pair.mwan3, old), (pair.connbal, new)):
            if len(marks(seen)) > 1:  # mwan3 may have lost the rule
                (outcomes,) = bench.ask([probe], DRAWS)
                check_shares(outcomes, wanted)
    assert bool(done) == (pair.vector.name not in NOTHING_DRAWN)


#: Configurations none of whose rules leads to two members at once.
NOTHING_DRAWN = ("01-failover2", "06-last-resort")


def check_shares(outcomes: Outcomes, wanted: list[dict[int, float]]) -> None:
    total = sum(outcomes.values())
    assert total == DRAWS
    share = next(one for one in wanted if set(one) == marks(outcomes))
    for mark, part in share.items():
        seen = sum(count for (found, _), count in outcomes.items() if found == mark) / total
        # mwan3 cuts probabilities off after three digits.
        tolerance = SIGMAS * math.sqrt(part * (1 - part) / total) + 0.001
        assert abs(seen - part) <= tolerance, f"{mark:#x}: {seen:.4f}, not {part:.4f}"
