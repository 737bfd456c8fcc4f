"""``connbal confirm``: keep a change that would go back by itself, or take it back."""

from __future__ import annotations

import time
from typing import Any

import click

from connbal.cli import confirming
from connbal.cli.context import Session
from connbal.cli.output import emit
from connbal.errors import UsageError
from connbal.pending.record import Back, Record, Waiting

NOTHING = "no change waits for its confirmation"


@click.command()
@click.option("--revert", is_flag=True, help="Take it back now.")
@click.option("--status", "look", is_flag=True, help="Only say whether a change waits, and until when.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done, or how it is, as JSON.")
@click.option("--overdue", is_flag=True, hidden=True, help="For the process that waits: take it back once it is due.")
@click.pass_obj
def confirm(session: Session, revert: bool, look: bool, as_json: bool, overdue: bool) -> None:
    """Keep a change that would go back by itself.

    Every command that changes the configuration, and apply, take --confirm SECONDS: the change is in force at once, and
    goes back in the file and in the kernel unless this command comes in time; also after a reboot, a lost connection,
    or the end of any process. Exit code 1: there is nothing to keep.

    \b
    Examples:
      connbal rule add SmartTV --src-ip 192.168.1.178 --use-policy TV_Policy --confirm 60
      connbal confirm
      connbal confirm --revert
      connbal confirm --status
    """
    if revert and look:
        raise UsageError("--revert and --status exclude each other")
    if overdue:
        _wait(session)
    elif look:
        _show(session, as_json)
    elif revert:
        _revert(session, as_json)
    else:
        _keep(session, as_json)


def _keep(session: Session, as_json: bool) -> None:
    kept = session.pending().confirm()
    if kept is None:
        confirming.settle(session)
        last = session.pending().last()
        raise Waiting(f"{NOTHING}; {confirming.words(last)}" if last is not None else NOTHING)
    session.run().poke("config")
    if as_json:
        _emit(session, "kept", kept)
        return
    click.echo(f"kept: {'; '.join(kept.what) or 'the change'}")


def _revert(session: Session, as_json: bool) -> None:
    found = confirming.take_back(session, due=False, why="asked for")
    if found is None:
        raise Waiting(NOTHING)
    back, applied = found
    if as_json:
        _emit(session, "taken back", back)
        return
    click.echo(confirming.words(back))
    if applied is not None and applied.by == "nobody":
        click.echo(applied.reason)


def _show(session: Session, as_json: bool) -> None:
    if as_json:
        _emit(session, None, None)
        return
    last = session.pending().last()
    click.echo(confirming.reminder(session) or NOTHING)
    if last is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.wall))
        click.echo(f"{at}: {confirming.words(last)}")


def _emit(session: Session, done: str | None, about: Record | Back | None) -> None:
    last = session.pending().last()
    data: dict[str, Any] = {
        "done": done,
        "what": list(about.what) if about is not None else [],
        "waiting": confirming.as_data(session),
        "last": confirming.back_data(last) if last is not None else None,
    }
    emit("confirm", data)


def _wait(session: Session) -> None:
    """Until the change that waits is due, or there is none; then take it back."""
    pending = session.pending()
    while not pending.due():
        record = pending.waiting()
        if record is None:
            return
        time.sleep(min(max(pending.left(record), 0.05), 60.0))  # a join gives no time; a clock that stood still might
    found = confirming.take_back(session)
    if found is not None:
        confirming.tell(confirming.words(found[0]))
