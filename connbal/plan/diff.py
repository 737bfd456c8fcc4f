"""The least change from what the kernel has to what it should have. Pure; :mod:`connbal.reconcile` carries it out.

Everything that the new ruleset needs is made before it goes in, and what only the old one needed goes afterwards, so
at no moment does a packet meet a mark without a table or a rule without its set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from connbal.frozen import dataclass
from connbal.kept import Ask, afresh
from connbal.model.config import Family
from connbal.model.facts import MainRoute
from connbal.plan.iptables import rule_text
from connbal.plan.ledger import Ledger, digest
from connbal.plan.state import PREFIX, ChainText, KernelState, SetState
from connbal.plan.values import Chain, ChainRule, Hook, IpRoute, IpRule, Origin, Plan, Ruleset, SetSpec

#: Sets of these kinds are connbal's alone: one that no plan wants any more is destroyed. ("dynamic" is not among
#: them: others fill it, and may have made it.)
OWN_SETS = tuple(f"{PREFIX}{kind}_" for kind in ("addr", "sticky", "custom", "connected"))
BASES = ("PREROUTING", "OUTPUT")


@dataclass(frozen=True)
class Line:
    """A line of a restore transaction, and the rule it renders, where it renders one."""

    text: str
    rule: ChainRule | None = None

    @property
    def origin(self) -> Origin | None:
        return self.rule.origin if self.rule else None


@dataclass(frozen=True)
class Transaction:
    """One iptables-restore run. ``chains``: what it writes, to be read back afterwards."""

    lines: tuple[Line, ...]
    chains: Mapping[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        return "".join(f"{line.text}\n" for line in self.lines)


@dataclass(frozen=True)
class Changes:
    """What to do, in the order of the fields."""

    create_sets: tuple[SetSpec, ...] = ()
    replace_sets: tuple[SetSpec, ...] = ()
    put_routes: tuple[IpRoute, ...] = ()
    copy_routes: tuple[MainRoute, ...] = ()
    add_rules: tuple[IpRule, ...] = ()
    transactions: Mapping[Family, Transaction] = field(default_factory=dict)
    flush_sets: tuple[str, ...] = ()
    delete_rules: tuple[IpRule, ...] = ()
    delete_routes: tuple[IpRoute, ...] = ()
    delete_copies: tuple[MainRoute, ...] = ()
    destroy_sets: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__dataclass_fields__)


def diff(plan: Plan, state: KernelState, ledger: Ledger, ask: Ask = afresh) -> Changes:
    """What makes ``state`` into ``plan``. An empty plan takes everything of connbal's away.

    ``ask``: for the text of each chain.
    """
    put, drop = _routes(plan.routes, state.routes)
    copy, uncopy = _copies(plan.local, state.copies)
    wanted_rules = frozenset(plan.ip_rules)
    create, replace, flush, destroy = _sets(plan.sets, state.sets, stopping=not plan.rulesets, ledger=ledger)
    transactions = {}
    for family, chains in state.chains.items():
        ruleset = plan.rulesets.get(family, Ruleset())
        transaction = _transaction(ruleset, family, chains, ledger.chains.get(family, {}), ask)
        if transaction is not None:
            transactions[family] = transaction
    return Changes(
        create_sets=create,
        replace_sets=replace,
        put_routes=put,
        copy_routes=copy,
        add_rules=tuple(sorted(wanted_rules - state.ip_rules)),
        transactions=transactions,
        flush_sets=flush,
        delete_rules=tuple(sorted(state.ip_rules - wanted_rules)),
        delete_routes=drop,
        delete_copies=uncopy,
        destroy_sets=destroy,
    )


# --- routes ----------------------------------------------------------------------------------------------------


def _key(route: IpRoute) -> tuple[object, ...]:
    """What the kernel tells routes of a table apart by; a new route with the key of an old one replaces it."""
    return (route.family, route.table, route.destination, route.metric, route.source)


def _order(route: IpRoute) -> tuple[object, ...]:
    # A gateway has to be reachable when its route goes in, so networks come before default routes.
    return (route.table, route.family.value, -route.destination.prefixlen, route.metric, str(route))


def _routes(
    wanted: Sequence[IpRoute], existing: frozenset[IpRoute]
) -> tuple[tuple[IpRoute, ...], tuple[IpRoute, ...]]:
    put = [route for route in wanted if route not in existing]
    kept = {_key(route) for route in wanted}
    drop = [route for route in existing if _key(route) not in kept]
    return tuple(sorted(put, key=_order)), tuple(sorted(drop, key=_order, reverse=True))


def _copies(
    wanted: Sequence[MainRoute], existing: frozenset[MainRoute]
) -> tuple[tuple[MainRoute, ...], tuple[MainRoute, ...]]:
    """What is to be copied, in the order of the main table but networks before gateways; and what is to go."""
    if not existing and not wanted:
        return (), ()
    kept = frozenset(wanted)
    put = sorted((route for route in wanted if route not in existing), key=_gateways_last)
    drop = sorted(existing - kept, key=lambda route: (route.family.value, str(route.destination), str(route)))
    return tuple(put), tuple(sorted(drop, key=_gateways_last, reverse=True))


def _gateways_last(route: MainRoute) -> bool:
    return any(hop.gateway is not None for hop in route.hops)


# --- sets ------------------------------------------------------------------------------------------------------


def _sets(
    wanted: Sequence[SetSpec], existing: Mapping[str, SetState], *, stopping: bool, ledger: Ledger
) -> tuple[tuple[SetSpec, ...], tuple[SetSpec, ...], tuple[str, ...], tuple[str, ...]]:
    create, replace, flush = [], [], []
    for spec in wanted:
        state = existing.get(spec.name)
        if state is None:
            create.append(spec)
        elif spec.foreign or (state.type, state.family) != (spec.type, spec.family):
            continue  # somebody else's set of that name: matched against as it is, never touched
        elif spec.timeout != state.timeout:
            replace.append(spec)
        elif spec.entries is not None and spec.entries != state.entries:
            if spec.entries:
                replace.append(spec)
            else:
                flush.append(spec.name)
    names = {spec.name for spec in wanted}
    destroy = [name for name in existing if name not in names and _expendable(name, existing, stopping, ledger)]
    return tuple(create), tuple(replace), tuple(flush), tuple(sorted(destroy))


def _expendable(name: str, existing: Mapping[str, SetState], stopping: bool, ledger: Ledger) -> bool:
    if name.startswith(OWN_SETS) or (name.startswith(PREFIX) and name.endswith("-")):
        return True
    if not stopping or name not in ledger.made_sets:
        return False
    # A set that a user's rule named and that has been filled since is in use by somebody else.
    return name.startswith(PREFIX) or not existing[name].entries


# --- chains ----------------------------------------------------------------------------------------------------


def rendered(ruleset: Ruleset, family: Family, ask: Ask = afresh) -> dict[str, tuple[Line, ...]]:
    """Every chain of a ruleset as lines ``-A CHAIN …``."""
    comments = ruleset.comments
    return {chain.name: ask((family, chain.name), _rendered, chain, family, comments) for chain in ruleset.chains}


def _rendered(chain: Chain, family: Family, comments: bool) -> tuple[Line, ...]:
    rules = chain.rules
    if not comments:
        rules = tuple(ChainRule(rule.matches, rule.action, origin=rule.origin) for rule in rules)
    return tuple(Line(f"-A {chain.name} {rule_text(rule, family)}", rule) for rule in rules)


def _transaction(
    ruleset: Ruleset,
    family: Family,
    existing: Mapping[str, ChainText],
    known: Mapping[str, tuple[str, str]],
    ask: Ask,
) -> Transaction | None:
    wanted = rendered(ruleset, family, ask)
    written = {name: ask((family, name), _written, lines) for name, lines in wanted.items()}
    found = {name: ask((family, name), digest, existing[name]) for name in wanted if name in existing}
    changed = [name for name in wanted if name not in found or known.get(name) != (written[name], found[name])]
    stale = [name for name in existing if name.startswith(PREFIX) and name not in wanted]
    held = _held_by_others(existing)
    hooks = list(_hook_lines(ruleset.hooks, existing, wanted))
    if not (changed or hooks or any(existing[name] or name not in held for name in stale)):
        return None
    lines = [Line("*mangle")]
    lines += [Line(f":{name} - [0:0]") for name in (*changed, *stale)]
    for name in changed:
        lines += wanted[name]
    lines += hooks
    lines += [Line(f"-X {name}") for name in stale if name not in held]
    lines.append(Line("COMMIT"))
    return Transaction(tuple(lines), {name: tuple(line.text for line in wanted[name]) for name in changed})


def _written(lines: Sequence[Line]) -> str:
    return digest(line.text for line in lines)


def _held_by_others(existing: Mapping[str, ChainText]) -> set[str]:
    """Chains of ours that others' rules refer to: the kernel would refuse to delete them."""
    held = set()
    for chain, lines in existing.items():
        if not chain.startswith(PREFIX):
            for line in lines:
                words = line.split()
                targets = {words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-j", "-g")}
                if not (chain in BASES and len(words) == 2):  # a plain hook is ours, and goes with its chain
                    held |= {target for target in targets if target.startswith(PREFIX)}
    return held


def _hook_lines(
    hooks: Sequence[Hook], existing: Mapping[str, ChainText], wanted: Mapping[str, Sequence[Line]]
) -> Iterator[Line]:
    """One jump per hook; jumps of ours that no hook wants, or that are there twice, go."""
    for base in BASES:
        present = [line[3:] for line in existing.get(base, ()) if line.startswith(f"-j {PREFIX}")]
        present = [chain for chain in present if " " not in chain]
        for hook in hooks:
            if hook.base == base:
                if hook.chain in present:
                    present.remove(hook.chain)
                else:
                    yield Line(f"-A {base} -j {hook.chain}")
        for chain in present:
            yield Line(f"-D {base} -j {chain}")
