"""The daemon's journal: what it keeps, whom it tells, and how a record reads."""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.track.health import Event, EventKind, Status
from connbal.track.journal import CAUSES, CHANGES, FINDINGS, MEMORY, TEXT, Journal, Record, is_record, line

WALL, UPTIME = 1_700_000_000.3456, 71.23456
CAUSE = "0 of 3 hosts answered, 1 needed: 1.1.1.1 timeout"
LOST = Event(EventKind.DISCONNECTED, "wan1", CAUSE, Status.ONLINE, Status.OFFLINE, UPTIME)


def journal() -> Journal:
    return Journal(lambda: WALL, lambda: UPTIME)


def shown(record: Record) -> str:
    return line({**record, "time": "2026-03-01T12:01:02.345+01:00"})


def test_a_transition() -> None:
    made = journal()
    made.transition(LOST, "wwan0")
    (record,) = made.recent()
    when = datetime.fromisoformat(record.pop("time"))
    assert when.utcoffset() is not None
    assert when.timestamp() == pytest.approx(WALL, abs=0.001)
    assert record == {
        "number": 1, "uptime": 71.235, "kind": "disconnected", "interface": "wan1", "device": "wwan0",
        "cause": CAUSE, "old": "online", "new": "offline", "first": False,
    }  # fmt: skip


def test_a_run_and_the_daemon() -> None:
    made = journal()
    record = made.reconcile(["wan1 disconnected"], ["a", "b"], ["bad"], 3, 0.04567)
    made.daemon("started")
    assert made.recent()[0] is record
    assert {name: record[name] for name in list(record)[4:]} == {
        "causes": ["wan1 disconnected"], "changes": ["a", "b"], "findings": ["bad"], "changed": 2, "flushed": 3,
        "seconds": 0.046, "error": None,
    }  # fmt: skip
    assert made.recent()[1]["text"] == "started"
    assert [(one["number"], one["kind"]) for one in made.recent()] == [(1, "reconcile"), (2, "daemon")]


def test_every_record_is_json_and_knows_itself() -> None:
    made = journal()
    made.transition(LOST, None)
    made.reconcile((), (), (), 0, 0, "no")
    made.daemon("started")
    for record in made.recent():
        assert is_record(record)
        assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("name", ["number", "time", "uptime", "kind", "causes", "changed", "flushed", "seconds"])
def test_what_is_no_record(name: str) -> None:
    record = journal().reconcile((), (), (), 0, 0.0)
    assert not is_record({**record, name: None})
    assert not is_record({other: value for other, value in record.items() if other != name})
    assert not is_record({})


def test_only_the_last_are_kept() -> None:
    made = journal()
    for number in range(MEMORY + 7):
        made.daemon(str(number))
    assert [record["number"] for record in made.recent()] == list(range(8, MEMORY + 8))
    assert [record["number"] for record in made.recent(MEMORY + 5)] == [MEMORY + 6, MEMORY + 7]
    assert made.recent(MEMORY + 7) == made.recent(10**9) == []


def test_long_lists_and_texts_are_cut() -> None:
    made = journal()
    many = [str(number) for number in range(70)]
    record = made.reconcile(many, many, many, 0, 0.0, "x" * 10_000)
    for name, kept in (("causes", CAUSES), ("changes", CHANGES), ("findings", FINDINGS)):
        assert record[name] == [*many[:kept], f"... and {70 - kept} more"]
    assert record["changed"] == 70
    assert len(record["error"]) == TEXT
    exact = made.reconcile(many[:CAUSES], many[:CHANGES], [], 0, 0.0, "x" * TEXT)
    assert (exact["causes"], exact["changes"], exact["error"]) == (many[:CAUSES], many[:CHANGES], "x" * TEXT)


def test_the_same_findings_are_kept_once() -> None:
    made = journal()
    first, second = (made.reconcile([], [], ["".join(["no ", "device"])], 0, 0.0) for _ in range(2))
    other = made.reconcile([], [], [], 0, 0.0)
    assert first["findings"] is second["findings"]
    assert other["findings"] == []


