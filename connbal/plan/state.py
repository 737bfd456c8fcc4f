"""What is in the kernel, as values: the other half of the diff. Filled by :mod:`connbal.kernel`, read by plan/diff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from connbal.frozen import dataclass
from connbal.model.config import Family
from connbal.model.facts import MainRoute
from connbal.plan.values import IpRoute, IpRule

#: Value of the ``protocol`` field of every rule and route connbal makes, so that it knows its own from others'.
#: 0..4 are the kernel's, 5..255 are free for programs; iproute2's rt_protos names none of 90 to 185.
ROUTE_PROTOCOL = 131

#: Everything connbal (and mwan3 before it) puts into netfilter has a name that starts so.
PREFIX = "mwan3_"

#: Rules of one chain as the save program prints them, without counters and without ``-A CHAIN ``.
ChainText = tuple[str, ...]


@dataclass(frozen=True)
class SetState:
    """An ipset as it is. ``entries`` are as ``ipset`` prints them, without options; None: not asked for."""

    name: str
    type: str
    family: Family | None
    entries: frozenset[str] | None = None
    timeout: int | None = None
    references: int = 0
    elements: int | None = None  #: how many entries it has; None: nobody says


@dataclass(frozen=True)
class KernelState:
    """What one look at the kernel found."""

    #: The mangle table: every chain, built-in ones and others' included.
    chains: Mapping[Family, Mapping[str, ChainText]] = field(default_factory=dict)
    sets: Mapping[str, SetState] = field(default_factory=dict)
    ip_rules: frozenset[IpRule] = frozenset()  #: those with ROUTE_PROTOCOL only
    routes: frozenset[IpRoute] = frozenset()  #: those with ROUTE_PROTOCOL only
    copies: frozenset[MainRoute] = frozenset()  #: in the table of local routes, those with ROUTE_PROTOCOL only
