"""The world of a daemon in memory: a configuration, a machine and a kernel, and a daemon that lives in it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from connbal.kernel.rundir import RunDir
from connbal.model.config import Config
from connbal.model.facts import Facts
from connbal.plan.recent import Recent
from connbal.reconcile import Reconciler, Report
from connbal.track import daemon as daemon_module
from connbal.track.daemon import Daemon, Options
from connbal.track.listen import Happened
from connbal.track.worker import Judge
from connbal.uci.decode import Decoded
from tests.fakes.build import config
from tests.fakes.router import Router


class World:
    """Implements :class:`connbal.track.worker.World`: the reconciler on a kernel in memory, and locks that are real."""

    def __init__(self, run: RunDir, words: str = "wan wan1") -> None:
        self.run = run
        self.router = Router()
        self.config = config(words)
        self.version = 1  #: of the configuration's file
        self.announced = True
        self.changed = False  #: somebody has changed rules, as the kernel tells who asks
        self.runs = 0
        self.looked = 0  #: the generation of rules that the last run saw
        self.before: Callable[[], None] = lambda: None  #: done in each run before it looks
        self._recent = Recent()

    def fingerprint(self) -> object:
        return self.version

    def load(self) -> Decoded:
        return Decoded(self.config, ())

    def forced(self) -> Mapping[str, bool]:
        return self.run.forced()

    def lock(self, ending: threading.Event) -> AbstractContextManager[object]:
        return self.run.lock(ending)

    @property
    def generation(self) -> int:
        return self.looked

    def disturbed(self) -> bool:
        return self.changed

    def apply(self, config: Config, judge: Judge, *, afresh: bool) -> Report:
        self.runs += 1
        self.changed = False
        self.before()
        if afresh:
            self._recent.ask_again()

        def gather(wanted: Config, routing: object, headers: Mapping[str, object]) -> Facts:
            facts = self.router.machine.facts()
            return dataclasses.replace(facts, health=judge(wanted, facts))

        kernel = self.router.kernel
        return Reconciler(kernel.api, gather, kernel.memory, self._recent).apply(config)


class Ear:
    """Stands for what listens to the kernel: ``tell`` is what happens."""

    def __init__(self) -> None:
        self.tell: Callable[[Happened], None] = lambda event: None
        self.available = True

    def __call__(self, listener: Callable[[Happened], None], own: object = None) -> Ear:
        self.tell = listener
        return self

    def close(self) -> None:
        pass


class Life:
    """A daemon that runs in this process's loop."""

    def __init__(self, world: World, made: Daemon, netlink: Ear, rules: Ear) -> None:
        self.world, self.daemon, self.netlink, self.rules = world, made, netlink, rules
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.ensure_future(made.live())

    async def until(self, good: Callable[[], object], what: str, patience: float = 10.0) -> None:
        """Wait until something is so."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while not good():
            assert not self.task.done(), self.task
            assert loop.time() < end, f"waited for {what}"
            await asyncio.sleep(0.01)

    async def ran(self, more: int = 1) -> None:
        """Wait for so many further runs, to their end."""
        wanted = self.count + more
        await self.until(lambda: self.count >= wanted, f"{more} runs")

    @property
    def count(self) -> int:
        count: int = self.status()["reconciles"]["count"]
        return count

    def status(self) -> dict[str, Any]:
        return self.daemon._status()

    async def end(self) -> None:
        """As SIGTERM does."""
        self.daemon._ended.set()
        await self.task


@contextlib.contextmanager
def _ears(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Ear, Ear]]:
    netlink, rules = Ear(), Ear()
    with monkeypatch.context() as patch:
        patch.setattr(daemon_module, "Netlink", netlink)
        patch.setattr(daemon_module, "Nftables", rules)
        patch.setattr(daemon_module, "NAME", Path("/proc/self/comm").read_text().strip())
        yield netlink, rules


@contextlib.asynccontextmanager
async def living(
    world: World, monkeypatch: pytest.MonkeyPatch, path: Path, *, told: bool = True
) -> AsyncIterator[Life]:
    """A daemon in a world, once its first run is over. ``told``: whether the kernel tells of changed rules."""
    with _ears(monkeypatch) as (netlink, rules):
        rules.available = told
        options = Options(path / "mwan3", path / "mwan3.user", path / "hotplug-call")
        life = Life(world, Daemon(world.run, world, options, lambda port: False), netlink, rules)
        try:
            await life.until(lambda: life.count, "the first run")
            yield life
        finally:
            if not life.task.done():
                await life.end()
