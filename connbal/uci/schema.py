"""Every section type and option of package ``mwan3``: what it takes, what it means, what a bad value costs.

Decoding, the command line and the documentation are all driven by these tables. Names, meanings and defaults are
mwan3 2.12.2's, ranges what luci-app-mwan3 offers or wider; options marked "connbal" are this program's own and
default to what keeps mwan3's meaning, but for ``source_routes``, where that was a fault. Defaults are written as one
would write them in UCI; ``None`` means that the option simply is not there.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from connbal.frozen import dataclass
from connbal.model.terms import (
    FLUSH_EVENTS,
    LOG_LEVELS,
    Affinity,
    Family,
    SourceRoutes,
    TrackMethod,
    Verdict,
    WeightMode,
)


class Kind(enum.Enum):
    """What sort of value an option takes; the value is how it is called in help texts."""

    BOOL = "yes or no"
    INT = "whole number"
    SECONDS = "time"
    WHOLE_SECONDS = "time in whole seconds"
    MILLISECONDS = "time in milliseconds"
    PERCENT = "percentage"
    MASK = "bit mask"
    CHOICE = "choice"
    TABLE = "routing table number"
    REFERENCE = "name of another section"
    HOST = "address or host name"
    ADDRESS = "address, network or range"
    PORT = "port or port range"
    PROTOCOL = "protocol"
    NETWORK = "network name"
    MAC = "MAC address"
    SET = "ipset name"


class Cost(enum.Enum):
    """What is lost where the value is bad."""

    DEFAULT = "default"  #: the default is used
    ITEM = "item"  #: the one list entry is ignored
    SECTION = "section"  #: the whole section is left out: without the option it would mean something else


@dataclass(frozen=True)
class OptionSpec:
    """One option. ``doc`` is one line without a final full stop, for help texts and tables."""

    name: str
    kind: Kind
    doc: str
    default: str | None = None  #: as UCI text; None: absent
    unit: str = ""  #: of a bare number
    low: int | float | None = None  #: least value, included
    high: int | float | None = None  #: greatest value, included
    choices: Mapping[str, Any] = field(default_factory=dict)  #: UCI text to model value, for CHOICE
    synonyms: Mapping[str, str] = field(default_factory=dict)  #: further texts, to one of ``choices``
    is_list: bool = False  #: several values: a UCI list, or one string with blanks or commas between them
    single: bool = False  #: mwan3 and its pages read it as ``option``: one value is written so, ports with commas
    cost: Cost = Cost.DEFAULT
    default_from: str = ""  #: option of the same section whose value is the default
    refers_to: str = ""  #: section type, for REFERENCE
    attribute: str = ""  #: attribute in the model, where its name is another
    required: bool = False

    @property
    def target(self) -> str:
        """Attribute of the model's dataclass."""
        return self.attribute or self.name


@dataclass(frozen=True)
class SectionSpec:
    """One section type."""

    type: str
    doc: str
    options: Mapping[str, OptionSpec]
    ignored: tuple[str, ...] = ()  #: options of other mwan3 versions that have no effect in this one


def _section(type_: str, doc: str, *options: OptionSpec, ignored: tuple[str, ...] = ()) -> SectionSpec:
    return SectionSpec(type_, doc, {spec.name: spec for spec in options}, ignored)


def _by_value(members: type[enum.Enum]) -> dict[str, Any]:
    return {member.value: member for member in members}


def _flag(name: str, doc: str, default: str = "0") -> OptionSpec:
    return OptionSpec(name, Kind.BOOL, doc, default)


def _count(name: str, doc: str, default: str, low: int, high: int, unit: str = "") -> OptionSpec:
    return OptionSpec(name, Kind.INT, doc, default, unit=unit, low=low, high=high)


def _time(name: str, doc: str, default: str | None, low: float, default_from: str = "") -> OptionSpec:
    return OptionSpec(name, Kind.SECONDS, doc, default, unit="s", low=low, high=MAX_INTERVAL, default_from=default_from)


def _match(name: str, kind: Kind, doc: str, attribute: str = "", is_list: bool = True) -> OptionSpec:
    return OptionSpec(name, kind, doc, is_list=is_list, single=True, cost=Cost.SECTION, attribute=attribute)


