"""The lab, the daemon and what is beside it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter, deque
from pathlib import Path

from tests.lab import ConstantTraffic, Lab
from tests.netns.daemon.service import Service
from tests.netns.daemon.soak import flushes
from tests.netns.daemon.soak.model import Conf, Rule, World
from tests.netns.daemon.soak.values import (
    HOOKS,
    SoakFailed,
)
from tests.netns.main_job.bench import Bench, Driver


class Recorded(Service):
    """A daemon that writes down when it forgets connections."""

    program = (flushes.__file__,)


class Machine:
    """What a soak works on, and what it has done to it so far. ``edits``: there are edits and nothing else."""

    def __init__(self, lab: Lab, driver: Driver, seed: int, *, edits: bool = False) -> None:
        self.lab, self.seed, self.rng, self.edits = lab, seed, random.Random(seed), edits
        self.flushes = lab.tmp / "flushes"
        lab.router.env[flushes.VARIABLE] = str(self.flushes)
        self.netifd = bool(seed & 1)
        self.service: Service = Recorded(lab)
        self.bench = Bench(lab, driver)
        self.began = time.monotonic()
        self.told: deque[str] = deque(maxlen=30)
        self.counts: Counter[str] = Counter()
        self.bouts = self.number = 0
        self.since = self.began
        self.calm = False
        self.stirred = self.sent = self.began
        self.memory = self.files = 0
        self.harmful = ""  #: a step that may have cost a connection since the last quiet point
        self.unsure: set[int] = set()  #: steady connections that were not sure to be answered since then
        self.idle_at: int | None = None  #: at this step the daemon is started again; None: it runs
        self.repaired_at: int | None = None  #: at this step the configuration is put right; None: it is
        self.late: list[tuple[int, str, str, str]] = []
        self.beside: list[tuple[subprocess.Popen[str], str]] = []
        self.known = 0
        self.bases: dict[str, int] = {}
        self.traffic: list[ConstantTraffic] = []
        self.traffic_over = contextlib.ExitStack()
        self.flows: Counter[str] = Counter()
        self.world = World(lab, self.first_conf())

    def first_conf(self) -> Conf:
        halves = tuple(World(self.lab, None).halves)  # type: ignore[arg-type]
        rules = (Rule("tv", "tv", 0, "one"), Rule("web", "", 443, "even"), Rule("everything", "", 0, "all"))
        metric = {half: number // 2 + 1 for number, half in enumerate(halves)}
        doubted = frozenset(half for number, half in enumerate(halves) if self.seed >> number & 4)
        return Conf(halves, metric, dict.fromkeys(halves, 1), halves[-2:], rules, doubted)

    def say(self, what: str) -> None:
        self.told.append(f"{time.monotonic() - self.began:7.2f} s  step {self.number}: {what}")

    def due(self) -> None:
        """What earlier steps put off until now, and whether the daemon still lives."""
        for one in [one for one in self.late if one[0] <= self.number]:
            self.late.remove(one)
            self.say(f"line {one[1]} {one[2]}")
            self.line(*one[1:])
        if self.repaired_at is not None and self.repaired_at <= self.number:
            self.configure()
        if self.idle_at is not None and self.idle_at <= self.number:
            self.start()
        process = self.service.process
        if self.idle_at is None and process is not None and process.poll() is not None:
            raise SoakFailed(f"the daemon ended by itself: {process.returncode}")

    def start(self) -> None:
        self.say("start")
        self.idle_at, self.known = None, 0
        self.bases.pop("memory", None)
        self.service.start(ready=False)

    def service_over(self) -> None:
        self.service.close()
        for process, _ in self.beside:
            process.kill()
            process.wait()
        self.end_orphans()

    def ready(self) -> bool:
        return self.idle_at is None and self.service.status() is not None

    def line(self, action: str, name: str, device: str = "") -> None:
        """A line for the pipe; nobody reads it where no daemon runs."""
        with contextlib.suppress(OSError):
            self.service.hotplug(action, name, device)

    def announce(self, action: str, source: str) -> None:
        """netifd's word on both halves: at once, late, twice or (where netlink tells all there is) never."""
        how = self.rng.choice(("now", "now", "late", "twice", "never"))
        at = self.number + (self.rng.randint(1, 4) if how in ("late", "never") else 0)
        for name in (source, self.lab.source(source).name6):
            if how != "never" or self.netifd:
                line = action, name, self.lab.source(source).device if action == "ifup" else ""
                self.late += [(at, *line)] * (2 if how == "twice" else 1)
        if at == self.number:
            self.due()

    def configure(self) -> None:
        self.repaired_at = None
        self.service.configure(self.world.text())

    def hooks(self, kind: str) -> None:
        text = f"#!/bin/sh\n{HOOKS[kind]}\n".replace("@PIDS@", str(self.lab.tmp / "hanging"))
        for path in (self.service.user_script, self.service.hotplug_call):
            scratch = path.with_suffix(".new")
            scratch.write_text(text)
            scratch.chmod(0o755)
            scratch.rename(path)

    def end_orphans(self) -> None:
        """Hanging scripts of a daemon that was killed: nobody else ends them."""
        with contextlib.suppress(FileNotFoundError):
            hanging = (self.lab.tmp / "hanging").read_text().split()
            for pid in set(hanging) & {str(pid) for pid, what in self.inside().items() if what == "sleep 300"}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def inside(self) -> dict[int, str]:
        """The processes in the router."""
        router, found = os.stat(self.lab.router.path).st_ino, {}
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == router:
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ").strip()
        return found
