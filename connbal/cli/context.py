"""What every command starts from: where things are, and how the rooms fit together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connbal.model.config import PACKAGE

if TYPE_CHECKING:
    from connbal.kernel.rundir import RunDir
    from connbal.reconcile import Reconciler
    from connbal.uci.decode import Decoded
    from connbal.uci.store import Store


@dataclass
class Session:
    """One invocation. Everything is opened when it is asked for, and imported no sooner."""

    config_dir: Path
    run_dir: Path

    @property
    def config_file(self) -> Path:
        return self.config_dir / PACKAGE

    def store(self) -> Store:
        from connbal.uci.store import open_store

        return open_store(self.config_dir)

    def decoded(self) -> Decoded:
        """The configuration as committed. ConfigError where the file cannot be read at all."""
        from connbal.uci.decode import decode

        return decode(self.store().load(PACKAGE))

    def run(self) -> RunDir:
        from connbal.kernel.rundir import RunDir

        return RunDir(self.run_dir)

    @contextlib.contextmanager
    def reconciler(self) -> Iterator[Reconciler]:
        """The reconciler, with the run lock held: one at a time may look at the kernel and change it."""
        from connbal.kernel.machine import Machine

        run = self.run()
        with run.lock():
            yield Machine(self.store(), run).reconciler()