#: A day: longer times between probes are typing errors.
MAX_INTERVAL = 86400
#: What the ipset module of the kernel takes as an entry's timeout: UINT_MAX / 2 milliseconds.
MAX_SET_TIMEOUT = 2147483
#: Ping payload of the largest IPv4 packet: 65535 less 20 bytes of IP and 8 of ICMP header.
MAX_PAYLOAD = 65507

_FAMILIES = _by_value(Family)
_WEIGHT_MODES = _by_value(WeightMode)
_AFFINITIES = _by_value(Affinity)

GLOBALS = _section(
    "globals",
    "settings for all of it; the section's name is globals too",
    OptionSpec("mmx_mask", Kind.MASK, "bits of the packet mark to use, at least 3, in any places", "0x3F00"),
    _flag("logging", "log the rules that ask for it"),
    OptionSpec(
        "loglevel", Kind.CHOICE, "syslog level of those messages", "notice",
        choices={name: name for name in LOG_LEVELS},
        synonyms={
            "emergency": "emerg", "panic": "emerg", "critical": "crit", "err": "error", "warn": "warning",
            "information": "info", "informational": "info",
        },
    ),
    OptionSpec(
        "rt_table_lookup", Kind.TABLE, "further routing tables whose networks are reached without any rule",
        low=1, high=0xFFFFFFFF, is_list=True, cost=Cost.ITEM,
    ),
    _flag("source_routing", "keep the source address of IPv6 source-specific default routes"),
    OptionSpec(
        "weight_mode", Kind.CHOICE, "how weights become shares (connbal): inverse gives the lower weight more",
        WeightMode.PROPORTIONAL.value, choices=_WEIGHT_MODES,
    ),
    OptionSpec(
        "affinity", Kind.CHOICE,
        "what stays on one source (connbal): each connection, an address pair, or all of one device",
        Affinity.CONNECTION.value, choices=_AFFINITIES,
    ),
    OptionSpec(
        "source_routes", Kind.CHOICE,
        "routes learned by a source that are followed whatever source is chosen (connbal): see security.md",
        SourceRoutes.PRIVATE.value, choices=_by_value(SourceRoutes),
    ),
    ignored=("rtmon_interval", "enabled", "local_source"),
)  # fmt: skip

INTERFACE = _section(
    "interface",
    "a source of Internet, named as its network, and how to find out whether it works",
    _flag("enabled", "use it"),
    OptionSpec("family", Kind.CHOICE, "address family it serves", "ipv4", choices=_FAMILIES, cost=Cost.SECTION),
    OptionSpec(
        "initial_state", Kind.CHOICE, "what it counts as until the first probes are judged", "online",
        choices={"online": True, "offline": False}, attribute="initial_online",
    ),
    OptionSpec(
        "track_ip", Kind.HOST, "hosts to probe; none: it counts as online while its network is up",
        is_list=True, cost=Cost.ITEM,
    ),
    OptionSpec("track_method", Kind.CHOICE, "how to probe", "ping", choices=_by_value(TrackMethod)),
    _flag("track_gateway", "probe its own gateway too (connbal)"),
    _flag("httping_ssl", "httping asks over HTTPS"),
    _count("reliability", "hosts that must answer for a round to be good", "1", 1, 100),
    _count("count", "probes per host and round", "1", 1, 100),
    _count("size", "payload of a ping, and of nping-udp", "56", 0, MAX_PAYLOAD, "bytes"),
    _count("max_ttl", "hops a ping may take", "60", 1, 255),
    _time("timeout", "wait for an answer", "4", 0.05),
    _time("interval", "time between rounds while all is well or all is lost", "10", 0.1),
    _time("failure_interval", "time between rounds while it is going offline", None, 0.1, "interval"),
    _time("recovery_interval", "time between rounds while it is coming online", None, 0.1, "interval"),
    _flag("keep_failure_interval", "go on at failure_interval while it is offline"),
    _count("down", "bad rounds in a row until it is offline", "5", 1, 1000),
    _count("up", "good rounds in a row until it is online", "5", 1, 1000),
    _flag("check_quality", "judge latency and loss as well"),
    OptionSpec("failure_latency", Kind.MILLISECONDS, "latency from which a host is failing", "1000", "ms", 1, 3600000),
    OptionSpec("recovery_latency", Kind.MILLISECONDS, "latency up to which it is well again", "500", "ms", 1, 3600000),
    OptionSpec("failure_loss", Kind.PERCENT, "loss from which a host is failing", "40", "%", 1, 100),
    OptionSpec("recovery_loss", Kind.PERCENT, "loss up to which it is well again", "10", "%", 0, 100),
    OptionSpec(
        "quality_window", Kind.SECONDS, "time over which they are judged (connbal); 0: each round by itself", "60",
        unit="s", low=0, high=600,
    ),
    _time("dampening", "half-life of the penalty for going offline again and again (connbal); 0: none", "0", 0),
    OptionSpec(
        "flush_conntrack", Kind.CHOICE,
        "events at which connections that it carried, or that it now displaces, are forgotten",
        choices={event: event for event in FLUSH_EVENTS}, is_list=True, cost=Cost.ITEM,
    ),
)  # fmt: skip

