"""What is measured, as a few operations: start, event, apply, status. Moments are of the monotonic clock."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.bench import proc
from tests.bench.programs import environment
from tests.bench.scene import until
from tests.lab import Lab
from tests.netns.daemon.service import Service

#: Events of a source. The first two are what netifd does, the others what a tracker finds out.
IFDOWN, IFUP, DISCONNECTED, CONNECTED = EVENTS = ("ifdown", "ifup", "disconnected", "connected")


class Connbal:
    """The daemon in the router of a lab, told by the hotplug hook's pipe."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._service = Service(lab)
        self._env = environment(lab)
        self._last = 0

    def configure(self, text: str) -> None:
        """Replace /etc/config/mwan3, and tell nobody."""
        self._service.configure(text)

    def start(self) -> float:
        """Start it; the moment before."""
        begin = time.monotonic()
        self._service.start(ready=False)
        return begin

    def end(self) -> None:
        """The daemon alone; the kernel stays as it is."""
        assert self._service.stop() == 0, self._service.said()

    def stop(self) -> None:
        """End it, and leave nothing of its own in the kernel."""
        if self._running():
            self.end()
        self._service.connbal("stop")

    def apply(self) -> float:
        """Tell it that the configuration has changed; the moment before."""
        return self._told(lambda: self._service.hotplug("changed", "config"))

    def event(self, kind: str, source: str) -> float:
        """Make an event of EVENTS happen: the moment before netifd's, the moment at which the tracker knew others."""
        return self._told(lambda: self._happen(kind, source), "" if kind in (IFDOWN, IFUP) else kind)

    def _told(self, happen: Callable[[], object], kind: str = "") -> float:
        """Make something happen; the moment before, or the one at which the daemon found out what ``kind`` says."""
        self._last = self._service.last()
        begin = time.monotonic()
        happen()
        if not kind:
            return begin
        until(lambda: self._records(kind), f"a source to be {kind}", self._service)
        return float(self._records(kind)[0]["uptime"])

    def _happen(self, kind: str, source: str) -> None:
        if kind == IFDOWN:
            self.lab.ifdown(source)
            self._service.hotplug("ifdown", source)
        elif kind == IFUP:
            self.lab.ifup(source)
            self._service.hotplug("ifup", source, self.lab.source(source).device)
        else:
            (self.lab.cut if kind == DISCONNECTED else self.lab.restore)(source)

    def _records(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self._service.events(self._last) if record["kind"] == kind]

    def busy(self) -> bool:
        """Whether a program that it has started still runs."""
        return proc.children(self.pid()) > 0

    def ready(self) -> None:
        """Wait until every source is online."""
        self._service.wait_for(self.lab.spec.sources, "online")

    def commands(self, *arguments: str) -> list[str]:
        return self._service.argv(*arguments)

    def status(self) -> Mapping[str, Sequence[str]]:
        """Commands that tell how things are, by the names that they have in the table."""
        return {
            "connbal status": self.commands("status"),
            "ubus call mwan3 status": [sys.executable, "-m", "connbal.rpcd", "mwan3", "status"],
        }

    def environment(self) -> Mapping[str, str]:
        return self._env

    def pid(self) -> int:
        return self._service.pid

    def usage(self) -> proc.Usage:
        """What the daemon has used, with all that it has run."""
        return proc.usage(self.pid(), whole=True)

    def _running(self) -> bool:
        process = self._service.process
        return process is not None and process.poll() is None

    def close(self) -> None:
        """End whatever is still there. Never raises."""
        with contextlib.suppress(AssertionError, OSError, subprocess.SubprocessError):
            self._service.close()
