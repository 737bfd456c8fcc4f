"""What the checks look at: a configuration, and what else is known of the machine it is for. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from connbal.model.checks import Registry
from connbal.model.config import FAMILIES, Config, Family, Interface, IPAddress, Member, Policy, Rule, Verdict
from connbal.plan.lint_cover import Cover, Coverage, coverage

#: How families are called in messages.
WORD = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
#: What a last resort does to a connection.
FATE = {
    Verdict.UNREACHABLE: "are refused (unreachable)",
    Verdict.BLACKHOLE: "are dropped (blackhole)",
    Verdict.DEFAULT: "take the main routing table (default)",
}
VERDICTS = frozenset(verdict.value for verdict in Verdict)


@dataclass(frozen=True)
class NetworkSection:
    """What ``/etc/config/network`` says of a network."""

    proto: str = ""
    device: str = ""  #: as written; empty: none is


@dataclass(frozen=True)
class Subject:
    """What is checked. None among the attributes: nobody looked, and what depends on it is not checked.

    stated: options that section ``globals`` gives outright, whatever their value.
    declared_sets: ipsets that another UCI package declares, with the package's name.
    live_sets: ipsets that exist in the kernel.
    networks: of ``/etc/config/network``, by name.
    own: addresses of this router, as configured or as they are now.
    """

    config: Config
    stated: frozenset[str] = frozenset()
    declared_sets: Mapping[str, str] | None = None
    live_sets: frozenset[str] | None = None
    networks: Mapping[str, NetworkSection] = field(default_factory=dict)
    own: frozenset[IPAddress] = frozenset()

    @functools.cached_property
    def interfaces(self) -> Mapping[str, Interface]:
        return {one.name: one for one in self.config.interfaces}

    @functools.cached_property
    def enabled(self) -> tuple[Interface, ...]:
        """The interfaces that are enabled."""
        return tuple(one for one in self.config.interfaces if one.enabled)

    @functools.cached_property
    def coverage(self) -> Coverage:
        """What stands above each rule."""
        return coverage(self.config.rules)

    @functools.cached_property
    def rules(self) -> tuple[tuple[Rule, Cover], ...]:
        """The enabled rules that are reached in some family."""
        found = ((rule, self.coverage.covers[rule.name]) for rule in self.config.rules if rule.enabled)
        return tuple((rule, cover) for rule, cover in found if not cover.is_shadowed)

    @functools.cached_property
    def used_policies(self) -> frozenset[str]:
        """Policies that an enabled rule names."""
        return frozenset(rule.use_policy for rule in self.config.rules if rule.enabled)

    def policy_of(self, rule: Rule) -> Policy | None:
        """The policy a rule uses; None where that is a verdict."""
        return None if rule.use_policy in VERDICTS else self.config.policies_by_name.get(rule.use_policy)

    def members(self, policy: Policy) -> tuple[Member, ...]:
        """The members of a policy that there are."""
        found = (self.config.members_by_name.get(name) for name in policy.members)
        return tuple(member for member in found if member is not None)

    def live_members(self, policy: Policy, family: Family | None = None) -> tuple[Member, ...]:
        """The members of a policy whose interface is enabled, and of a family where one is given."""
        return self._live[policy.name, family]

    @functools.cached_property
    def _live(self) -> Mapping[tuple[str, Family | None], tuple[Member, ...]]:
        found: dict[tuple[str, Family | None], tuple[Member, ...]] = {}
        for policy in self.config.policies:
            live = tuple(one for one in self.members(policy) if self.interfaces[one.interface].enabled)
            found[policy.name, None] = live
            for family in FAMILIES:
                of_family = tuple(one for one in live if self.interfaces[one.interface].family is family)
                found[policy.name, family] = of_family
        return found

    @functools.cached_property
    def families(self) -> frozenset[Family]:
        """The families of which an interface is enabled."""
        return frozenset(one.family for one in self.enabled)


#: Every check of this room.
REGISTRY: Registry[Subject] = Registry()
check = REGISTRY.add
