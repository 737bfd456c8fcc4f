"""Prometheus' text format, written and read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.cli.exposition import Metric, render
from tests.exposition import read

texts = st.text(st.one_of(st.sampled_from('\\"\n{},= #'), st.characters(blacklist_categories=["Cs"])), max_size=6)
numbers = st.one_of(st.integers(-(2**60), 2**60), st.floats(), st.booleans())
labels = st.dictionaries(st.sampled_from(["a", "b_c", "interface"]), texts, max_size=3)


def gauge(*samples: tuple[dict[str, str], float], name: str = "x", help_: str = "h.") -> Metric:
    return Metric(name, "gauge", help_, samples)


@given(
    texts, st.lists(st.tuples(labels, numbers), min_size=1, max_size=4, unique_by=lambda one: frozenset(one[0].items()))
)
def test_what_is_written_reads_back(help_: str, samples: list[tuple[dict[str, str], float]]) -> None:
    family = read(render([gauge(*samples, help_=help_)]))["x"]
    assert family.help == help_
    for names, value in samples:
        found = family.samples[frozenset(names.items())]
        assert found == float(value) or (math.isnan(found) and math.isnan(value))


def test_the_text() -> None:
    metrics = [
        gauge(({"interface": 'a"b\\c\nd'}, True), ({"interface": "e"}, 0.25), help_='One\nline \\ of "help".'),
        Metric("y_total", "counter", "Many.", (({}, 12345678901234567),)),
        gauge(name="empty"),
    ]
    assert render(metrics) == (
        '# HELP x One\\nline \\\\ of "help".\n# TYPE x gauge\n'
        'x{interface="a\\"b\\\\c\\nd"} 1\nx{interface="e"} 0.25\n'
        "# HELP y_total Many.\n# TYPE y_total counter\ny_total 12345678901234567\n"
    )


def test_bytes_that_are_no_text_do_not_spoil_the_rest() -> None:
    text = render([gauge(({"host": "a\udcff"}, 1))])
    assert read(text)["x"].value(host="a\ufffd") == 1


@pytest.mark.parametrize(
    "metrics",
    [
        [gauge(({}, 1), ({}, 2))],
        [gauge(({"a": "1"}, 1), ({"a": "1"}, 1))],
        [gauge(({}, 1)), gauge(({}, 1))],
        [gauge(({"a-b": "1"}, 1))],
        [gauge(({"__name__": "1"}, 1))],
        [gauge(({}, 1), name="a-b")],
        [gauge(({}, 1), name="x_total")],
        [Metric("x", "counter", "h.", (({}, 1),))],
    ],
)
def test_what_a_server_would_refuse_is_never_written(metrics: list[Metric]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        render(metrics)


@pytest.mark.parametrize(
    "text",
    ["x 1", "x 1\n", "# TYPE x gauge\nx 1\n", "# HELP x h\n# TYPE x gauge\nx{a=1} 1\n", "\n",
     '# HELP x h\n# TYPE x gauge\nx{a="\\t"} 1\n', "# HELP x h\n# TYPE x gauge\nx one\n",
     '# HELP x h\n# TYPE x gauge\nx{a="1",a="2"} 1\n'],
)  # fmt: skip
def test_the_reader_is_strict(text: str) -> None:
    with pytest.raises(AssertionError):
        read(text)
