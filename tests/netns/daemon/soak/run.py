"""One soak from its beginning to its end."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Sequence

from connbal.track import journal
from tests.lab import Lab, snapshot
from tests.netns.daemon.soak.checks import Checks
from tests.netns.daemon.soak.values import (
    ALONE,
    ENDS,
    FORGIVEN,
    LIVES,
    OVER,
    STAYS,
    STEADY,
    STEPS,
    SoakFailed,
)
from tests.netns.main_job.bench import Driver, state


class Soak(Checks):
    """One soak. ``run`` raises SoakFailed, or what else goes wrong, after it has told all that is known."""

    def run(self, seconds: float) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.bench.close)
            stack.callback(self.service_over)
            try:
                self.live(stack, seconds)
            except BaseException:
                self.dump()
                raise

    def live(self, stack: contextlib.ExitStack, seconds: float) -> None:
        if self.netifd:
            self.lab.ubus_stub()
        before, settings = snapshot(self.lab.router), self.sysctls()
        self.hooks("quick")
        self.service.configure(self.world.text())
        self.start()
        stack.callback(self.traffic_over.close)
        while self.bouts == 0 or time.monotonic() - self.began < seconds:
            self.quiet()
            (self.only_edits if self.edits else self.anything)()
        self.finish(before, settings)

    def anything(self) -> None:
        for _ in range(3):
            name = self.rng.choice(ALONE)
            self.bout((name,), 1, STEPS[name][1])
            self.settle()
        calm = self.rng.random() < 0.3
        self.bout([name for name in STEPS if STEPS[name][1] or not calm], self.rng.randint(8, 12), calm)

    def only_edits(self) -> None:
        for _ in range(3):
            self.bout(("edit",), self.rng.randint(10, 20), True, pause=0.3)
            self.settle()

    def bout(self, names: Sequence[str], count: int, calm: bool, pause: float = 1.0) -> None:
        """Some steps, at times several at once. In a calm bout no step may cost a connection or a source."""
        self.bouts += 1
        self.calm, lives = calm, self.bouts % (LIVES + STAYS) >= LIVES
        self.since = time.monotonic()
        self.harmful, self.unsure = "", self.now_unsure()
        names = [name for name in names if not (lives and name in ENDS)]
        for _ in range(count if names else 0):
            self.number += 1
            self.due()
            name = self.rng.choices(names, [STEPS[name][0] for name in names])[0]
            if not STEPS[name][1]:
                self.harmful = self.harmful or name
            self.counts[name] += 1
            getattr(self, f"step_{name}")()
            self.unsure |= self.now_unsure()
            if self.rng.random() < 0.7:
                time.sleep(self.rng.uniform(0.05, pause))

    def now_unsure(self) -> set[int]:
        """Which of the steady connections are not sure to be answered."""
        ways = [self.world.way(*one) for one in STEADY]
        return {number for number, way in enumerate(ways) if way is None or not way[1]}

    def finish(self, before: str, settings: str) -> None:
        """All is put right; what is then in the kernel is what a first apply would make, and stop takes it away."""
        if self.flows["forgiven"] > FORGIVEN * self.flows["sure"]:
            raise SoakFailed(f"{self.flows['forgiven']} connections of {self.flows['sure']} were open when forgotten")
        self.put_right()
        self.quiet()
        # A set that a rule named is kept for whoever may fill it, until stop.
        lived = re.sub(r"^create soak_list .*\n", "", state(self.lab), flags=re.MULTILINE)
        self.end()
        self.idle_at = self.number
        for again in (False, True):
            self.service.connbal("stop")
            self.nothing_left(before, settings)
            if not again:
                self.service.connbal("apply")
                made = state(self.lab)
                if made != lived:
                    lines = sorted(set(made.splitlines()) ^ set(lived.splitlines()))
                    raise SoakFailed(f"the kernel of a first apply is another: {lines}")

    def put_right(self) -> None:
        world, self.harmful = self.world, "all was put right"
        self.edit(self.first_conf())
        self.hooks("quick")
        for name in self.lab.spec.sources:
            self.lab.restore(name)
            self.plug(name, True)
        world.cut.clear()
        for name in sorted(world.down):
            self.netifd_sets(name, True)
        for one in sorted(world.bare):
            self.lab.add_address(*one)
        world.bare.clear()
        for half in sorted(world.forced):
            self.bench.connbal("interface", "force", half, "auto")
        world.forced.clear()

    def nothing_left(self, before: str, settings: str) -> None:
        for title, old, new in (("kernel", before, snapshot(self.lab.router)), ("sysctls", settings, self.sysctls())):
            if old != new:
                raise SoakFailed(f"{title}: left behind: {sorted(set(old.splitlines()) ^ set(new.splitlines()))}")
        self.check_files(OVER)
        bench = re.compile(r"tests\.netns\.main_job\.driver")
        strangers = {pid: what for pid, what in self.inside().items() if not bench.search(what)}
        if strangers:
            raise SoakFailed(f"processes are left: {strangers}")

    def sysctls(self) -> str:
        return self.lab.router.sh("sysctl -a 2>/dev/null | grep ^net | grep -v conntrack_count || true")

    def dump(self) -> None:
        """All that is known of a failure."""
        print(f"--- seed {self.seed}, bout {self.bouts}; the last steps:", *self.told, sep="\n")
        world = self.world
        print(f"--- the model: {world.conf}\nforced {world.forced}, down {world.down}, unplugged {world.unplugged}, "
              f"bare {world.bare}, cut {world.cut}, lossy {world.lossy}")  # fmt: skip
        for title, told in (("status", self.told_status), ("journal", self.told_journal), ("log", self.service.said),
                            ("plan", lambda: self.service.connbal("plan", check=False).stdout)):  # fmt: skip
            print(f"--- {title}:")
            try:
                print(told())
            except Exception as error:  # the rest is to be told all the same
                print(f"none: {error!r}")

    def told_status(self) -> str:
        status = self.service.status() or {"interfaces": {}, "reconciles": None}
        lines = [f"{name}: {one['status']} {one['score']}/{one['top']}: {one['reason']}"
                 for name, one in status["interfaces"].items()]  # fmt: skip
        return "\n".join([*lines, json.dumps(status["reconciles"])])

    def told_journal(self) -> str:
        return "\n".join(map(journal.line, self.service.events()[-50:]))


def soak(seconds: float, seed: int, *, edits: bool = False) -> None:
    """Soak a daemon for so long, and a bout more; with ``edits``, by edits alone.

    Raises SoakFailed where anything is not as it has to be.
    """
    with contextlib.ExitStack() as stack:
        driver = Driver()
        stack.callback(driver.close)
        lab = stack.enter_context(Lab(xtables="legacy" if seed & 2 else "nft"))
        Soak(lab, driver, seed, edits=edits).run(seconds)
    print(f"seed {seed}: all is well")
