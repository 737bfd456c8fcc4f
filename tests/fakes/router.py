"""A router in memory: a fake kernel with what other programs put there, and connbal's reconciler on top."""

from __future__ import annotations

import re
from dataclasses import replace

from connbal.model.config import FAMILIES, Config
from connbal.plan.ledger import Ledger
from connbal.plan.state import SetState
from connbal.plan.values import IpRoute, IpRule
from connbal.reconcile import Reconciler, Report
from tests.fakes.build import V4, Machine, network
from tests.fakes.build import machine as make_machine
from tests.fakes.kernel import FakeKernel
from tests.fakes.xtables import fresh

_MARKING = re.compile(r'--comment "?(\w+)[^"]*"? .*-j MARK --set-xmark (0x[0-9a-f]+)/(0x[0-9a-f]+)$')


class Router:
    """``kernel`` is what happens, ``apply`` what connbal makes of it."""

    def __init__(self, machine: Machine | None = None, *, others: bool = True) -> None:
        self.machine = machine or make_machine()
        self.kernel = FakeKernel(self.machine)
        if others:
            self._others()

    def apply(self, config: Config) -> Report:
        return self.reconciler.apply(config)

    @property
    def reconciler(self) -> Reconciler:
        """A new one each time: nothing may depend on what one process remembers."""
        return Reconciler(self.kernel.api, self.machine.source, self.kernel.memory)

    @property
    def ledger(self) -> Ledger:
        return Ledger.from_json(self.kernel.memory.data)

    def _others(self) -> None:
        """What the firewall, a VPN and a user have put into the kernel."""
        tables = self.kernel.xtables.tables
        for family in FAMILIES:
            tables[family] = fresh()
            tables[family]["fw_mss"] = ["-p tcp -j RETURN"]
            tables[family]["FORWARD"] = ["-o eth1 -j fw_mss"]
            tables[family]["PREROUTING"] = ["-i br-lan -j MARK --set-xmark 0x10000/0x10000"]
            self.kernel.xtables.hits[family] = {name: [(7, 700)] * len(lines) for name, lines in tables[family].items()}
        streaming = frozenset({"203.0.113.0/24"})
        self.kernel.sets.states["streaming"] = SetState("streaming", "hash:net", V4, streaming)

    # --- what must hold at any moment -----------------------------------------------------------------------------

    def devices(self) -> dict[str, str]:
        return {one.name: one.device for one in self.machine.uplinks.values()}

    def check_marks(self) -> None:
        """Every mark that a chain gives, and every mark of a connection, leads to its interface or to nowhere."""
        devices = self.devices()
        for family in FAMILIES:
            for lines in self.kernel.xtables.tables.get(family, {}).values():
                for line in lines:
                    found = _MARKING.search(line)
                    if found and found[1] in devices:
                        self.kernel.conntrack.flows.add((family, int(found[2], 16), found[1]))
                        self._leads_home(family, int(found[2], 16), found[1], needs_table=True)
        for family, mark, name in self.kernel.conntrack.flows:
            self._leads_home(family, mark, name, needs_table=False)

    def _leads_home(self, family: object, mark: int, name: str, *, needs_table: bool) -> None:
        matching = sorted(
            rule for rule in self.kernel.routing.rules
            if rule.family == getattr(family, "value", "") and rule.mask and mark & rule.mask == rule.mark
        )  # fmt: skip
        tables = [rule.table for rule in matching if rule.action == "lookup"]
        assert not needs_table or tables, f"{name}'s mark {mark:#x} is given, but no rule takes it"
        routes = [route for route in self.kernel.routing.routes.values() if not route.destination.prefixlen]
        defaults = [route for route in routes if route.family is family and tables[:1] == [route.table]]
        alive = name in {one.name for one in self.machine.uplinks.values() if one.up}
        assert not (needs_table and alive) or defaults, f"{name}'s table {tables} has no default route"
        wrong = [route.device for route in defaults if route.device != self.devices()[name]]
        assert not wrong, f"{name}'s mark {mark:#x} leads to {wrong}"


def foreign_rule() -> IpRule:
    """A rule that connbal would not make, but which has its protocol: left from another configuration."""
    return IpRule("ipv4", 2099, "lookup", table=99, mark=0x6300, mask=0x3F00)


def foreign_route() -> IpRoute:
    return IpRoute(V4, 99, network("0.0.0.0/0"), "br-lan")


def without_leftovers(text: str) -> str:
    """A kernel's text without the empty sets that were made for a user's rule: they stay until connbal stops."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("set made_"))


def unplug(router: Router, name: str) -> None:
    """The link of an uplink is gone, and with it the routes through it."""
    router.machine.uplinks[name].up = False
    router.kernel.routing.flush_lost()


def with_mask(config: Config, mask: int) -> Config:
    return replace(config, globals=replace(config.globals, mmx_mask=mask))
