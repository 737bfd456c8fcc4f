"""What runs on events: the user's script ``/etc/mwan3.user``, and ``/sbin/hotplug-call iface`` for everybody else's.

Scripts are written by others. One that hangs, fails or forks costs its own interface some time, and nobody else
anything. One that somebody else than root can have written is not run (:mod:`connbal.kernel.scripts`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from connbal.errors import Finding, KernelError
from connbal.frozen import dataclass
from connbal.kernel import exec as programs
from connbal.kernel import scripts
from connbal.track.aside import aside

log = logging.getLogger(__name__)

#: What the user's script is run for.
USER_EVENTS = ("ifup", "ifdown", "connected", "disconnected")
#: What hotplug-call is run for. Of ifup and ifdown netifd has told everybody already.
HOTPLUG_EVENTS = ("connected", "disconnected", "connecting", "disconnecting")

#: Seconds between two looks at a process where the kernel cannot tell when it ends.
_POLL = 0.1


@dataclass(frozen=True)
class _Event:
    kind: str
    interface: str
    device: str

    def environment(self) -> dict[str, str]:
        return {"ACTION": self.kind, "INTERFACE": self.interface, "DEVICE": self.device}


class Hooks:
    """Runs them: one after the other for each interface, in the order of its events, and interfaces side by side.

    Parameters
    ----------
    user_script: run by what its first line names (``#!``), else by ``/bin/sh``, whatever its mode; looked for anew at
        each event.
    hotplug_call: run as ``PROGRAM iface``, where it is executable.
    limit: seconds after which a program is killed with everything in its session.
    parallel: programs that may run at once.
    queue: events that may wait for each interface; one more, and the oldest of them is left out.
    hotplug_scripts: what ``hotplug_call`` runs: all of them have to be trusted.
    """

    def __init__(
        self,
        user_script: Path,
        hotplug_call: Path,
        *,
        limit: float = 30.0,
        parallel: int = 4,
        queue: int = 32,
        hotplug_scripts: Path = scripts.HOTPLUG_SCRIPTS,
        log: logging.Logger = log,
    ) -> None:
        self._user_script, self._hotplug_call, self._hotplug_scripts = user_script, hotplug_call, hotplug_scripts
        self._distrusted: dict[str, str] = {}  #: what the log has been told
        self._limit, self._queue, self._log = limit, queue, log
        self._slots = asyncio.Semaphore(parallel)
        self._waiting: dict[str, deque[_Event]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def put(self, event_kind: str, interface: str, device: str) -> None:
        """Have the hooks of an event run, some time; ``device`` may be empty. Called from the loop, returns at once."""
        if self._closed or event_kind not in (*USER_EVENTS, *HOTPLUG_EVENTS):
            return
        waiting = self._waiting.setdefault(interface, deque())
        if len(waiting) >= self._queue:
            oldest = waiting.popleft()
            self._log.warning("no hooks for %s of %s: %d later events wait", oldest.kind, interface, self._queue)
        waiting.append(_Event(event_kind, interface, device))
        if interface not in self._workers:
            self._workers[interface] = asyncio.get_running_loop().create_task(self._work(interface))

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._workers

    async def wait_idle(self) -> None:
        """Wait until nothing runs and nothing waits."""
        while self._workers:
            await asyncio.wait(self._workers.values())

    async def close(self, grace: float = 2.0) -> None:
        """Let what runs end within ``grace`` seconds, kill the rest, forget what waits."""
        self._closed = True
        workers = list(self._workers.values())
        if workers:
            await asyncio.wait(workers, timeout=grace)
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)

    async def _work(self, interface: str) -> None:
        waiting = self._waiting[interface]
        try:
            while waiting:
                event = waiting.popleft()
                for argv in self._programs(event):
                    async with self._slots:
                        await self._run(argv, event)
        finally:
            del self._workers[interface], self._waiting[interface]

    def _programs(self, event: _Event) -> Iterator[Sequence[str]]:
        """What to run for an event. Each is looked at when its turn comes."""
        if event.kind in USER_EVENTS:
            yield from self._trusted("user script", self._script)
        if event.kind in HOTPLUG_EVENTS:
            yield from self._trusted("hotplug call", self._call)

    def _script(self) -> list[str] | None:
        return scripts.user_script(self._user_script)

    def _call(self) -> list[str] | None:
        return scripts.hotplug_call(self._hotplug_call, self._hotplug_scripts)

    def _trusted(self, what: str, look: Callable[[], list[str] | None]) -> Iterator[Sequence[str]]:
        """What is found, unless it is not to be run: then the log says so once, until that changes."""
        try:
            argv = look()
        except scripts.Untrusted as error:
            if self._distrusted.get(what) != str(error):
                self._distrusted[what] = str(error)
                self._log.warning("%s", error)
            return
        if self._distrusted.pop(what, None):
            self._log.warning("%s: it is run again", " ".join(argv) if argv else what)
        if argv:
            yield argv

    def look(self) -> None:
        """Tell the log what would not be run. At events it is told by itself."""
        for what, look in (("user script", self._script), ("hotplug call", self._call)):
            list(self._trusted(what, look))

    def findings(self) -> tuple[Finding, ...]:
        """What would not be run, and why."""
        return tuple(scripts.findings(self._user_script, self._hotplug_call, self._hotplug_scripts))

    async def _run(self, argv: Sequence[str], event: _Event) -> None:
        if self._closed:
            return
        try:
            process = await _spawned(argv, event.environment())
        except KernelError as error:
            self._complain(argv, event, error.output)
            return
        try:
            await _ended(process, self._limit)
        finally:
            code = process.poll()
            if code is None:
                await aside(partial(programs.kill_group, process))
                why = "connbal ends" if self._closed else f"it took longer than {self._limit:g} s"
                self._complain(argv, event, f"killed, {why}")
            elif code != 0:
                self._complain(argv, event, programs.failure(argv, programs.Result(code, "", "")).output)

    def _complain(self, argv: Sequence[str], event: _Event, why: str) -> None:
        self._log.warning("%s, for %s of %s: %s", " ".join(argv), event.kind, event.interface, why)


async def _spawned(argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program, in a thread: a file system may be slow. It does not outlive whoever is cancelled meanwhile."""
    spawning = asyncio.ensure_future(aside(partial(programs.spawn, argv, environment)))
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        spawning.add_done_callback(_killed)
        raise


def _killed(spawning: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    if not spawning.cancelled() and spawning.exception() is None:
        programs.kill_group(spawning.result())


async def _ended(process: subprocess.Popen[bytes], limit: float) -> None:
    """Wait until a child has ended, but no longer than ``limit`` seconds. It is left to be reaped."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # a Python or a kernel without it
        end = loop.time() + limit
        while process.poll() is None and loop.time() < end:
            await asyncio.sleep(_POLL)
        return
    over = asyncio.Event()
    loop.add_reader(descriptor, over.set)
    timer = loop.call_later(limit, over.set)
    try:
        await over.wait()
    finally:
        timer.cancel()
        loop.remove_reader(descriptor)
        os.close(descriptor)
