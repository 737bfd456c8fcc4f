"""What ``connbal explain`` finds out before it explains: the plan, the packet as the machine meets it, the world."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from connbal.cli.context import Session
from connbal.cli.explain_question import Asked, nearest
from connbal.errors import KernelError, Severity, UsageError
from connbal.kernel.conntrack import Connection, SystemConntrack
from connbal.kernel.ipset import SystemSets
from connbal.kernel.routing import SystemRouting
from connbal.model.config import Config, Family, IPAddress, Verdict
from connbal.model.facts import Facts
from connbal.model.marks import MarkSpace
from connbal.plan import matching
from connbal.plan.build import plan as build_plan
from connbal.plan.describe import main_text
from connbal.plan.explain import Packet, World
from connbal.plan.explain_route import Way
from connbal.plan.explain_story import Ending, Story, explain
from connbal.plan.locality import source_devices
from connbal.plan.values import Direction, Plan
from connbal.uci.decode import Decoded
from connbal.uci.decode_match import ICMP, ICMPV6, PORT_PROTOCOLS

#: Type of an ICMP echo request, which is what is asked about.
_ECHO = {ICMP: 8, ICMPV6: 128}
#: list:set sets hold sets, and those may be lists again; deeper the kernel does not look either.
_DEPTH = 2


@dataclass(frozen=True)
class Look:
    """What was found."""

    story: Story
    fresh: Story | None  #: what a new connection would do, where ``story`` is of one that is open
    plan: Plan
    applied: bool | None  #: None: the kernel was not asked
    pending: int  #: changes between the plan and the kernel
    notes: tuple[str, ...]  #: what was taken for granted, and what was not looked at


@dataclass
class Kernel:
    """The questions that are asked about one packet, in the network namespace of their first use."""

    sets: SystemSets = field(default_factory=SystemSets)
    routing: SystemRouting = field(default_factory=SystemRouting)
    conntrack: SystemConntrack = field(default_factory=SystemConntrack)

    def close(self) -> None:
        """Let go of the sockets."""
        for one in (self.sets, self.routing, self.conntrack):
            one.close()


@dataclass(frozen=True)
class Scene:
    """One look at a machine, good for any number of packets."""

    config: Config
    plan: Plan
    facts: Facts
    kernel: Kernel | None  #: None: not to be asked about sets, connections and routes
    applied: bool | None = None
    pending: int = 0


def look(session: Session, decoded: Decoded, asked: Asked, *, kernel: bool = True) -> Look:
    """Find out what there is to know, and explain. Raises ConnbalError."""
    with scene(session, decoded.config, kernel=kernel) as seen:
        found = answer(seen, asked)
    faults = [finding.place for finding in decoded.findings if finding.severity is Severity.ERROR]
    if not faults:
        return found
    some = ", ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
    return replace(found, notes=(*found.notes, f"left out because of mistakes (connbal check shows them): {some}"))


@contextlib.contextmanager
def scene(session: Session, config: Config, *, kernel: bool = True) -> Iterator[Scene]:
    """The plan that would be applied now, and the machine. Without ``kernel``, only what needs no root is asked."""
    if not kernel:
        facts = _facts_without_root(session, config)
        yield Scene(config, build_plan(config, facts), facts, None)
        return
    with session.machine() as machine, contextlib.closing(Kernel()) as questions:
        reconciler = machine.reconciler(lambda config, facts: session.run().health())
        try:
            report = reconciler.preview(config)
        except KernelError as error:
            hint = f"{error.output.strip()}; connbal explain --no-kernel does without"
            raise KernelError(error.command, error.line, hint) from error
        yield Scene(
            config, report.plan, report.facts, questions, reconciler.applied(), len(report.changes)
        )  # fmt: skip


def _facts_without_root(session: Session, config: Config) -> Facts:
    """Links, addresses and routes anybody may read; sets nobody is asked about."""
    with session.machine() as machine:
        return machine.facts(config, lambda config, facts: session.run().health())


def answer(seen: Scene, asked: Asked) -> Look:
    """Explain one packet."""
    notes: list[str] = [seen.facts.stale] if seen.facts.stale else []
    packet = packet_of(seen, asked, notes)
    family = packet.family
    sets = Sets(seen, packet)
    world = World(
        sets=sets,
        connection=_connection(seen, packet, notes),
        connected=seen.facts.reached(family),
        custom=seen.facts.custom.get(family, ()),
        main=_main(seen, packet),
    )
    story = explain(seen.config, seen.plan, packet, world)
    fresh = None
    if story.decided == "connection":
        fresh = explain(seen.config, seen.plan, packet, replace(world, connection=None))
    notes += sets.notes()
    notes += _kept(seen, packet)
    if seen.kernel is not None and seen.applied and not seen.pending:
        for ending, way in other_ways(seen.kernel, story):
            where = way.refused or f"by {way.device}" + (f" to {way.gateway}" if way.gateway else "")
            name = ending.interface or ending.meaning
            notes.append(f"a rule or route of others comes before that of {name}: the kernel sends it {where}")
    return Look(story, fresh, seen.plan, seen.applied, seen.pending, tuple(notes))


def _kept(seen: Scene, packet: Packet) -> Iterator[str]:
    """The narrowest route to its destination that is for one source alone."""
    judged = seen.plan.judged.get(packet.family)
    found = [one for one in judged.kept if packet.destination in one.route.destination] if judged is not None else []
    for one in sorted(found, key=lambda one: -one.route.destination.prefixlen)[:1]:
        name = source_devices(seen.config, seen.facts).get(one.device, one.device)
        yield (
            f"the main table has a route {main_text(one.route)}, which counts for what {name} carries and for nothing "
            f"else: {one.why.value}"
        )


# --- the packet -----------------------------------------------------------------------------------------------------


def packet_of(seen: Scene, asked: Asked, notes: list[str]) -> Packet:
    """The packet as the machine meets it. UsageError for names of networks or devices that there are not."""
    local = asked.local or (asked.incoming is None and asked.source is not None and _is_own(seen.facts, asked.source))
    if local and not asked.local:
        notes.append(f"{asked.source} is the router's own address: taken for sent by the router")
    source, leaving, bound, device = asked.source, None, None, None
    if local:
        bound = _device(seen.facts, asked.outgoing, "--oif") if asked.outgoing else None
        way = _unmarked(seen, asked, bound)
        if way.refused:
            notes.append(f"without a mark the router has no way to {asked.destination}: {way.refused}; nothing is sent")
        leaving = bound or way.device or None
        source = source or way.source or _address_of(seen.facts, leaving, Family.of(asked.destination))
        if source is None:
            raise UsageError(f"the router has no address to reach {asked.destination} from: give one with --src")
    else:
        assert source is not None
        device = _came_in_by(seen.facts, asked, source, notes)
    return Packet(
        source, asked.destination, asked.protocol, asked.source_port, asked.destination_port, device, asked.mac,
        local, leaving, bound, _ECHO.get(asked.protocol or 0),
    )  # fmt: skip


def _unmarked(seen: Scene, asked: Asked, bound: str | None) -> Way:
    """Where the router's own packet goes before it has a mark: that gives it its address."""
    if seen.kernel is not None:
        return seen.kernel.routing.way(asked.destination, asked.source, outgoing=bound) or Way()
    return _best_default(seen.facts, Family.of(asked.destination)) or Way()


