"""The plans of target ``plan`` for real: iptables and the kernel find in the text the rules that were meant."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from connbal.kernel.ipset import create_line
from connbal.kernel.xtables import OVERRIDE, SystemXtables
from connbal.model.config import Family
from connbal.plan.build import plan
from connbal.plan.diff import diff, rendered
from connbal.plan.ledger import Ledger
from connbal.plan.state import ChainText, KernelState
from connbal.plan.values import Plan, SetSpec
from connbal.uci.decode import decode
from tests.fuzz import mutate, oracle
from tests.fuzz.target import load
from tests.netns.kernel.isolation import isolated, run

#: Plans that are tried, beside those of what is kept. Each costs a tenth of a second.
PLANS = 24
_TOOL = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}


@pytest.mark.netns
@pytest.mark.parametrize("backend", ["nft", "legacy"])
@isolated
def test_the_kernel_finds_the_rules_that_were_meant(backend: str) -> None:
    target = load("plan")
    xtables = SystemXtables({OVERRIDE: backend})
    met = 0
    for data in dict.fromkeys([*target.inputs(), *mutate.inputs(target, PLANS, 1 if backend == "nft" else 2)]):
        made = plan(decode(oracle.sections(data)).config, oracle.facts())
        _make_sets(made)
        nothing = KernelState({family: {} for family in made.rulesets}, {}, frozenset(), frozenset())
        for family, transaction in diff(made, nothing, Ledger()).transactions.items():
            xtables.restore(family, transaction.text)
            read = xtables.save(family)
            wanted = rendered(made.rulesets[family], family)
            assert {chain for chain in read if chain.startswith("mwan3_")} == set(wanted)
            assert {chain: len(read[chain]) for chain in wanted} == {chain: len(wanted[chain]) for chain in wanted}
            assert {chain: len(rules) for chain, rules in read.items() if chain not in wanted and rules} == {
                "PREROUTING": 1, "OUTPUT": 1,
            }  # fmt: skip
            _looks_the_same(xtables.look([family])[family], read)
            met += sum(map(len, wanted.values()))
            run(f"{_TOOL[family]}-{backend} -t mangle -F", f"{_TOOL[family]}-{backend} -t mangle -X")
        run("ipset destroy")
    assert met > 1000


def _looks_the_same(look: Mapping[str, ChainText], read: Mapping[str, ChainText]) -> None:
    """What is asked of the kernel without iptables has a line for each rule, and no line for two different ones."""
    assert {chain: len(lines) for chain, lines in look.items() if lines} == {
        chain: len(lines) for chain, lines in read.items() if lines
    }
    seen: dict[str, str] = {}
    for chain, lines in look.items():
        for line, printed in zip(lines, read.get(chain, ()), strict=True):
            assert seen.setdefault(line, printed) == printed
            assert not line.startswith("-j ") or line == printed


def _make_sets(made: Plan) -> None:
    others = [SetSpec(one.name, one.type, one.family, frozenset()) for one in oracle.OTHERS.values()]
    specs = {spec.name: spec for spec in (*made.sets, *others)}
    lines = [create_line(spec, name) for name, spec in specs.items()]
    lines += [f"add {name} {entry}" for name, spec in specs.items() for entry in spec.entries or ()]
    run("ipset restore", stdin="".join(f"{line}\n" for line in lines))
