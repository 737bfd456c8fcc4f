"""What came of a run, on its way to a command."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.errors import Finding, Severity
from connbal.track.applied import VERSION, Result, as_data, parse

FINDINGS = st.builds(Finding, st.sampled_from(Severity), st.text(), st.text(), st.text(), st.text())
RESULTS = st.builds(
    Result, st.text(), st.lists(st.text()).map(tuple), st.lists(FINDINGS).map(tuple),
    st.dictionaries(st.text(), st.tuples(st.booleans(), st.text())), st.text(),
)  # fmt: skip
GOOD: dict[str, Any] = as_data(Result("/etc/config/mwan3", ("a change",)))


@given(RESULTS)
def test_it_arrives_as_it_was(result: Result) -> None:
    assert parse(json.loads(json.dumps(as_data(result)))) == result


@pytest.mark.parametrize(
    "change",
    [
        {"version": VERSION + 1}, {"version": True}, {"version": None}, {"changes": 7}, {"findings": [1]},
        {"findings": [{}]}, {"interfaces": []}, {"interfaces": {"wan": 1}}, {"interfaces": {"wan": {"usable": True}}},
        {"findings": [{"severity": "deadly", "code": "", "place": "", "message": "", "remedy": ""}]},
    ],
)  # fmt: skip
def test_what_is_no_result(change: dict[str, Any]) -> None:
    assert parse(GOOD) == Result("/etc/config/mwan3", ("a change",))
    assert parse({**GOOD, **change}) is None
    for missing in GOOD:
        assert parse({name: value for name, value in GOOD.items() if name != missing}) is None