def _best_default(facts: Facts, family: Family) -> Way | None:
    """The main table's default route, as far as the networks tell."""
    found = [
        (route.metric, Way(network.device or "", route.gateway, network.addresses[0].ip if network.addresses else None))
        for network in facts.networks.values()
        if network.family is family and network.up
        for route in network.defaults
    ]
    return min(found, key=lambda one: one[0], default=(0, None))[1]


def _address_of(facts: Facts, device: str | None, family: Family) -> IPAddress | None:
    networks = (one for one in facts.networks.values() if one.device == device and one.family is family)
    return next((address.ip for one in networks for address in one.addresses), None)


def _is_own(facts: Facts, address: IPAddress) -> bool:
    return any(address == one.ip for network in facts.networks.values() for one in network.addresses)


def _came_in_by(facts: Facts, asked: Asked, source: IPAddress, notes: list[str]) -> str | None:
    if asked.incoming is not None:
        return _device(facts, asked.incoming, "--iif")
    device = _device_of_network(facts, source)
    if device is not None:
        return device
    notes.append(f"no network here has {source}, so it is not known by which device it comes in (--iif says it)")
    return None


def _device_of_network(facts: Facts, address: IPAddress) -> str | None:
    """The device of the smallest network that has an address."""
    found = [
        (own.network.prefixlen, network.device)
        for network in facts.networks.values()
        for own in network.addresses
        if network.device and own.version == address.version and address in own.network
    ]
    return max(found)[1] if found else None


def _device(facts: Facts, name: str, option: str) -> str:
    device = matching.device_of(name, facts)
    if device is None:
        known = [*facts.links, *(network for network, _ in facts.networks)]
        raise UsageError(f"{option} {name}: there is no network or device of that name{nearest(name, known)}")
    return device


# --- the world ------------------------------------------------------------------------------------------------------


