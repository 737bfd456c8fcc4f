"""``connbal daemon`` in the router of a lab: started, asked, awaited, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from connbal.track import client
from tests.lab import Lab
from tests.netns.daemon import watched

#: Seconds that anything may take on a slow and busy machine.
PATIENCE = 30.0

Status = dict[str, Any]


class Service:
    """The daemon of one lab. ``options`` are those of ``connbal daemon``; the last ones win."""

    #: What Python runs as connbal; of the daemon itself the loop is watched, unless a test has a program of its own.
    program: Sequence[str] = ("-m", "connbal.cli.main")

    def __init__(self, lab: Lab, *options: str) -> None:
        self.lab = lab
        self.user_script = lab.tmp / "mwan3.user"
        self.hotplug_call = lab.tmp / "hotplug-call"
        self.log = lab.tmp / "daemon.log"
        self.held_up = lab.tmp / "held-up"
        self.options = options
        self.process: subprocess.Popen[Any] | None = None
        self._output: IO[bytes] | None = None

    # --- commands ------------------------------------------------------------------------------------------------

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, *self.program, "--config-dir", str(self.lab.config_dir),
                "--run-dir", str(self.lab.run_dir), *arguments]  # fmt: skip

    def connbal(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command beside the daemon."""
        return self.lab.router.run(self.argv(*arguments), check=check)

    def configure(self, text: str) -> None:
        """Replace the configuration as a commit does: by renaming."""
        scratch = self.lab.config_dir / ".mwan3.new"
        scratch.write_text(text)
        scratch.rename(self.lab.config_dir / "mwan3")

    def hotplug(self, action: str, interface: str, device: str = "") -> None:
        """What the hotplug hook hands to the daemon."""
        descriptor = os.open(self.lab.run_dir / "connbal" / "events", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(descriptor, f"{action} {interface} {device}\n".encode())
        finally:
            os.close(descriptor)

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self, *, ready: bool = True) -> Service:
        """Start it, and wait until its first run is over."""
        argv = self.argv(
            "daemon", "--log", "stderr", "--log-level", "info", "--user-script", str(self.user_script),
            "--hotplug-call", str(self.hotplug_call), *self.options,
        )  # fmt: skip
        self._output = open(self.log, "ab")  # noqa: SIM115  closed in _over
        if self.program is Service.program:
            head = [sys.executable, *self.program]
            at = argv.index(head[0])
            assert argv[at : at + len(head)] == head
            argv[at : at + len(head)] = ["env", f"{watched.VARIABLE}={self.held_up}", sys.executable, watched.__file__]
        self.process = self.lab.router.popen(argv, stdout=self._output, stderr=self._output)
        if ready:
            self.wait(lambda status: status["reconciles"]["count"] > 0, "the first run")
        return self

    @property
    def pid(self) -> int:
        """Of the daemon itself: everything before it was replaced by exec."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the daemon and nobody else."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.signal(signal.SIGKILL)
        self._over()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self._over()

    def _over(self) -> int:
        assert self.process is not None
        code = self.process.wait(PATIENCE)
        if self._output is not None:
            self._output.close()
            self._output = None
        return code

    def close(self) -> None:
        """End it. Nothing may have held its loop up."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        found = watched.held_up(self.held_up)
        assert not found, "\n".join(found)

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- looking ---------------------------------------------------------------------------------------------------

    def status(self) -> Status | None:
        """What it says of itself; None: it does not answer."""
        return client.status(self.lab.run_dir)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """What it remembers after a record's number."""
        return list(client.events(self.lab.run_dir, after))

    def last(self) -> int:
        """The number of the youngest record."""
        return max((record["number"] for record in self.events()), default=0)

    def wait(self, good: Callable[[Status], object], what: str, patience: float = PATIENCE) -> Status:
        """Wait until its status is as wanted."""
        end = time.monotonic() + patience
        status = None
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, f"the daemon ended: {self.said()}"
            status = self.status()
            if status is not None and good(status):
                return status
            time.sleep(0.02)
        raise AssertionError(f"waited {patience:g} s for {what}; status: {status}; log: {self.said()}")

    def wait_for(self, names: str | Sequence[str], state: str, patience: float = PATIENCE) -> Status:
        """Wait until interfaces are in a state of the tracker's."""
        wanted = [names] if isinstance(names, str) else list(names)

        def good(status: Status) -> bool:
            return all(status["interfaces"].get(name, {}).get("status") == state for name in wanted)

        return self.wait(good, f"{', '.join(wanted)} {state}", patience)

    def settled(self, quiet: float = 0.3) -> Status:
        """Wait until nothing has been reconciled for a while."""
        seen, since = -1, time.monotonic()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status = self.status()
            count = status["reconciles"]["count"] if status is not None else -1
            if count != seen:
                seen, since = count, time.monotonic()
            elif status is not None and time.monotonic() - since > quiet:
                return status
            time.sleep(0.02)
        raise AssertionError(f"never quiet; log: {self.said()}")

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def mwan3track(self, interface: str) -> Path:
        """The directory of an interface's state files."""
        return self.lab.run_dir / "mwan3track" / interface


def tracked(
    lab: Lab,
    names: Iterable[str] | None = None,
    *,
    interval: str = "0.2",
    timeout: str = "0.2",
    down: int = 3,
    up: int = 3,
    more: Sequence[tuple[str, str]] = (),
    rules: str = "",
) -> str:
    """A configuration in which each source (both families) is probed by three addresses of its Internet.

    Policy ``all``: the sources in their order, one tier each. ``rules``: further sections; without any, one rule for
    everything. ``more``: further options of every interface.
    """
    parts = []
    members = []
    for metric, name in enumerate(names or lab.spec.sources, 1):
        source = lab.source(name)
        for label, family, hosts in (
            (source.name, "ipv4", ("203.0.113.1", "203.0.113.2", "198.51.100.1")),
            (source.name6, "ipv6", ("2001:db8:ffff::1", "2001:db8:ffff::2", "2001:db8:ffff::3")),
        ):
            options = [("enabled", "1"), ("family", family), ("initial_state", "online"), ("timeout", timeout),
                       ("interval", interval), ("down", str(down)), ("up", str(up)), *more]  # fmt: skip
            lines = [f"\toption {key} '{value}'" for key, value in options]
            lines += [f"\tlist track_ip '{host}'" for host in hosts]
            lines += ["\tlist flush_conntrack 'disconnected'"]
            parts.append(f"config interface '{label}'\n" + "\n".join(lines) + "\n")
            parts.append(f"config member '{label}_m'\n\toption interface '{label}'\n\toption metric '{metric}'\n")
            members.append(f"\tlist use_member '{label}_m'")
    parts.append("config policy 'all'\n" + "\n".join(members) + "\n")
    parts.append(rules or "config rule 'everything'\n\toption use_policy 'all'\n")
    return "\n".join(parts)
