"""One call: read what is asked, have it done within the time there is, and answer with one JSON object."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from connbal.cli.context import Session
from connbal.errors import ConnbalError, KernelError, UsageError, printable
from connbal.rpcd import arguments, methods, mwan3

if TYPE_CHECKING:
    from connbal.rpcd.arguments import Given
    from connbal.rpcd.methods import Method

Answer = dict[str, Any]

#: Seconds for an answer: LuCI waits 20 and rpcd 30, and Python has to start first.
LIMIT = 18.0
#: Bytes of an answer: what ubus takes.
ANSWER_MAX = 1 << 20


def main(argv: Sequence[str]) -> None:
    """Answer the call of ``OBJECT METHOD [WAITED]`` whose arguments come on standard input; exits with code 0.

    ``WAITED``: seconds that the caller has waited already (see ``files/usr/lib/connbal/turns.sh``).
    """
    waited = float(argv[2]) if len(argv) > 2 and argv[2].isdecimal() else 0.0
    end = time.monotonic() + LIMIT - waited - time.process_time()  # what Python has taken to start counts, too
    answer = _guarded(argv[:2], end)
    said = json.dumps(answer)
    if len(said) > ANSWER_MAX:
        said = json.dumps(_error("failed", f"the answer is longer than {ANSWER_MAX} bytes"))
    with os.fdopen(1, "w", encoding="ascii", closefd=False) as out:
        out.write(f"{said}\n")
    sys.exit(0)


def _guarded(argv: Sequence[str], end: float) -> Answer:
    """The answer, or the error in place of it."""
    try:
        method = methods.find(*argv) if len(argv) == 2 else None
        if method is None:
            raise UsageError("which object and method? python3 -m connbal.rpcd connbal status, for example")
        return answer(argv[0], method, _said(end), end)
    except ConnbalError as error:
        return _error(error.kind, str(error))
    except Exception as error:  # whoever asks gets an object, whatever happens
        return _error("failed", f"unexpected {type(error).__name__}; please report it")


def _error(code: str, text: str) -> Answer:
    """``error/1``."""
    return {"schema": "error/1", "error": printable(text), "code": code}


def _said(end: float) -> bytes:
    """Standard input up to its end, or up to the end of the object. KernelError: neither comes."""
    said = b""
    while len(said) <= arguments.REQUEST_MAX:
        if not select.select([0], [], [], max(end - time.monotonic(), 0.0))[0]:
            raise KernelError("rpcd", None, "the arguments of the call do not come to an end")
        piece = os.read(0, arguments.REQUEST_MAX)
        said += piece
        if not piece or (piece.rstrip().endswith(b"}") and _whole(said)):
            break
    return said


def _whole(said: bytes) -> bool:
    try:
        arguments.parse(said)
    except UsageError:
        return False
    return True


def answer(object_: str, method: Method, said: bytes, end: float) -> Answer:
    """What a method answers to a request. ``end``: when, by the monotonic clock. Raises ConnbalError."""
    given = arguments.parse(said)
    session = Session(
        os.environ.get("CONNBAL_CONFIG_DIR") or "/etc/config", os.environ.get("CONNBAL_RUN_DIR") or "/var/run"
    )
    if object_ == "mwan3":
        known = {one.name for one in method.arguments}
        told = {key: value for key, value in given.items() if key in known and isinstance(value, str)}
        return _mwan3(session, arguments.check(method, told), end)
    return _connbal(session, method, arguments.check(method, given), end)


def _mwan3(session: Session, given: Given, end: float) -> Answer:
    """mwan3's own form; nothing where it cannot be told, since who reads it knows no errors."""
    from connbal.rpcd import look, worker

    section, interface = given.get("section"), given.get("interface")
    seen = look.warm(session)
    if seen is not None:
        return mwan3.status(seen, section, interface)
    try:
        said = worker.result(lambda: json.dumps(mwan3.status(look.cold(session), section, interface)), end, "status")
        found: Answer = json.loads(said)
    except ConnbalError as error:
        os.write(2, f"connbal: {error}\n".encode("utf-8", "backslashreplace"))
        return mwan3.status(mwan3.NOTHING, section, interface)
    return found


def _connbal(session: Session, method: Method, given: Given, end: float) -> Answer:
    from connbal.rpcd import worker

    if method.name == "status":
        from connbal.rpcd import look

        seen = look.warm(session)
        if seen is not None:
            return _first(worker.result(lambda: json.dumps(look.document(session, seen)), end, "status"))
    from connbal.rpcd.words import words

    argv = words(method.name, given)
    return _first(worker.result(lambda: worker.printed(argv), end, method.name, keep=method.writes))


def _first(said: str) -> Answer:
    """The first document of what a command printed: the others repeat what is in it."""
    try:
        found, _ = json.JSONDecoder().raw_decode(said)
    except ValueError as error:
        raise KernelError("connbal", None, "the command said nothing; the system's log may say why") from error
    assert isinstance(found, dict)
    return found
