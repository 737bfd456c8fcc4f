"""The daemon on a real loop, in a world in memory: how often it runs, what it says, and that it never waits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from connbal.errors import KernelError
from connbal.kernel.files import Lock
from connbal.kernel.rundir import RunDir
from connbal.plan.values import IpRoute
from connbal.track import repairs
from connbal.track.holds import Holds
from connbal.track.listen import HOLD, RELEASE, Happened, changed_rules
from tests.fakes.build import V4
from tests.fakes.world import Life, World, living
from tests.fakes.xtables import Refusal

Body = Callable[[World, Life], Awaitable[None]]


@pytest.fixture
def lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``lived(body, prepare)``: run a coroutine function beside a daemon."""

    def run(body: Body, prepare: Callable[[World], None] = lambda world: None, *, told: bool = True) -> None:
        async def main() -> None:
            world = World(RunDir(tmp_path))
            prepare(world)
            async with living(world, monkeypatch, tmp_path, told=told) as life:
                await body(world, life)

        asyncio.run(main())

    return run


# --- what the kernel refuses --------------------------------------------------------------------------------------


def refuse_route(world: World, device: str) -> None:
    """As a kernel does that has IPv6 switched off on a device, or does not like a gateway."""
    routing = world.router.kernel.routing
    put = routing.replace_route

    def refusing(route: IpRoute) -> None:
        if route.device == device and not route.destination.prefixlen:
            raise KernelError("ip route replace", None, "Nexthop has invalid gateway.")
        put(route)

    routing.replace_route = refusing  # type: ignore[method-assign]


def refuse_chain(world: World) -> None:
    world.router.kernel.xtables.refusals.append(Refusal("-A mwan3_(iface_in_wan|probe) .*-i eth1", named=False))


@pytest.mark.parametrize("refuse", [lambda world: refuse_route(world, "eth1"), refuse_chain], ids=["route", "chain"])
def test_what_is_refused_for_good_is_tried_again_ever_less_often(
    lived: Callable[..., None], refuse: Callable[[World], None]
) -> None:
    async def body(world: World, life: Life) -> None:
        await asyncio.sleep(3.5)
        # At the start, after 1 s, and after 2 s more.
        assert world.runs <= 4, world.runs
        wan = life.status()["interfaces"]["wan"]
        assert not wan["online"]
        assert life.status()["interfaces"]["wan1"]["online"]
        records = [one for one in life.daemon._journal.recent() if one["kind"] == "reconcile"]
        assert len(records) <= 2, records
        # Another source does not wait for it.
        life.world.router.machine.uplinks["wan1"].up = False
        began = time.monotonic()
        life.netlink.tell(Happened("link eth2", "eth2", False))
        await life.ran()
        assert not life.status()["interfaces"]["wan1"]["online"]
        assert time.monotonic() - began < 0.2

    lived(body, refuse)


def test_what_was_refused_comes_back_by_itself(lived: Callable[..., None]) -> None:
    async def body(world: World, life: Life) -> None:
        assert not life.status()["interfaces"]["wan"]["online"]
        world.router.kernel.xtables.refusals.clear()
        await life.until(lambda: life.status()["interfaces"]["wan"]["online"], "wan", 4.0)
        assert life.daemon._next()[0] == "time for a look"

    lived(body, refuse_chain)


def test_a_difference_that_no_run_settles_does_not_ask_for_runs_without_end(
    lived: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connbal.track.board.usable", lambda verdicts: frozenset({"never"}))

    async def body(world: World, life: Life) -> None:
        await asyncio.sleep(2.0)
        assert world.runs <= 4

    lived(body)


# --- nobody holds it up ---------------------------------------------------------------------------------------------


async def ask(path: Path) -> float:
    """Seconds until the control socket has answered."""
    began = time.monotonic()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"ask": "status"}\n')
    assert json.loads(await reader.readline())["version"] == 1
    writer.close()
    return time.monotonic() - began


@pytest.mark.parametrize("lock", ["force.lock", "lock"])
def test_a_lock_that_somebody_holds_keeps_no_question_waiting(lived: Callable[..., None], lock: str) -> None:
    async def body(world: World, life: Life) -> None:
        events = world.run.events
        with Lock(events.with_name(lock)):
            for line in ("force wan down", "force wan1 down", "force wan auto", "ifup wan1"):
                events.write_text(f"{line}\n")
            for _ in range(20):
                assert await ask(world.run.control) < 0.2
                await asyncio.sleep(0.02)
        await life.until(lambda: not life.status()["interfaces"]["wan1"]["running"], "the lines to be heeded")
        await life.until(lambda: not world.run.held(), "what was held to be released")

    lived(body)