MEMBER = _section(
    "member",
    "an interface with a priority and a weight, for policies to use",
    OptionSpec("interface", Kind.REFERENCE, "the interface", refers_to="interface", cost=Cost.SECTION, required=True),
    _count("metric", "priority, lower first", "1", 1, 256),
    _count("weight", "what its share among members of one metric is worked out from", "1", 1, 1000),
)

POLICY = _section(
    "policy",
    "the members a rule may use",
    OptionSpec(
        "use_member", Kind.REFERENCE, "the members", refers_to="member", is_list=True, cost=Cost.ITEM,
        attribute="members",
    ),
    OptionSpec(
        "last_resort", Kind.CHOICE, "what happens while no member works", "unreachable", choices=_by_value(Verdict)
    ),
    OptionSpec("weight_mode", Kind.CHOICE, "as in globals, for this policy (connbal)", choices=_WEIGHT_MODES),
    OptionSpec("affinity", Kind.CHOICE, "as in globals, for this policy (connbal)", choices=_AFFINITIES),
)  # fmt: skip

RULE = _section(
    "rule",
    "which connections use which policy; the first rule that matches wins",
    OptionSpec(
        "use_policy", Kind.REFERENCE, "a policy, or unreachable, blackhole, default",
        refers_to="policy", cost=Cost.SECTION, required=True,
    ),
    _flag("enabled", "heed the rule (connbal)", "1"),
    OptionSpec(
        "family", Kind.CHOICE, "address family", "any", choices={"any": None, **_FAMILIES}, cost=Cost.SECTION
    ),
    _match("proto", Kind.PROTOCOL, "protocols by name or number; all: any", "protocols"),
    _match("src_ip", Kind.ADDRESS, "source addresses; with ! before each: all others", "src"),
    _match("dest_ip", Kind.ADDRESS, "destination addresses; with ! before each: all others", "dest"),
    _match("src_port", Kind.PORT, "source ports, for protocols that have ports", "src_ports"),
    _match("dest_port", Kind.PORT, "destination ports, for protocols that have ports", "dest_ports"),
    _match("src_iface", Kind.NETWORK, "networks the connection comes in by, such as lan"),
    _match("src_mac", Kind.MAC, "MAC addresses of the device (connbal)"),
    _match("ipset", Kind.SET, "ipset that holds the destination", is_list=False),
    _match("ipset_src", Kind.SET, "ipset that holds the source (connbal)", is_list=False),
    _flag("sticky", "keep a device on the source it had"),
    OptionSpec(
        "timeout", Kind.WHOLE_SECONDS, "how long sticky remembers after the last new connection", "600",
        unit="s", low=1, high=MAX_SET_TIMEOUT,
    ),
    _flag("logging", "log matching connections, where globals.logging holds too"),
)  # fmt: skip

#: All section types, in the order in which a file usually has them.
SECTIONS: Mapping[str, SectionSpec] = {spec.type: spec for spec in (GLOBALS, INTERFACE, MEMBER, POLICY, RULE)}
