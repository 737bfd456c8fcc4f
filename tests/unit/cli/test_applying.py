"""Applying after an edit: by the daemon, here, or by nobody."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connbal.cli.applying import Applied, NotApplied, apply_here, apply_now
from connbal.cli.context import Session
from connbal.errors import ConfigError, Finding, KernelError, Severity
from connbal.kernel.rundir import RunDir
from connbal.plan.ledger import Ledger
from connbal.reconcile import Reconciler, Report
from connbal.track.applied import Result, as_data
from connbal.uci.decode import Decoded
from tests.fakes.build import config, machine
from tests.fakes.router import Router
from tests.unit.track.test_control import impostor, served

FINDING = Finding(Severity.ERROR, "refused", "mwan3.bad", "the kernel refused it")
NEVER = "not applied: nothing has been applied yet; connbal apply does it"
STOPPED = "not applied: connbal is stopped; connbal apply does it"


class FakeSession(Session):
    """With a kernel of values; ``trouble`` is raised where the configuration is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "config", root / "run")
        self.router = Router(machine("wan wan1"))
        self.config = config("wan wan1")
        self.trouble: ConfigError | None = None
        self.runs = 0

    def decoded(self) -> Decoded:
        if self.trouble is not None:
            raise self.trouble
        return Decoded(self.config, (FINDING,))

    @contextlib.contextmanager
    def reconciler(self) -> Iterator[Reconciler]:
        with self.run().lock():
            self.runs += 1
            yield Reconciler(self.router.kernel.api, self.router.machine.source, self.run())

    def apply(self) -> Report:
        return apply_here(self)[1]


@pytest.fixture
def session(tmp_path: Path) -> FakeSession:
    return FakeSession(tmp_path)


@contextlib.contextmanager
def daemon(session: FakeSession, result: Result, *more: Result) -> Iterator[list[int]]:
    """A daemon that answers with these results, the last again and again. Gives how often it was asked."""
    results, asked = [result, *more], [0]

    async def apply() -> dict[str, Any]:
        asked[0] += 1
        return as_data(results.pop(0) if len(results) > 1 else results[0])

    session.run_dir.mkdir(exist_ok=True)
    with session.run().daemon_lock("connbald"), served(session.run_dir, apply=apply):
        yield asked


def told(session: FakeSession, **values: Any) -> Result:
    return Result(str(session.config_file), **values)


# --- by nobody ------------------------------------------------------------------------------------------------------


def test_an_edit_does_not_start_connbal(session: FakeSession) -> None:
    assert apply_now(session) == Applied("nobody", reason=NEVER)
    assert not session.runs


def test_after_stop_nothing_is_applied(session: FakeSession) -> None:
    session.apply()
    with session.reconciler() as reconciler:
        reconciler.stop()
        session.run().stopped(True)
    before = session.router.kernel.text()
    assert apply_now(session) == Applied("nobody", reason=STOPPED)
    assert session.router.kernel.text() == before
    session.apply()
    assert apply_now(session).by == "command"


def test_who_is_overtaken_by_stop_leaves_the_kernel_alone(session: FakeSession) -> None:
    """The ledger says applied, then stop has the lock first."""
    session.apply()
    found: list[Applied] = []
    with session.run().lock():
        editing = threading.Thread(target=lambda: found.append(apply_now(session)))
        editing.start()
        time.sleep(0.2)
        session.run().save(Ledger())
        session.run().stopped(True)
    editing.join(30)
    assert found == [Applied("nobody", reason=STOPPED)]


# --- here -----------------------------------------------------------------------------------------------------------


def test_where_no_daemon_runs_the_command_applies(session: FakeSession) -> None:
    session.apply()
    session.config = config("wan")
    done = apply_now(session)
    assert (done.by, done.reason) == ("command", "")
    assert done.changes
    assert done.interfaces.keys() == {"wan"}
    assert FINDING not in done.findings  # of the configuration: whoever edits knows them
    assert apply_now(session).changes == ()


