"""``connbal daemon``: the service that tracks the sources and keeps the kernel as it should be."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connbal.cli.context import Session
from connbal.cli.machine import Machine
from connbal.errors import ConfigError
from connbal.frozen import dataclass
from connbal.kept import Kept
from connbal.model.names import PACKAGE
from connbal.pending import inforce

if TYPE_CHECKING:
    from threading import Event

    from connbal.kernel.rundir import PatientMemory
    from connbal.model.config import Config
    from connbal.reconcile import Report
    from connbal.track.worker import Judge
    from connbal.uci.decode import Decoded


@click.command()
@click.option("--log", "target", type=click.Choice(["auto", "syslog", "stderr"]), default="auto", show_default=True,
              help="Where messages go; auto: syslog where there is one and stderr is no terminal.")  # fmt: skip
@click.option("--log-level", "level", default="notice", show_default=True, metavar="LEVEL",
              help="emerg, alert, crit, error, warning, notice, info or debug.")  # fmt: skip
@click.option("--user-script", type=click.Path(path_type=Path), default=Path("/etc/mwan3.user"), show_default=True,
              help="Run on ifup, ifdown, connected and disconnected, where it exists.")  # fmt: skip
@click.option("--hotplug-call", type=click.Path(path_type=Path), default=Path("/sbin/hotplug-call"), show_default=True,
              help="Told of connected and disconnected, where it exists.")  # fmt: skip
@click.pass_obj
def daemon(session: Session, target: str, level: str, user_script: Path, hotplug_call: Path) -> None:
    """Track the sources and keep the kernel as the configuration says, until a signal ends it.

    Stays in the foreground. Only one can run. SIGTERM and SIGINT end it and leave the kernel as it is, so connections
    keep flowing until connbal stop; SIGHUP reads the configuration again. A change of the configuration is noticed
    anyway.

    \b
    Examples:
      connbal daemon
      connbal daemon --log stderr --log-level info
    """
    import signal

    # Until it is heeded: the configuration is about to be read anyway, and what is left alone ends the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    import asyncio

    from connbal.cli import logs
    from connbal.kernel import descriptors, oom
    from connbal.kernel.rundir import PatientMemory
    from connbal.track.daemon import Daemon, Options

    os.umask(0o022)  # what others read is readable, whoever starts this; what they must not has a mode of its own
    logs.set_up(target, level)
    oom.protect()
    descriptors.raise_limit()

    async def live() -> None:
        with session.machine() as machine:
            world = SystemWorld(session, machine, PatientMemory(session.run()))
            options = Options(session.config_file, user_script, hotplug_call, world.news)
            await Daemon(session.run(), world, options, world.own_port).live()

    asyncio.run(live())


@dataclass
class SystemWorld:
    """Implements :class:`connbal.track.worker.World`."""

    session: Session
    machine: Machine
    memory: PatientMemory
    sections: Kept = field(default_factory=Kept)  #: what those that have not changed say
    loaded: bool = False  #: there is a configuration in force
    seen: inforce.Print | None = None  #: the configuration that was read, and is not in force yet

    @property
    def announced(self) -> bool:
        return self.machine.kernel.xtables.backend == "nft"

    def fingerprint(self) -> object:
        """Of the configuration, the networks where netifd does not tell, what the user forced, and the change that
        waits for its confirmation: another one once that is due.
        """
        directory = self.session.config_dir
        found = [_fingerprint(path) for path in (self.session.config_file, directory / "network", self._forced_file)]
        return [*found, self.waits.print()]

    @property
    def _forced_file(self) -> Path:
        return self.session.run().forced_file

    def __post_init__(self) -> None:
        from connbal.cli.waits import Waits

        self.waits = Waits(self.session)

    def news(self) -> Sequence[str]:
        """What has become of changes that wait, since this was asked last, in words."""
        return self.waits.news()

    def load(self) -> Decoded:
        """The configuration. ConfigError too where the file has become empty: who means that writes a line feed; the
        others are in the middle of writing, or had no room for it.
        """
        seen = inforce.look(self.session.config_file)
        decoded = self.session.decoded(self.sections)
        if self.loaded and not decoded.config.rules and _fingerprint(self.session.config_file)[2:] == (0,):
            why = "the file is empty, 0 bytes long; one that is to say nothing has a line feed or a comment in it"
            raise ConfigError(PACKAGE, None, None, why)
        self.sections.turn()
        self.loaded, self.seen = True, seen
        return decoded

    def forced(self) -> Mapping[str, bool]:
        return self.session.run().forced()

    @contextmanager
    def lock(self, ending: Event) -> Iterator[None]:
        """What is due goes back before anything is read: the run that follows has the kernel follow."""
        with self.session.run().lock(ending), self.waits.settled():
            yield

    @property
    def generation(self) -> int:
        return self.machine.kernel.xtables.generation

    def disturbed(self) -> bool:
        return self.machine.kernel.xtables.disturbed()

    def apply(self, config: Config, judge: Judge, *, afresh: bool) -> Report:
        if afresh and self.machine.recent is not None:
            self.machine.recent.ask_again()
        report = self.machine.reconciler(judge, self.memory).apply(config)
        if self.seen is not None:
            inforce.remember(self.session.run_dir, self.session.config_file, self.seen)
            self.seen = None
        return report

    def own_port(self, port: int) -> bool:
        """Whether changes announced under this netlink port are connbal's."""
        return port != 0 and port == self.machine.port()


def _fingerprint(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size
