"""Work in a process of its own, so that an answer is given in time and rpcd's pipes are nobody else's.

rpcd answers its caller once nobody holds standard output and standard error open any more. The worker and what it
starts do not have them. Where time runs out, one who only reads is ended; one who writes goes on to its end, since
half of it is worse than late.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from connbal.errors import ConnbalError, KernelError


class Late(KernelError):
    """There is no answer in time."""

    kind = "busy"


def result(work: Callable[[], str], end: float, what: str, *, keep: bool = False) -> str:
    """What ``work`` returns, from another process.

    Parameters
    ----------
    end: when an answer is needed, by the monotonic clock.
    what: is done, for the error.
    keep: let it go on where there is no answer by then.

    Raises
    ------
    Late: there is no answer in time.
    ConnbalError: what ``work`` raised, in words.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _work(work, writing)
    os.close(writing)
    try:
        said = _read(reading, end)
    finally:
        os.close(reading)
    if said is None:
        if keep:
            raise Late(what, None, "it takes longer than there is time for an answer, and goes on")
        for kill in (os.kill, os.killpg):  # it has no group of its own yet where it has just begun
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        raise Late(what, None, "no answer in time; try again")
    os.waitpid(pid, 0)
    kind, _, text = said.decode("utf-8", "surrogateescape").partition("\n")
    if kind != "ok":
        raise KernelError(what, None, text or "it ended without an answer")
    return text


def printed(argv: Sequence[str]) -> str:
    """What a command line of connbal prints. For the worker: this changes where the process prints to."""
    from connbal.cli.main import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        main(argv)
    return out.getvalue()


def _work(work: Callable[[], str], writing: int) -> None:
    """The other process. It does not return."""
    said = "failed\n"
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        said = f"ok\n{work()}"
    except ConnbalError as error:
        said = f"error\n{error}"
    except Exception as error:  # nobody else would hear of it
        said = f"error\nunexpected {type(error).__name__}; please report it"
    finally:
        with contextlib.suppress(OSError), os.fdopen(writing, "wb") as out:
            out.write(said.encode("utf-8", "surrogateescape"))
        os._exit(0)


def _read(reading: int, end: float) -> bytes | None:
    """Everything up to the end; None where that does not come in time."""
    said = bytearray()
    while True:
        if not select.select([reading], [], [], max(end - time.monotonic(), 0.0))[0]:
            return None
        piece = os.read(reading, 1 << 16)
        if not piece:
            return bytes(said)
        said += piece