def test_what_cannot_be_applied_is_an_error_that_says_what_is_the_case(session: FakeSession) -> None:
    session.apply()
    session.trouble = ConfigError("mwan3", None, None, "no UCI", line=3)
    with pytest.raises(NotApplied, match=r"^committed, but not applied: mwan3, line 3: no UCI; connbal apply tries"):
        apply_now(session)


# --- by the daemon --------------------------------------------------------------------------------------------------


def test_where_a_daemon_runs_it_applies(session: FakeSession) -> None:
    session.apply()
    result = told(session, changes=("a change",), findings=(FINDING,), interfaces={"wan": (False, "forced down")})
    with daemon(session, result) as asked:
        done = apply_now(session)
    assert done == Applied("daemon", ("a change",), (FINDING,), interfaces={"wan": (False, "forced down")})
    assert asked == [1]
    assert session.runs == 1


def test_a_daemon_that_could_not(session: FakeSession) -> None:
    with (
        daemon(session, told(session, error="the tables did not settle")),
        pytest.raises(NotApplied, match=r"committed, but not applied: .*did not settle; connbal apply tries again"),
    ):
        apply_now(session)


def test_a_daemon_of_another_configuration(session: FakeSession, tmp_path: Path) -> None:
    with daemon(session, Result(str(tmp_path / "other" / "mwan3"))):
        done = apply_now(session)
    assert done.by == "nobody"
    assert "the daemon goes by" in done.reason


def test_a_daemon_that_does_not_answer_is_not_overtaken(session: FakeSession) -> None:
    session.apply()
    with (
        impostor(session.run_dir, stays=True), session.run().daemon_lock("connbald"),
        pytest.raises(NotApplied, match=r"no answer within 0\.3 s"),
    ):  # fmt: skip
        apply_now(session, wait=0.3)
    assert session.runs == 1


def test_an_older_daemon(session: FakeSession) -> None:
    session.apply()
    with impostor(session.run_dir, b'{"error": "request: what?"}\n'), session.run().daemon_lock("connbald"):
        assert apply_now(session).by == "command"


def test_a_daemon_that_dies_meanwhile(session: FakeSession) -> None:
    session.apply()
    with impostor(session.run_dir, b'{"version": 1, "changes": ['):
        assert apply_now(session).by == "command"


def test_a_daemon_that_is_about_to_listen_is_waited_for(session: FakeSession) -> None:
    found: list[Applied] = []
    session.run_dir.mkdir()
    with session.run().daemon_lock("connbald"):
        editing = threading.Thread(target=lambda: found.append(apply_now(session)))
        editing.start()
        time.sleep(0.3)

        async def apply() -> dict[str, Any]:
            return as_data(told(session, changes=("a change",)))

        with served(session.run_dir, apply=apply):
            editing.join(30)
    assert found == [Applied("daemon", ("a change",))]


def test_a_lock_that_cannot_be_had_is_an_error(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    session.apply()

    def refuse(_: RunDir) -> Any:
        raise KernelError("lock", None, "Permission denied")

    monkeypatch.setattr(RunDir, "lock", refuse)
    with pytest.raises(NotApplied, match="Permission denied"):
        apply_now(session)


def test_asking_the_daemon_loads_nothing_slow(session: FakeSession) -> None:
    """What every edit would pay for on a router, where the daemon has it loaded already."""
    program = (
        "import sys; from pathlib import Path; from connbal.cli.context import Session; "
        "from connbal.cli.applying import apply_now; "
        f"session = Session(Path({str(session.config_dir)!r}), Path({str(session.run_dir)!r})); "
        "print(apply_now(session).by, *sys.modules)"
    )
    with daemon(session, told(session)):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    by, *modules = done.stdout.split()
    assert by == "daemon"
    slow = {"asyncio", "pyroute2", "icmplib", "subprocess", "connbal.reconcile", "connbal.plan.values"}
    assert not slow & set(modules)
