"""A kernel in memory: implements every protocol of :mod:`connbal.kernel.api`, and can be made to fail at any call.

Every call of any part is counted. ``trouble`` says at which call what goes wrong, ``race`` what another program does
just before a call, ``observe`` is called after each call that changed something.
"""

from __future__ import annotations

import enum
import ipaddress
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from connbal.errors import KernelError
from connbal.kernel.api import Kernel, RoutingState, SetRefused, TransientError
from connbal.model.config import Family
from connbal.model.facts import MainRoute
from connbal.plan.describe import main_text, route_text, rule_text
from connbal.plan.ledger import Ledger
from connbal.plan.state import SetState
from connbal.plan.values import IpRoute, IpRule, SetSpec
from tests.fakes.build import Machine
from tests.fakes.xtables import FakeXtables


class Trouble(enum.Enum):
    """What goes wrong with a call."""

    REFUSED = "refused"  #: an error, and nothing was done
    BUSY = "busy"  #: the same, but it is nobody's fault: a lock was held
    HANGS = "hangs"  #: it was done, but no answer came in time
    KILLED = "killed"  #: the calling process ends before it is done
    KILLED_AFTER = "killed after"  #: the calling process ends just after it was done


class Killed(BaseException):
    """The process is gone: nothing of connbal's may catch this."""


@dataclass
class Calls:
    """Counts calls and decides what becomes of each."""

    names: list[str] = field(default_factory=list)
    changing: int = 0
    trouble: dict[int, Trouble] = field(default_factory=dict)  #: by number of the call, from 0
    race: dict[int, Callable[[], None]] = field(default_factory=dict)
    observe: Callable[[], None] | None = None

    def enter(self, name: str, changing: bool) -> Callable[[], None]:
        """Before a call. What it returns is to be called when the work is done."""
        number = len(self.names)
        self.names.append(name)
        self.changing += changing
        if number in self.race:
            self.race[number]()
        trouble = self.trouble.get(number)
        self._before(name, trouble)
        return lambda: self._after(name, changing, trouble)

    def _before(self, name: str, trouble: Trouble | None) -> None:
        if trouble is Trouble.REFUSED:
            raise KernelError(name.split("\n")[0], None, "refused by the test")
        if trouble is Trouble.BUSY:
            raise TransientError(name.split("\n")[0], None, "Another app is currently holding the xtables lock")
        if trouble is Trouble.KILLED:
            raise Killed(name)

    def _after(self, name: str, changing: bool, trouble: Trouble | None) -> None:
        if changing and self.observe is not None:
            self.observe()
        if trouble is Trouble.HANGS:
            raise TransientError(name.split("\n")[0], None, "no answer in time")
        if trouble is Trouble.KILLED_AFTER:
            raise Killed(name)

    def forget(self) -> None:
        """Start counting anew, without troubles."""
        self.names.clear()
        self.trouble.clear()
        self.race.clear()
        self.changing = 0


