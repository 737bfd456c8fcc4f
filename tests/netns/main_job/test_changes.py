"""200 random changes of the configuration under constant new connections: none is misled, unmarked or lost."""

from __future__ import annotations

import copy
import os
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.demo.config import TV, TV6
from tests.lab import Answer, Answers, Lab
from tests.netns.main_job.bench import Bench, Done, counters, state
from tests.netns.main_job.world import FIXED, FLOWS, SOURCES, Flow, Walk, World, first_world

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Benches = Callable[..., Bench]
RATE = 60.0
#: Seconds, for each connection.
TIMEOUT = 3.0
#: Seconds of traffic after each change.
DWELL = 0.03
#: An answer takes a millisecond or two; what is older than this when something happens is not in flight any more.
IN_FLIGHT = 0.5


@dataclass
class Step:
    """One configuration in force: from when at the earliest, and what was done to get there."""

    what: str
    world: World
    done: Done
    lost: dict[str, float]  #: sources that lost their carrier, and when


@dataclass
class Journal:
    """All steps, and what was found wrong."""

    steps: list[Step] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    forgiven: Counter[str] = field(default_factory=Counter)
    known: set[str] = field(default_factory=set)
    packets: int = 0

    def check(self, flow: Flow, answers: Answers) -> None:
        """Compare every connection with what the configurations of its time allow."""
        begins = [step.done.begin for step in self.steps]
        ends = [step.done.end for step in self.steps]
        for row in answers:
            # Steps that may have been in force: begun before the answer, and the next one not done before the question.
            last = bisect_right(begins, row.at + row.took) - 1
            first = max(0, bisect_left(ends, row.at) - 1)
            self._check(flow, row, first, last)

    def _check(self, flow: Flow, row: Answer, first: int, last: int) -> None:
        if row.source is None:
            why = self._excuse(flow, row, first, last)
            if why:
                self.forgiven[why] += 1
                return
        elif any(row.source in self._ways(step, flow, row.dst) for step in range(first, last + 1)):
            return
        allowed = [sorted(self._ways(step, flow, row.dst)) for step in range(first, last + 1)]
        self.wrong.append(
            f"{flow.name} to {row.dst} at {row.at:.3f} + {row.took:.3f}: {row.source or row.error}, allowed {allowed};"
            f" steps {first}..{last}: {[self._told(step) for step in range(first, last + 1)]}"
        )

    def _told(self, number: int) -> str:
        step = self.steps[number]
        return (f"{step.what} ({step.done.begin:.3f}..{step.done.end:.3f}, flushed "
                f"{[(f'{begin:.3f}', hex(mark)) for begin, _, mark, _ in step.done.flushes]})")  # fmt: skip

    def _ways(self, number: int, flow: Flow, site: str) -> set[str]:
        return self.steps[number].world.ways(flow, site)

    def _excuse(self, flow: Flow, row: Answer, first: int, last: int) -> str:
        """Why a connection may have failed without anybody's fault: it was under way when its source or entry went."""
        for number in range(max(0, first - 1), min(last + 2, len(self.steps))):
            step = self.steps[number]
            for begin, end, _, _ in step.done.flushes:
                if begin - IN_FLIGHT <= row.at <= end and row.at + row.took >= begin:
                    return "open when its entry was flushed"
            for name, moment in step.lost.items():
                before = self._ways(number - 1, flow, row.dst)
                if name in before and moment - IN_FLIGHT <= row.at <= step.done.end:
                    return "its source had lost its carrier"
        return ""


