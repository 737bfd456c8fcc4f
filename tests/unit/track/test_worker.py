"""Runs of the reconciler: what they start from, and what comes of them when something fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping

from connbal.errors import ConfigError, ConnbalError, KernelError
from connbal.kernel.api import TransientError
from connbal.model.config import Config
from connbal.plan.build import plan
from connbal.reconcile import Report
from connbal.track import board
from connbal.track.worker import Job, Judge, Outcome, Worker
from connbal.uci.decode import Decoded
from tests.fakes.build import config, machine


class FakeWorld:
    """A machine that fails on demand."""

    def __init__(self) -> None:
        self.router = machine("wan wan1")
        self.config = config("wan wan1")
        self.version = 1
        self.loads = 0
        self.on_load: BaseException | None = None
        self.on_lock: ConnbalError | None = None
        self.on_apply: BaseException | None = None
        self.locked = False
        self.threads: set[str] = set()
        self.announced = True

    def fingerprint(self) -> object:
        return self.version

    def load(self) -> Decoded:
        assert self.locked
        self.loads += 1
        if self.on_load is not None:
            raise self.on_load
        return Decoded(self.config, ())

    def forced(self) -> Mapping[str, bool]:
        return {}

    @contextlib.contextmanager
    def lock(self, ending: threading.Event) -> Iterator[None]:
        if self.on_lock is not None:
            raise self.on_lock
        self.locked = True
        yield
        self.locked = False

    @property
    def generation(self) -> int:
        return 0

    def disturbed(self) -> bool:
        return False

    def apply(self, config: Config, judge: Judge, *, afresh: bool) -> Report:
        self.threads.add(threading.current_thread().name)
        facts = self.router.facts()
        verdicts = judge(config, facts)
        assert verdicts.keys() == {"wan", "wan1"}
        if self.on_apply is not None:
            raise self.on_apply
        return Report(plan(config, facts), ["a change"], facts=facts)


def outcomes(world: FakeWorld, *changes: Mapping[str, object]) -> list[Outcome]:
    """What comes of a run after each change of the world."""

    async def main() -> list[Outcome]:
        worker = Worker(world)
        found = []
        for change in changes:
            for name, value in change.items():
                setattr(world, name, value)
            found.append(await worker.run(Job({})))
        assert await worker.close()
        return found

    return asyncio.run(main())


def test_a_run_reads_judges_and_applies_in_a_thread_of_its_own() -> None:
    world = FakeWorld()
    (one,) = outcomes(world, {})
    assert one.fresh
    assert one.report is not None
    assert one.seen is not None
    assert one.used == {"wan", "wan1"}
    assert not one.error
    assert world.threads == {"reconcile"}


def test_the_configuration_is_read_when_it_has_changed() -> None:
    world = FakeWorld()
    first, second, third = outcomes(world, {}, {}, {"version": 2})
    assert [one.fresh for one in (first, second, third)] == [True, False, True]
    assert world.loads == 2


def test_one_that_cannot_be_read_leaves_the_last_in_force() -> None:
    bad = ConfigError("mwan3", None, None, "no UCI", line=3)
    world = FakeWorld()
    damage, repair = {"version": 2, "on_load": bad}, {"version": 3, "on_load": None}
    good, spoilt, again, mended = outcomes(world, {}, damage, {}, repair)
    assert (spoilt.trouble, spoilt.fresh) == (str(bad), False)
    assert spoilt.report is not None
    assert not again.trouble  # said once
    assert mended.fresh
    assert good.decoded == again.decoded


def test_without_any_configuration_the_kernel_is_left_alone() -> None:
    (one,) = outcomes(FakeWorld(), {"on_load": ConfigError("mwan3", None, None, "no such file")})
    assert (one.report, one.seen, one.error) == (None, None, "")
    assert one.trouble


def test_a_failure_is_an_outcome() -> None:
    world = FakeWorld()
    locked, failed, broken, fine = outcomes(
        world,
        {"on_lock": TransientError("lock", None, "held by process 7")},
        {"on_lock": None, "on_apply": KernelError("iptables-restore", None, "no such module")},
        {"on_apply": ZeroDivisionError("a fault of ours")},
        {"on_apply": None},
    )
    assert (locked.transient, locked.seen) == (True, None)
    assert (failed.transient, failed.report) == (False, None)
    assert failed.seen is not None
    assert "ZeroDivisionError" in broken.error
    assert fine.report is not None


def test_what_is_held_back_is_judged_by_the_run_that_succeeds() -> None:
    world = FakeWorld()
    failed, fine = outcomes(world, {"on_apply": KernelError("iptables", None, "no")}, {"on_apply": None})
    assert failed.seen is not None
    waiting, _ = board.advance({}, board.held_back(failed.seen, {}, "no"), 1.0)
    assert not any(entry.state.network for entry in waiting.values())
    assert fine.seen is not None
    after, events = board.advance(waiting, fine.seen, 2.0)
    assert all(entry.state.network for entry in after.values())
    assert {event.kind.value for event in events} == {"ifup", "connected"}
