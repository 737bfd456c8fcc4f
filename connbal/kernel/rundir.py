"""The run directory: what connbal keeps until the next boot, below ``--run-dir`` in ``connbal/``."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from connbal.errors import KernelError
from connbal.kernel import files
from connbal.model.facts import Health
from connbal.plan.ledger import Ledger

#: Seconds to wait for whoever is changing the kernel right now.
LOCK_WAIT = 60.0

UP, DOWN = "up", "down"

log = logging.getLogger(__name__)


class RunDir:
    """State below ``root/connbal``. What cannot be read counts as absent: it is rebuilt from the kernel."""

    def __init__(self, root: Path) -> None:
        self._root = root / "connbal"

    def lock(self) -> files.Lock:
        """The run lock: who holds it may look at the kernel and change it."""
        return files.Lock(self._root / "lock", wait=LOCK_WAIT)

    # --- the ledger: reconcile.Memory ----------------------------------------------------------------------------

    def load(self) -> Ledger:
        return Ledger.from_json(self._read("ledger.json"))

    def save(self, ledger: Ledger) -> None:
        self._write("ledger.json", ledger.as_json())

    # --- interfaces the user forced ------------------------------------------------------------------------------

    def force(self, interface: str, state: str | None) -> None:
        """Treat ``interface`` as UP or DOWN from now on; None ends that."""
        with files.Lock(self._root / "force.lock"):
            forced = self._forced()
            if state is None:
                forced.pop(interface, None)
            else:
                forced[interface] = state
            self._write("forced.json", forced)

    def health(self) -> dict[str, Health]:
        """What is known of interfaces' health, by name."""
        return {
            name: Health(state == UP, f"forced {state} by the user") for name, state in self._forced().items()
        }

    def _forced(self) -> dict[str, str]:
        data = self._read("forced.json")
        if not isinstance(data, dict):
            return {}
        return {str(name): state for name, state in data.items() if state in (UP, DOWN)}

    def _read(self, name: str) -> object:
        try:
            return files.read_json(self._root / name)
        except KernelError as error:
            log.warning("taken as absent: %s", error)
            return None

    def _write(self, name: str, data: object) -> None:
        files.write(self._root / name, json.dumps(data, separators=(",", ":")))
