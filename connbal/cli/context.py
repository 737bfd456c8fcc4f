"""What every command starts from: where things are, and how the rooms fit together."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connbal.errors import KernelError
from connbal.model.config import PACKAGE

if TYPE_CHECKING:
    from connbal.kernel.api import Kernel, RoutingState
    from connbal.kernel.rundir import RunDir
    from connbal.kernel.ubus import NetifdInterface
    from connbal.model.config import Config
    from connbal.model.facts import Facts, Health
    from connbal.plan.state import SetState
    from connbal.reconcile import FactsSource, Memory, Reconciler
    from connbal.uci import Value
    from connbal.uci.decode import Decoded
    from connbal.uci.store import Store

    Judge = Callable[[Config, Facts], Mapping[str, Health]]


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
        with self.run().lock(), self.observer() as reconciler:
            yield reconciler

    @contextlib.contextmanager
    def observer(self) -> Iterator[Reconciler]:
        """The reconciler without the lock, for who only looks: nobody has to wait for that."""
        with self.machine() as machine:
            yield machine.reconciler(lambda config, facts: self.run().health())

    @contextlib.contextmanager
    def machine(self) -> Iterator[Machine]:
        """The kernel as it is used here, without the lock."""
        from connbal.kernel import exec as programs
        from connbal.kernel.api import Kernel
        from connbal.kernel.conntrack import SystemConntrack
        from connbal.kernel.ipset import SystemSets
        from connbal.kernel.routing import SystemRouting
        from connbal.kernel.xtables import SystemXtables

        with (
            contextlib.closing(SystemSets()) as sets,
            contextlib.closing(SystemRouting()) as routing,
            contextlib.closing(SystemConntrack()) as conntrack,
        ):
            kernel = Kernel(SystemXtables(), sets, routing, conntrack, programs.at_once)
            yield Machine(self, kernel, lambda: routing.port)

    def network_sections(self) -> dict[str, Mapping[str, Value]]:
        """``/etc/config/network``'s interfaces; none where there is no such file."""
        if not (self.config_dir / "network").exists():
            return {}
        return {section.name: section.options for section in self.store().load("network").of_type("interface")}


@dataclass
class Machine:
    """The kernel of this machine, and what else is known of it."""

    session: Session
    kernel: Kernel
    port: Callable[[], int | None]  #: netlink's name for the socket that changes rules and routes
    told: Sequence[NetifdInterface] | None = None  #: what netifd said last

    def reconciler(self, judge: Judge, memory: Memory | None = None) -> Reconciler:
        """A reconciler that asks ``judge`` about the health of sources. ``memory``: None: the run directory."""
        from connbal.reconcile import Reconciler

        return Reconciler(self.kernel, self._facts_source(judge), memory or self.session.run())

    def _netifd(self) -> tuple[Sequence[NetifdInterface] | None, str]:
        """What netifd says; None where there is none. Or what it said last, and why it says nothing now.

        Links, addresses and routes are the kernel's anyway, and a source that is lost must not wait for netifd.
        """
        from connbal.kernel import ubus

        try:
            answer = ubus.call(ubus.TIMEOUT if self.told is None else ubus.TIMEOUT_AGAIN)
            self.told = None if answer is None else ubus.parse_dump(answer)
        except KernelError as error:
            if self.told is None:
                raise
            return self.told, f"{error}; what netifd said before counts"
        return self.told, ""

    def _facts_source(self, judge: Judge) -> FactsSource:
        """Facts from netifd where there is one, else from ``/etc/config/network`` and netlink."""
        from connbal.kernel import facts
        from connbal.model.config import Family

        def gather(config: Config, state: RoutingState, sets: Mapping[str, SetState]) -> Facts:
            dump, stale = self._netifd()
            found = facts.gather(
                config,
                state,
                dump=dump,
                sections=self.session.network_sections() if dump is None else None,
                sets=sets,
                ip6=self.kernel.xtables.available(Family.IPV6),
            )
            return dataclasses.replace(found, health=judge(config, found), stale=stale)

        return gather