@pytest.mark.parametrize("lock", ["force.lock", "lock"])
def test_it_ends_at_once_whoever_holds_a_lock(lived: Callable[..., None], lock: str) -> None:
    async def body(world: World, life: Life) -> None:
        with Lock(world.run.events.with_name(lock)):
            world.run.events.write_text("force wan down\n")
            life.netlink.tell(Happened("route"))
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await life.end()
            assert time.monotonic() - began < 1.0

    lived(body)


def test_a_run_that_hangs_is_left_behind(lived: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connbal.track.worker.programs.give_up", lambda: None)

    async def body(world: World, life: Life) -> None:
        world.before = lambda: time.sleep(5)
        life.netlink.tell(Happened("route"))
        await life.until(lambda: world.runs == 2, "the run that hangs")
        began = time.monotonic()
        await life.end()
        assert time.monotonic() - began < 2.0

    lived(body)


def test_what_is_held_lasts_until_it_is_released(tmp_path: Path) -> None:
    """``mwan3 ifdown`` lasts until the next ifup; what the user has forced is not ended by one."""
    run = RunDir(tmp_path)
    run.force("wan1", "down")
    written: list[Happened] = []

    async def main() -> None:
        holds = Holds(run, written.append, lambda error: pytest.fail(str(error)))

        async def heeded(*events: Happened) -> dict[str, bool]:
            wanted = len(written) + sum(map(holds.heed, events))
            while len(written) < wanted:
                await asyncio.sleep(0.001)
            return run.forced()

        def said(action: str, name: str) -> Happened:
            return Happened(f"{action} {name}", interface=name, action=action)

        assert not holds.heed(said("ifup", "wan"))  # nobody is held
        assert await heeded(said(HOLD, "wan"), said(HOLD, "wan2")) == {"wan": False, "wan1": False, "wan2": False}
        assert run.held() == {"wan", "wan2"}
        assert await heeded(said("ifup", "wan_4"), said("ifup", "wan1")) == {"wan1": False, "wan2": False}
        # In the order in which they came, those that still wait included.
        assert await heeded(said(HOLD, "wan"), said("ifup", "wan_6")) == {"wan1": False, "wan2": False}
        assert await heeded(Happened("mwan3 restart", action="changed")) == {"wan1": False}
        assert await heeded(said(RELEASE, "wan1")) == {}
        await holds.close()

    asyncio.run(main())
    assert [event.action for event in written][:2] == [HOLD, HOLD]


# --- what it says ---------------------------------------------------------------------------------------------------


def test_a_view_of_files_that_have_changed_since_is_none(lived: Callable[..., None]) -> None:
    async def body(world: World, life: Life) -> None:
        assert life.daemon._viewed()["view"]["rules"]
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait() -> None:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)

        world.before = wait
        world.config = replace(world.config, rules=())
        world.version = 2
        assert life.daemon._viewed()["view"] is None
        await life.until(lambda: world.runs == 2, "the change to be noticed")
        # It knows of the change, and has not carried it out.
        assert life.daemon._viewed()["view"] is None
        gate.set()
        await life.until(lambda: life.daemon._viewed()["view"] is not None, "the run to be over")
        assert life.daemon._viewed()["view"]["rules"] == []

    lived(body)


