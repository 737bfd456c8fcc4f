"""Thousands of packets through hundreds of configurations: each gets a mark that connbal explain said it may get.

``CONNBAL_EXPLAIN`` is the number of configurations, ``CONNBAL_SEED`` draws others.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.lab import Lab
from tests.netns.explain.draws import SOURCES, Draws
from tests.netns.explain.rig import Compared, Rig

pytestmark = pytest.mark.netns

CONFIGURATIONS = int(os.environ.get("CONNBAL_EXPLAIN", "90"))
PACKETS = 20
SEED = os.environ.get("CONNBAL_SEED", "1")
#: One false alarm in two million.
SIGMAS = 5.0
#: Every so many configurations, the look is the command's own rather than what apply found.
LOOKS = 8


#: What has to occur among what is compared.
WANTED = {
    "rule", "nothing", "connection", "interface", "exempt", "ipv4", "ipv6", "router", "came in", "drawn", "exact",
    "remembered", "blind", "might match", "to interface", "to default", "to unreachable", "to blackhole", "to none",
}  # fmt: skip


@dataclass
class Tally:
    """What was compared."""

    packets: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hits: float = 0.0  #: likeliest endings that came, less their probabilities
    variance: float = 0.0

    def add(self, one: Compared, text: str) -> None:
        story = one.look.story
        if one.mark is None:
            self.kinds["not met"] += 1
            return
        if story.unknown:
            self.kinds["might match"] += 1
            return
        self.packets += 1
        self.kinds["blind"] += one.shot.blind
        endings = story.endings
        self.kinds[story.decided] += 1
        self.kinds[f"ipv{one.shot.version}"] += 1
        self.kinds["router" if story.packet.local else "came in"] += 1
        self.kinds["drawn" if len(endings) > 1 else "exact"] += 1
        self.kinds["remembered"] += story.remembered is not None
        for ending in endings:
            self.kinds[f"to {ending.meaning}"] += 1
        mark = one.mark & story.mask
        came = [ending for ending in endings if ending.mark & story.mask == mark]
        if not came:
            self._complain(one, f"mark {mark:#x}, not {[hex(ending.mark) for ending in endings]}", text)
        # One without a mark is given one by the first answer that comes in, which may have happened already.
        elif (
            one.kept
            and (kept := {end.connection & story.mask for end in came} | {0}) != {0}
            and (one.kept & story.mask not in kept)
        ):
            self._complain(one, f"its connection has {one.kept:#x}, not {came[0].connection:#x}", text)
        for ending, way in one.ways:
            self._complain(one, f"{ending.hop.way}, but the kernel {way}", text)
        if len(endings) > 1:
            p = float(endings[0].probability)
            self.hits += (endings[0] in came) - p
            self.variance += p * (1 - p)

    def _complain(self, one: Compared, why: str, text: str) -> None:
        if len(self.wrong) < 5:
            steps = f"{one.look.story.decided} {one.look.story.by} {one.look.notes}"
            self.wrong.append(f"{one.shot}\n  {why}\n  {steps}\n{text}")


def run(rig: Rig, draws: Draws, tally: Tally, configurations: int) -> None:
    rig.make_sets()
    rig.apply("", [])
    for number in range(configurations):
        text, down = draws.configuration()
        rig.restore_sets(draws.entries())
        scene = rig.apply(text, down)
        if number % LOOKS == 0:
            own = rig.look()
            assert own.pending == 0
            # Sets that were missing have been made meanwhile, so they are not planned any more.
            assert own.plan.rulesets == scene.plan.rulesets
            assert (own.plan.ip_rules, own.plan.routes) == (scene.plan.ip_rules, scene.plan.routes)
            scene = own
        for _ in range(PACKETS):
            tally.add(rig.compare(scene, draws.shot()), f"{text}\ndown: {down}")
        if tally.wrong:
            break


@pytest.fixture(params=["nft", "legacy"])
def rig(request: pytest.FixtureRequest, lab: Callable[..., Lab]) -> Iterator[Rig]:
    with Rig(lab(SOURCES, guest=True, xtables=request.param)) as one:
        yield one


def test_the_kernel_does_what_was_said(rig: Rig, request: pytest.FixtureRequest) -> None:
    tally = Tally()
    run(rig, Draws(f"{SEED} {rig.lab.spec.xtables}"), tally, CONFIGURATIONS)
    print(tally.packets, dict(tally.kinds))
    if tally.wrong:
        pytest.fail("\n\n".join(tally.wrong), pytrace=False)
    assert tally.packets > 0.9 * CONFIGURATIONS * PACKETS
    z = tally.hits / math.sqrt(tally.variance)
    assert abs(z) < SIGMAS, f"drawn otherwise than the shares say: {z:.1f} standard deviations"
    missing = WANTED - {kind for kind, count in tally.kinds.items() if count}
    assert not missing, f"nothing of this was compared: {missing}"
