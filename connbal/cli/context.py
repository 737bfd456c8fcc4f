"""What every command starts from: where things are, and how the rooms fit together.

Imports nothing that a command which lists sections can do without, pathlib among it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from connbal.kept import Ask, afresh
from connbal.model.names import PACKAGE

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from connbal.cli.machine import Machine
    from connbal.kernel.rundir import RunDir
    from connbal.pending.store import Pending
    from connbal.reconcile import Memory, Reconciler
    from connbal.uci import Package, Value
    from connbal.uci.decode import Decoded
    from connbal.uci.store import Store


class Session:
    """One invocation. Everything is opened when it is asked for, and imported no sooner."""

    def __init__(self, config_dir: str | os.PathLike[str], run_dir: str | os.PathLike[str]) -> None:
        self._config_dir, self._run_dir = config_dir, run_dir

    @property
    def config_dir(self) -> Path:
        from pathlib import Path

        return Path(self._config_dir)

    @property
    def run_dir(self) -> Path:
        from pathlib import Path

        return Path(self._run_dir)

    @property
    def config_file(self) -> Path:
        return self.config_dir / PACKAGE

    def store(self) -> Store:
        from connbal.uci.store import open_store

        return open_store(self._config_dir)

    def decoded(self, ask: Ask = afresh) -> Decoded:
        """The configuration as committed. ConfigError where the file cannot be read at all."""
        from connbal.uci.decode import decode

        return decode(self.store().load(PACKAGE), ask)

    def run(self) -> RunDir:
        from connbal.kernel.rundir import RunDir

        return RunDir(self.run_dir)

    @contextlib.contextmanager
    def reconciler(self, memory: Memory | None = None, *, needed: bool = True) -> Iterator[Reconciler]:
        """The reconciler, with the run lock held: one at a time may look at the kernel and change it.

        ``memory``: None: the run directory. ``needed``: as for :meth:`RunDir.lock`.
        """
        from connbal.cli.output import progress

        with contextlib.ExitStack() as stack:
            with progress("waiting for another command, or for the daemon, to be done"):
                stack.enter_context(self.run().lock(needed=needed))
            stack.enter_context(progress("comparing with the kernel"))
            reconciler = stack.enter_context(self.observer(memory))
            if self.may_wait:
                from connbal.cli.confirming import following

                stack.enter_context(following(self, reconciler))
            yield reconciler

    @contextlib.contextmanager
    def observer(self, memory: Memory | None = None) -> Iterator[Reconciler]:
        """The reconciler without the lock, for who only looks: nobody has to wait for that."""
        with self.machine() as machine:
            yield machine.reconciler(lambda config, facts: self.run().health(), memory)

    def machine(self) -> AbstractContextManager[Machine]:
        """The kernel as it is used here, without the lock."""
        from connbal.cli.machine import opened

        return opened(self)

    def pending(self) -> Pending:
        """The change that waits for its confirmation, where there is one."""
        from connbal.pending.store import Pending

        return Pending(self._config_dir)

    @property
    def may_wait(self) -> bool:
        """False where no change waits for its confirmation or is being taken back; nothing is imported to see that."""
        try:
            names = os.listdir(os.path.join(self._config_dir, ".connbal"))
        except OSError:
            return False
        return any(name in names for name in ("new.json", "waiting.json", "back.json", "kernel.json"))

    def network_sections(self) -> dict[str, Mapping[str, Value]]:
        """``/etc/config/network``'s interfaces; none where there is no such file."""
        if not (self.config_dir / "network").exists():
            return {}
        return {section.name: section.options for section in self.store().load("network").of_type("interface")}

    def package(self, name: str) -> Package | None:
        """Another program's package; None where there is none. ConfigError where it cannot be read."""
        return self.store().load(name) if (self.config_dir / name).exists() else None
