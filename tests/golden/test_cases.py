"""Whole configurations, and everything that comes of them, to be read by people.

``cases/NAME/config`` and ``facts.json`` go in; what comes out must be as in the other files there. Where it is not, it
is written beside, as ``FILE.actual``. ``CONNBAL_GOLDEN=accept pytest tests/golden`` takes it for the truth instead:
read the difference before you commit it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from connbal.model.config import Family
from connbal.plan.build import plan
from connbal.plan.describe import route_text, rule_text
from connbal.plan.diff import diff
from connbal.plan.ledger import Ledger
from connbal.plan.shares import percents
from connbal.plan.state import KernelState
from connbal.plan.values import Plan, SetSpec
from connbal.uci.decode import Decoded, decode
from connbal.uci.text import parse
from tests.fakes.build import V4, V6, machine
from tests.fakes.kernel import FakeKernel
from tests.golden.facts import facts_from

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.name for path in CASES.iterdir())
ACCEPT = os.environ.get("CONNBAL_GOLDEN") == "accept"


def load(case: Path) -> tuple[Decoded, Plan]:
    decoded = decode(parse((case / "config").read_bytes(), "mwan3"))
    return decoded, plan(decoded.config, facts_from(json.loads((case / "facts.json").read_text())))


def outcome(decoded: Decoded, found: Plan) -> dict[str, str]:
    """Each file's name and text."""
    changes = diff(found, KernelState({V4: {}, V6: {}}), Ledger())
    files = {f"{family.value}.restore": transaction.text for family, transaction in changes.transactions.items()}
    lines = {
        "rules": map(rule_text, found.ip_rules),
        "routes": (f"{route.family.value} {route_text(route)}" for route in changes.put_routes),
        "sets": map(set_text, sorted(found.sets, key=lambda spec: spec.name)),
        "view": view(decoded, found),
    }
    return {**files, **{name: "".join(f"{line}\n" for line in text) for name, text in lines.items()}}


def set_text(spec: SetSpec) -> str:
    words = [spec.name, spec.type, spec.family.value if spec.family else "-"]
    if spec.timeout is not None:
        words.append(f"timeout {spec.timeout}")
    if spec.entries is None:
        words.append("content of others")
    return "\n  ".join([" ".join(words), *sorted(spec.entries or ())])


def view(decoded: Decoded, found: Plan) -> Iterator[str]:
    """What a person is told."""
    for one in found.interfaces:
        words = " ".join(word for word, holds in (("present", one.present), ("usable", one.usable)) if holds)
        yield f"interface {one.name} id {one.id} {one.family.value} {one.device or '-'}: {words or '-'} ({one.reason})"
    for tier in found.tiers:
        parts = zip(tier.shares, percents([share.share for share in tier.shares]), strict=True)
        shares = ", ".join(f"{share.interface} {percent} %" for share, percent in parts)
        yield f"policy {tier.policy} {tier.family.value}: {shares or '-'} by {tier.affinity.value} ({tier.reason})"
    for rule in found.rules:
        families = " ".join(family.value for family in rule.families)
        yield f"rule {rule.name} -> {rule.policy}: {families or rule.reason}"
    for finding in (*decoded.findings, *found.findings):
        yield f"{finding.severity.value} {finding.code}: {finding}"


def check(case: Path, name: str, text: str) -> str | None:
    """None where a file is as expected; else its name. With ACCEPT it is made so."""
    expected, actual = case / name, case / f"{name}.actual"
    actual.unlink(missing_ok=True)
    if ACCEPT:
        expected.write_text(text)
    if expected.exists() and expected.read_text() == text:
        return None
    actual.write_text(text)
    return name


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_of_a_configuration(name: str) -> None:
    case = CASES / name
    came = outcome(*load(case))
    wrong = [check(case, file, text) for file, text in came.items()]
    assert not [file for file in wrong if file], f"compare the .actual files in {case} with the expected ones"
    expected = {path.name for path in case.iterdir() if path.suffix != ".actual"} - {"config", "facts.json"}
    assert expected == set(came), "nothing came for a file that is expected; remove it if that is right"


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_would_take_it(name: str) -> None:
    """Every line refers to chains and sets that exist, and keeps to what the programs take."""
    kernel = FakeKernel(machine())
    _, found = load(CASES / name)
    others = json.loads((CASES / name / "facts.json").read_text()).get("sets", {})
    theirs = [SetSpec(set_, kind, Family(family)) for set_, (kind, family) in others.items()]
    for spec in (*theirs, *found.sets):
        kernel.sets.create(spec)
    transactions = diff(found, KernelState({V4: {}, V6: {}}), Ledger()).transactions
    assert set(transactions) == {V4, V6}
    for family, transaction in transactions.items():
        kernel.xtables.restore(family, transaction.text)