class Watch:
    """Counters in a chain of somebody else's, in mangle FORWARD: what leaves by which source, with which mark."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        hooks = [f"-A FORWARD -i br-lan -j {chain}" for chain in ("others_watch", "others_marks")]
        self._restore({family: hooks + self._fixed(family) for family in (4, 6)}, "others_watch", "others_marks")

    def _restore(self, lines: Mapping[int, list[str]], *chains: str) -> None:
        """Write chains anew in both families."""
        script = ""
        for family, own in lines.items():
            tool = "iptables-restore" if family == 4 else "ip6tables-restore"
            text = "\n".join(["*mangle", *(f":{chain} - [0:0]" for chain in chains), *own, "COMMIT"])
            script += f"{tool} --noflush -w <<'END'\n{text}\nEND\n"
        self._lab.router.sh(script)

    def _fixed(self, family: int) -> list[str]:
        """What must never be seen, whatever the configuration; and how much there was."""
        devices = {name: self._lab.source(name).device for name in SOURCES}
        tv, fixed = (TV, FIXED[0]) if family == 4 else (TV6, FIXED[1])
        never = [f"-s {tv} -o {device}" for name, device in devices.items() if name != "wan2"]
        never += [f"-d {fixed} -o {device}" for name, device in devices.items() if name != "wan"]
        never += [f"-o {device} -m mark --mark 0x0/0xffffffff" for device in devices.values()]
        return [*(f"-A others_watch {match} -m comment --comment never" for match in never),
                "-A others_watch -o e-+ -m comment --comment all"]  # fmt: skip

    def expect(self, world: World) -> None:
        """From now on count new connections whose mark is not that of the source they leave by."""
        match = "-m conntrack --ctstate NEW -m mark ! --mark"
        self._restore({
            family: [
                f"-A others_marks -o {self._lab.source(name).device} {match} {mark} -m comment --comment never"
                for name, mark in world.marks(family).items()
            ]
            for family in (4, 6)
        }, "others_marks")  # fmt: skip

    def seen(self) -> tuple[list[str], int]:
        """Rules that should count nothing and did, and how many packets there were."""
        wrong, total = [], 0
        text = self._lab.router.sh("iptables-save -c -t mangle; echo ---; ip6tables-save -c -t mangle")
        for part in text.split("---"):
            found = counters(part)
            for rule, packets in found["others_watch"] + found["others_marks"]:
                if "never" in rule and packets:
                    wrong.append(f"{rule}: {packets}")
                total += packets if "all" in rule else 0
        return wrong, total


def take_step(one: Bench, watch: Watch, walk: Walk, journal: Journal) -> None:
    """Change something, at times several things at once, apply, and look what traffic does then."""
    what = "; ".join(walk.step() for _ in range(walk.draw.choice((1, 1, 1, 2, 4))))
    lost = pull_cables(one.lab, journal.steps[-1].world, walk.world)
    done = one.apply(walk.world.text(one.lab))
    journal.steps.append(Step(what, copy.deepcopy(walk.world), done, lost))
    watch.expect(walk.world)
    time.sleep(DWELL)
    wrong, journal.packets = watch.seen()
    number = len(journal.steps) - 1
    journal.wrong += [f"packets, after step {number} ({what}): {line}" for line in wrong if line not in journal.known]
    journal.known |= set(wrong)


def pull_cables(lab: Lab, before: World, after: World) -> dict[str, float]:
    """Do to the cables what changed about carriers; returns which sources lost it, and when."""
    lost = {}
    for name, present in after.carrier.items():
        if present != before.carrier[name]:
            if not present:
                lost[name] = time.monotonic()
            lab.carrier(name, present)
            if present:
                # What was asked of neighbours while nobody could hear fails three seconds later, and takes along
                # all that waits for the answer by then, new connections too. Here cables are out for shorter times.
                lab.router.ip(f"neigh flush dev {lab.source(name).device} nud all")
    return lost


def walk_along(one: Bench, seed: str, steps: int) -> tuple[Journal, dict[Flow, Answers]]:
    """The whole walk, with traffic around it."""
    lab = one.lab
    walk = Walk(first_world(lab), seed)
    watch = Watch(lab)
    journal = Journal()
    done = one.apply(walk.world.text(lab))
    journal.steps.append(Step("start", copy.deepcopy(walk.world), done, {}))
    with ExitStack() as stack:
        running = {
            flow: stack.enter_context(lab.constant(
                flow.client, port=flow.port, proto=flow.proto, pairs=[("", site) for site in flow.sites],
                family=flow.family, rate=RATE, timeout=TIMEOUT,
            ))
            for flow in FLOWS
        }  # fmt: skip
        for traffic in running.values():
            traffic.wait_for(5)
        for _ in range(steps):
            take_step(one, watch, walk, journal)
        results = {flow: traffic.stop() for flow, traffic in running.items()}
    for flow, answers in results.items():
        journal.check(flow, answers)
    return journal, results


def test_random_changes_mislead_nobody(bench: Benches, xtables: str) -> None:
    """Seeded: every connection went where one of the configurations of its moment sends it, and none failed."""
    steps = int(os.environ.get("CONNBAL_STEPS", "200" if xtables == "nft" else "60"))
    seed = os.environ.get("CONNBAL_SEED", f"changes {xtables}")
    one = bench(SOURCES)
    journal, results = walk_along(one, seed, steps)
    total = sum(map(len, results.values()))
    print(f"{len(journal.steps)} steps, {total} connections, {journal.packets} packets; {dict(journal.forgiven)}")
    assert not journal.wrong, "\n".join([f"{len(journal.wrong)} wrong", *journal.wrong[:20]])
    assert total > steps * 10
    assert sum(journal.forgiven.values()) < total / 20
    at_the_end = without_memory(state(one.lab))
    one.connbal("stop")
    one.apply()
    assert without_memory(state(one.lab)) == at_the_end


def without_memory(text: str) -> str:
    """A state without what sticky rules remember."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("add mwan3_sticky"))
