"""Configurations of any size, for what is measured at several scales. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tests.demo.config import section

#: A rule that moves, and one whose policy is edited. The last rule takes everything; none of the others takes PACKET.
MOVED = "r5"
PACKET = ("--src", "192.168.1.178", "--dst", "8.8.8.8", "--proto", "tcp", "--dport", "443")
#: The policy that edits change, which rule r0 uses, and all of whose chain that is.
EDITED = "edited"
#: Any Internet of a lab answers as these.
_HOSTS = tuple(f"203.0.113.{number}" for number in range(1, 5))
_CALM = (("interval", "10"), ("timeout", "2"))
_QUICK = (("interval", "0.2"), ("timeout", "0.2"), ("down", "3"), ("up", "3"))


def sources(count: int) -> tuple[str, ...]:
    """Names of so many sources: of modems, as ROOter names them."""
    return tuple(f"wan{number}" for number in range(1, count + 1))


def configuration(
    names: Sequence[str], rules: int, *, probing: Sequence[tuple[str, str]] = _CALM, quick: str = "", weight: int = 1,
    hosts: int = 1,
) -> str:
    """One IPv4 interface for each source, and so many rules.

    ``quick``: a source that is probed every 0.2 s, while the others are probed as ``probing`` says. ``weight``: of the
    first member of policy EDITED. ``hosts``: that each source is probed by, 1 to 4.
    """
    parts = [section("globals", "globals", ("mmx_mask", "0x3F00"))]
    for name in names:
        parts.append(section("interface", name, ("enabled", "1"), ("family", "ipv4"), ("initial_state", "online"),
                             *(("track_ip", host) for host in _HOSTS[:hosts]),
                             *(_QUICK if name == quick else probing)))  # fmt: skip
        parts.append(section("member", f"{name}_m", ("interface", name), ("metric", "1"), ("weight", "1")))
    parts.append(section("member", "weighed", ("interface", names[0]), ("metric", "1"), ("weight", f"{weight}")))
    parts.append(section("policy", "all", *(("use_member", f"{name}_m") for name in names)))
    parts.append(section("policy", EDITED, ("use_member", "weighed"), ("use_member", f"{names[-1]}_m")))
    for number in range(rules - 1):
        options = {"src_ip": f"10.{number >> 8}.{number & 255}.0/24", "proto": "tcp", "dest_port": "443"}
        parts.append(section("rule", f"r{number}", *options.items(), ("use_policy", "all" if number else EDITED)))
    parts.append(section("rule", "everything", ("dest_ip", "0.0.0.0/0"), ("use_policy", "all")))
    return "\n".join(parts)
