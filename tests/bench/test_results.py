"""Figures, their targets, and how they are told."""

from __future__ import annotations

import pytest

from tests.bench.results import LIMIT, Figure, Floor, cells, table, text

_FLOOR = Floor("the bare thing", (1.0, 2.0, 9.0))


def test_a_limit_is_for_the_worst_and_a_ratio_for_the_medians() -> None:
    assert Figure("x", (1.0, 1.0, 5.0), 4.0).missed
    assert not Figure("x", (1.0, 1.0, 5.0), 4.0, by="median").missed
    assert not Figure("x", (6.0, 6.0, 99.0), floor=_FLOOR, times=3).missed
    assert Figure("x", (6.1, 6.1, 6.1), floor=_FLOOR, times=3).missed


def test_more_can_be_better() -> None:
    figure = Figure("x", (90.0, 100.0, 110.0), 95.0, "packets/s", better="more")
    assert (figure.worst, figure.missed) == (90.0, True)
    assert not Figure("x", (2.0,), floor=_FLOOR, times=0.9, better="more").missed
    assert Figure("x", (1.7,), floor=_FLOOR, times=0.9, better="more").missed


def test_without_a_target_nothing_is_missed() -> None:
    figure = Figure("x", (1e9,), floor=_FLOOR)
    assert (figure.missed, figure.ratio, cells(figure)[1], cells(figure)[-1]) == (False, 5e8, "-", "")


def test_a_line_is_named_by_what_and_its_scale() -> None:
    figure = Figure("reconcile", (1.0,), scale={"interfaces": 20, "rules": 1000, "affinity": "pair"})
    assert figure.name == "reconcile, 20 interfaces, 1,000 rules, affinity pair"
    assert Figure("x", (1.0,), scale={"rules": 1}).name == "x, 1 rule"


def test_the_table_says_target_measured_ratio_and_verdict() -> None:
    lines = table([
        Figure("good", (0.05,), 0.1), Figure("bad", (7.0,), floor=_FLOOR, times=3.0), Figure("known", (3,), unit=""),
    ]).splitlines()  # fmt: skip
    assert [line.split()[-1] for line in lines[1:]] == ["ok", "MISSED", "-"]
    assert lines[1].split()[1:6] == ["<=", "0.100", "s", "50.0", "ms"]
    assert LIMIT in lines[1]
    assert "3.50  the bare thing" in lines[2]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(0.0123, "s", "12.3 ms"), (0.00002, "s", "0.020 ms"), (1.5, "s", "1.500 s"), (0.0, "s", "0.000 s"),
     (1234, "", "1,234"), (2.5, "", "2.5"), (12345.6, "packets/s", "12,346 packets/s"), (1.26, "MB", "1.3 MB")],
)  # fmt: skip
def test_values_are_told_in_a_unit_that_can_be_read(value: float, unit: str, said: str) -> None:
    assert text(value, unit) == said


def test_everything_is_in_the_json() -> None:
    figure = Figure("x", (6.0,), group="events", scale={"rules": 10}, floor=_FLOOR, times=2)
    answer = figure.as_json()
    assert answer["floor"] == {"name": "the bare thing", "median": 2.0, "samples": [1.0, 2.0, 9.0]}
    assert (answer["name"], answer["ratio"], answer["missed"]) == ("x, 10 rules", 3.0, True)