def test_networks_that_came_up_anew_are_not_forgotten_where_a_run_is_not_taken_over(
    lived: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(world: World, life: Life) -> None:
        settle, renewed = life.daemon._settle, []

        def broken(outcome: object) -> None:
            life.daemon._settle = settle  # type: ignore[method-assign]
            raise ZeroDivisionError

        run = life.daemon._worker.run

        async def watched(job: object) -> object:
            renewed.append(job.renewed)  # type: ignore[attr-defined]
            return await run(job)  # type: ignore[arg-type]

        life.daemon._settle = broken  # type: ignore[method-assign, assignment]
        life.daemon._worker.run = watched  # type: ignore[method-assign, assignment]
        world.run.events.write_text("ifup wan eth1\n")
        await life.until(lambda: len(renewed) == 2, "another run")
        assert renewed == [{"wan"}, {"wan"}]

    lived(body)


# --- what others undo -----------------------------------------------------------------------------------------------


def flush(world: World) -> None:
    world.router.kernel.xtables.tables[V4]["PREROUTING"].clear()


def whole(world: World) -> bool:
    return any("mwan3_hook" in line for line in world.router.kernel.xtables.tables[V4]["PREROUTING"])


def test_who_undoes_rules_again_and_again_is_named_and_not_fought_at_full_speed(
    lived: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    async def body(world: World, life: Life) -> None:
        for number in range(int(repairs.BURST)):
            await asyncio.sleep(0.3)  # runs are paced, whatever they are for
            flush(world)
            began = time.monotonic()
            life.rules.tell(changed_rules(f"iptables (process {number})", "rival (process 7)"))
            await life.until(lambda: whole(world), "the repair")
            assert time.monotonic() - began < 0.1
        await life.until(lambda: life.status()["reconciles"]["repairs"]["count"] == 8, "the count")
        told = life.status()["reconciles"]["repairs"]
        assert told["by"] == "iptables (process 7), started by rival (process 7)"
        by = "5 times in the last 10 minutes, last by iptables (process 4), started by rival (process 7)"
        for said in (caplog.text, str(life.daemon._journal.recent())):
            assert by in said
            assert "+ ipv4 hook PREROUTING -j mwan3_hook" in said
        assert "8 times in the last 10 minutes" in told["text"]
        # From now on only now and then, whatever the other one does.
        runs = world.runs
        for _ in range(20):
            flush(world)
            life.rules.tell(changed_rules("iptables (process 9)"))
            await asyncio.sleep(0.05)
        assert world.runs <= runs + 1
        runs = world.runs
        flush(world)
        life.rules.tell(changed_rules("iptables (process 9)"))
        await asyncio.sleep(0.1)
        assert world.runs == runs
        # But a run for another reason repairs it.
        life.netlink.tell(Happened("route"))
        await life.until(lambda: whole(world), "the repair")

    lived(body)


def test_where_the_kernel_tells_of_no_rules_they_are_looked_at(lived: Callable[..., None]) -> None:
    async def body(world: World, life: Life) -> None:
        flush(world)
        world.changed = True
        await life.until(lambda: whole(world), "the repair", 1.5)
        assert life.status()["reconciles"]["repairs"]["count"] == 1
        assert life.status()["reconciles"]["repairs"]["text"] == ""
        runs = world.runs
        await asyncio.sleep(2.5)
        assert world.runs == runs  # looking is no run

    lived(body, told=False)


def test_a_change_that_a_run_has_seen_is_no_news(lived: Callable[..., None]) -> None:
    """Its own too, where the kernel's numbers of processes are not those that are known here."""

    async def body(world: World, life: Life) -> None:
        for seen, own, news in ((7, 7, 8), (0xFFFFFFFF, 0xFFFFFFF0, 3), (3, 0xFFFFFFFF, 4)):
            world.looked = seen
            world.before = lambda own=own: life_tells(life, own)  # type: ignore[misc]
            runs = world.runs
            life.netlink.tell(Happened("route"))
            await asyncio.sleep(1.0)
            assert world.runs == runs + 1
            world.before = lambda: None
            life.rules.tell(changed_rules("iptables (process 9)", generation=news))
            await life.until(lambda wanted=runs + 2: world.runs == wanted, "a run")  # type: ignore[misc]
            await asyncio.sleep(0.1)

    lived(body)


def life_tells(life: Life, generation: int) -> None:
    """What a program that the run started has done is heard in the loop, while the run is under way."""
    event = changed_rules("iptables (process 8)", generation=generation)
    life.loop.call_soon_threadsafe(life.rules.tell, event)


def test_a_change_of_configuration_or_of_the_machine_is_no_repair(lived: Callable[..., None]) -> None:
    async def body(world: World, life: Life) -> None:
        world.config, world.version = replace(world.config, rules=()), 2
        life.netlink.tell(Happened("route"))
        await life.ran()
        world.router.machine.uplinks["wan"].up = False
        life.netlink.tell(Happened("link eth1"))
        await life.ran()
        world.router.machine.uplinks["wan"].up = True
        life.netlink.tell(Happened("link eth1"))
        await life.ran()
        world.router.kernel.routing.routes.clear()  # as a link that goes for a moment takes them along
        life.netlink.tell(Happened("route gone"))
        await life.ran()
        assert world.router.kernel.routing.routes
        assert life.status()["reconciles"]["repairs"]["count"] == 0

    lived(body)


def test_one_flush_a_minute_is_repaired_at_once_each_time() -> None:
    made = repairs.Repairs()
    for minute in range(100):
        assert made.wait(minute * 60.0) == 0
        made.made(["~ ipv4 chain mwan3_hook: 3 rules"], "", minute * 60.0)
    assert made.as_data(99 * 60.0)["recent"] == 10


def test_it_is_said_when_it_begins_and_each_time_it_has_doubled() -> None:
    made = repairs.Repairs()
    said = [number for number in range(1, 100) if made.made(["+ rule ipv4 2001: from all lookup 1"], "", number * 0.1)]
    assert said == [5, 10, 20, 40, 80]
    assert "by whom is not known" in made.text(10.0)
    assert made.text(1000.0) == ""
