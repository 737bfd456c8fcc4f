"""The words of the configuration: what its options may say. Apart from the rest, because it is cheap to import."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connbal.model.config import IPAddress, IPInterface, IPNetwork


class Family(enum.Enum):
    """An address family, under the name UCI uses."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @property
    def version(self) -> int:
        """4 or 6, as :mod:`ipaddress` counts."""
        return 4 if self is Family.IPV4 else 6

    @property
    def af(self) -> int:
        """The ``AF_*`` number for sockets and netlink."""
        import socket  # whose import costs more than all of this

        return int(socket.AF_INET if self is Family.IPV4 else socket.AF_INET6)

    @staticmethod
    def of(address: IPAddress | IPNetwork | IPInterface) -> Family:
        return Family.IPV4 if address.version == 4 else Family.IPV6


FAMILIES = (Family.IPV4, Family.IPV6)


class WeightMode(enum.Enum):
    """How weights of one tier become shares."""

    PROPORTIONAL = "proportional"  #: weight / sum of weights, as mwan3
    INVERSE = "inverse"  #: (1/weight) / sum of (1/weight): weights 1 and 2 give 66 % and 33 %


class Affinity(enum.Enum):
    """What stays on one source."""

    CONNECTION = "connection"  #: each new connection is drawn anew, as mwan3
    PAIR = "pair"  #: all connections of one source address to one destination address
    SOURCE = "source"  #: all connections of one source address


class SourceRoutes(enum.Enum):
    """Which routes that a source has learned are followed whatever source was chosen."""

    PRIVATE = "private"  #: within private and special-use space, where no LAN and no other source is
    NONE = "none"  #: none; nor are the public networks that a source is in
    ALL = "all"  #: every one, as mwan3 does


class Verdict(enum.Enum):
    """What happens to a connection that no interface takes."""

    UNREACHABLE = "unreachable"  #: refused with an ICMP error
    BLACKHOLE = "blackhole"  #: dropped in silence
    DEFAULT = "default"  #: routed by the main table, as if connbal were not there


class TrackMethod(enum.Enum):
    """How a host is probed."""

    PING = "ping"
    ARPING = "arping"
    HTTPING = "httping"
    NSLOOKUP = "nslookup"
    NPING_TCP = "nping-tcp"
    NPING_UDP = "nping-udp"
    NPING_ICMP = "nping-icmp"
    NPING_ARP = "nping-arp"


#: Syslog levels as ``globals.loglevel`` names them, with the number ``LOG --log-level`` takes.
LOG_LEVELS: Mapping[str, int] = {
    "emerg": 0, "alert": 1, "crit": 2, "error": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7,
}  # fmt: skip

#: Events that ``interface.flush_conntrack`` may name.
FLUSH_EVENTS = ("ifup", "ifdown", "connected", "disconnected")
