"""What every command starts from: where things are, and how the rooms fit together."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connbal.model.config import PACKAGE

if TYPE_CHECKING:
    from connbal.kernel.api import RoutingState, Xtables
    from connbal.kernel.rundir import RunDir
    from connbal.model.config import Config
    from connbal.model.facts import Facts
    from connbal.plan.state import SetState
    from connbal.reconcile import FactsSource, Reconciler
    from connbal.uci import Value
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
        from connbal.kernel.api import Kernel
        from connbal.kernel.conntrack import SystemConntrack
        from connbal.kernel.ipset import SystemSets
        from connbal.kernel.routing import SystemRouting
        from connbal.kernel.xtables import SystemXtables
        from connbal.reconcile import Reconciler

        run, xtables = self.run(), SystemXtables()
        with (
            run.lock(),
            contextlib.closing(SystemSets()) as sets,
            contextlib.closing(SystemRouting()) as routing,
            contextlib.closing(SystemConntrack()) as conntrack,
        ):
            yield Reconciler(Kernel(xtables, sets, routing, conntrack), self._facts_source(xtables), run)

    def _facts_source(self, xtables: Xtables) -> FactsSource:
        """Facts from netifd where there is one, else from ``/etc/config/network`` and netlink; health from the user."""
        from connbal.kernel import facts, ubus
        from connbal.model.config import Family

        def gather(config: Config, state: RoutingState, sets: Mapping[str, SetState]) -> Facts:
            answer = ubus.call()
            found = facts.gather(
                config,
                state,
                dump=None if answer is None else ubus.parse_dump(answer),
                sections=self._network_sections() if answer is None else None,
                sets=sets,
                ip6=xtables.available(Family.IPV6),
            )
            return dataclasses.replace(found, health=self.run().health())

        return gather

    def _network_sections(self) -> dict[str, Mapping[str, Value]]:
        """``/etc/config/network``'s interfaces; none where there is no such file."""
        if not (self.config_dir / "network").exists():
            return {}
        return {section.name: section.options for section in self.store().load("network").of_type("interface")}
