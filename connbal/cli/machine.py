"""The kernel of this machine as commands use it, and what feeds the reconciler with facts."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connbal.errors import KernelError

if TYPE_CHECKING:
    from connbal.cli.context import Session
    from connbal.kernel.api import Kernel, RoutingState
    from connbal.kernel.ubus import NetifdInterface
    from connbal.model.config import Config
    from connbal.model.facts import Facts, Health
    from connbal.plan.state import SetState
    from connbal.reconcile import FactsSource, Memory, Reconciler

    Judge = Callable[[Config, Facts], Mapping[str, Health]]


@contextlib.contextmanager
def opened(session: Session) -> Iterator[Machine]:
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
        yield Machine(session, kernel, lambda: routing.port)


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
