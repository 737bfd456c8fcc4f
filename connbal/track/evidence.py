"""What is known of a source that is diagnosed, and what is said of it: what diagnosis.py takes and gives. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connbal.model.config import Config, Family, Interface
from connbal.model.facts import Link, Network
from connbal.plan.state import KernelState
from connbal.plan.values import Plan
from connbal.track.api import HostResult


class Result(enum.Enum):
    """How a step ended."""

    OK = "ok"
    FAIL = "FAIL"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Step:
    """One step. ``text``: what was found, in words; ``remedy``: what to do, where it failed."""

    name: str
    result: Result
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Answers:
    """What probes found. None: not asked."""

    gateway: HostResult | None = None
    servers: tuple[HostResult, ...] | None = None  #: DNS servers, asked for a name
    hosts: tuple[HostResult, ...] | None = None  #: those of ``track_ip``


@dataclass(frozen=True)
class Evidence:
    """All that is known of one source.

    pending: what ``connbal apply`` would change in the kernel, in words.
    tracker: what the daemon says of it (:func:`connbal.track.report.snapshot`); None: no daemon, or it knows nothing.
    forced: the user forced it up (True) or down.
    """

    config: Config
    interface: Interface
    network: Network | None
    link: Link | None
    plan: Plan
    kernel: KernelState
    applied: bool
    pending: tuple[str, ...] = ()
    daemon: bool = False
    tracker: Mapping[str, Any] | None = None
    forced: bool | None = None
    answers: Answers = field(default_factory=Answers)

    @property
    def gateway(self) -> str | None:
        """The address of its best gateway; None: there is none, or it needs none."""
        defaults = self.network.defaults if self.network is not None else ()
        return str(defaults[0].gateway) if defaults and defaults[0].gateway is not None else None

    @property
    def id(self) -> int:
        """Its number, as it is in the kernel."""
        return self.plan.ids.get(self.interface.name, self.interface.id)


@dataclass(frozen=True)
class Diagnosis:
    """The steps, and in one sentence what is wrong, with the remedy. ``wrong`` empty: nothing is."""

    interface: str
    family: Family | None
    device: str | None
    steps: tuple[Step, ...]
    wrong: str = ""
    remedy: str = ""