class Sets(Mapping[tuple[str, Direction], bool]):
    """For sets that the plan does not fill: whether the packet is in one. Each is asked when a line asks it, once."""

    def __init__(self, seen: Scene, packet: Packet) -> None:
        self._seen, self._packet = seen, packet
        self._answers: dict[tuple[str, Direction], bool | None] = {}

    def __getitem__(self, key: tuple[str, Direction]) -> bool:
        if key not in self._answers:
            kernel = self._seen.kernel
            self._answers[key] = None if kernel is None else _within(self._seen, kernel, *key, self._packet)
        inside = self._answers[key]
        if inside is None:
            raise KeyError(key)
        return inside

    def __iter__(self) -> Iterator[tuple[str, Direction]]:
        return (key for key, inside in self._answers.items() if inside is not None)

    def __len__(self) -> int:
        return sum(inside is not None for inside in self._answers.values())

    def notes(self) -> Iterator[str]:
        """Which sets were asked in vain."""
        missed = sorted({name for (name, _), inside in self._answers.items() if inside is None})
        if missed:
            some = ", ".join(missed[:3]) + (f" and {len(missed) - 3} more" if len(missed) > 3 else "")
            why = "not looked at (--no-kernel)" if self._seen.kernel is None else "of types that say more than is known"
            yield f"sets {why}, taken for not matching: {some}"


def _within(
    seen: Scene, kernel: Kernel, name: str, direction: Direction, packet: Packet, depth: int = _DEPTH
) -> bool | None:
    state = seen.facts.sets.get(name)
    if state is None:
        return False  # it is made empty
    if state.type == "list:set":
        members = sorted(kernel.sets.entries(name)) if depth else []
        answers = [_within(seen, kernel, member, direction, packet, depth - 1) for member in members]
        return True if True in answers else None if None in answers else False
    if state.family not in (None, packet.family):
        return False
    port = packet.source_port if direction == "src" else packet.destination_port
    return kernel.sets.contains(name, state.type, packet.address(direction), packet.protocol or 0, port or 0)


def _connection(seen: Scene, packet: Packet, notes: list[str]) -> int | None:
    """The mark of the connection it belongs to."""
    ports = packet.source_port is not None and packet.destination_port is not None
    if packet.protocol is None or (packet.protocol in PORT_PROTOCOLS and not ports):
        return None
    if packet.protocol in _ECHO:
        return None  # its identifier is not known
    if seen.kernel is None:
        notes.append("open connections were not looked at (--no-kernel)")
        return None
    wanted = Connection(
        packet.family, packet.protocol, packet.source, packet.destination, packet.source_port or 0,
        packet.destination_port or 0, 0,
    )  # fmt: skip
    try:
        found = seen.kernel.conntrack.find(wanted)
    except KernelError as error:
        notes.append(f"open connections were not looked at: {error}")
        return None
    return None if found is None else found.mark


def _main(seen: Scene, packet: Packet) -> Way | None:
    """Where the main table sends it: what a packet of mark "default" meets."""
    if seen.kernel is None:
        return _main_by_facts(seen.facts, packet)
    return way_of(seen.kernel, packet, MarkSpace(seen.plan.mask).verdict_mark(Verdict.DEFAULT))


def _main_by_facts(facts: Facts, packet: Packet) -> Way | None:
    """The same, as far as addresses of networks and default routes tell."""
    destination = packet.destination
    if _is_own(facts, destination):
        return Way(local=True)
    if any(destination in network for network in facts.reached(packet.family)):
        device = _device_of_network(facts, destination)
        return None if device is None else Way(device)
    return _best_default(facts, packet.family)


def way_of(kernel: Kernel, packet: Packet, mark: int) -> Way | None:
    """Where the kernel sends a packet that has this mark."""
    if packet.local or packet.device is None:
        # Asked with a source address, IPv6 would not insist on the device that a program is bound to; sent, it does.
        insisting = packet.bound is not None and packet.family is Family.IPV6
        source = packet.source if packet.local and not insisting else None
        return kernel.routing.way(packet.destination, source, outgoing=packet.bound, mark=mark)
    return kernel.routing.way(packet.destination, packet.source, incoming=packet.device, mark=mark)


def other_ways(kernel: Kernel, story: Story) -> Iterator[tuple[Ending, Way]]:
    """The endings that the kernel sends elsewhere than the plan says, and where: a rule or route of others is ahead."""
    for ending in story.endings:
        said, done = ending.hop.way, way_of(kernel, story.packet, ending.mark)
        if said is None or done is None or (said.refused and done.refused):
            continue
        if bool(said.refused) != bool(done.refused) or (said.device, said.gateway) != (done.device, done.gateway):
            yield ending, done
