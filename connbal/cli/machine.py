"""The kernel of this machine as commands use it, and what feeds the reconciler with facts."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from connbal.errors import ConfigError, KernelError
from connbal.frozen import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from connbal.cli.context import Session
    from connbal.kernel.api import Kernel, RoutingState
    from connbal.kernel.ubus import NetifdInterface
    from connbal.model.config import Config
    from connbal.model.facts import Facts, Health, SetDeclaration
    from connbal.plan.recent import Recent
    from connbal.plan.state import SetState
    from connbal.reconcile import FactsSource, Memory, Reconciler
    from connbal.uci import Package, Value

    Judge = Callable[[Config, Facts], Mapping[str, Health]]


@contextlib.contextmanager
def opened(session: Session) -> Iterator[Machine]:
    """The kernel as it is used here, without the lock."""
    from connbal.kernel.api import Kernel
    from connbal.kernel.conntrack import SystemConntrack
    from connbal.kernel.ipset import SystemSets
    from connbal.kernel.routing import SystemRouting
    from connbal.kernel.xtables import SystemXtables

    with (
        contextlib.closing(SystemSets()) as sets,
        contextlib.closing(SystemRouting()) as routing,
        contextlib.closing(SystemConntrack()) as conntrack,
        contextlib.closing(SystemXtables()) as xtables,
    ):
        kernel = Kernel(xtables, sets, routing, conntrack)
        yield Machine(session, kernel, lambda: routing.port)


@dataclass
class Machine:
    """The kernel of this machine, and what else is known of it."""

    session: Session
    kernel: Kernel
    port: Callable[[], int | None]  #: netlink's name for the socket that changes rules and routes
    told: Sequence[NetifdInterface] | None = None  #: what netifd said last
    sites: Sites = field(default_factory=lambda: Sites())
    sections: Sections = field(default_factory=lambda: Sections())
    routes: Routes = field(default_factory=lambda: Routes())
    recent: Recent | None = None  #: of the last run
    gathered: tuple[tuple[object, ...], Facts] | None = None  #: what was asked of facts.gather last, and the answer

    def reconciler(self, judge: Judge, memory: Memory | None = None) -> Reconciler:
        """A reconciler that asks ``judge`` about the health of sources. ``memory``: None: the run directory."""
        from connbal.plan.recent import Recent
        from connbal.reconcile import Reconciler

        self.recent = self.recent or Recent()
        return Reconciler(self.kernel, self._facts_source(judge), memory or self.session.run(), self.recent)

    def facts(self, config: Config, judge: Judge) -> Facts:
        """What the machine is like, as far as anybody may read it: without sets, and as if it had IPv6 and xt_bpf."""
        return self._facts_source(judge, ip6=True)(config, self.kernel.routing.read(), {})

    def _netifd(self) -> tuple[Sequence[NetifdInterface] | None, str]:
        """What netifd says; None where there is none. Or what it said last, and why it says nothing now.

        Links, addresses and routes are the kernel's anyway, and a source that is lost must not wait for netifd.
        """
        from connbal.kernel import ubus

        try:
            self.told = ubus.dump(ubus.TIMEOUT if self.told is None else ubus.TIMEOUT_AGAIN)
        except KernelError as error:
            if self.told is None:
                raise
            return self.told, f"{error}; what netifd said before counts"
        return self.told, ""

    def _facts_source(self, judge: Judge, ip6: bool | None = None) -> FactsSource:
        """Facts from netifd where there is one, else from ``/etc/config/network`` and netlink."""
        from connbal.kernel import facts
        from connbal.model.config import Family

        def gather(config: Config, state: RoutingState, sets: Mapping[str, SetState]) -> Facts:
            dump, stale = self._netifd()
            sections = self.sections.read(self.session) if dump is None else None
            written = self.routes.read(self.session) if facts.has_further_routes(state) else {}
            have6 = self.kernel.xtables.available(Family.IPV6) if ip6 is None else ip6
            names = [(one.name, one.src_iface) for one in config.rules if one.src_iface]
            # What only counts is put in afterwards: with it, no two dumps are the same.
            timeless = None if dump is None else [dataclasses.replace(one, uptime=None) for one in dump]
            asked = ([one.name for one in config.interfaces], names, config.globals.rt_table_lookup, state, timeless,
                     sections, sets, have6, written)  # fmt: skip
            if self.gathered is None or self.gathered[0] != asked:
                made = facts.gather(config, state, dump=dump, sections=sections, sets=sets, ip6=have6, written=written)
                self.gathered = asked, made
            found = self.gathered[1] if dump is None else facts.aged(self.gathered[1], dump)
            declared = self.sites.declared(self.session, config)
            return dataclasses.replace(found, health=judge(config, found), declared=declared, stale=stale,
                                       steer=self.session.run().steers())

        return gather


@dataclass
class Sections:
    """The interfaces of ``/etc/config/network``, read again only where the file was changed."""

    seen: tuple[int, int, int] | None = None
    found: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def read(self, session: Session) -> Mapping[str, Mapping[str, Value]]:
        """What the file says; nothing where there is none."""
        seen = _version(session.config_dir / "network")
        if seen is None or seen != self.seen:
            self.found, self.seen = session.network_sections(), seen
        return self.found


@dataclass
class Routes:
    """The routes of ``/etc/config/network``, read again only where the file was changed."""

    seen: tuple[int, int, int] | None = None
    found: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def read(self, session: Session) -> Mapping[str, Mapping[str, Value]]:
        """The sections ``route`` and ``route6`` by name; none where there is no such file, or it cannot be read."""
        seen = _version(session.config_dir / "network")
        if seen is None or seen != self.seen:
            package = _package(session, "network")
            sections = [*package.of_type("route"), *package.of_type("route6")] if package is not None else []
            self.found, self.seen = {section.name: section.options for section in sections}, seen
        return self.found


@dataclass
class Sites:
    """The sets that other packages declare, read again only where a file was changed: a lost source must not wait."""

    seen: tuple[object, ...] | None = None
    found: Mapping[str, SetDeclaration] = field(default_factory=dict)

    def declared(self, session: Session, config: Config) -> Mapping[str, SetDeclaration]:
        """What the packages say; nothing where no rule names a set. One that cannot be read counts as empty."""
        if not any(rule.ipset or rule.ipset_src for rule in config.rules):
            return {}
        from connbal.uci import sites

        packages = (sites.PACKAGE, sites.FIREWALL)
        seen = tuple(_version(session.config_dir / name) for name in packages)
        if seen != self.seen:
            self.seen, self.found = seen, sites.declared(*(_package(session, name) for name in packages))
        return self.found


def _package(session: Session, name: str) -> Package | None:
    try:
        return session.package(name)
    except ConfigError:
        return None


def _version(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file does; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size
