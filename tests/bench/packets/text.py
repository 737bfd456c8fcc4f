"""The configurations that are measured. No side effects."""

from __future__ import annotations

from collections.abc import Sequence

from tests.demo.config import section
from tests.lab.topology import Spec

#: Who sends what is measured; no other rule but the last takes it.
CLIENT = {4: "192.168.1.20", 6: "fd01::20"}


def configuration(spec: Spec, rules: int, affinity: str) -> str:
    """``rules`` rules, of which the last alone takes packets of the clients: all sources share them."""
    parts, members = [], []
    for source in spec.links.values():
        for name, family in ((source.name, "ipv4"), (source.name6, "ipv6")):
            parts.append(section("interface", name, ("enabled", "1"), ("family", family)))
            parts.append(section("member", f"{name}_m", ("interface", name)))
            members.append(("use_member", f"{name}_m"))
    parts.append(section("policy", "all", *members, ("affinity", affinity)))
    for number in range(rules - 1):
        parts.append(section("rule", f"other{number}", *_other(number), ("use_policy", "all")))
    parts.append(section("rule", "everything", ("use_policy", "all")))
    return "\n".join(parts)


def _other(number: int) -> Sequence[tuple[str, str]]:
    """A rule with one line in each family, which takes none of the packets: the four kinds that people write."""
    high, low = divmod(number, 200)
    kinds: Sequence[Sequence[tuple[str, str]]] = (
        (("src_ip", f"192.168.{100 + high}.{1 + low}"), ("src_ip", f"fd01:1::{number:x}")),
        (("dest_ip", f"198.18.{high}.{low}"), ("dest_ip", f"2001:db8:1::{number:x}"), ("proto", "tcp")),
        (("proto", "tcp"), ("dest_port", str(20000 + number))),
        (("proto", "udp"), ("dest_port", str(20000 + number))),
    )
    return kinds[number % len(kinds)]
