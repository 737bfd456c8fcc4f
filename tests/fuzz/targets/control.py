"""The daemon's socket, from both ends, its named pipe, and the files that the next process reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from connbal.errors import UsageError
from connbal.kernel import files
from connbal.kernel.rundir import RunDir
from connbal.plan.ledger import Ledger
from connbal.track import applied, client, control, journal
from connbal.track.listen import ACTIONS, HOLD, RELEASE, hotplug_event
from tests.fuzz import oracle, structure

TOKENS = (b'{"ask": "status"}', b'{"ask": "events", "after": ', b'"follow": true', b'"ask"', b'"view"', b'"apply"',
          b"ifup wan",
          b"changed config", b"force wan down", b" auto", b'"version": 1', b'"findings"', b'"severity": "error"',
          b'"kind"',
          b'"reconcile"', b'"daemon"', b'"interfaces"', b'"online"', b'"uptime"', b'"held"', b"1e400", b"NaN",
          b"9" * 400, b"null", b"[]", b"{}")  # fmt: skip
_FINDING = {"severity": "error", "code": "c", "place": "mwan3", "message": "m", "remedy": "r"}
_RECORD = {"number": 1, "time": "2026-01-01T00:00:00.000+00:00", "uptime": 1.5}
_LEDGER = Ledger("nft", ids={"wan": 1}, underway=frozenset({("wan", 2)}), mask=0x3F00, present=frozenset({"wan"}),
                 active={"all ipv4": frozenset({"wan"})}, usable=frozenset({"wan"}))

mutate = structure.of_json(1)


def seeds() -> Iterator[bytes]:
    for ask in ({"ask": "status"}, {"ask": "view"}, {"ask": "apply"}, {"ask": "events", "after": 3, "follow": True}):
        yield b"\0" + json.dumps(ask).encode()
    result = {"version": 1, "file": "f", "changes": ["a"], "findings": [_FINDING], "error": None,
              "interfaces": {"wan": {"usable": True, "reason": "up"}}}  # fmt: skip
    yield b"\x01" + json.dumps(result).encode()
    yield b"\x02" + json.dumps({**_RECORD, "kind": "ifup", "interface": "wan", "cause": "c", "old": "a",
    "new": "b"}).encode()
    yield b"\x02" + json.dumps({**_RECORD, "kind": "daemon", "text": "t"}).encode()
    yield b"\x02" + json.dumps({**_RECORD, "kind": "reconcile", "causes": ["c"], "changes": [], "findings": [],
    "changed": 2,
                                "flushed": 1, "seconds": 0.25, "error": None}).encode()  # fmt: skip
    for line in (b"ifup wan eth1", b"ifdown wan", b"changed config", b"force wan down", b"force wan auto",
    b"ifup-failed x"):
        yield b"\x03" + line
    yield b"\x04" + json.dumps(_LEDGER.as_json()).encode()
    yield b"\x05" + json.dumps({"uptime": 1.0, "interfaces": {"wan": {"online": True, "reason": "up"}}}).encode()
    yield b"\x05" + json.dumps({"wan": "down", "wan1": "up", "wan2": "held"}).encode()


def check(data: bytes) -> None:
    kinds = (_request, _applied, _record, _line, _ledger, _state)
    kinds[(data[0] if data else 0) % len(kinds)](data[1:])


def _request(said: bytes) -> None:
    try:
        wanted = control.request(said)
    except UsageError as error:
        oracle.is_message(str(error))
        return
    assert wanted.ask in ("status", "view", "apply", "events")
    assert wanted.after >= 0


def _applied(said: bytes) -> None:
    value = client._parsed(said)
    found = applied.parse(value) if value is not None else None
    if found is not None:
        assert applied.parse(json.loads(json.dumps(applied.as_data(found)))) == found
        # What is the same again may have lost the same twice.
        told = found.changes, found.findings, found.interfaces
        assert [*map(len, told)] == [len(value[name]) for name in ("changes", "findings", "interfaces")]


def _record(said: bytes) -> None:
    value = client._parsed(said)
    if value is not None and journal.is_record(value):
        assert journal.line(value).isprintable()


def _line(said: bytes) -> None:
    happened = hotplug_event(said)
    if happened is not None:
        oracle.is_message(happened.cause)
        assert happened.action in (*ACTIONS, HOLD, RELEASE, "changed")
        assert happened.interface is None or happened.interface.encode() in said


def _ledger(said: bytes) -> None:
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return
    found = Ledger.from_json(value)
    assert Ledger.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert found == _LEDGER or value != json.loads(json.dumps(_LEDGER.as_json()))


class _Told(RunDir):
    """A run directory whose files all say the same."""

    def __init__(self, said: bytes) -> None:
        super().__init__(Path("/nonexistent"))
        self._said = said

    def _read(self, name: str) -> object:
        try:
            return files.parse_json(self._said.decode("utf-8", "surrogateescape"), name)
        except files.KernelError as error:
            oracle.is_message(str(error))
            return None


def _state(said: bytes) -> None:
    run = _Told(said)
    assert all(isinstance(one.reason, str) for one in run.last_health().values())
    assert set(run.forced()) >= run.held()
    run.health()
