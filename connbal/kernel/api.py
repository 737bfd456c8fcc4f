"""The effects connbal has on a machine, as protocols: the real ones are beside this file, tests have fakes.

Everything raises KernelError with what was asked and what was answered. Nothing here decides anything.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Protocol, TypeVar

from connbal.errors import KernelError
from connbal.frozen import dataclass

if TYPE_CHECKING:  # files and locks need the errors below and no more, and so do commands that only edit
    from connbal.model.config import Family, IPNetwork
    from connbal.model.facts import Link, MainRoute, Network
    from connbal.plan.state import ChainText, SetState
    from connbal.plan.values import IpRoute, IpRule, SetSpec

T = TypeVar("T")


class TransientError(KernelError):
    """Nothing is wrong with what was asked: a lock was held, or time ran out. The same may work a moment later."""

    kind = "busy"


class SetRefused(KernelError):
    """A set that cannot be made or filled: ``spec`` says which."""

    def __init__(self, spec: SetSpec, why: KernelError) -> None:
        super().__init__(why.command, why.line, why.output, lineno=why.lineno)
        self.spec = spec
        self.code: int = getattr(why, "code", 0)  #: of netlink; 0: a program refused


#: Errors of a machine that is short of something right now: whoever asked could have asked for anything else.
PASSING = frozenset({
    errno.EINTR, errno.EAGAIN, errno.ENOMEM, errno.EBUSY, errno.ENFILE, errno.EMFILE, errno.ENOBUFS,
})  # fmt: skip
#: The same as programs print them: iptables of either build, ipset, and the C library. No word from UCI holds a space.
PASSING_WORDS = (
    "xtables lock", "lock file", "Resource temporarily unavailable", "Device or resource busy",
    "Cannot allocate memory", "Memory allocation problem", "alloc memory", "No buffer space available",
    "Interrupted system call", "Too many open files",
)  # fmt: skip


def passing(said: str) -> bool:
    """Whether what a program wrote when it failed has nothing to do with what it was given."""
    return any(words in said for words in PASSING_WORDS)


@dataclass(frozen=True)
class Counter:
    """Packets and bytes that a rule of a chain has seen."""

    packets: int
    bytes: int
    rule: str  #: as in ChainText


class Xtables(Protocol):
    """The mangle tables, through iptables-save and iptables-restore."""

    backend: str  #: ``nft`` or ``legacy``

    def available(self, family: Family) -> bool:
        """Whether the kernel and the programs can do this family."""

    def knows_match(self, name: str) -> bool:
        """Whether the kernel says of itself that it has a match. A no may mean "not loaded yet"."""

    def look(self, families: Sequence[Family]) -> Mapping[Family, Mapping[str, ChainText]]:
        """Every chain of the table in each of these families, for comparing with another look. Lines are not what is
        written, except that of a rule that only jumps: ``-j CHAIN``.
        """

    @property
    def generation(self) -> int:
        """The kernel's number for the state that the last look has found in all families; 0: it has none."""

    def disturbed(self) -> bool:
        """Whether another look would find anything else than the last one did; no where that cannot be told at little
        cost. Of the families that were looked at.
        """

    def save(self, family: Family) -> Mapping[str, ChainText]:
        """The same of one family, as the program prints it."""

    def counters(self, family: Family) -> Mapping[str, tuple[Counter, ...]]: ...

    def restore(self, family: Family, text: str) -> None:
        """One transaction: all of ``text`` (from ``*mangle`` to ``COMMIT``) or nothing. KernelError has ``lineno``
        where the program or kernel named a line.
        """


class Sets(Protocol):
    """ipsets."""

    def headers(self) -> Mapping[str, SetState]:
        """Every set, without entries."""

    def filled(self, headers: Mapping[str, SetState], names: Collection[str]) -> Mapping[str, SetState]:
        """``headers`` with the entries of the sets of these names; one of them that is gone by now is left out."""

    def create(self, *specs: SetSpec) -> None:
        """Make sets with their entries; they must not exist. SetRefused: the first that cannot be made; nothing is left
        of it, and those before it stay.
        """

    def replace(self, *specs: SetSpec) -> None:
        """Give existing sets the entries of ``specs``: built beside and swapped, so no packet meets half a set.
        SetRefused as for :meth:`create`.
        """

    def flush(self, name: str) -> None: ...

    def destroy(self, name: str) -> None: ...


@dataclass(frozen=True)
class RoutingState:
    """One dump of each netlink table."""

    links: Mapping[str, Link]
    networks: Mapping[tuple[str, Family], Network]  #: by *device* name: addresses and default routes
    connected: Mapping[Family, tuple[IPNetwork, ...]]  #: destinations of the local table: the router itself
    tables: Mapping[tuple[Family, int], tuple[IPNetwork, ...]]  #: other tables' destinations, defaults left out
    ip_rules: frozenset[IpRule]  #: connbal's own
    routes: frozenset[IpRoute]  #: connbal's own
    main: Mapping[Family, tuple[MainRoute, ...]] = field(default_factory=dict)  #: others', default routes left out
    copies: frozenset[MainRoute] = frozenset()  #: connbal's own in the table of local routes


class Routing(Protocol):
    """Links, addresses, routes and rules, through netlink."""

    def read(self) -> RoutingState: ...

    def add_rule(self, rule: IpRule) -> None: ...

    def delete_rule(self, rule: IpRule) -> None:
        """A rule that is gone already is no error."""

    def replace_route(self, route: IpRoute) -> None:
        """Add, or replace the one of the same table, destination and metric, without a moment in between."""

    def delete_route(self, route: IpRoute) -> None:
        """A route that is gone already is no error."""

    def copy_route(self, route: MainRoute) -> None:
        """Put a route of the main table into that of local routes, too. One that is there already is no error."""

    def delete_copy(self, route: MainRoute) -> None:
        """Take it out again. One that is gone already is no error."""


class Conntrack(Protocol):
    """The connection table."""

    def flush(self, mark: int, mask: int) -> None:
        """Forget every connection, of either family, whose mark under ``mask`` is ``mark``."""


def in_turn(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Do several jobs and return what each returns, in their order. What one raises is raised."""
    return [job() for job in jobs]


@dataclass
class Kernel:
    """All of it, as handed to the reconciler."""

    xtables: Xtables
    sets: Sets
    routing: Routing
    conntrack: Conntrack
