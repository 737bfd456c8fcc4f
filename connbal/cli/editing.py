"""What every editing command does around the edit itself: commit, stage or only show it, apply it, and say so.

@editing.options
def add(session, name, flags):
    with editing.change(session, flags) as editor:
        operations.add(editor, "rule", name, {...})
        flags.done = f"added rule {name}"
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from connbal.errors import ConnbalError, UsageError
from connbal.model.names import PACKAGE

if TYPE_CHECKING:
    from connbal.cli.applying import Applied
    from connbal.cli.context import Session
    from connbal.errors import Finding
    from connbal.uci import Editor, Package

    Context = contextlib.AbstractContextManager[Editor]

#: Names the directory of staged changes, for tests and for who keeps them elsewhere than libuci does.
STAGE_VARIABLE = "CONNBAL_STAGE_DIR"

#: Seconds that ``--confirm`` takes: in less nobody can type the answer, and nobody waits for more.
LEAST, MOST = 5, 3600
#: What it does.
CONFIRM = f"Let it go back by itself after so many seconds ({LEAST} to {MOST}), unless connbal confirm keeps it."

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Flags:
    """How an edit is to be done, and what the command has to say of it.

    done: what was done, for people: ``added rule SmartTV``. notes: what else happened, or did not.
    data: further keys of the JSON document.
    """

    def __init__(
        self,
        *,
        apply: bool = True,
        stage: bool = False,
        dry_run: bool = False,
        as_json: bool = False,
        confirm: int | None = None,
    ) -> None:
        self.apply, self.stage, self.dry_run, self.as_json = apply, stage, dry_run, as_json
        self.confirm = confirm  #: seconds after which it goes back unless it is confirmed; None: it stays
        self.verify = True  #: False: written even where something in it has no effect
        self.done = ""
        self.notes: list[str] = []
        self.data: dict[str, Any] = {}

    @property
    def mode(self) -> str:
        """``dry-run``, ``stage`` or ``commit``."""
        return "dry-run" if self.dry_run else "stage" if self.stage else "commit"


def options(command: _Command) -> Callable[..., Any]:
    """Give a command ``--no-apply``, ``--stage``, ``--confirm``, ``--dry-run``, ``--json``: its ``flags``."""

    @functools.wraps(command)
    def with_flags(
        *args: Any, no_apply: bool, stage: bool, dry_run: bool, as_json: bool, confirm: int | None, **rest: Any
    ) -> Any:
        if confirm is not None:
            _refuse_with_confirm({"--no-apply": no_apply, "--stage": stage, "--dry-run": dry_run})
        applied = not (no_apply or stage or dry_run)
        flags = Flags(apply=applied, stage=stage, dry_run=dry_run, as_json=as_json, confirm=confirm)
        return command(*args, flags=flags, **rest)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON."),
        click.option("--dry-run", is_flag=True, help="Only print what would change."),
        click.option("--confirm", type=click.IntRange(LEAST, MOST), metavar="SECONDS", help=CONFIRM),
        click.option("--stage", is_flag=True, help="Stage the change as uci set does; uci commit mwan3 commits it."),
        click.option("--no-apply", is_flag=True, help="Write the file, but leave the kernel as it is."),
    ):
        with_flags = option(with_flags)
    return with_flags


def _refuse_with_confirm(flags: Mapping[str, bool]) -> None:
    for flag in (flag for flag, given in flags.items() if given):
        raise UsageError(f"--confirm and {flag} exclude each other: with {flag} nothing is in force that could go back")


@contextlib.contextmanager
def change(session: Session, flags: Flags) -> Iterator[Editor]:
    """An editor for a ``with`` block. At its end the edit is checked, written, applied and reported, as ``flags`` say.

    Raises
    ------
    ConfigError: the edit would leave something without effect, or the file cannot be read or written. Nothing is
    changed then.
    Waiting: another change waits for its confirmation, and this one is not to. Nothing is changed then.
    ConnbalError: it is written, but could not be applied; the text says so.
    """
    from connbal.cli.output import progress
    from connbal.uci.verify import verify

    if flags.mode == "commit" and session.may_wait:
        from connbal.cli.confirming import settle

        settle(session)
    with contextlib.ExitStack() as stack:
        with progress("waiting for who is changing the file"):
            editor = stack.enter_context(_editor(session, flags))
        before = editor.package
        yield editor
        found = verify(editor, before) if editor.changes and flags.verify else ()
        outcome = _Outcome(flags, before, editor, found)
    if flags.apply and outcome.changed:
        outcome.apply(session)
    if flags.confirm is not None and outcome.changed:
        outcome.wait(session)
    outcome.print()
    if outcome.failed is not None:
        raise outcome.failed


def stage_directory() -> str:
    """Where staged changes are."""
    from connbal.uci.staging import DIRECTORY

    return os.environ.get(STAGE_VARIABLE) or DIRECTORY


def _editor(session: Session, flags: Flags) -> Context:
    if flags.stage and not flags.dry_run:
        from connbal.uci.staging import staged

        return staged(session.store(), PACKAGE, stage_directory())
    if flags.dry_run:
        return contextlib.nullcontext(_only_in_memory(session, flags))
    return session.store().transaction(PACKAGE, functools.partial(_around, session, flags))


def _around(session: Session, flags: Flags, old: bytes | None, new: bytes) -> contextlib.AbstractContextManager[object]:
    """Around the replacement of the file, under its lock: a change that waits for its confirmation cannot slip in."""
    if flags.confirm is None and not session.may_wait:
        return contextlib.nullcontext()
    from connbal.cli.confirming import wish

    wanted = None if flags.confirm is None else wish(session, flags.confirm)
    return session.pending().changing(PACKAGE, old, new, wanted, tuple(flags.done.splitlines()))


def _only_in_memory(session: Session, flags: Flags) -> Editor:
    from connbal.uci.edit import Editor
    from connbal.uci.package import Package

    editor = Editor(session.store().load(PACKAGE) if os.path.exists(session.config_file) else Package(PACKAGE))
    if flags.stage:
        from connbal.uci.staging import look

        editor.adopt(look(stage_directory(), PACKAGE))
    return editor


class _Outcome:
    """What came of an edit."""

    def __init__(self, flags: Flags, before: Package, editor: Editor, found: Sequence[Finding]) -> None:
        self._flags, self._before, self._after, self._found = flags, before, editor.package, found
        self._moved = {one.section for one in editor.changes if one.kind == "^"}
        self._applied: Applied | None = None
        self._waiting: tuple[dict[str, Any] | None, str] = None, ""
        self.failed: ConnbalError | None = None

    @property
    def changed(self) -> bool:
        return self._before != self._after

    def apply(self, session: Session) -> None:
        from connbal.cli.applying import NotApplied, apply_now

        try:
            self._applied = apply_now(session)
        except NotApplied as error:
            self.failed = error

    def wait(self, session: Session) -> None:
        """It goes back by itself: see until when."""
        from connbal.cli import confirming

        self._waiting = confirming.as_data(session), confirming.reminder(session)

    def print(self) -> None:
        from connbal.cli import findings

        if self._flags.as_json:
            from connbal.cli.output import emit

            emit("edit", self._document())
            return
        findings.show([*self._found, *(self._applied.findings if self._applied else ())])
        if self._flags.dry_run:
            for line in self._lines():
                click.echo(line)
        elif self.changed and self._flags.done:
            click.echo(self._flags.done)
        for note in self._flags.notes:
            click.echo(f"note: {note}")
        if self.failed is None:
            click.echo(self._ending())
        if self._waiting[1]:
            click.echo(self._waiting[1])

    def _lines(self) -> list[str]:
        from connbal.uci.show import difference

        return difference(self._before, self._after, self._moved)

    def _ending(self) -> str:
        """What became of it."""
        if not self.changed:
            return "nothing to change"
        if self._flags.dry_run:
            return "nothing was written"
        if self._flags.stage:
            return f"staged; uci commit {PACKAGE} commits it, uci revert {PACKAGE} takes it back"
        if self._applied is None:
            return "committed; connbal apply applies it"
        if self._applied.by == "nobody":
            return f"committed; {self._applied.reason}"
        return f"committed and applied; changes: {len(self._applied.changes)}"

    def _document(self) -> dict[str, Any]:
        from connbal.cli import findings

        applied = self._applied
        found = [*self._found, *(applied.findings if applied else ())]
        told = {"by": applied.by, "changes": list(applied.changes), "reason": applied.reason} if applied else None
        return {
            "mode": self._flags.mode,
            "changed": self.changed,
            "changes": self._lines(),
            "notes": self._flags.notes,
            "findings": [findings.as_json(one) for one in found],
            "applied": told,
            "waiting": self._waiting[0],
            "error": None if self.failed is None else str(self.failed),
            **self._flags.data,
        }
