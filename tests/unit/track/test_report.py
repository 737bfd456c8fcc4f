"""What the daemon says of a source, by what has happened to it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Interface
from connbal.track.api import HostResult, Round
from connbal.track.health import Finished, Forced, NetworkSeen, State, observe, start
from connbal.track.report import has_view, is_answer, snapshot
from tests.unit.track.test_health import DOWN, UP, a_round, settings

ONE = settings(track_ip=("1.1.1.1", "9.9.9.9"), down=3, up=3, reliability=1)


def after(one: Interface, words: str = "", network: NetworkSeen = UP) -> State:
    """The state after rounds, one at each full second from 1 on, half a second long."""
    state, _ = start(one, network, 0.0)
    for second, word in enumerate(words.split(), 1):
        state, _ = observe(one, state, a_round(word, second), second + 0.5)
    return state


def test_a_source_that_works() -> None:
    state = after(ONE, "++ +-")
    assert snapshot(ONE, state, 10.04, "eth1") == {
        "status": "online", "online": True, "enabled": True, "tracked": True, "running": True, "forced": None,
        "reason": "1 of 2 hosts answered, 1 needed: 9.9.9.9 timeout", "device": "eth1",
        "score": 6, "top": 6, "lost": 0, "turn": 2, "since": 10.0, "round": 7.5,
        "hosts": [
            {"host": "1.1.1.1", "state": "up", "latency": 20.0, "loss": 0.0, "fault": ""},
            {"host": "9.9.9.9", "state": "down", "latency": 20.0, "loss": 50.0, "fault": "timeout"},
        ],
    }  # fmt: skip


def test_a_source_that_was_not_probed_yet() -> None:
    seen = snapshot(ONE, after(ONE), 0.5, "eth1")
    assert (seen["round"], seen["turn"], seen["running"]) == (None, 0, True)
    unknown = {"state": "unknown", "latency": None, "loss": None, "fault": ""}
    assert seen["hosts"] == [{"host": "1.1.1.1", **unknown}, {"host": "9.9.9.9", **unknown}]


def test_hosts_that_no_round_named_yet_come_last() -> None:
    more = replace(ONE, track_ip=("8.8.8.8", *ONE.track_ip))
    seen = snapshot(more, after(ONE, "++"), 3.0, None)
    assert [(one["host"], one["state"]) for one in seen["hosts"]] == [
        ("1.1.1.1", "up"), ("9.9.9.9", "up"), ("8.8.8.8", "unknown"),
    ]  # fmt: skip


def test_a_source_that_went_offline() -> None:
    seen = snapshot(ONE, after(ONE, "++ -- -- --"), 10.0, "eth1")
    assert (seen["status"], seen["online"], seen["score"], seen["lost"]) == ("offline", False, 0, 6)
    assert seen["since"] == 5.5


def test_what_was_heard_before_the_network_went_is_not_told() -> None:
    state, _ = observe(ONE, after(ONE, "++"), DOWN, 3.0)
    seen = snapshot(ONE, state, 4.0, None)
    assert (seen["status"], seen["running"], seen["reason"], seen["since"]) == ("disabled", False, "no carrier", 1.0)
    assert {one["state"] for one in seen["hosts"]} == {"unknown"}


def test_where_it_was_never_up_there_is_no_since() -> None:
    seen = snapshot(ONE, after(ONE, network=DOWN), 9.0, None)
    assert (seen["since"], seen["online"]) == (None, False)


def test_forced_and_untracked() -> None:
    for up, word in ((True, "up"), (False, "down"), (None, None)):
        state, _ = observe(ONE, after(ONE, "++"), Forced(up), 3.0)
        assert snapshot(ONE, state, 4.0, None)["forced"] == word
    bare = settings(track_ip=())
    seen = snapshot(bare, after(bare), 4.0, "eth1")
    assert (seen["tracked"], seen["running"], seen["online"], seen["hosts"]) == (False, False, True, [])


def test_figures_have_one_decimal() -> None:
    state, _ = start(ONE, UP, 0.0)
    results = (HostResult("1.1.1.1", True, 12.3456, 100 / 3), HostResult("9.9.9.9", False, skipped=True))
    state, _ = observe(ONE, state, Finished(Round(results, 1.23456), 1.0), 1.25)
    seen = snapshot(ONE, state, 7.77777, None)
    assert (seen["round"], seen["since"]) == (6.5, 7.8)
    assert seen["hosts"] == [
        {"host": "1.1.1.1", "state": "up", "latency": 12.3, "loss": 33.3, "fault": ""},
        {"host": "9.9.9.9", "state": "skipped", "latency": None, "loss": None, "fault": ""},
    ]


@given(st.lists(st.sampled_from(["++", "+-", "--", "-?", "?+"]), max_size=12), st.floats(0, 1e6), st.booleans())
def test_it_is_always_json(words: list[str], now: float, up: bool) -> None:
    seen = snapshot(ONE, after(ONE, " ".join(words), UP if up else DOWN), now, None)
    assert json.loads(json.dumps(seen, allow_nan=False)) == seen
    assert all(seen[key] is None or seen[key] >= 0 for key in ("since", "round"))


def test_it_needs_nothing_slow() -> None:
    program = "import connbal.track.report, connbal.track.statefiles, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"asyncio", "pyroute2", "icmplib", "click", "subprocess"}


# --- telling an answer from anything else -------------------------------------------------------------------------

LAST = {"number": 3, "kind": "reconcile", "error": None}


def answer(**changes: Any) -> dict[str, Any]:
    """What a daemon answers whose only source is ONE, after two rounds."""
    said = {
        "version": 1, "pid": 123, "since": 7500.25, "reconciles": {"count": 14, "last": LAST},
        "interfaces": {"wan": snapshot(ONE, after(ONE, "++ +-"), 10.0, "eth1")},
    }  # fmt: skip
    return {**said, **changes}


def with_source(**changes: Any) -> dict[str, Any]:
    return answer(interfaces={"wan": {**answer()["interfaces"]["wan"], **changes}})


def test_an_answer_is_known_after_its_way_through_json() -> None:
    assert is_answer(json.loads(json.dumps(answer())))
    assert is_answer(answer(reconciles={"count": 0, "last": None}, interfaces={}, news="of later versions"))


@pytest.mark.parametrize(
    "other",
    [
        None, [], {}, answer(version=2), answer(pid="123"), answer(since=None), answer(interfaces=[]),
        answer(interfaces={"wan": None}), answer(reconciles={"count": "14", "last": None}), answer(reconciles={}),
        answer(since=float("nan")), answer(since=float("inf")), answer(since=10**400), with_source(since="1 h"),
        with_source(score=None), with_source(hosts=[1]), with_source(hosts=[{"host": "1.1.1.1"}]),
        with_source(hosts=None), with_source(reason=["x"]), with_source(top=float("nan")),
    ],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_none(other: object) -> None:
    assert not is_answer(other)


@given(st.sampled_from(sorted(snapshot(ONE, State(), 0.0, None))))
def test_no_part_of_a_snapshot_may_be_missing(key: str) -> None:
    said = answer()
    del said["interfaces"]["wan"][key]
    assert not is_answer(said)


def test_a_view_is_known_by_its_version() -> None:
    assert has_view(answer(view={"version": 1}))
    for other in (answer(), answer(view=None), answer(view={}), answer(view={"version": 2}), answer(view=[1])):
        assert not has_view(other)
    assert not has_view({"view": {"version": 1}})
    assert not has_view(None)
