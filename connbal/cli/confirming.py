"""Changes with a way back: asking for one, keeping it, and taking back what was not confirmed, file and kernel."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from connbal.errors import ConfigError, ConnbalError, printable
from connbal.model.names import PACKAGE
from connbal.pending import inforce
from connbal.pending.record import Back
from connbal.pending.store import Wish, clock

if TYPE_CHECKING:
    from connbal.cli.applying import Applied
    from connbal.cli.context import Session
    from connbal.reconcile import Reconciler

#: What tells, in the environment, from where somebody is logged in.
_SSH = "SSH_CONNECTION"

# --- asking for a way back --------------------------------------------------------------------------------------------


def wish(session: Session, seconds: int) -> Wish:
    """A way back for a change that is about to be made. What was applied last comes back where that is known."""
    applied = bool(session.run().load().mask)
    return Wish(seconds, _who(), inforce.recall(session.run_dir) if applied else None, not applied, _watch(session))


def begin_apply(session: Session, seconds: int) -> bool:
    """Give what is about to be applied a way back. False where it is what is in force already.

    Raises ConfigError: what is in force is not known, so nothing can come back; or the configuration cannot be read.
    """
    from connbal.uci import files

    settle(session)
    session.decoded()
    made = wish(session, seconds)
    if not made.nothing and made.in_force is None and session.pending().waiting() is None:
        why = "what is in force is not known any more, so it cannot come back; connbal apply without --confirm applies"
        raise ConfigError(PACKAGE, None, None, why)
    path = os.fspath(session.config_file)
    try:
        with files.LockedFile(path, PACKAGE, time.monotonic() + 30) as file:
            return session.pending().begin(PACKAGE, file.content(), made, ("applied what the file says",))
    except files.Busy:
        raise ConfigError(PACKAGE, None, None, f"another program keeps {path} locked; try again") from None
    except OSError as error:
        raise files.explain(PACKAGE, path, error) from error


def _watch(session: Session) -> Any:
    def start(seconds: int) -> None:
        from connbal.pending import waiter

        waiter.start(seconds, os.fspath(session.config_dir), os.fspath(session.run_dir))

    return start


def _who() -> str:
    """``process 4711, over ssh from 192.0.2.1``."""
    words = os.environ.get(_SSH, "").split()
    place = f", over ssh from {printable(words[0])[:64]}" if words else ""
    return f"process {os.getpid()}{place}"


# --- taking back ------------------------------------------------------------------------------------------------------


def settle(session: Session) -> None:
    """Take back what is due before anything else is changed, and say so. Raises ConnbalError."""
    if session.may_wait and session.pending().due():
        found = take_back(session)
        if found is not None:
            click.echo(f"connbal: {words(found[0])}", err=True)


def take_back(session: Session, *, due: bool = True, why: str = "") -> tuple[Back, Applied | None] | None:
    """Take back the change that waits, file and kernel; None where there is none. ``due``: only where it is due.

    Raises ConnbalError: it could not be put back, or not be applied. The next attempt goes on from there.
    """
    from connbal.cli.applying import apply_now

    pending = session.pending()
    record = pending.claim(due=due)
    if record is None:
        return None
    back = pending.put_back(record, why)
    applied = None
    if record.nothing and session.run().daemon() is None:
        with session.reconciler():  # which takes away what nobody had applied before
            pass
    else:
        applied = apply_now(session, done="taken back in the file")
    pending.done()
    return back, applied


@contextlib.contextmanager
def following(session: Session, reconciler: Reconciler) -> Iterator[None]:
    """Around a run, with the run lock held: what is due goes back in the file, and the run has the kernel follow."""
    put_back(session)
    pending = session.pending()
    record = pending.following()
    if record is not None and record.nothing:
        reconciler.stop()
        inforce.forget(session.run_dir)
    yield
    if record is not None:
        pending.done()


def put_back(session: Session) -> Back | None:
    """Put the files of what is due back. Whoever calls this has the kernel follow. Raises nothing: the rest goes on."""
    pending = session.pending()
    try:
        record = pending.claim() if pending.due() else None
        if record is None:
            return None
        back = pending.put_back(record)
    except ConnbalError as error:
        tell(f"a change that was not confirmed cannot be taken back: {error}")
        return None
    tell(words(back))
    return back


def tell(text: str) -> None:
    """To the system's log: there may be nobody to read it elsewhere."""
    import syslog

    with contextlib.suppress(Exception):
        syslog.syslog(syslog.LOG_WARNING | syslog.LOG_DAEMON, f"connbal: {printable(text)}")


# --- words ------------------------------------------------------------------------------------------------------------


def words(back: Back) -> str:
    """What became of a change that was not kept."""
    what = f" ({'; '.join(back.what)})" if back.what else ""
    text = f"a change was taken back{what}: {back.why}"
    if back.foreign:
        text += "; somebody else had changed the file meanwhile, and that went back, too"
    if back.kept:
        text += f"; what was in its place is in {', '.join(back.kept)}"
    return text


def remind(session: Session) -> None:
    """Say on standard output that a change waits, if one does."""
    text = reminder(session)
    if text:
        click.echo(f"note: {text}")


def reminder(session: Session) -> str:
    """The sentence about the change that waits; "" where none does."""
    if not session.may_wait:
        return ""
    pending = session.pending()
    record = pending.waiting()
    return "" if record is None else pending.sentence(record)


def as_data(session: Session) -> dict[str, Any] | None:
    """The change that waits, for JSON; None: none does."""
    return session.pending().as_data() if session.may_wait else None


def back_data(back: Back) -> dict[str, Any]:
    """What became of a change that was not kept, for JSON."""
    return {
        "time": clock(back.wall), "why": back.why, "what": list(back.what), "foreign": back.foreign,
        "kept": list(back.kept),
    }  # fmt: skip
