"""connbal takes over in a router where mwan3 runs, with connections open and new ones all the time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests import shapes
from tests.lab import Stream
from tests.netns.doctor.rival import SOURCES, config, plant, processes
from tests.netns.main_job.bench import Bench, state

pytestmark = [pytest.mark.netns, pytest.mark.traffic]

Benches = Callable[..., Bench]


def doctor(one: Bench, *options: str) -> dict[str, Any]:
    """What ``connbal doctor --json`` prints, held against its shape."""
    found: dict[str, Any] = json.loads(one.connbal("doctor", *options, "--json").stdout)
    shapes.check(found)
    return found


def others_settle(one: Bench) -> None:
    """Rules and routes of others in mwan3's numbers."""
    wan = one.lab.source("wan")
    one.lab.router.ip(
        "rule add priority 1001 iif br-lan to 192.0.2.2 lookup 1",
        "rule add priority 2003 fwmark 0x300/0x3f00 lookup 9", "rule add priority 3999 fwmark 0x1/0x1 lookup main",
        "route add unreachable 192.0.2.128/25 table 3",
        f"route add 192.0.2.0/28 via {wan.gateway4} dev {wan.device} table 1",
    )  # fmt: skip


def streams(one: Bench) -> dict[str, Stream]:
    """A connection through each source that the rule's policy uses, marked by mwan3's rules, and into each other."""
    found: dict[str, Stream] = {}
    for number in range(2, 60):
        stream = one.lab.stream("pc", f"203.0.113.{number}")
        name = stream.ask()
        assert name is not None
        if name in found:
            stream.close()
        else:
            found[name] = stream
        if len(found) == 2:
            break
    assert set(found) == {"wan", "wanb"}
    return found


def fresh(one: Bench) -> str:
    """The state of the router if mwan3 had never been there."""
    one.apply()
    found = state(one.lab)
    one.connbal("stop")
    return found


def router(benches: Benches) -> Bench:
    """One with others' things and the configuration in it."""
    one = benches(SOURCES)
    one.configure(config())
    others_settle(one)
    return one


def same(one: Bench, wanted: str) -> None:
    assert state(one.lab).splitlines() == wanted.splitlines()


def test_connections_go_on_and_none_is_lost(bench: Benches) -> None:
    one = router(bench)
    wanted = fresh(one)
    plant(one.lab)
    track = one.lab.run_dir / "mwan3track"
    for name in ("wan", "wand"):
        (track / name).mkdir(parents=True)
        (track / name / "STATUS").write_text("online\n")
    (one.lab.run_dir / "mwan3/iface_state").mkdir(parents=True)
    (one.lab.run_dir / "mwan3/iface_state/wan").write_text("online\n")
    with processes(one.lab) as running:
        held = streams(one)
        planted = state(one.lab)
        seen = doctor(one)
        assert not seen["well"]
        assert {process["interface"] for process in seen["running"]} == {None, "wan", "wand"}
        assert seen["left"]["mask"] == "0x3f00"
        assert seen["left"]["ids"] == {name: number for number, name in enumerate(SOURCES, 1)}
        assert seen["conflicts"] == []
        refused = one.connbal("doctor", "--clean", check=False)
        assert refused.code == 1
        assert "--take-over" in refused.stderr
        assert not doctor(one, "--take-over", "--dry-run")["done"]
        assert state(one.lab) == planted
        assert all(process.poll() is None for process in running.values())
        pairs = one.lab.pairs("pc", 400)
        with one.lab.constant("pc", pairs=pairs, rate=200) as new:
            new.wait_for(60)
            done = doctor(one, "--take-over")
            new.wait_for(len(new.so_far) + 100)
            answers = new.stop()
        assert not answers.failures, answers.errors
        assert set(answers.names) == {"wan", "wanb"}
        for name, stream in held.items():
            assert stream.ask() == name
            stream.close()
        assert (done["done"], done["running"], done["left"]["files"]) == (True, [], [])
        assert {name for name, process in running.items() if process.poll() is None} == {"editor", "elsewhere"}
    same(one, wanted)
    assert doctor(one)["well"]
    assert one.connbal("doctor").stdout.endswith("all is well: nothing of mwan3 is left, and connbal is at work\n")
    assert one.connbal("doctor", "--take-over").stdout == "nothing to do\n"


def test_what_mwan3_knew_to_be_offline_gets_no_new_connection(bench: Benches) -> None:
    one = router(bench)
    plant(one.lab)
    (one.lab.run_dir / "mwan3track/wan").mkdir(parents=True)
    (one.lab.run_dir / "mwan3track/wan/STATUS").write_text("offline\n")
    with processes(one.lab):
        one.connbal("doctor", "--take-over")
        answers = one.lab.tcp("pc", pairs=one.lab.pairs("pc", 40))
    assert set(answers.names) == {"wanb"}


@pytest.mark.parametrize("change", ["mask", "order"])
def test_marks_that_mean_something_else_are_forgotten(bench: Benches, change: str) -> None:
    """Nothing goes astray: what was open is open or refused, and never goes by another source under its old mark."""
    one = router(bench)
    plant(one.lab)
    held = streams(one)
    if change == "mask":
        one.configure(config().replace("0x3F00", "0xFC00"))
    else:
        first, *sections = config().split("\n\n")
        one.configure("\n\n".join([first, sections[1], sections[0], *sections[2:]]))
    assert doctor(one)["conflicts"]
    done = doctor(one, "--take-over")
    assert done["left"]["rules"] == []
    assert done["well"]
    assert all(stream.ask() in (name, None) for name, stream in held.items())
    for stream in held.values():
        stream.close()
    answers = one.lab.tcp("pc", pairs=one.lab.pairs("pc", 60))
    assert set(answers.names) == {"wan", "wanb"}
    assert not answers.failures


def test_killed_at_any_moment_it_converges(bench: Benches, xtables: str) -> None:
    one = router(bench)
    wanted = fresh(one)
    before = state(one.lab)
    draw = random.Random(f"doctor {xtables}")
    killed = 0
    for _ in range(12):
        plant(one.lab)
        killed += one.connbal("doctor", "--take-over", check=False, kill_at=draw.randint(1, 60)).code == -9
        one.connbal("doctor", "--take-over")
        same(one, wanted)
        one.connbal("stop")
        assert not doctor(one)["left"]["rules"]
        one.connbal("doctor", "--clean")
        same(one, before)
    assert killed >= 5