def test_the_same_changes_are_kept_once() -> None:
    """Who damages the rules every few seconds has the same repaired again and again: 1,000 records, 8 MB."""
    made = journal()
    first, none, second = (made.reconcile([], ["".join(text)] * bool(text), [], 0, 0.0) for text in ("+ x", "", "+ x"))
    assert first["changes"] is second["changes"]
    assert none["changes"] == []
    other = made.reconcile([], ["+ y"], [], 0, 0.0)
    assert (other["changes"], first["changes"]) == (["+ y"], ["+ x"])


def test_followers_are_told_until_they_leave() -> None:
    made = journal()
    told: list[Record] = []
    made.daemon("before")
    leave = made.follow(told.append)
    made.daemon("one")
    made.daemon("two")
    leave()
    leave()
    made.daemon("after")
    assert [record["text"] for record in told] == ["one", "two"]


def test_a_follower_that_fails_costs_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    made = journal()
    calls: list[str] = []

    def fails(record: Record) -> None:
        calls.append(record["text"])
        raise ValueError("no")

    told: list[Record] = []
    leave = made.follow(fails)
    made.follow(told.append)
    made.daemon("one")
    made.daemon("two")
    leave()
    assert calls == ["one"]
    assert [record["text"] for record in told] == ["one", "two"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_one_may_leave_while_it_is_told() -> None:
    made = journal()
    told: list[str] = []

    def once(record: Record) -> None:
        told.append(record["text"])
        leave()

    leave = made.follow(once)
    made.follow(lambda record: told.append(record["text"]))
    made.daemon("one")
    made.daemon("two")
    assert told == ["one", "one", "two"]


def test_a_clock_before_its_time_is_no_obstacle() -> None:
    made = Journal(lambda: 0.0, time.monotonic)
    made.daemon("no time server yet")
    assert made.recent()[0]["time"].startswith(("1969", "1970"))


def test_lines_for_people() -> None:
    made = journal()
    made.transition(LOST, "wwan0")
    made.daemon("started")
    assert [shown(record) for record in made.recent()] == [
        f"12:01:02.345  wan1  disconnected (online -> offline): {CAUSE}",
        "12:01:02.345  daemon  started",
    ]


def test_a_transition_that_leaves_the_status_as_it_is() -> None:
    made = journal()
    made.transition(Event(EventKind.IFUP, "wan1", "its network is up", Status.ONLINE, Status.ONLINE, 0.0), None)
    assert shown(made.recent()[0]) == "12:01:02.345  wan1  ifup (online): its network is up"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ((["wan1 disconnected"], ["a"] * 4, [], 0, 0.046), "4 changes in 46 ms, because of: wan1 disconnected"),
        ((["a", "b"], ["a"], [], 1, 1.26), "1 change in 1.3 s, connections of 1 mark forgotten, because of: a, b"),
        (([], [], [], 12, 0.0004), "no changes in 0 ms, connections of 12 marks forgotten"),
        (([], ["a"] * 70, [], 0, 0.5), "70 changes in 500 ms"),
        (([], ["a"], [], 0, 0.046, "ip rule: no"), "failed after 46 ms: ip rule: no"),
    ],
)
def test_runs_for_people(run: tuple[Any, ...], words: str) -> None:
    assert shown(journal().reconcile(*run)) == f"12:01:02.345  reconcile  {words}"


def test_control_characters_are_harmless() -> None:
    made = journal()
    made.daemon("a\nb\x1b[31m\t\x7f\x9b\u202e\udcff ü \\n")
    assert shown(made.recent()[0]) == "12:01:02.345  daemon  a\\nb\\x1b[31m\\t\\x7f\\x9b\\u202e\\udcff ü \\n"


@given(st.lists(st.text(), min_size=3, max_size=3))
def test_any_text_is_one_line(texts: list[str]) -> None:
    made = journal()
    interface, cause, text = texts
    made.transition(Event(EventKind.IFUP, interface, cause, Status.ONLINE, Status.ONLINE, 0.0), None)
    made.reconcile([cause], [text], [text], 0, 0.0, text)
    made.daemon(text)
    for record in made.recent():
        assert line(record).isprintable()
