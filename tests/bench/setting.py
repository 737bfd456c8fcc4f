"""How sources are probed while they are measured, and what follows from it for the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connbal.model.config import Interface
from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.lab import Lab
from tests.netns.daemon.service import tracked

_SHIPPED = Path(__file__).resolve().parents[2] / "files/etc/config/mwan3"
#: Options that the lab decides.
_OWN = ("enabled", "family", "initial_state", "interval", "timeout", "down", "up")


@dataclass(frozen=True)
class Setting:
    """Options of every interface. ``silence``: seconds that silent loss may last until new connections work again."""

    name: str
    interval: str
    timeout: str
    down: int
    up: int
    silence: float
    more: Mapping[str, str] = field(default_factory=dict)

    def text(self, lab: Lab) -> str:
        """The configuration: failover from each source of the lab to the next."""
        return tracked(lab, interval=self.interval, timeout=self.timeout, down=self.down, up=self.up,
                       more=tuple(self.more.items()))  # fmt: skip

    def decoded(self, lab: Lab) -> Interface:
        """An interface as the daemon reads it; all of them are alike."""
        return decode(parse(self.text(lab), "mwan3")).config.interfaces[0]


def quick() -> Setting:
    """The quickest in use: silent loss is over within a second."""
    return Setting("every 0.2 s", "0.2", "0.2", 3, 3, min(3 * 0.2 + 0.2 + 0.1, 1.0))


def steady() -> Setting:
    return Setting("every 1 s", "1", "1", 3, 3, 3 * 1 + 1 + 0.1)


def shipped() -> Setting:
    """As the configuration that is shipped says of ``wan1``."""
    section = parse(_SHIPPED.read_text(), "mwan3").get("wan1")
    assert section is not None
    options = {name: value for name, value in section.options.items() if isinstance(value, str)}
    more = {name: value for name, value in options.items() if name not in _OWN}
    return Setting("as shipped", options["interval"], options["timeout"], int(options["down"]), int(options["up"]),
                   10.0, more)  # fmt: skip