class FakeSets:
    """ipsets in memory."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.states: dict[str, SetState] = {}
        self.in_use: Callable[[str], bool] = lambda name: False

    def headers(self) -> dict[str, SetState]:
        done = self._calls.enter("set headers", False)
        found = {name: replace(state, entries=None) for name, state in self.states.items()}
        done()
        return found

    def filled(self, headers: Mapping[str, SetState], names: Collection[str]) -> dict[str, SetState]:
        if not names:
            return dict(headers)
        done = self._calls.enter(f"set entries {' '.join(sorted(names))}", False)
        found = {name: replace(state, entries=self.states[name].entries) if name in names else state
                 for name, state in headers.items() if name not in names or name in self.states}  # fmt: skip
        done()
        return found

    def create(self, *specs: SetSpec) -> None:
        for spec in specs:
            done = self._calls.enter(f"set create {spec.name}", True)
            if spec.name in self.states:
                raise _refused(spec, "rename", "set with the same name already exists")
            self.states[spec.name] = self._built(spec)
            done()

    def replace(self, *specs: SetSpec) -> None:
        for spec in specs:
            done = self._calls.enter(f"set replace {spec.name}", True)
            state = self._known(spec.name)
            if (state.type, state.family) != (spec.type, spec.family):
                raise _refused(spec, "swap", "The sets cannot be swapped: their type does not match")
            self.states[spec.name] = self._built(spec)
            done()

    def flush(self, name: str) -> None:
        done = self._calls.enter(f"set flush {name}", True)
        self.states[name] = replace(self._known(name), entries=frozenset())
        done()

    def destroy(self, name: str) -> None:
        done = self._calls.enter(f"set destroy {name}", True)
        self._known(name)
        if self.in_use(name):
            raise KernelError(f"ipset destroy {name}", None, "it is in use by a rule or another set")
        del self.states[name]
        done()

    def _known(self, name: str) -> SetState:
        if name not in self.states:
            raise KernelError(f"ipset {name}", None, "no such set")
        return self.states[name]

    def _built(self, spec: SetSpec) -> SetState:
        if len(spec.name) > 30:
            raise _refused(spec, "create", "a set's name may have 30 characters at most")
        for entry in spec.entries or ():
            self._check(spec, entry)
        return SetState(spec.name, spec.type, spec.family, spec.entries or frozenset(), spec.timeout)

    def _check(self, spec: SetSpec, entry: str) -> None:
        if spec.type == "list:set":
            self._known(entry)
            return
        network = ipaddress.ip_network(entry)
        printed = str(network.network_address) if network.num_addresses == 1 else str(network)
        if spec.family is not Family.of(network) or not network.prefixlen or printed != entry:
            raise _refused(spec, "restore", f"syntax error: add {spec.name} {entry}")


def _refused(spec: SetSpec, verb: str, why: str) -> SetRefused:
    return SetRefused(spec, KernelError(f"ipset {verb} {spec.name}", None, why))


class FakeRouting:
    """Rules and routes in memory, on the links of a Machine."""

    def __init__(self, calls: Calls, machine: Machine) -> None:
        self._calls = calls
        self._machine = machine
        self.rules: set[IpRule] = set()
        self.routes: dict[tuple[object, ...], IpRoute] = {}
        self.copies: set[MainRoute] = set()

    def read(self) -> RoutingState:
        done = self._calls.enter("read routing", False)
        machine = self._machine
        found = RoutingState(
            machine.links, {}, machine.connected, {}, frozenset(self.rules), frozenset(self.routes.values()),
            machine.main, frozenset(self.copies),
        )
        done()
        return found

    def add_rule(self, rule: IpRule) -> None:
        done = self._calls.enter(f"add rule {rule_text(rule)}", True)
        self.rules.add(rule)
        done()

    def delete_rule(self, rule: IpRule) -> None:
        done = self._calls.enter(f"delete rule {rule_text(rule)}", True)
        self.rules.discard(rule)
        done()

    def replace_route(self, route: IpRoute) -> None:
        done = self._calls.enter(f"replace route {route_text(route)}", True)
        if route.device not in self._machine.links:
            raise KernelError(f"ip route replace {route_text(route)}", None, f"no such device: {route.device}")
        if not self._reachable(route):
            raise KernelError(f"ip route replace {route_text(route)}", None, "Nexthop has invalid gateway")
        self.routes[self._key(route)] = route
        done()

    def delete_route(self, route: IpRoute) -> None:
        done = self._calls.enter(f"delete route {route_text(route)}", True)
        if self.routes.get(self._key(route)) == route:
            del self.routes[self._key(route)]
        done()

    def copy_route(self, route: MainRoute) -> None:
        done = self._calls.enter(f"copy route {main_text(route)}", True)
        if any(hop.device not in self._machine.links for hop in route.hops):
            raise KernelError(f"ip route append {main_text(route)}", None, "no such device")
        self.copies.add(route)
        done()

    def delete_copy(self, route: MainRoute) -> None:
        done = self._calls.enter(f"delete copy {main_text(route)}", True)
        self.copies.discard(route)
        done()

    def flush_lost(self) -> None:
        """As the kernel does: routes through devices that are gone go with them."""
        links = self._machine.links
        self.routes = {key: route for key, route in self.routes.items() if route.device in links}
        self.copies = {copy for copy in self.copies if all(hop.device in links for hop in copy.hops)}

    def _key(self, route: IpRoute) -> tuple[object, ...]:
        return (route.family, route.table, route.destination, route.metric, route.source)

    def _reachable(self, route: IpRoute) -> bool:
        if route.gateway is None or route.onlink or route.gateway.is_link_local:
            return True
        nets = self._machine.connected[route.family]
        return any(route.gateway in net for net in nets if net.prefixlen)


class FakeConntrack:
    """Connections by the mark they carry, each with what it was made for."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.flows: set[tuple[Family, int, str]] = set()
        self.flushed: list[tuple[int, int]] = []

    def flush(self, mark: int, mask: int) -> None:
        done = self._calls.enter(f"forget connections {mark:#x}/{mask:#x}", True)
        self.flushed.append((mark, mask))
        self.flows = {flow for flow in self.flows if flow[1] & mask != mark}
        done()


class FakeMemory:
    """Keeps the ledger, through JSON as the real one does."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.data: object = None

    def load(self) -> Ledger:
        return Ledger.from_json(self.data)

    def save(self, ledger: Ledger) -> None:
        done = self._calls.enter("save ledger", False)
        self.data = ledger.as_json()
        done()


class FakeKernel:
    """All of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.calls = Calls()
        self.sets = FakeSets(self.calls)
        self.xtables = FakeXtables(self.sets.states, self.calls.enter)
        self.sets.in_use = self._set_in_use
        self.routing = FakeRouting(self.calls, machine)
        self.conntrack = FakeConntrack(self.calls)
        self.memory = FakeMemory(self.calls)

    @property
    def api(self) -> Kernel:
        return Kernel(self.xtables, self.sets, self.routing, self.conntrack)

    def text(self) -> str:
        """Everything there is, in an order that does not depend on how it came to be."""
        lines = []
        for family, chains in sorted(self.xtables.tables.items(), key=lambda item: item[0].value):
            for chain in sorted(chains):
                lines.append(f"{family.value} :{chain}")
                lines += [f"{family.value} -A {chain} {rule}" for rule in chains[chain]]
        for name, state in sorted(self.sets.states.items()):
            held = " ".join(sorted(state.entries or ()))
            lines.append(f"set {name} {state.type} {state.family} timeout {state.timeout}: {held}")
        lines += [f"rule {rule_text(rule)}" for rule in sorted(self.routing.rules)]
        lines += sorted(f"route {route.family.value} {route_text(route)}" for route in self.routing.routes.values())
        lines += sorted(f"copy {copy.family.value} {main_text(copy)}" for copy in self.routing.copies)
        return "\n".join(lines)

    def rulesets(self) -> str:
        """The part of :meth:`text` that packets meet first: the chains."""
        return "\n".join(line for line in self.text().splitlines() if line.startswith("ipv"))

    def _set_in_use(self, name: str) -> bool:
        lines = itertools.chain.from_iterable(
            rules for chains in self.xtables.tables.values() for rules in chains.values()
        )
        listed = any(name in (state.entries or ()) for state in self.sets.states.values() if state.type == "list:set")
        return listed or any(f"-set {name} " in f"{line} " for line in lines)
