"""Shares by weight, worked out from a configuration in the plainest way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from connbal.uci import Section, parse
from tests.netns.mwan3.vector import Vector


def shares(vector: Vector, offline: Collection[str]) -> list[dict[int, float]]:
    """For each policy and family the mark of each member that takes part, with its share; both programs' views.

    mwan3 gave a fifth interface in a mask for four a mark too.
    """
    sections = parse(vector.config, "mwan3").sections
    interfaces = [section for section in sections if section.type == "interface"]
    ids = {section.name: number for number, section in enumerate(interfaces, 1) if section.name not in offline}
    room = (1 << bin(vector.mask).count("1")) - 4
    found = []
    for family in ("ipv4", "ipv6"):
        own = {one.name: ids[one.name] for one in interfaces if one.name in ids and _option(one, "family") == family}
        for usable in ({name: number for name, number in own.items() if number <= room}, own):
            found += [_policy(policy, sections, usable, vector) for policy in sections if policy.type == "policy"]
    return found


def _policy(
    policy: Section, sections: Sequence[Section], usable: Mapping[str, int], vector: Vector
) -> dict[int, float]:
    wanted = policy.options.get("use_member", ())
    members = [one for one in sections if one.type == "member" and one.name in wanted]
    members = [one for one in members if _option(one, "interface") in usable]
    lowest = min((int(_option(one, "metric")) for one in members), default=0)
    members = [one for one in members if int(_option(one, "metric")) == lowest]
    total = sum(int(_option(one, "weight")) for one in members)
    lowest_bit = vector.mask & -vector.mask
    return {usable[_option(one, "interface")] * lowest_bit: int(_option(one, "weight")) / total for one in members}


def _option(section: Section, name: str) -> str:
    """mwan3's defaults."""
    value = section.options.get(name, {"metric": "1", "weight": "1", "family": "ipv4"}.get(name, ""))
    assert isinstance(value, str)
    return value
